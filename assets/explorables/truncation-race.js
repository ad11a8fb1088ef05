/* <lr-truncation-race matrix="3 0; 4 5">: a rank-one rival c u v^T for the
   truncated SVD; the reader turns u and v, the best c is chosen. */
(() => {
  "use strict";
  const { h, num } = LR;
  const TRIES = 10000, MAP = 60;

  const PRESETS = {
    "3 0; 4 5": [[3, 0], [4, 5]],
    shear: [[1, 1], [0, 1]],
    "a tie": [[1, 0], [0, 1]],
    "rank one": [[1, 2], [0.5, 1]],
  };
  const rad = (deg) => (deg * Math.PI) / 180;
  const unit = (deg) => [Math.cos(rad(deg)), Math.sin(rad(deg))];
  const angle = ([x, y]) =>
    ((Math.atan2(y, x) * 180) / Math.PI + 360) % 360;
  const degrees = (x) => `${x.toFixed(1)}°`;

  const R = (LR.race = {
    /* The best factor and the error of c u v^T, both given by angles. */
    rival(A, theta, phi) {
      const u = unit(theta), w = LR.apply(A, unit(phi));
      const c = u[0] * w[0] + u[1] * w[1];
      const rest = A.map((row, i) =>
        row.map((x, j) => x - c * u[i] * unit(phi)[j]));
      return { c, error: Math.hypot(...rest.flat()) };
    },
    best(A, tries, seed) {
      const random = LR.random(seed);
      let best = { error: Infinity };
      for (let i = 0; i < tries; i++) {
        const theta = 180 * random(), phi = 180 * random();
        const { error } = R.rival(A, theta, phi);
        if (error < best.error) best = { error, theta, phi };
      }
      return best;
    },
  });

  class TruncationRace extends LR.Explorable {
    static title = "Can you beat the truncated SVD?";
    static css = `${LR.planeCss}
      .planes{display:grid;gap:.75rem 1.25rem;margin:.75rem 0;
        grid-template-columns:repeat(auto-fit,minmax(min(100%,9rem),1fr))}
      .planes p{margin:0 0 .25rem}
      .turns{display:grid;gap:.3rem .75rem;align-items:center;
        grid-template-columns:auto minmax(4rem,1fr) auto}
      .top{display:flex;flex-wrap:wrap;gap:.5rem 1.5rem;align-items:center}
      .top .row{flex:1 1 13rem}
      .map{position:relative;aspect-ratio:1;border:1px solid var(--line);
        border-radius:.3rem;overflow:hidden}
      canvas,.map svg{position:absolute;inset:0;width:100%;height:100%}
      .map path{fill:none;stroke:var(--fg);stroke-width:2;
        vector-effect:non-scaling-stroke}
      .map circle{fill:var(--bg);stroke:var(--fg);stroke-width:2;
        vector-effect:non-scaling-stroke}
      .track{height:1.4rem;background:var(--soft);position:relative;
        border:1px solid var(--line);margin:.25rem 0}
      .track .bar{position:absolute;inset:0 auto 0 0;background:var(--c1)}
      .track .least{position:absolute;inset:-.2rem auto -.2rem 0;
        border-inline-end:3px solid var(--fg)}`;

    start() {
      this.A = this.option("matrix", LR.square(2),
        "2 rows like \"3 0; 4 5\", entries from −100 to 100",
        PRESETS["3 0; 4 5"]);
      this.theta = 100;
      this.phi = 120;
      this.shown = false;
      this.seed = 0;

      this.left = LR.plane(() => this.draw());
      this.right = LR.plane(() => this.draw());
      const handle = (plane, i, key, name) => plane.handle(i, name, [0, 360],
        (at) => this.turn({ [key]: Math.round(angle(at)) }),
        ([dx, dy]) => this.turn({ [key]: this[key] + dx + dy }));
      this.u = handle(this.left, 0, "theta", "Left unit vector u");
      this.v = handle(this.right, 1, "phi", "Right unit vector v");
      this.sliders = {};
      const turns = h("div", { class: "turns controls" });
      for (const [key, words, kind] of [["theta", "● u", "c1"],
        ["phi", "■ v", "c2"]]) {
        const slider = h("input", { type: "range", id: key, min: 0, max: 359,
          step: 1, oninput: () => this.turn({ [key]: +slider.value }) });
        const shown = h("span", { class: "num", id: `${key}-now` });
        this.sliders[key] = { slider, shown };
        turns.append(h("label", { for: key }, "Turn ",
          h("span", { class: kind }, words)), slider, shown);
      }
      this.entries = LR.matrix(2, (k, x) => {
        const A = this.A.map((row) => [...row]);
        A[k >> 1][k & 1] = x;
        this.setMatrix(A);
      }, (sentence) => this.complain(sentence));
      this.canvas = h("canvas", { width: MAP, height: MAP, role: "img" });
      this.marks = h("svg", { viewBox: "0 0 180 180", "aria-hidden": "true" });
      this.bar = h("div", { class: "bar" });
      this.least = h("div", { class: "least", hidden: true });
      this.finding = h("p", { role: "status", id: "finding" });
      this.note = h("p", { class: "note", id: "note" });
      const row = (id, words) => h("tr", {},
        h("th", { scope: "row" }, words), h("td", { id }));

      this.figure.append(
        LR.guess("Turn u and v: for the matrix with the rows (3, 0) and " +
          "(4, 5), what is the least error that any pair can reach?", 0, 10,
        (x) => this.reveal(x)),
        h("div", { class: "top" }, this.entries,
          h("div", { class: "row controls", role: "group",
            "aria-label": "Matrices to try" },
          h("span", { class: "name" }, "Try"),
          Object.entries(PRESETS).map(([name, A]) =>
            LR.button(name, () => {
              this.complain("");
              this.setMatrix(A);
            })))),
        turns,
        h("div", { class: "planes" },
          h("div", {}, h("p", {}, "u writes"),
            this.left.svg),
          h("div", {}, h("p", {}, "v reads"), this.right.svg),
          h("div", {}, h("p", {}, "error: u across, v up"),
            h("div", { class: "map" }, this.canvas, this.marks))),
        h("div", { class: "track", "aria-hidden": "true" }, this.bar,
          this.least),
        h("table", {}, h("caption", { class: "hidden" },
          "The rival and the truncated SVD"), h("tbody", {},
          row("factor", "best factor c = uᵀAv"),
          row("error", "error of c u vᵀ, Frobenius norm"),
          row("record", "least error so far"),
          row("floor", "error of the truncated SVD, σ₂"))),
        h("div", { class: "row controls" },
          LR.button("10,000 random pairs", () => this.race()),
          LR.button("Go to the SVD's pair", () => this.answer())),
        this.finding, this.note);
      this.setMatrix(this.A);
    }

    setMatrix(A) {
      this.A = A;
      this.svd = LR.svd(A);
      this.size = Math.hypot(...A.flat());
      this.path = [];
      this.record = Infinity;
      this.finding.textContent = "";
      this.entries.set(A);
      this.paint();
      this.turn({});
    }

    /* Light where the error is small; a pair and its opposites are one. */
    paint() {
      const ink = this.canvas.getContext("2d");
      const image = ink.createImageData(MAP, MAP);
      for (let i = 0; i < MAP; i++)
        for (let j = 0; j < MAP; j++) {
          const { error } = R.rival(this.A, (180 * (j + 0.5)) / MAP,
            180 - (180 * (i + 0.5)) / MAP);
          const low = this.svd.s[1], t = (error - low) /
            (this.size - low || 1), at = 4 * (i * MAP + j);
          // Bands, like the lines of a map.
          const k = Math.min(1, Math.max(0, Math.floor(t * 10 + 1e-9) / 10));
          [250 - 190 * k, 240 - 160 * k, 200 - 60 * k, 255].forEach((x, c) =>
            (image.data[at + c] = x));
        }
      ink.putImageData(image, 0, 0);
      this.canvas.setAttribute("aria-label", "Map of the error over both " +
        "angles, from 0° to 180°; light is small");
    }

    turn(angles) {
      for (const key in angles) this[key] = (angles[key] + 720) % 360;
      const { error } = R.rival(this.A, this.theta, this.phi);
      this.record = Math.min(this.record, error);
      this.path.push([this.theta % 180, this.phi % 180]);
      if (this.path.length > 400) this.path.shift();
      this.draw();
    }

    race() {
      const best = R.best(this.A, TRIES, ++this.seed);
      this.record = Math.min(this.record, best.error);
      this.path = [];
      this.shown = true;
      this.turn({ theta: best.theta, phi: best.phi });
      const floor = this.svd.s[1];
      this.finding.textContent = `The best of 10,000 random pairs has the ` +
        `error ${best.error.toFixed(6)}; the truncated SVD has ${
          floor.toFixed(6)}. ` + (best.error - floor < 1e-9 * this.size
          ? "At this matrix a random pair can hit it."
          : "Near, and never below.");
    }

    answer() {
      this.shown = true;
      this.path = [];
      const { U, V } = this.svd;
      this.turn({ theta: angle(U[0]), phi: angle(V[0]) });
    }

    reveal(guess) {
      this.setMatrix(PRESETS["3 0; 4 5"]);
      this.answer();
      const least = this.svd.s[1];
      const said = guess === null ? "" : `You said ${guess}. `;
      return `${said}It is σ₂ = ${num(least)}, at u₁ and v₁: no pair of ` +
        "directions does better." + (guess !== null && guess < 0.9 * least
        ? " One number and two directions cannot hold all of a matrix of " +
          "rank two." : "");
    }

    draw() {
      const { A, theta, phi, svd, shown, left, right } = this;
      const { c, error } = R.rival(A, theta, phi);
      for (const key of ["theta", "phi"]) {
        const { slider, shown: text } = this.sliders[key];
        slider.value = this[key];
        slider.setAttribute("aria-valuetext", degrees(this[key]));
        text.textContent = degrees(this[key]);
      }
      const plane = (p, i, name, deg, first) => {
        p.range = 1.35;
        p.grid((x) => x);
        p.axes();
        p.line(LR.circle(), "body");
        if (shown && svd.s[0] - svd.s[1] > 1e-9 * svd.s[0]) {
          p.line([first.map((x) => -x), first], "dash");
          p.label(first.map((x) => 0.55 * x), `${name}₁`, "ink",
            [first[1], -first[0]]);
        }
        p.arrow(unit(deg), `c${i + 1}`, name);
        p.show(`The unit circle with ${name} at ${degrees(deg)}`);
      };
      plane(left, 0, "u", theta, svd.U[0]);
      plane(right, 1, "v", phi, svd.V[0]);
      this.u.put(unit(theta), theta.toFixed(1), degrees(theta));
      this.v.put(unit(phi), phi.toFixed(1), degrees(phi));
      const at = ([x, y]) => `${x.toFixed(1)} ${(180 - y).toFixed(1)}`;
      // A step over the edge comes back on the other side: no line across.
      let way = "";
      this.path.forEach((p, i) => {
        const q = this.path[i - 1];
        const jump = !q || Math.hypot(p[0] - q[0], p[1] - q[1]) > 90;
        way += (jump ? "M" : "L") + at(p);
      });
      const [x, y] = at([theta % 180, phi % 180]).split(" ");
      this.marks.innerHTML = `<path d="${way}"/>` +
        `<circle cx="${x}" cy="${y}" r="5"/>`;
      const floor = svd.s[1], full = this.size || 1;
      this.bar.style.width = `${(100 * error) / full}%`;
      this.least.style.width = `${(100 * floor) / full}%`;
      this.least.hidden = !shown;
      const text = { factor: num(c), error: num(error),
        record: num(this.record), floor: shown ? num(floor) : "?" };
      for (const id in text)
        this.shadowRoot.getElementById(id).textContent = text[id];
      const excess = error - floor;
      this.note.textContent = !shown
        ? "The bar is the error; make it as short as you can."
        : excess < 1e-6 * full
          ? floor < 1e-12 * full
            ? "Nothing is left: this matrix has rank one."
            : svd.s[0] - floor < 1e-9 * svd.s[0]
              ? "The least error. At a tie many pairs reach it: turn both."
              : "The least error, and there is no other place like it."
          : `${num(excess)} above the least error.`;
      this.say(`u at ${degrees(theta)}, v at ${degrees(phi)}: error ${
        num(error)}.`);
    }
  }
  LR.define("lr-truncation-race", TruncationRace);
})();
