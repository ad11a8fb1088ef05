/* Shared by all explorables: plain JavaScript, no framework, no build.
   Classic scripts on purpose: modules and fetch work neither from file://
   nor inside a notebook output. */
(() => {
  "use strict";
  if (globalThis.LR) return;
  const src = document.currentScript?.src;
  const LR = (globalThis.LR = {
    data: {},
    base: src ? src.split("?")[0].replace(/[^/]*$/, "") : "",
  });

  /* ---- numbers as text ------------------------------------------------ */
  LR.raised = (n) =>
    String(n).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
  LR.sub = (i) => "₀₁₂₃₄₅₆₇₈₉"[i];
  LR.num = (x) => {
    const size = Math.abs(x);
    let text = size ? size.toFixed(3) : "0";
    if (size && (size < 0.01 || size >= 1e5)) {
      const [m, e] = size.toExponential(1).split("e");
      text = `${m}×10${LR.raised(+e)}`;
    }
    return (x < 0 ? "−" : "") + text;
  };
  /* Few digits; powers of ten where needed. */
  LR.short = (x, digits = 3) =>
    x && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e5) ? LR.num(x)
      : String(+x.toPrecision(digits)).replace("-", "−");
  LR.percent = (x, digits = 2) => (100 * x).toFixed(digits) + "%";
  LR.grouped = (x) => x.toLocaleString("en");

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
  /* Buttons, one for each option; `choose` gets its value. */
  LR.choices = (words, options, choose) =>
    h("div", { class: "row controls", role: "group", "aria-label": words },
      h("span", { class: "name" }, words),
      Object.entries(options).map(([name, value]) =>
        LR.button(name, () => choose(value))));
  /* A slider in a row of three: its name, itself, and what it says: a text,
     or with `typed`, which is { label, change }, a number to type as well. */
  LR.slider = (id, name, range, move, typed) => {
    const input = h("input", { type: "range", id, ...range,
      oninput: () => move(+input.value) });
    const shown = typed
      ? h("input", { type: "number", step: "any", "aria-label": typed.label,
        onchange: () => typed.change(shown.valueAsNumber) })
      : h("span", { class: "num" });
    return {
      input,
      row: [h("label", { for: id, class: "name" }, name), input, shown],
      show(at, text, number = at) {
        input.value = at;
        input.setAttribute("aria-valuetext", text);
        if (typed) shown.value = number;
        else shown.textContent = text;
      },
    };
  };
  LR.sliders = (...sliders) => h("div", { class: "sliders controls" },
    sliders.map((slider) => slider.row));
  /* What is hidden until the reader has guessed, and a sign in its place. */
  LR.secret = (id) => [h("span", { id, class: "secret" }),
    h("span", { class: "veil" }, "?")];
  /* Rows of a name and a value; `rows` maps ids to names. */
  LR.table = (caption, rows, ...secrets) => h("table", {},
    h("caption", { class: "hidden" }, caption),
    h("tbody", {}, Object.entries(rows).map(([id, words]) => h("tr", {},
      h("th", { scope: "row" }, words), secrets.includes(id)
        ? h("td", {}, LR.secret(id)) : h("td", { id })))));
  LR.more = (...children) => h("details", { class: "more" },
    h("summary", { class: "controls" }, "More controls and numbers"),
    children);

  /* A question to answer before the figure does: by a number from `low` to
     `high`, or without these by what the reader has set in the figure.
     `reveal` gets the number or true, or null from a reader who only wants to
     see, and returns the verdict. */
  LR.guess = (question, low, high, reveal) => {
    const input = low === undefined ? null
      : h("input", { type: "number", id: "guess", step: "any" });
    const verdict = h("p", { role: "status", id: "verdict" });
    const answer = async (guess) => {
      form.closest("figure").classList.remove("asking");
      verdict.textContent = await reveal(guess);
    };
    const check = (event) => {
      event.preventDefault();
      const x = input ? input.valueAsNumber : true;
      if (!input || (x >= low && x <= high)) return answer(x);
      verdict.textContent = `Type a number from ${low} to ${high} first.`;
    };
    const words = [h("strong", {}, "Guess first. "), question];
    const form = h("form", { class: "ask controls", novalidate: true,
                             onsubmit: check },
      h("p", {}, input ? h("label", { for: "guess" }, words) : words),
      h("div", { class: "row" }, input,
        h("button", { type: "submit" }, "Check my guess"),
        LR.button("Just show me", () => answer(null))), verdict);
    return form;
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
    const W = rows.map((row) => row.map(entry));
    const fits = sizes.includes(W.length) &&
      W.every((row) => row.length === W.length && !row.includes(undefined));
    return fits ? W : undefined;
  };

  /* ---- look: the page's own colours, and the three first of its figures - */
  LR.css = `
  :host{display:block;margin:1rem 0;
    --fg:var(--pst-color-text-base,var(--jp-content-font-color1,CanvasText));
    --bg:var(--pst-color-background,var(--jp-layout-color0,Canvas));
    --soft:color-mix(in srgb,var(--fg) 6%,var(--bg));
    --muted:color-mix(in srgb,var(--fg) 75%,var(--bg));
    --line:color-mix(in srgb,var(--fg) 22%,var(--bg));
    --c1:#3565EE;--c2:#CB8222;--c3:#2A7351;
    color:var(--fg);font-size:.95rem;line-height:1.5;text-align:start}
  *{box-sizing:border-box}
  figure{margin:0;padding:.8rem 1.1rem;border:1px solid var(--line);
    border-radius:.5rem;background:var(--bg);container-type:inline-size}
  figcaption{font-weight:700;font-size:1.1em;margin:0 0 .6rem}
  p{margin:.5rem 0}[hidden]{display:none!important}
  .row{display:flex;flex-wrap:wrap;gap:.4rem .6rem;align-items:center}
  .ask{margin:0 0 .75rem;padding:.5rem .9rem .6rem;background:var(--soft);
    border-inline-start:4px solid var(--c2);border-radius:.25rem}
  .ask p{margin:0 0 .4rem}.ask p:empty{display:none}
  .ask #verdict{margin:.4rem 0 0}
  .veil{display:none}
  @media not print{.asking .secret{display:none!important}
    .asking .veil{display:inline}}
  [role=alert]:empty{display:none}
  [role=alert]{padding:.5rem .75rem;border:2px solid var(--c2);
    border-radius:.25rem}
  fieldset{border:0;padding:0;margin:0;min-width:0;display:flex;
    flex-wrap:wrap;gap:0 .9rem;align-items:center}
  legend{float:left;padding:0;margin-inline-end:.2rem}
  legend,.name{font-weight:600}
  .both{display:flex;flex-wrap:wrap;gap:0 2rem}
  .option{display:inline-flex;gap:.35rem;align-items:center;min-height:1.9rem}
  input,select,button,summary{font:inherit;color:var(--fg)}
  /* Pure, it would turn the sliders of a dark page white. */
  input{accent-color:color-mix(in srgb,var(--c1) 70%,var(--fg))}
  input[type=number],select,button{background:var(--bg);min-height:2rem;
    border:1px solid var(--muted);border-radius:.3rem;padding:.1rem .5rem;
    max-width:100%}
  input[type=number]{width:5.4rem}
  input[type=range]{flex:1 1 9rem;min-width:6rem;height:2.1rem;margin:0}
  input[type=radio]{margin:0}
  .sliders{display:grid;gap:.1rem .75rem;align-items:center;
    grid-template-columns:auto minmax(4rem,1fr) minmax(3rem,auto)}
  .sliders [type=range]{min-width:0;width:100%}
  button{cursor:pointer}
  button:hover{background:var(--soft);border-color:var(--fg)}
  button:disabled{opacity:.55;cursor:default}
  .more{margin-block-start:.5rem}
  .more>*+*{margin-block-start:.5rem}
  summary{cursor:pointer;min-height:24px;width:fit-content;font-weight:600;
    text-decoration:underline}
  :focus-visible{outline:3px solid var(--c1);outline-offset:2px}
  table{border-collapse:collapse;width:100%;
    font-variant-numeric:tabular-nums}
  th,td{padding:.25rem .4rem;text-align:end;
    border-block-end:1px solid var(--line)}
  th:first-child{text-align:start}th{font-weight:400}
  thead th{color:var(--muted)}
  .muted{color:var(--muted)}
  .num{font-variant-numeric:tabular-nums;white-space:nowrap}
  .note{min-height:3em;margin:.5rem 0 0}
  .hidden{position:absolute;width:1px;height:1px;overflow:hidden;
    clip-path:inset(50%);white-space:nowrap}
  @container (max-width:22rem){.ask{padding-inline:.6rem}
    .ask .row{gap:.3rem}.ask input{width:3.4rem;padding-inline:.3rem;
      appearance:textfield}
    .ask button{padding-inline:.4rem;font-size:.9em}}
  .still{display:none}
  @media print{:host(:not([data-ready])) figure{display:none}
    :host(:not([data-ready])) .still{display:block}}
  @media (forced-colors:active){:host{--fg:CanvasText;--bg:Canvas}}
  @media print{:host{--fg:#000;--bg:#fff}figure{break-inside:avoid}
    .controls{display:none!important}
    .more::details-content{content-visibility:visible;height:auto}}
  `;

  /* ---- the base class --------------------------------------------------- */
  LR.Explorable = class extends HTMLElement {
    connectedCallback() {
      if (this.shadowRoot) return;
      // Otherwise JupyterLab moves between cells when an arrow key is pressed.
      this.setAttribute("data-lm-suppress-shortcuts", "true");
      const { title, css } = this.constructor;
      this.figure = h("figure", { class: "asking",
        "aria-labelledby": "title" },
      h("figcaption", { id: "title" }, title));
      this.error = h("p", { role: "alert" });
      this.status = h("p", { class: "hidden", role: "status" });
      this.figure.append(this.error);
      const still = h("div", { class: "still" });
      this.attachShadow({ mode: "open" }).append(
        h("style", {}, LR.css + css), this.figure, this.status, still);

      let begun = false;
      const begin = () => {
        if (begun) return;
        begun = true;
        near.disconnect();
        // No `await` before a synchronous start(): printing does not wait.
        try {
          const later = this.start();
          if (later) later.then(ready, failed);
          else ready();
        } catch (error) {
          failed(error);
        }
      };
      // What still waits for its data appears on paper as a still picture.
      const print = () => {
        begin();
        if (this.hasAttribute("data-ready")) return;
        still.innerHTML = this.querySelector("noscript")?.textContent ??
          this.innerHTML;
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
      addEventListener("beforeprint", print);
    }

    /* Whether the reader has yet to guess. */
    get asking() {
      return this.figure.classList.contains("asking");
    }

    at(id) {
      return this.shadowRoot.getElementById(id);
    }

    /* Set the text of the elements with these ids. */
    write(texts) {
      for (const id in texts) this.at(id).textContent = texts[id];
    }

    check(name, value) {
      this.shadowRoot.querySelector(`[name="${name}"][value="${value}"]`)
        .checked = true;
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

    /* Compute once for all events of a frame. */
    later() {
      cancelAnimationFrame(this.waiting);
      this.waiting = requestAnimationFrame(() => this.compute());
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
