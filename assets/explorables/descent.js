/* <lr-descent size="1e-3" rank="4" step="0.1">: gradient descent on two
   factors whose product should be W; loss and singular values over time. */
(() => {
  "use strict";
  const { h, num, linalg: M } = LR;
  const SIGMA = [1, 0.5, 0.25, 0.125, 0, 0], ROWS = 8, STEPS = 800, EVERY = 8;
  const DEFAULT = { start: "small", size: 1e-3, rank: 4, rate: 0.1, seed: 1 };
  const STARTS = { small: "both random", lora: "LoRA's: B zero, A random",
    zero: "both zero" };

  const D = (LR.descent = {
    DEFAULT,
    start({ start, size, rank, seed }) {
      const random = M.random(seed), n = SIGMA.length;
      const some = (m, n) => M.scaled(M.normal(m, n, random), size);
      return [
        start === "small" ? some(ROWS, rank) : M.zeros(ROWS, rank),
        start === "zero" ? M.zeros(rank, n) : some(rank, n),
      ];
    },
    /* W is diagonal: any other W is a rotation of it. */
    residual(B, A) {
      const R = M.times(B, A);
      SIGMA.forEach((s, i) => (R[i][i] -= s));
      return R;
    },
    floor: (rank) =>
      SIGMA.slice(rank).reduce((sum, s) => sum + s * s, 0) / 2,
    /* Loss, size of the gradient and singular values, every EVERY steps; the
       run ends early if the loss explodes. */
    run(setting) {
      const [B, A] = D.start(setting), found = [], { rate, rank } = setting;
      const [stepB, stepA] = [B, A].map(M.sgd);
      for (let t = 0; t <= STEPS; t++) {
        const R = D.residual(B, A), loss = M.inner(R, R) / 2;
        if (!(loss < 1e4)) return { found, exploded: t };
        const gB = M.times(R, M.turned(A)), gA = M.times(M.turned(B), R);
        if (t % EVERY === 0)
          found.push({ loss, gradient: Math.hypot(M.norm(gB), M.norm(gA)),
            s: M.svd(M.times(B, A)).s.slice(0, rank) });
        stepB(gB, rate);
        stepA(gA, rate);
      }
      return { found, exploded: null };
    },
    /* The first recorded step at which s_i is half of what it should be. */
    half(found, i) {
      const at = found.findIndex(({ s }) => s[i] >= SIGMA[i] / 2);
      return at < 0 ? null : at * EVERY;
    },
    note({ start, size, rank }, { found, exploded }) {
      if (exploded !== null)
        return "The learning rate is too large: the loss exploded at step " +
          `${exploded}.`;
      if (start === "zero")
        return "Nothing ever moves: at zero both gradients are zero, though " +
          "the loss is far above the least possible. Zero is a saddle.";
      const halves = SIGMA.slice(0, Math.min(4, rank))
        .map((_, i) => [i, D.half(found, i)]);
      return "Half learned: " + halves.map(([i, t]) => `σ${LR.sub(i + 1)} ` +
        (t === null ? "not yet" : `after ${t}`)).join(", ") + " steps." +
        (start === "lora" && size > 0.1
          ? " With A of ordinary size there is no waiting at zero." : "");
    },
  });

  class Descent extends LR.Explorable {
    static title = "What does gradient descent learn first?";
    static css = `${LR.chartCss}.note{min-height:3em}`;

    start() {
      const take = (name, parse, allowed) =>
        this.option(name, parse, allowed, DEFAULT[name]);
      this.set = { ...DEFAULT,
        start: take("start", LR.oneOf(...Object.keys(STARTS)),
          `one of ${Object.keys(STARTS).join(", ")}`),
        size: take("size", LR.real(1e-6, 1), "a number from 1e-06 to 1"),
        rank: take("rank", LR.whole(1, 6), "a whole number from 1 to 6"),
        rate: take("rate", LR.real(0.01, 3), "a number from 0.01 to 3"),
      };
      this.step = STEPS;
      const first = D.run(DEFAULT).found;
      this.halves = [0, 1].map((i) => D.half(first, i));

      const slider = (name, words, [min, max, step], power) =>
        LR.slider(name, words, { min, max, step }, (x) => {
          this.set[name] = power ? 10 ** x : x;
          this.later();
        });
      this.fields = {
        size: slider("size", "size of the start", [-6, 0, 0.5], true),
        rank: slider("rank", "rank r", [1, 6, 1], false),
        rate: slider("rate", "learning rate", [-2, 0.5, 0.05], true),
      };
      this.scrub = LR.slider("at", "step", { min: 0, max: STEPS,
        step: EVERY }, (t) => {
        this.step = t;
        this.draw();
      });
      [this.lossChart, this.valueChart] = [0, 1].map(() =>
        h("svg", { role: "img" }));
      new ResizeObserver(() => this.found && this.draw())
        .observe(this.lossChart);
      const { size, rank, rate } = this.fields;
      this.figure.append(
        LR.guess("W has the singular values 1, ½, ¼ and ⅛. From a tiny " +
          `start, the first is half learned after ${this.halves[0]} steps. ` +
          "After how many is the second?", 0, 10000, (x) => this.reveal(x)),
        LR.radios("start", "Start", STARTS, (event) => {
          this.set.start = event.target.value;
          this.later();
        }),
        LR.sliders(size),
        h("div", { class: "charts" },
          h("div", {}, h("p", {}, "loss; dotted: the least possible"),
            this.lossChart),
          h("div", {}, h("p", {}, "singular values of BA; dotted: of W"),
            this.valueChart)),
        h("p", { class: "note" }, h("span", { id: "note", class: "secret" }),
          h("span", { class: "veil" },
            "The rest of the run comes after your guess.")),
        LR.more(LR.sliders(rank, rate, this.scrub),
          h("div", { class: "row controls" },
            LR.button("Another start", () => {
              this.set.seed++;
              this.compute();
            }),
            LR.button("As at first", () => this.reset())),
          LR.table("The run at the chosen step", { now: "step",
            loss: "loss ½‖BA − W‖²", gradient: "size of the gradient",
            floor: "least possible, by Eckart and Young",
            values: "singular values of BA" }, "loss", "gradient",
          "values")));
      this.compute();
    }

    reset() {
      this.set = { ...DEFAULT };
      this.step = STEPS;
      this.compute();
    }

    compute() {
      Object.assign(this, D.run(this.set));
      this.draw();
    }

    reveal(guess) {
      this.reset();
      const [first, second] = this.halves;
      const said = guess === null ? "" : `You said ${guess}. `;
      return `${said}After ${second}, ${(second / first).toFixed(1)} times ` +
        `the ${first} of the first: half the singular value, about twice ` +
        "the time.";
    }

    draw() {
      const { set, found, asking } = this;
      const shown = { size: num(set.size), rank: String(set.rank),
        rate: num(set.rate) };
      for (const name in shown)
        this.fields[name].show(name === "rank" ? set.rank
          : Math.log10(set[name]), shown[name]);
      this.check("start", set.start);
      const k = Math.min(Math.round(this.step / EVERY), found.length - 1);
      const here = found[k], floor = D.floor(set.rank);
      this.scrub.show(this.step, `${k * EVERY}`);
      const text = { now: `${k * EVERY} of ${STEPS}`,
        loss: here.loss.toFixed(6), floor: floor.toFixed(6),
        gradient: num(here.gradient), note: D.note(set, this),
        values: here.s.map((x) => x.toFixed(3)).join(", ") };
      this.write(text);
      const start = found[0].loss.toFixed(3);
      const last = asking ? "hidden until you have guessed"
        : `at step ${k * EVERY}`;
      const top = Math.max(1.05 * found[0].loss, 0.7);
      this.chart(this.lossChart, top, top / 2, [found.map((f) => f.loss)], [floor], k, `Loss: ${start} at first, ` +
        (asking ? last : `${text.loss} ${last}`) + `, at least ${text.floor}`);
      this.chart(this.valueChart, 1.1, 1,
        here.s.map((_, i) => found.map((f) => f.s[i])),
        SIGMA.slice(0, set.rank), k, `Singular values of BA ${last}` +
        (asking ? "" : `: ${text.values}`));
      if (!asking)
        this.say(`Step ${k * EVERY}: loss ${text.loss}, singular values ${
          text.values}.`);
      else this.say(`Size of the start ${shown.size}, rank ${set.rank}.`);
    }

    /* Before the guess, the lines end where the first half is learned. */
    chart(svg, top, tick, lines, aims, k, description) {
      const chart = LR.chart(svg, { height: 160,
        x: { at: (i) => (i * EVERY) / STEPS,
          ticks: [[0, "step 0"], [STEPS / EVERY, STEPS]] },
        y: { at: (v) => v / top,
          ticks: [[0, "0"], [tick, String(+tick.toFixed(2))]] } });
      const draw = (type, values) =>
        chart.line(type, values.map((v, i) => [i, v]));
      const until = (D.half(this.found, 0) ?? 0) / EVERY;
      chart.show(description, aims.map((v) => chart.level("aim", v)),
        lines.map((line) => draw("body secret", line)),
        this.asking ? lines.map((line) =>
          draw("body early", line.slice(0, until + 1))) : [],
        `<g class="secret">${chart.cut(k)}</g>`);
    }
  }
  LR.define("lr-descent", Descent);
})();
