/* Shared code of the explorables: plain JavaScript, no framework, no build.
   Classic scripts on purpose: modules and fetch work neither from file://
   nor inside a notebook output. */
(() => {
  "use strict";
  if (globalThis.LR) return;
  const src = document.currentScript && document.currentScript.src;
  const LR = (globalThis.LR = {
    data: {},
    base: src ? src.split("?")[0].replace(/[^/]*$/, "") : "",
  });

  /* ---- numbers as text ------------------------------------------------ */
  const raised = (n) =>
    n.replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
  LR.num = (x) => {
    const size = Math.abs(x);
    let text = size ? size.toFixed(3) : "0";
    if (size && (size < 0.01 || size >= 1e5)) {
      const [m, e] = size.toExponential(1).split("e");
      text = `${m}×10${raised(String(+e))}`;
    }
    return (x < 0 ? "−" : "") + text;
  };
  LR.percent = (x, digits = 2) => (100 * x).toFixed(digits) + "%";

  /* ---- singular value decomposition ------------------------------------
     One-sided Jacobi: turn pairs of columns until all are orthogonal
     (Hestenes 1958). `rows` is an array of rows; the result has the columns
     of U and V, largest singular value first. Where a singular value is 0,
     its column of U is 0 too. A generator: it pauses, so that a large matrix
     can be spread over several frames. */
  LR.jacobi = function* (rows) {
    const wide = rows.length < rows[0].length;
    const W = wide
      ? rows.map((row) => Float64Array.from(row))
      : Array.from(rows[0], (_, j) => Float64Array.from(rows, (r) => r[j]));
    const n = W.length;
    const V = W.map((_, j) => Float64Array.from(W, (_, i) => +(i === j)));
    const turn = (a, b, c, s) => {
      for (let i = 0; i < a.length; i++) {
        const x = a[i];
        a[i] = c * x - s * b[i];
        b[i] = s * x + c * b[i];
      }
    };
    for (let sweep = 0, busy = true; busy && sweep < 50; sweep++) {
      busy = false;
      for (let p = 0; p < n; p++) {
        for (let q = p + 1; q < n; q++) {
          const a = W[p], b = W[q];
          let aa = 0, bb = 0, ab = 0;
          for (let i = 0; i < a.length; i++) {
            aa += a[i] * a[i];
            bb += b[i] * b[i];
            ab += a[i] * b[i];
          }
          if (Math.abs(ab) <= 2e-15 * Math.sqrt(aa * bb)) continue;
          busy = true;
          const z = (bb - aa) / (2 * ab);
          const t = (z < 0 ? -1 : 1) / (Math.abs(z) + Math.hypot(1, z));
          const c = 1 / Math.hypot(1, t);
          turn(a, b, c, c * t);
          turn(V[p], V[q], c, c * t);
        }
        yield;
      }
    }
    const norm = W.map((w) => Math.hypot(...w));
    const order = norm.map((_, i) => i).sort((i, j) => norm[j] - norm[i]);
    const s = order.map((i) => norm[i]);
    const left = order.map((i) => W[i].map((x) => x / (norm[i] || 1)));
    const right = order.map((i) => V[i]);
    return wide ? { U: right, s, V: left } : { U: left, s, V: right };
  };
  LR.svd = (rows) => {
    const run = LR.jacobi(rows);
    for (;;) {
      const step = run.next();
      if (step.done) return step.value;
    }
  };
  LR.svdInSlices = async (rows) => {
    const run = LR.jacobi(rows);
    for (;;) {
      const pause = performance.now() + 12;
      while (performance.now() < pause) {
        const step = run.next();
        if (step.done) return step.value;
      }
      await new Promise((go) => setTimeout(go));
    }
  };

  /* Uniform random numbers from 0 to 1, the same for the same seed
     (mulberry32). */
  LR.random = (seed) => () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };

  /* ---- document -------------------------------------------------------- */
  const SVG = /^(svg|g)$/;
  const h = (LR.h = (tag, attributes = {}, ...children) => {
    const el = SVG.test(tag)
      ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (key.startsWith("on")) el.addEventListener(key.slice(2), value);
      else if (typeof value === "boolean") el.toggleAttribute(key, value);
      else if (value != null) el.setAttribute(key, value);
    }
    el.append(...children.flat(2).filter((child) => child != null));
    return el;
  });
  LR.button = (text, onclick) =>
    h("button", { type: "button", onclick }, text);
  LR.radios = (name, legend, options, onchange) =>
    h("fieldset", { class: "controls" }, h("legend", {}, legend),
      Object.entries(options).map(([value, text], i) =>
        h("label", { class: "option" },
          h("input", { type: "radio", name, value, checked: !i, onchange }),
          text)));

  /* A question to answer before the figure does. `reveal` gets the number, or
     null from a reader who only wants to see, and returns the verdict. */
  LR.guess = (question, low, high, reveal) => {
    const input = h("input", { type: "number", id: "guess", step: "any" });
    const verdict = h("p", { role: "status", id: "verdict" });
    const check = async (event) => {
      event.preventDefault();
      const x = input.valueAsNumber;
      verdict.textContent = x >= low && x <= high
        ? await reveal(x)
        : `Type a number from ${low} to ${high} first.`;
    };
    return h("form", { class: "ask controls", novalidate: true,
                       onsubmit: check },
      h("p", {}, h("label", { for: "guess" },
        h("strong", {}, "Guess first. "), question)),
      h("div", { class: "row" }, input,
        h("button", { type: "submit" }, "Check my guess"),
        LR.button("Just show me", async () => {
          verdict.textContent = await reveal(null);
        })), verdict);
  };

  /* Call `move(event, first)` while `el` is dragged, first at the touch. */
  LR.drag = (el, move) => {
    let first = null;
    el.addEventListener("pointerdown", (event) => {
      event.stopPropagation();
      el.setPointerCapture(event.pointerId);
      move(event, (first = event));
    });
    el.addEventListener("pointermove", (event) => first && move(event, first));
    for (const end of ["pointerup", "pointercancel"])
      el.addEventListener(end, () => (first = null));
  };

  /* Data is a script that sets LR.data[name]. */
  LR.load = (name) => LR.data[name] || new Promise((done, fail) => {
    const script = h("script", { src: `${LR.base}data/${name}.js` });
    script.onload = () => done(LR.data[name]);
    script.onerror = () => fail(Error("its data could not be loaded"));
    document.head.append(script);
  });

  /* ---- attributes: each parser returns undefined for nonsense ---------- */
  LR.real = (low, high) => (text) =>
    text.trim() && +text >= low && +text <= high ? +text : undefined;
  LR.whole = (low, high) => (text) =>
    Number.isInteger(+text) ? LR.real(low, high)(text) : undefined;
  LR.oneOf = (...words) => (text) => words.find((word) => word === text);
  LR.square = (...sizes) => (text) => {
    const entry = LR.real(-100, 100);
    const rows = text.split(";").map((row) => row.trim().split(/[\s,]+/));
    const A = rows.map((row) => row.map(entry));
    const fits = sizes.includes(A.length) &&
      A.every((row) => row.length === A.length && !row.includes(undefined));
    return fits ? A : undefined;
  };

  /* ---- look: the colours of the page, whoever made it ------------------ */
  LR.css = `
  :host{display:block;margin:1rem 0;
    --fg:var(--pst-color-text-base,var(--jp-content-font-color1,CanvasText));
    --bg:var(--pst-color-background,var(--jp-layout-color0,Canvas));
    --soft:color-mix(in srgb,var(--fg) 6%,var(--bg));
    --muted:color-mix(in srgb,var(--fg) 75%,var(--bg));
    --line:color-mix(in srgb,var(--fg) 22%,var(--bg));
    --c1:color-mix(in srgb,#3565ee 70%,var(--fg));
    --c2:color-mix(in srgb,#d55e00 72%,var(--fg));
    --c3:color-mix(in srgb,#009e73 62%,var(--fg));
    color:var(--fg);font-size:.95rem;line-height:1.5;text-align:start}
  *{box-sizing:border-box}
  figure{margin:0;padding:1rem 1.1rem;border:1px solid var(--line);
    border-radius:.5rem;background:var(--bg);container-type:inline-size}
  figcaption{font-weight:700;font-size:1.1em;margin:0 0 .75rem}
  p{margin:.5rem 0}[hidden]{display:none!important}
  .row{display:flex;flex-wrap:wrap;gap:.5rem .75rem;align-items:center}
  .ask{margin:0 0 1rem;padding:.6rem .9rem;background:var(--soft);
    border-inline-start:4px solid var(--c2);border-radius:.25rem}
  .ask p{margin:0 0 .4rem}.ask p:empty{display:none}
  .ask #verdict{margin:.5rem 0 0}
  [role=alert]:empty{display:none}
  [role=alert]{padding:.5rem .75rem;border:2px solid var(--c2);
    border-radius:.25rem}
  fieldset{border:0;padding:0;margin:0;min-width:0;display:flex;
    flex-wrap:wrap;gap:0 .9rem;align-items:center}
  legend{float:left;padding:0;margin-inline-end:.2rem}
  legend,.name{font-weight:600}
  .option{display:inline-flex;gap:.35rem;align-items:center;min-height:1.9rem}
  input,select,button{font:inherit;color:var(--fg);accent-color:var(--c1)}
  input[type=number],select,button{background:var(--bg);min-height:2rem;
    border:1px solid var(--muted);border-radius:.3rem;padding:.1rem .5rem;
    max-width:100%}
  input[type=number]{width:5.4rem}
  input[type=range]{flex:1 1 9rem;min-width:6rem;height:2.1rem;margin:0}
  input[type=radio]{margin:0}
  button{cursor:pointer}
  button:hover{background:var(--soft);border-color:var(--fg)}
  button:disabled{opacity:.55;cursor:default}
  :focus-visible{outline:3px solid var(--c1);outline-offset:2px}
  table{border-collapse:collapse;width:100%;
    font-variant-numeric:tabular-nums}
  th,td{padding:.25rem .4rem;text-align:end;
    border-block-end:1px solid var(--line)}
  th:first-child{text-align:start}th{font-weight:400}
  thead th{color:var(--muted)}
  .muted{color:var(--muted)}
  .num{font-variant-numeric:tabular-nums;white-space:nowrap}
  .note{min-height:3em;margin:.75rem 0 0}
  .hidden{position:absolute;width:1px;height:1px;overflow:hidden;
    clip-path:inset(50%);white-space:nowrap}
  @media (forced-colors:active){:host{--fg:CanvasText;--bg:Canvas}}
  @media print{:host{--fg:#000;--bg:#fff}figure{break-inside:avoid}
    .controls{display:none!important}}
  `;

  /* ---- the base class --------------------------------------------------- */
  LR.Explorable = class extends HTMLElement {
    connectedCallback() {
      if (this.shadowRoot) return;
      // Otherwise JupyterLab moves between cells when an arrow key is pressed.
      this.setAttribute("data-lm-suppress-shortcuts", "true");
      const { title, css } = this.constructor;
      this.figure = h("figure", { "aria-labelledby": "title" },
        h("figcaption", { id: "title" }, title));
      this.error = h("p", { role: "alert" });
      this.status = h("p", { class: "hidden", role: "status" });
      this.figure.append(this.error);
      this.attachShadow({ mode: "open" }).append(
        h("style", {}, LR.css + css), this.figure, this.status);

      const begin = () => {
        near.disconnect();
        removeEventListener("beforeprint", begin);
        // No `await` before a synchronous start(): printing does not wait.
        try {
          const later = this.start();
          if (later) later.then(ready, failed);
          else ready();
        } catch (error) {
          failed(error);
        }
      };
      const ready = () => this.setAttribute("data-ready", "");
      const failed = (error) => {
        ready();
        this.complain(`This figure could not start: ${error.message}.`);
      };
      const near = new IntersectionObserver((entries) => {
        if (entries.some((entry) => entry.isIntersecting)) begin();
      }, { rootMargin: "600px" });
      near.observe(this);
      addEventListener("beforeprint", begin);
    }

    complain(sentence) {
      if (this.error.textContent !== sentence)
        this.error.textContent = sentence;
    }

    /* The value of an attribute; a bad one is named, the default used. */
    option(name, parse, allowed, fallback) {
      const text = this.getAttribute(name);
      if (text === null) return fallback;
      const value = parse(text);
      if (value === undefined)
        this.complain(`${name}="${text}" does not fit: ${name} must be ` +
          `${allowed}. The figure starts with its default instead.`);
      return value === undefined ? fallback : value;
    }

    /* Ease from 0 to 1; at once for readers who asked for less motion. */
    animate(ms, draw) {
      this.stop();
      if (matchMedia("(prefers-reduced-motion: reduce)").matches)
        return draw(1);
      const begin = performance.now();
      const frame = (now) => {
        const t = Math.min(1, Math.max(0, (now - begin) / ms));
        if (t < 1) this.frame = requestAnimationFrame(frame);
        draw(t * t * (3 - 2 * t));
      };
      this.frame = requestAnimationFrame(frame);
    }

    stop() {
      cancelAnimationFrame(this.frame);
    }

    /* Tell screen readers, after a pause in the movement. */
    say(sentence) {
      clearTimeout(this.timer);
      if (this.hasAttribute("data-ready"))
        this.timer = setTimeout(() => {
          this.status.textContent = sentence;
        }, 600);
    }
  };
  LR.define = (tag, element) => {
    if (!customElements.get(tag)) customElements.define(tag, element);
  };
})();
