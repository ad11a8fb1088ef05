/* <lr-descent size="1e-3" rank="4" step="0.1">: gradient descent on two
   factors whose product should be W; loss and singular values over time. */
(() => {
  "use strict";
  const { h, num } = LR;
  const SIGMA = [1, 0.5, 0.25, 0.125, 0, 0], ROWS = 8, STEPS = 800, EVERY = 8;
  const DEFAULT = { start: "small", size: 1e-3, rank: 4, rate: 0.1, seed: 1 };
  const STARTS = { small: "both random", lora: "LoRA's: B zero, A random",
    zero: "both zero" };

  const D = (LR.descent = {
    SIGMA, STEPS, EVERY,
    zeros: (m, n) => Array.from({ length: m }, () => new Float64Array(n)),
    times(X, Y, scale = 1) {
      const Z = D.zeros(X.length, Y[0].length);
      X.forEach((row, i) => row.forEach((x, l) => {
        for (let j = 0; j < Z[i].length; j++) Z[i][j] += scale * x * Y[l][j];
      }));
      return Z;
    },
    turned: (X) => Array.from(X[0], (_, j) =>
      Float64Array.from(X, (row) => row[j])),
    /* Numbers of the normal distribution, by Box and Muller. */
    normal(m, n, size, random) {
      return Array.from({ length: m }, () => Float64Array.from({ length: n },
        () => {
          const radius = Math.sqrt(-2 * Math.log(1 - random()));
          return size * radius * Math.cos(2 * Math.PI * random());
        }));
    },
    start({ start, size, rank, seed }) {
      const random = LR.random(seed), n = SIGMA.length;
      return [
        start === "small" ? D.normal(ROWS, rank, size, random)
          : D.zeros(ROWS, rank),
        start === "zero" ? D.zeros(rank, n) : D.normal(rank, n, size, random),
      ];
    },
    /* W is diagonal: any other W is a rotation of it. */
    residual(B, A) {
      const R = D.times(B, A);
      SIGMA.forEach((s, i) => (R[i][i] -= s));
      return R;
    },
    square: (X) => X.reduce((sum, row) =>
      row.reduce((t, x) => t + x * x, sum), 0),
    floor: (rank) =>
      SIGMA.slice(rank).reduce((sum, s) => sum + s * s, 0) / 2,
    /* Loss, size of the gradient and singular values, every EVERY steps; the
       run ends early if the loss explodes. */
    run(setting) {
      let [B, A] = D.start(setting);
      const found = [], { rate, rank } = setting;
      for (let t = 0; t <= STEPS; t++) {
        const R = D.residual(B, A), loss = D.square(R) / 2;
        if (!(loss < 1e4)) return { found, exploded: t };
        const gB = D.times(R, D.turned(A)), gA = D.times(D.turned(B), R);
        if (t % EVERY === 0)
          found.push({ loss, gradient: Math.sqrt(D.square(gB) +
            D.square(gA)), s: LR.svd(D.times(B, A)).s.slice(0, rank) });
        gB.forEach((row, i) => row.forEach((g, j) => (B[i][j] -= rate * g)));
        gA.forEach((row, i) => row.forEach((g, j) => (A[i][j] -= rate * g)));
      }
      return { found, exploded: null };
    },
    /* The first recorded step at which s_i is half of what it should be. */
    half(found, i) {
      const at = found.findIndex(({ s }) => s[i] >= SIGMA[i] / 2);
      return at < 0 ? null : at * EVERY;
    },
  });

  class Descent extends LR.Explorable {
    static title = "What does gradient descent learn first?";
    static css = `
      .settings{display:grid;gap:.35rem .75rem;align-items:center;
        grid-template-columns:auto minmax(5rem,1fr) 5rem;margin:.5rem 0}
      .charts{display:grid;gap:.75rem 1.25rem;margin:.75rem 0;
        grid-template-columns:repeat(auto-fit,minmax(min(100%,16rem),1fr))}
      .charts p{margin:0 0 .25rem}
      svg{display:block;width:100%}
      svg path{fill:none;stroke:var(--fg)}
      svg .axis{stroke:var(--muted);stroke-width:1}
      svg .body{stroke:var(--c1);stroke-width:2.2}
      svg .dash{stroke:var(--fg);stroke-width:1.2;stroke-dasharray:5 4}
      svg .cut{stroke:var(--c2);stroke-width:2}
      svg text{font-size:12px;fill:var(--muted)}
      .note{min-height:4.5em}`;

    start() {
      const power = LR.real(1e-6, 1);
      this.set = { ...DEFAULT,
        start: this.option("start", LR.oneOf(...Object.keys(STARTS)),
          `one of ${Object.keys(STARTS).join(", ")}`, DEFAULT.start),
        size: this.option("size", power, "a number from 1e-06 to 1",
          DEFAULT.size),
        rank: this.option("rank", LR.whole(1, 6), "a whole number from 1 to 6",
          DEFAULT.rank),
        rate: this.option("rate", LR.real(0.01, 3), "a number from 0.01 to 3",
          DEFAULT.rate),
      };
      this.at = STEPS;
      const first = D.run(DEFAULT).found;
      this.halves = [0, 1].map((i) => D.half(first, i));

      const form = h("div", { class: "settings controls" });
      this.fields = {};
      const slider = (name, words, low, high, step, read, write, show) => {
        const input = h("input", { type: "range", id: name, min: low,
          max: high, step, oninput: () => {
            read(+input.value);
            this.later();
          } });
        const shown = h("span", { class: "num" });
        this.fields[name] = { input, shown, write, show };
        form.append(h("label", { for: name, class: "name" }, words), input,
          shown);
      };
      slider("size", "size of the start", -6, 0, 0.5,
        (x) => (this.set.size = 10 ** x), () => Math.log10(this.set.size),
        () => num(this.set.size));
      slider("rank", "rank r", 1, 6, 1, (x) => (this.set.rank = x),
        () => this.set.rank, () => String(this.set.rank));
      slider("rate", "learning rate", -2, 0.5, 0.05,
        (x) => (this.set.rate = 10 ** x), () => Math.log10(this.set.rate),
        () => num(this.set.rate));
      this.starts = LR.radios("start", "Start", STARTS, (event) => {
        this.set.start = event.target.value;
        this.later();
      });
      this.scrub = h("input", { type: "range", id: "at", min: 0, max: STEPS,
        step: EVERY, oninput: () => {
          this.at = +this.scrub.value;
          this.draw();
        } });
      [this.lossChart, this.valueChart] = [0, 1].map(() =>
        h("svg", { role: "img" }));
      new ResizeObserver(() => this.found && this.draw())
        .observe(this.lossChart);
      this.note = h("p", { class: "note", id: "note" });
      const row = (id, words) => h("tr", {},
        h("th", { scope: "row" }, words), h("td", { id }));
      this.figure.append(
        LR.guess("W has the singular values 1, ½, ¼ and ⅛. From a tiny " +
          `start, the first is half learned after ${this.halves[0]} steps. ` +
          "After how many is the second?", 0, 10000, (x) => this.reveal(x)),
        this.starts, form,
        h("div", { class: "row controls" },
          LR.button("Another start", () => {
            this.set.seed++;
            this.compute();
          }),
          LR.button("As at first", () => this.reset())),
        h("div", { class: "charts" },
          h("div", {}, h("p", {}, "loss; dashed: the least possible"),
            this.lossChart),
          h("div", {}, h("p", {}, "singular values of BA; dashed: of W"),
            this.valueChart)),
        h("div", { class: "row controls" },
          h("label", { for: "at", class: "name" }, "Step"), this.scrub),
        h("table", {}, h("caption", { class: "hidden" },
          "The run at the chosen step"), h("tbody", {},
          row("now", "step"), row("loss", "loss ½‖BA − W‖²"),
          row("floor", "least possible, by Eckart and Young"),
          row("gradient", "size of the gradient"),
          row("values", "singular values of BA"))),
        this.note);
      this.compute();
    }

    reset() {
      this.set = { ...DEFAULT };
      this.at = STEPS;
      this.compute();
    }

    /* One run for all events of a frame. */
    later() {
      cancelAnimationFrame(this.waiting);
      this.waiting = requestAnimationFrame(() => this.compute());
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
      const { set, found, exploded } = this;
      for (const name in this.fields) {
        const { input, shown, write, show } = this.fields[name];
        input.value = write();
        shown.textContent = show();
        input.setAttribute("aria-valuetext", show());
      }
      this.shadowRoot.querySelector(`[value="${set.start}"]`).checked = true;
      this.starts.disabled = false;
      const k = Math.min(Math.round(this.at / EVERY), found.length - 1);
      const here = found[k], floor = D.floor(set.rank);
      this.scrub.value = this.at;
      this.scrub.setAttribute("aria-valuetext", `step ${k * EVERY}`);
      const values = here.s.map((x) => x.toFixed(3)).join(", ");
      const text = { now: `${k * EVERY} of ${STEPS}`,
        loss: here.loss.toFixed(6), floor: floor.toFixed(6),
        gradient: num(here.gradient), values };
      for (const id in text)
        this.shadowRoot.getElementById(id).textContent = text[id];
      const start = found[0].loss;
      this.chart(this.lossChart, Math.max(1.05 * start, 0.7),
        [found.map((f) => f.loss)], [floor], k,
        `Loss: ${start.toFixed(3)} at first, ${text.loss} at step ${
          k * EVERY}, at least ${text.floor}`);
      this.chart(this.valueChart, 1.1,
        here.s.map((_, i) => found.map((f) => f.s[i])),
        SIGMA.slice(0, set.rank), k,
        `Singular values of BA at step ${k * EVERY}: ${values}`);
      const halves = SIGMA.slice(0, Math.min(4, set.rank))
        .map((_, i) => D.half(found, i));
      this.note.textContent = exploded !== null
        ? `The learning rate is too large: the loss exploded at step ${
          exploded}.`
        : set.start === "zero"
          ? "Nothing ever moves: at zero both gradients are zero, though " +
            "the loss is far above the least possible. Zero is a saddle."
          : "Half learned: " + halves.map((t, i) => `σ${LR.small[i]} ` +
            (t === null ? "not yet" : `after ${t}`)).join(", ") + " steps." +
            (set.start === "lora" && set.size > 0.1
              ? " With A of ordinary size there is no waiting at zero." : "");
      this.say(`Step ${k * EVERY}: loss ${text.loss}, singular values ${
        values}.`);
    }

    chart(svg, top, lines, dashes, k, description) {
      const W = svg.clientWidth || 300, H = 170, left = 30, low = H - 18;
      const n = STEPS / EVERY;
      const x = (i) => +(left + ((W - left - 6) * i) / n).toFixed(1);
      const y = (v) => +(low - (low - 6) * Math.min(1, v / top)).toFixed(1);
      const path = (kind, d) => `<path class="${kind}" d="${d}"/>`;
      svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
      svg.innerHTML = path("axis", `M${left} 4V${low}H${W - 4}`) +
        dashes.map((v) => path("dash", `M${left} ${y(v)}H${W - 4}`)).join("") +
        lines.map((line) => path("body", `M${line.map((v, i) =>
          `${x(i)} ${y(v)}`).join("L")}`)).join("") +
        path("cut", `M${x(k)} 4V${low}`) +
        `<text x="0" y="${low + 4}">0</text>` +
        `<text x="0" y="${y(top / 2) + 4}">${(top / 2).toFixed(2)}</text>` +
        `<text x="${left}" y="${H - 3}">step 0</text>` +
        `<text x="${W - 6}" y="${H - 3}" text-anchor="end">${STEPS}</text>`;
      svg.setAttribute("aria-label", description);
    }
  }
  LR.small = "₁₂₃₄";
  LR.define("lr-descent", Descent);
})();
