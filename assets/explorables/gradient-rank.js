/* <lr-gradient-rank tokens="3" optimizer="sgd" rank="2">: the rank of one
   gradient against the rank of the sum of steps, and LoRA beside them. */
(() => {
  "use strict";
  const { h, percent, linalg: M } = LR;
  const SIDE = 16, STEPS = 24, SCALE = 2, ASKED = 3, ZERO = 1e-12;
  const DEFAULT = { tokens: ASKED, optimizer: "sgd", decay: 0, rank: 2,
    seed: 1 };
  const OPTIMIZERS = { sgd: "SGD", adam: "Adam" };
  const RATES = { sgd: 0.5, adam: 0.01 };
  const KINDS = {
    sum: { type: "body", words: "sum of the steps" },
    gradient: { type: "dash", words: "last gradient" },
    lora: { type: "dots", words: "LoRA’s ΔW" },
  };

  const P = (LR.gradients = {
    DEFAULT, STEPS, SIDE,
    /* A weight W0, how far away the weight is that made the targets, a start
       for LoRA's A, and batches of inputs and of noise on the targets. */
    problem({ tokens, rank, seed }) {
      const random = M.random(seed), root = Math.sqrt(SIDE);
      const some = (m, size) => M.scaled(M.normal(m, SIDE, random), size);
      const W0 = some(SIDE, 1 / root);
      const left = some(SIDE, 1).map((row) => row.map((x, l) => x / (l + 1)));
      const C = M.times(left, some(SIDE, 1));
      const A = M.scaled(M.uniform(rank, SIDE, random), 1 / root);
      return { W0, C: M.scaled(C, 2 / M.norm(C)), A,
        batches: Array.from({ length: STEPS }, () =>
          ({ X: some(tokens, 1 / root), noise: some(tokens, 0.1) })) };
    },
    /* Of half the mean square of X (D - C)^T - noise over the tokens: one
       outer product for each. */
    gradient(D, C, { X, noise }) {
      const error = M.minus(M.times(X, M.turned(M.minus(D, C))), noise);
      return M.times(M.turned(error), X, 1 / X.length);
    },
    /* After each step: its gradient, the sum of all steps, and what LoRA has
       learned from the same batches. D, and not W, is added up: the rounding
       of W would hide the rank of a small D. */
    run(setting) {
      const { W0, C, A, batches } = P.problem(setting);
      const { optimizer, decay, rank } = setting, rate = RATES[optimizer];
      const D = M.zeros(SIDE, SIDE), B = M.zeros(SIDE, rank);
      const [step, stepA, stepB] = [D, A, B].map((X) => M[optimizer](X));
      const shrink = (X, W) => X.forEach((x, i) => {
        for (let j = 0; j < x.length; j++) x[j] -= rate * decay * W[i][j];
      });
      return batches.map((batch) => {
        const G = P.gradient(D, C, batch);
        shrink(D, M.plus(W0, D));
        step(G, rate);
        const H = P.gradient(M.times(B, A, SCALE), C, batch);
        const gB = M.times(H, M.turned(A), SCALE);
        const gA = M.times(M.turned(B), H, SCALE);
        shrink(A, A);
        shrink(B, B);
        stepA(gA, rate);
        stepB(gB, rate);
        return { gradient: G, sum: D.map((row) => row.slice()),
          lora: M.times(B, A, SCALE) };
      });
    },
    /* The singular values and ranks of all that. */
    spectra: (run) => run.map((matrices) => {
      const s = {}, rank = {};
      for (const kind in KINDS) {
        s[kind] = M.svd(matrices[kind]).s;
        rank[kind] = M.rank(s[kind], ZERO);
      }
      return { s, rank };
    }),
    /* The first step after which the sum has full rank, or null. */
    full(found) {
      const at = found.findIndex(({ rank }) => rank.sum === SIDE);
      return at < 0 ? null : at + 1;
    },
    note({ tokens, optimizer, decay, rank }, found) {
      const [{ rank: first }] = found, full = P.full(found);
      const then = full === null || full === 1 ? "."
        : `; after ${full} steps ΔW has rank ${SIDE}.`;
      const lora = ` LoRA’s ΔW has rank ${rank} at most, throughout.`;
      if (decay)
        return "In each step weight decay takes a part of W away, and W has " +
          `full rank. So ΔW has rank ${first.sum} after one step.${lora}`;
      if (optimizer === "adam")
        return (first.gradient === 1
          ? "Adam’s first step is the sign of the gradient, and that of a " +
            "matrix of rank one has rank one. After it, dividing each entry " +
            "by its own size keeps no rank"
          : "Adam divides each entry by its own size, and that keeps no " +
            `rank. From a gradient of rank ${first.gradient} its first step ` +
            `has rank ${first.sum}`) + then + lora;
      return (tokens >= SIDE
        ? `With ${tokens} tokens in a batch the bound says nothing here: one ` +
          `gradient has rank ${first.gradient}.`
        : `A gradient has the rank of its batch, ${first.gradient}. Ranks ` +
          `add up: that of the sum is ${found[1].rank.sum} after two steps` +
          then) + lora;
    },
  });

  class GradientRank extends LR.Explorable {
    static title = "One gradient, or the sum of all?";
    static css = `${LR.chartCss}
      .key{margin:.3rem 0}.key b{font-variant-numeric:tabular-nums}`;

    start() {
      const words = Object.keys(OPTIMIZERS);
      this.set = { ...DEFAULT,
        tokens: this.option("tokens", LR.whole(1, SIDE + 4),
          `a whole number from 1 to ${SIDE + 4}`, DEFAULT.tokens),
        optimizer: this.option("optimizer", LR.oneOf(...words),
          `one of ${words.join(", ")}`, DEFAULT.optimizer),
        rank: this.option("rank", LR.whole(1, SIDE),
          `a whole number from 1 to ${SIDE}`, DEFAULT.rank),
      };
      this.step = 1;
      const slider = (name, words, max) => LR.slider(name, words,
        { min: 1, max }, (x) => {
          this.set[name] = x;
          this.later();
        });
      this.tokens = slider("tokens", "tokens N", SIDE + 4);
      this.rank = slider("rank", "LoRA’s r", SIDE);
      this.steps = LR.slider("steps", "steps t", { min: 1, max: STEPS },
        (t) => {
          this.step = t;
          this.draw();
        });
      [this.left, this.right] = [0, 1].map(() => h("svg", { role: "img" }));
      new ResizeObserver(() => this.found && this.draw()).observe(this.left);
      const choose = (name, legend, options) => LR.radios(name, legend,
        options, (event) => {
          this.set[name] = name === "decay" ? +event.target.value
            : event.target.value;
          this.later();
        });
      this.figure.append(
        LR.guess(`W is ${SIDE} by ${SIDE}, and a batch has N = ${ASKED} ` +
          `tokens: every gradient has rank ${ASKED}. After how many steps ` +
          `of SGD has their sum rank ${SIDE}? (0: never)`, 0, 1000,
        (x) => this.reveal(x)),
        LR.sliders(this.tokens, this.steps),
        h("p", { class: "row key", id: "ranks" }, "Rank of",
          Object.entries(KINDS).map(([kind, { type, words }]) => h("span", {},
            LR.sample(type), h("span", {}, `${words}: `, h("b", {},
              kind === "sum" ? LR.secret(kind) : h("span", { id: kind })))))),
        h("div", { class: "charts" },
          h("div", {}, h("p", {}, "rank after each step"), this.left),
          h("div", {}, h("p", {}, "singular values at step t / the largest"),
            this.right)),
        h("p", { class: "note" }, h("span", { id: "note", class: "secret" }),
          h("span", { class: "veil" },
            "The sum of the steps comes after your guess.")),
        LR.more(
          h("div", { class: "both controls" },
            choose("optimizer", "Optimiser", OPTIMIZERS),
            choose("decay", "Weight decay", { 0: "none", 0.1: "0.1" })),
          LR.sliders(this.rank),
          h("div", { class: "controls" }, LR.button("Other batches", () => {
            this.set.seed++;
            this.compute();
          })),
          LR.table("How near to low rank the sum is", {
            energy: "share of the sum’s energy in its first r directions",
          }, "energy"),
          h("p", { class: "muted" }, "A least-squares problem, computed " +
            "here. LoRA learns from the same batches, with the same " +
            "optimiser. A singular value counts as zero below 10⁻¹² of the " +
            "largest.")));
      this.compute();
    }

    compute() {
      this.found = P.spectra(P.run(this.set));
      this.draw();
    }

    reveal(guess) {
      this.set = { ...DEFAULT };
      this.compute();
      const full = P.full(this.found);
      this.step = full;
      this.draw();
      const said = guess === null ? "" : guess === 0 ? "You said never. "
        : `You said ${guess}. `;
      return `${said}After ${full}: each step adds a matrix of rank ${ASKED}` +
        `, ranks add up, and ${full} · ${ASKED} is ${full * ASKED}. LoRA’s ` +
        `ΔW still has rank ${this.found[full - 1].rank.lora}.`;
    }

    draw() {
      const { set, step, found, asking } = this;
      const { s, rank } = found[step - 1];
      this.tokens.show(set.tokens, String(set.tokens));
      this.rank.show(set.rank, String(set.rank));
      this.steps.show(step, String(step));
      for (const name of ["optimizer", "decay"]) this.check(name, set[name]);
      const energy = (n) => s.sum.slice(0, n).reduce((t, x) => t + x * x, 0);
      this.write({ ...rank, note: P.note(set, found),
        energy: percent(energy(set.rank) / energy(SIDE), 1) });
      const kinds = Object.entries(KINDS).map(([kind, { type }]) =>
        [kind, kind === "sum" ? `${type} secret` : type]);
      const said = Object.entries(KINDS).filter(([kind]) =>
        !asking || kind !== "sum").map(([kind, { words }]) =>
        `${words} ${rank[kind]}`).join(", ");
      const left = LR.chart(this.left, { height: 145,
        x: { at: (t) => (t - 1) / (STEPS - 1),
          ticks: [1, 6, 12, 18, 24].map((t) => [t, t]), label: "steps" },
        y: { at: (r) => r / SIDE,
          ticks: [0, 4, 8, 12, 16].map((r) => [r, r]) } });
      left.show(`Ranks after step ${step}: ${said}`, left.cut(step),
        kinds.map(([kind, type]) => left.line(type, found.map((f, i) =>
          [i + 1, f.rank[kind]]))));
      const right = LR.chart(this.right, { height: 145,
        x: { at: (i) => (i - 1) / (SIDE - 1),
          ticks: [1, 4, 8, 12, 16].map((i) => [i, i]), label: "direction" },
        y: { at: (v) => 1 + Math.log10(v) / 4,
          ticks: [[1, "1"], [1e-2, "10⁻²"], [1e-4, "10⁻⁴"]] } });
      // At the rank the line falls to zero.
      right.show(`How many singular values are not zero: ${said}`,
        kinds.map(([kind, type]) => {
          const most = s[kind][0] || 1, r = rank[kind];
          const points = s[kind].slice(0, r).map((v, i) =>
            [i + 1, Math.max(1e-4, v / most)]);
          return right.line(type, r < SIDE ? [...points, [r + 0.4, 1e-4]]
            : points);
        }));
      this.say(`N ${set.tokens}, t ${step}. Ranks: ${said}.`);
    }
  }
  LR.define("lr-gradient-rank", GradientRank);
})();
