/* <lr-alpha-lr optimizer="adam" scaling="r" alpha="64" rank="8"
   lr="0.0078125">: two LoRA runs on one small problem, yours and hers, each
   with its own settings. Are they the same run? */
(() => {
  "use strict";
  const { h, twoRuns: P } = LR;
  const { STEPS, short, percent } = P, DRAWS = 200;
  const OPTIMIZERS = { adam: "Adam", sgd: "SGD" };
  const SCALINGS = { r: "α/r", root: "α/√r" };
  /* Every knob is a power of two; here are its exponents. */
  const KNOBS = {
    alpha: ["α", 0, 8, 1],
    rank: ["rank r", 0, 4, 1],
    rate: ["rate η", -10, -1, 0.5],
    start: ["start of A", -2, 3, 0.5],
    ratio: ["rate of B", -4, 6, 1],
  };
  const YOURS = { alpha: 6, rank: 3, rate: -7, start: 0, ratio: 0 };
  const TRIES = {
    "nothing else": {},
    "the saying: η × 4": { rate: 2 },
    "Adam’s rule: η × 2, start × 2": { rate: 1, start: 1 },
    "SGD’s rule: η × 4, start × 2": { rate: 2, start: 1 },
    "LoRA+: B’s rate × 4": { ratio: 2 },
    "B’s rate × 16": { ratio: 4 },
  };

  const times = (e) => `× ${short(2 ** e)}`;
  const power = (e) => (Number.isInteger(e) ? "2⁻" : "√2·2⁻") +
    String(-Math.floor(e)).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]);
  const WRITE = { alpha: (e) => String(2 ** e), rank: (e) => String(2 ** e),
    rate: power, start: times, ratio: times };

  class AlphaLr extends LR.Explorable {
    static title = "Which settings are the same run?";
    static css = `
      .runs{display:grid;gap:.75rem 1.75rem;margin:.75rem 0;
        grid-template-columns:repeat(auto-fit,minmax(min(100%,16rem),1fr))}
      .knobs{display:grid;gap:.1rem .6rem;align-items:center;
        grid-template-columns:5.6rem minmax(4rem,1fr) 3.6rem 3.3rem;
        align-content:start}
      .knobs p{grid-column:1/-1;margin:0;font-weight:600}
      .knobs input{min-width:0;width:100%}
      .both{gap:0 2rem}
      .try{margin:.5rem 0;gap:.4rem .5rem}
      #same{margin:.75rem 0;padding:.5rem .75rem;background:var(--soft);
        border-inline-start:4px solid var(--fg);border-radius:.25rem;
        font-weight:600}
      .legend{display:flex;flex-wrap:wrap;gap:0 1.1rem;margin:.5rem 0 .25rem}
      .legend span{display:inline-flex;gap:.4rem;align-items:center}
      .legend svg{width:34px;height:14px}
      sub{line-height:0}
      svg{display:block;width:100%}
      svg path{fill:none}
      svg .axis{stroke:var(--muted);stroke-width:1}
      svg .body{stroke:var(--c1);stroke-width:5}
      svg .cut{stroke:var(--c2);stroke-width:1.6}
      svg .dash{stroke:var(--fg);stroke-width:1.4;stroke-dasharray:2 4}
      svg .ring{fill:var(--bg)}
      svg text{font-size:12px;fill:var(--muted)}
      td,thead th{white-space:nowrap}
      tr.key th{font-weight:600}
      .paper{display:none}
      @media print{.paper{display:block}}
      @container (max-width:26rem){th,td{padding:.25rem .2rem}}
      @container (max-width:17rem){.knobs .muted{display:none}
        .knobs{grid-template-columns:5rem minmax(2rem,1fr) 4rem}
        table{font-size:.85em}}`;

    start() {
      const knob = (attribute, name, fallback) => {
        const [, low, high] = KNOBS[name];
        const word = (e) => e < 0 ? `1/${2 ** -e}` : 2 ** e;
        return this.option(attribute, (text) => {
          const e = Math.round(Math.log2(text.trim() ? +text : NaN));
          return e >= low && e <= high && 2 ** e === +text ? e : undefined;
        }, `a power of two from ${word(low)} to ${word(high)}`, fallback);
      };
      const word = (attribute, words) => this.option(attribute,
        LR.oneOf(...Object.keys(words)),
        `one of ${Object.keys(words).join(", ")}`, Object.keys(words)[0]);
      this.shared = { optimizer: word("optimizer", OPTIMIZERS),
        scaling: word("scaling", SCALINGS) };
      this.yours = { ...YOURS, alpha: knob("alpha", "alpha", YOURS.alpha),
        rank: knob("rank", "rank", YOURS.rank),
        rate: knob("lr", "rate", YOURS.rate) };
      this.hers = { ...this.yours, alpha: Math.max(0, this.yours.alpha - 2) };
      this.problem = P.problem();

      this.fields = [];
      const runs = h("div", { class: "runs controls" },
        this.column("yours", ["alpha", "rank", "rate"]),
        this.column("hers", Object.keys(KNOBS)));
      const choose = (name, legend, options) => LR.radios(name, legend,
        options, (event) => {
          this.shared[name] = event.target.value;
          this.later();
        });
      this.svg = h("svg", { role: "img" });
      new ResizeObserver(() => this.one && this.chart()).observe(this.svg);
      const swatch = (marks, words) => {
        const svg = h("svg", { viewBox: "0 0 34 14", "aria-hidden": "true" });
        svg.innerHTML = marks;
        return h("span", {}, svg, words);
      };
      this.paper = h("p", { class: "paper" });
      this.rows = {};
      const row = (id, key) => {
        const cells = [0, 1, 2].map((k) => h("td", { id: `${id}-${k}` }));
        const name = h("th", { scope: "row" });
        this.rows[id] = { name, cells };
        return h("tr", { class: key ? "key" : null }, name, cells);
      };
      this.figure.append(
        LR.guess("You train with Adam and α = 64. She must use α = 16. By " +
          "what must she multiply both her rate and the start of her A to " +
          "get your run?", 0, 1000, (x) => this.reveal(x)),
        h("div", { class: "row both controls" },
          choose("optimizer", "Optimiser", OPTIMIZERS),
          choose("scaling", "Scale s", SCALINGS)), runs,
        h("div", { class: "row try controls", role: "group",
          "aria-label": "Settings for her to try" },
        h("span", { class: "name" }, "She has α ÷ 4 and tries"),
        Object.entries(TRIES).map(([name, change]) => LR.button(name, () =>
          this.try(YOURS, { alpha: -2, ...change }))),
        h("span", { class: "name" }, "or"),
        LR.button("rank 4 → 16", () =>
          this.try({ ...YOURS, rank: 2 }, { rank: 2 }))),
        h("p", { id: "same" }), this.paper,
        h("p", { class: "legend" }, "Size of ΔW:",
          swatch('<path class="body" d="M0 7H34"/>', "yours"),
          swatch('<path class="cut" d="M0 7H34"/>' +
            '<path class="cut ring" d="M13 7a4 4 0 108 0a4 4 0 10-8 0"/>',
          "hers"),
          swatch('<path class="dash" d="M0 7H34"/>', "their difference")),
        this.svg,
        h("table", {}, h("caption", { class: "hidden" }, "The two runs"),
          h("thead", {}, h("tr", {}, h("td", {}),
            ["yours", "hers", "ratio"].map((name) =>
              h("th", { scope: "col" }, name)))),
          h("tbody", {}, row("scale"), row("first", true),
            row("second", true), row("along"), row("size"), row("loss"),
            row("end"))),
        h("p", { class: "note", id: "note" }));
      this.compute();
    }

    column(who, names) {
      const id = (name) => `${name}-${who}`;
      return h("div", { class: "knobs", role: "group",
        "aria-labelledby": who }, h("p", { id: who },
        who[0].toUpperCase() + who.slice(1)), names.map((name) => {
        const [words, min, max, step] = KNOBS[name];
        const input = h("input", { type: "range", id: id(name), min, max,
          step, oninput: () => {
            this[who][name] = +input.value;
            this.later();
          } });
        const shown = h("span", { class: "num" });
        const factor = h("span", { class: "num muted" });
        this.fields.push({ who, name, input, shown, factor });
        return [h("label", { for: id(name) }, words), input, shown, factor];
      }));
    }

    /* Her settings are yours, with some exponents changed. */
    try(yours, change) {
      this.yours = { ...yours };
      this.hers = { ...yours };
      for (const name in change) this.hers[name] += change[name];
      this.compute();
    }

    /* One run for all events of a frame. */
    later() {
      cancelAnimationFrame(this.waiting);
      this.waiting = requestAnimationFrame(() => this.compute());
    }

    compute() {
      const { problem, shared } = this;
      this.one = P.run(problem, this.yours, shared);
      this.two = P.run(problem, this.hers, shared);
      Object.assign(this, P.compare(this.one, this.two));
      this.draw();
    }

    reveal(guess) {
      this.shared = { optimizer: "adam", scaling: "r" };
      this.try(YOURS, { alpha: -2, rate: 1, start: 1 });
      if (guess === null || guess === 2)
        return `${guess ? "Yes: times 2" : "By 2"}, the root of 64/16. ` +
          "The two runs are the same, to the last bit.";
      const e = Math.log2(guess);
      const two = P.run(this.problem, { ...this.hers, rate: YOURS.rate + e,
        start: e }, this.shared);
      const { last } = P.compare(this.one, two);
      return `You said ${guess}. It is 2, the root of 64/16. Times ${guess} ` +
        (two.exploded === null ? `ends ${percent(last)} away from your ΔW.`
          : "explodes.");
    }

    explain() {
      const { yours, hers, shared, one, two } = this;
      const { s, first, second, a, b, same } = P.gauge(yours, hers, shared);
      const burst = one.exploded === null && two.exploded === null ? ""
        : ` The loss passed ${short(P.TOO_MUCH)} times its first value; a ` +
          "smaller rate helps.";
      const word = (e) => e ? `${short(2 ** e)} times yours` : "as yours";
      if (same)
        return (a || b ? `At every step her A is ${word(a)}, and her B ${
          word(b)}. Her scale, ${word(s)}, takes that out again.`
          : "The settings are the same.") + burst;
      if (yours.rank === hers.rank)
        return "The ranks agree, so the two numbers in bold decide: her " +
          `pace of A is ${word(first)}, her pace of ΔW ${word(second)}.` +
          burst;
      const only = ["alpha", "rate", "start", "ratio"].every((name) =>
        hers[name] === yours[name]);
      if (!only || burst) return "Another rank is another run." + burst;
      const [mine, other] = [yours, hers].map((knobs) =>
        P.firstStep(this.problem, knobs, shared, DRAWS));
      const theory = P.predicted(yours, hers, shared);
      const found = (key) => `× ${short(other[key] / mine[key])}; theory ` +
        `says × ${short(theory[key])}`;
      return `Only the rank differs. Over ${DRAWS} draws of A, the first ` +
        `step’s part along −G is ${found("along")}` + (theory.size
        ? `. Its size is ${found("size")}` : "") +
        ". The table shows one draw.";
    }

    draw() {
      const { shared, one, two } = this;
      for (const { who, name, input, shown, factor } of this.fields) {
        const e = this[who][name], d = e - this.yours[name];
        const text = WRITE[name](e);
        input.value = e;
        shown.textContent = text;
        factor.textContent = who === "hers" && d && name !== "start" &&
          name !== "ratio" ? times(d) : "";
        input.setAttribute("aria-valuetext", text);
      }
      for (const name in shared)
        this.shadowRoot.querySelector(`[name=${name}][value=${
          shared[name]}]`).checked = true;
      const sgd = shared.optimizer === "sgd";
      const names = { scale: ["scale", `s = ${SCALINGS[shared.scaling]}`],
        first: ["pace of A,", ["η", h("sub", {}, "A"), sgd ? "/σ²" : "/σ"]],
        second: ["pace of ΔW,", [sgd ? "s²σ²η" : "sση",
          h("sub", {}, "B")]],
        along: ["first step,", "along −G"], size: ["first step,", "size"],
        loss: ["at the end,", "loss"], end: ["at the end,", "size"] };
      const values = [one, two].map((run, k) => {
        const { G } = run.found[0], { W, size } = run.found[1];
        const { loss, size: end } = run.exploded === null
          ? run.found[STEPS] : {};
        return { ...P.numbers(k ? this.hers : this.yours, shared),
          along: -P.inner(W, G) / P.size(G), size, loss, end };
      });
      const gauge = P.gauge(this.yours, this.hers, shared);
      const exact = { scale: gauge.s, first: gauge.first,
        second: gauge.second };
      for (const id in names) {
        const { name, cells } = this.rows[id];
        const [x, y] = values.map((v) => v[id]);
        const ratio = id in exact ? 2 ** exact[id] : y / x;
        const [words, sign] = names[id];
        name.replaceChildren(words, " ", h("span", { class: "num" }, sign));
        cells[0].textContent = x === undefined ? "–" : short(x);
        cells[1].textContent = y === undefined ? "–" : short(y);
        cells[2].textContent = Number.isNaN(ratio) ? "–"
          : Math.abs(ratio - 1) < P.ROUNDING ? "same" : `× ${short(ratio)}`;
      }
      const verdict = P.verdict(one, two, this);
      this.shadowRoot.getElementById("same").textContent = verdict;
      this.shadowRoot.getElementById("note").textContent = this.explain();
      const words = (who) => `${who}: ` + this.fields
        .filter((field) => field.who === who)
        .map(({ name }) => `${KNOBS[name][0]} ${WRITE[name](
          this[who][name])}`).join(", ");
      this.paper.textContent = `${OPTIMIZERS[shared.optimizer]}, scale ${
        SCALINGS[shared.scaling]}; ${words("yours")}; ${words("hers")}.`;
      this.chart();
      const heard = ["loss", "end"].map((id) => values.map((v) =>
        v[id] === undefined ? "none" : short(v[id])));
      this.say(`${verdict.slice(2)} Loss ${heard[0].join(" and ")}.`);
    }

    chart() {
      const { svg, one, two, apart } = this;
      const W = svg.clientWidth || 480, H = 190, left = 30, low = H - 18;
      const sizes = [one, two].map(({ found }) => found.map((f) => f.size));
      // A run that explodes leaves through the top.
      const top = 1.06 * Math.min(12, Math.max(...sizes.flat(), ...apart));
      const mid = +(top / 2).toPrecision(1);
      const x = (t) => +(left + ((W - left - 8) * t) / STEPS).toFixed(1);
      const y = (v) => +Math.max(-999, low - ((low - 6) * v) / top).toFixed(1);
      const path = (kind, d) => `<path class="${kind}" d="${d}"/>`;
      const line = (kind, values) => path(kind, `M${values.map((v, t) =>
        `${x(t)} ${y(v)}`).join("L")}`);
      const rings = sizes[1].map((v, t) => t % 2 ? ""
        : `M${x(t) - 3.5} ${y(v)}a3.5 3.5 0 107 0a3.5 3.5 0 10-7 0`).join("");
      svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
      svg.innerHTML = path("axis", `M${left} 4V${low}H${W - 4}`) +
        line("body", sizes[0]) + line("dash", apart) + line("cut", sizes[1]) +
        path("cut ring", rings) +
        `<text x="0" y="${low + 4}">0</text>` +
        `<text x="0" y="${y(mid) + 4}">${short(mid)}</text>` +
        `<text x="${left}" y="${H - 3}">step 0</text>` +
        `<text x="${W - 8}" y="${H - 3}" text-anchor="end">${STEPS}</text>`;
      const said = (values) => short(values[values.length - 1]);
      svg.setAttribute("aria-label", `Sizes of ΔW at the last step: yours ${
        said(sizes[0])}, hers ${said(sizes[1])}, their difference ${
        said(apart)}`);
    }
  }
  LR.define("lr-alpha-lr", AlphaLr);
})();
