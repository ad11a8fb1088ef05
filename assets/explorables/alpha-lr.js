/* <lr-alpha-lr optimizer="adam" scaling="r" alpha="64" rank="8"
   lr="0.0078125">: two LoRA runs on one small problem, yours and hers, each
   with its own settings. Are they the same run? */
(() => {
  "use strict";
  const { h, short, twoRuns: P } = LR;
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
  const MINE = ["alpha", "rank", "rate"];
  const YOURS = { alpha: 6, rank: 3, rate: -7, start: 0, ratio: 0 };
  const TRIES = {
    "nothing else": {},
    "the saying: η × 4": { rate: 2 },
    "Adam’s rule: η × 2, start × 2": { rate: 1, start: 1 },
    "SGD’s rule: η × 4, start × 2": { rate: 2, start: 1 },
    "LoRA+: B’s rate × 4": { ratio: 2 },
    "B’s rate × 16": { ratio: 4 },
  };

  class AlphaLr extends LR.Explorable {
    static title = "Which settings are the same run?";
    static css = `${LR.chartCss}
      .runs{display:grid;gap:.25rem 1.75rem;
        grid-template-columns:repeat(auto-fit,minmax(min(100%,16rem),1fr))}
      .runs .name{margin:0}
      .sliders .num{min-width:7.2rem}
      .runs .num{min-width:6.3rem}
      .secret>*+*{margin-block-start:.5rem}
      #same{margin:.25rem 0;padding:.3rem .75rem;background:var(--soft);
        border-inline-start:4px solid var(--fg);border-radius:.25rem;
        font-weight:600}
      sub{line-height:0}
      svg .body{stroke-width:5}
      svg .dash{stroke-width:1.6;stroke-dasharray:none}
      svg .ring{fill:var(--bg)}
      td,thead th{white-space:nowrap}
      .key-rows th:first-child{font-weight:600}
      .paper{display:none}
      @media print{.paper{display:block}}
      @container (max-width:26rem){th,td{padding:.25rem .2rem}}
      @container (max-width:17rem){table{font-size:.85em}
        .sliders .num,.runs .num{min-width:0;white-space:normal}}`;

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

      this.sliders = { yours: {}, hers: {} };
      for (const who of ["yours", "hers"])
        for (const name of who === "yours" ? MINE : Object.keys(KNOBS)) {
          const [words, min, max, step] = KNOBS[name];
          this.sliders[who][name] = LR.slider(`${name}-${who}`,
            who === "hers" ? `her ${words}` : words, { min, max, step },
            (e) => {
              this[who][name] = e;
              this.later();
            });
        }
      const { yours, hers } = this.sliders;
      const choose = (name, legend, options) => LR.radios(name, legend,
        options, (event) => {
          this.shared[name] = event.target.value;
          this.later();
        });
      this.svg = h("svg", { role: "img" });
      new ResizeObserver(() => this.one && this.chart()).observe(this.svg);
      const swatch = (words, type, marks) =>
        h("span", {}, LR.sample(type, marks), words);
      this.names = {};
      const row = (id) => h("tr", {},
        (this.names[id] = h("th", { scope: "row" })),
        [0, 1, 2].map((k) => h("td", { id: `${id}-${k}` })));
      const table = (caption, type, ...ids) => h("table", { class: type },
        h("caption", { class: "hidden" }, caption),
        h("thead", {}, h("tr", {}, h("td", {}),
          ["yours", "hers", "ratio"].map((name) =>
            h("th", { scope: "col" }, name)))),
        h("tbody", {}, ids.map(row)));
      this.paper = h("p", { class: "paper" });
      this.figure.append(
        LR.guess("You train with Adam and α = 64. She must use α = 16. By " +
          "what must she multiply both her rate and the start of her A to " +
          "get your run?", 0, 1000, (x) => this.reveal(x)),
        LR.sliders(hers.rate, hers.start),
        h("p", { id: "same" }), this.paper,
        h("p", { class: "row key" }, "Size of ΔW:", swatch("yours", "body"),
          swatch("hers", "dash",
            `<path class="dash ring" d="${LR.disc(17, 6, 4)}"/>`),
          swatch("their difference", "aim")),
        this.svg,
        table("What decides", "key-rows", "first", "second"),
        h("p", { class: "note", id: "note" }),
        LR.more(
          h("div", { class: "both controls" },
            choose("optimizer", "Optimiser", OPTIMIZERS),
            choose("scaling", "Scale s", SCALINGS)),
          h("div", { class: "runs controls" },
            h("div", { role: "group", "aria-labelledby": "yours" },
              h("p", { class: "name", id: "yours" }, "Yours"),
              LR.sliders(yours.alpha, yours.rank, yours.rate)),
            h("div", { role: "group", "aria-labelledby": "hers" },
              h("p", { class: "name", id: "hers" }, "Hers"),
              LR.sliders(hers.alpha, hers.rank, hers.ratio))),
          h("div", { class: "secret" },
            LR.choices("She has α ÷ 4 and tries", TRIES, (change) =>
              this.try(YOURS, { alpha: -2, ...change })),
            LR.choices("or both have", { "rank 4 → 16": 2 }, (rank) =>
              this.try({ ...YOURS, rank: 2 }, { rank }))),
          table("The two runs", null, "scale", "along", "size", "loss",
            "end")));
      this.compute();
    }

    /* Her settings are yours, with some exponents changed. */
    try(yours, change) {
      this.yours = { ...yours };
      this.hers = { ...yours };
      for (const name in change) this.hers[name] += change[name];
      this.compute();
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
      return P.answer(this.problem, YOURS, this.hers, this.shared, guess);
    }

    draw() {
      const { shared, one, two, yours, hers } = this;
      for (const who of ["yours", "hers"])
        for (const name in this.sliders[who]) {
          const e = this[who][name], by = e - yours[name];
          const more = who === "hers" && MINE.includes(name) && by
            ? ` (× ${short(2 ** by)})` : "";
          this.sliders[who][name].show(e, P.write[name](e) + more);
        }
      for (const name in shared) this.check(name, shared[name]);
      const sgd = shared.optimizer === "sgd";
      const names = { scale: ["scale", `s = ${SCALINGS[shared.scaling]}`],
        first: ["pace of A,", ["η", h("sub", {}, "A"), sgd ? "/ω²" : "/ω"]],
        second: ["pace of ΔW,", [sgd ? "s²ω²η" : "sωη", h("sub", {}, "B")]],
        along: ["first step,", "along −G"], size: ["first step,", "size"],
        loss: ["at the end,", "loss"], end: ["at the end,", "size"] };
      const rows = P.rows(yours, hers, shared, one, two);
      for (const id in names) {
        const [words, sign] = names[id];
        this.names[id].replaceChildren(words, " ",
          h("span", { class: "num" }, sign));
        this.write(Object.fromEntries(rows[id].map((text, k) =>
          [`${id}-${k}`, text])));
      }
      const same = P.verdict(one, two, this);
      this.write({ same,
        note: P.explain(this.problem, yours, hers, shared, one, two) });
      const words = (who) => `${who}: ` + Object.keys(this.sliders[who])
        .map((name) => `${KNOBS[name][0]} ${P.write[name](this[who][name])}`)
        .join(", ");
      this.paper.textContent = `${OPTIMIZERS[shared.optimizer]}, scale ${
        SCALINGS[shared.scaling]}; ${words("yours")}; ${words("hers")}.`;
      this.chart();
      this.say(`${same.slice(2)} Loss ${rows.loss.slice(0, 2).map((x) =>
        x === "–" ? "none" : x).join(" and ")}.`);
    }

    chart() {
      const { svg, one, two, apart } = this;
      const sizes = [one, two].map(({ found }) => found.map((f) => f.size));
      const top = 1.06 * Math.min(12, Math.max(...sizes.flat(), ...apart));
      const mid = +(top / 2).toPrecision(1);
      const chart = LR.chart(svg, { height: 165,
        x: { at: (t) => t / P.STEPS, ticks: [[0, "step 0"], [P.STEPS, 30]] },
        y: { at: (v) => v / top, ticks: [[0, "0"], [mid, short(mid)]] } });
      const line = (type, values) =>
        chart.line(type, values.map((v, t) => [t, v]));
      const said = (values) => short(values[values.length - 1]);
      chart.show(`Sizes of ΔW at the last step: yours ${
        said(sizes[0])}, hers ${said(sizes[1])}, their difference ${
        said(apart)}`, line("body", sizes[0]), line("aim", apart),
      line("dash", sizes[1]), chart.path("dash ring", sizes[1].map((v, t) =>
        t % 2 ? "" : LR.disc(chart.X(t), chart.Y(v), 3.5)).join("")));
    }
  }
  LR.define("lr-alpha-lr", AlphaLr);
})();
