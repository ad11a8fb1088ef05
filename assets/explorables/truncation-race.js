/* <lr-truncation-race matrix="3 0; 4 5">: a rank-one rival c u v^T for the
   truncated SVD; the reader turns u and v, the best c is chosen. */
(() => {
  "use strict";
  const { h, num, unit, angle, degrees, linalg: M } = LR;
  const TRIES = 10000, MAP = 60, ASKED = [[3, 0], [4, 5]];

  const PRESETS = { "3 0; 4 5": ASKED, shear: [[1, 1], [0, 1]],
    "a tie": [[1, 0], [0, 1]], "rank one": [[1, 2], [0.5, 1]] };

  const R = (LR.race = {
    PRESETS, MAP,
    /* The best factor and the error of c u v^T, both given by angles. */
    rival(W, theta, phi) {
      const u = unit(theta), v = unit(phi), w = M.apply(W, v);
      const c = u[0] * w[0] + u[1] * w[1];
      const rest = W.map((row, i) => row.map((x, j) => x - c * u[i] * v[j]));
      return { c, error: Math.hypot(...rest.flat()) };
    },
    best(W, tries, seed) {
      const random = M.random(seed);
      let best = { error: Infinity };
      for (let i = 0; i < tries; i++) {
        const theta = 180 * random(), phi = 180 * random();
        const { error } = R.rival(W, theta, phi);
        if (error < best.error) best = { error, theta, phi };
      }
      return best;
    },
    /* Ten bands over both angles, u across and v upwards: 0 where the error
       is least, 1 where it is all of W. */
    map(W) {
      const low = M.svd(W).s[1], high = M.norm(W);
      const mid = (k) => (180 * (k + 0.5)) / MAP;
      return Array.from({ length: MAP }, (_, i) => Array.from({ length: MAP },
        (_, j) => {
          const { error } = R.rival(W, mid(j), 180 - mid(i));
          const t = (error - low) / (high - low || 1);
          return Math.min(1, Math.max(0, Math.floor(t * 10 + 1e-9) / 10));
        }));
    },
    finding: (error, least, size) =>
      `The best of ${LR.grouped(TRIES)} random pairs has the error ${
        error.toFixed(6)}; the truncated SVD has ${least.toFixed(6)}. ` +
      (error - least < 1e-9 * size
        ? "At this matrix a random pair can hit it."
        : "Near, and never below."),
    note(excess, [first, least], size) {
      if (excess >= 1e-6 * size) return `${num(excess)} above the least error.`;
      return least < 1e-12 * size
        ? "Nothing is left: this matrix has rank one."
        : first - least < 1e-9 * first
          ? "The least error. At a tie many pairs reach it: turn both."
          : "The least error, and there is no other place like it.";
    },
  });

  class TruncationRace extends LR.Explorable {
    static title = "Can you beat the truncated SVD?";
    static css = `${LR.planeCss}
      .planes{display:grid;gap:.4rem .75rem;margin:.4rem 0;
        grid-template-columns:repeat(3,minmax(0,1fr))}
      .planes p{margin:0 0 .15rem}
      .map{position:relative;aspect-ratio:1;border:1px solid var(--line);
        border-radius:.3rem;overflow:hidden}
      canvas,.map svg{position:absolute;inset:0;width:100%;height:100%}
      canvas{image-rendering:pixelated}
      .map path{fill:none;stroke:var(--fg);stroke-width:2;
        vector-effect:non-scaling-stroke}
      .map circle{fill:var(--bg);stroke:var(--fg);stroke-width:2;
        vector-effect:non-scaling-stroke}
      .track{height:1.2rem;background:var(--soft);position:relative;
        border:1px solid var(--line);margin:.25rem 0}
      .track .bar{position:absolute;inset:0 auto 0 0;background:var(--c1)}
      .track .least{position:absolute;inset:-.2rem auto -.2rem 0;
        border-inline-end:3px solid var(--fg)}
      @container (max-width:26rem){
        .planes{grid-template-columns:1fr 1fr}
        .wide{grid-column:1/-1;width:60%;margin:auto}}`;

    start() {
      this.W = this.option("matrix", LR.square(2),
        "2 rows like \"3 0; 4 5\", entries from −100 to 100", ASKED);
      this.theta = 100;
      this.phi = 120;
      this.seed = 0;

      this.left = LR.plane(() => this.draw());
      this.right = LR.plane(() => this.draw());
      const handle = (plane, i, key, name) => plane.handle(i, name, [0, 360],
        (at) => this.turn({ [key]: Math.round(angle(at)) }),
        ([dx, dy]) => this.turn({ [key]: this[key] + dx + dy }));
      this.u = handle(this.left, 0, "theta", "Left unit vector u");
      this.v = handle(this.right, 1, "phi", "Right unit vector v");
      this.sliders = {};
      for (const [key, words, kind] of [["theta", "● u", "c1"],
        ["phi", "■ v", "c2"]])
        this.sliders[key] = LR.slider(key,
          ["Turn ", h("span", { class: kind }, words)],
          { min: 0, max: 359 }, (deg) => this.turn({ [key]: deg }));
      this.entries = LR.entries(2, (W) => this.setMatrix(W),
        (sentence) => this.complain(sentence));
      this.canvas = h("canvas", { width: MAP, height: MAP, role: "img",
        "aria-label": "Map of the error over both angles, from 0° to 180°; " +
          "the deeper the blue, the larger" });
      this.marks = h("svg", { viewBox: "0 0 180 180", "aria-hidden": "true" });
      this.bar = h("div", { class: "bar" });
      this.least = h("div", { class: "least secret" });
      this.finding = h("p", { role: "status", id: "finding" });
      const number = (id) => h("b", { class: "num", id });

      this.figure.append(
        LR.guess("Turn u and v: for the matrix with the rows (3, 0) and " +
          "(4, 5), what is the least error that any pair can reach?", 0, 10,
        (x) => this.reveal(x)),
        LR.sliders(this.sliders.theta, this.sliders.phi),
        h("div", { class: "planes" },
          h("div", {}, h("p", {}, "u writes"), this.left.svg),
          h("div", {}, h("p", {}, "v reads"), this.right.svg),
          h("div", { class: "wide" },
            h("p", {}, "error: u across, v up"),
            h("div", { class: "map" }, this.canvas, this.marks))),
        h("div", { class: "track", "aria-hidden": "true" }, this.bar,
          this.least),
        h("p", {}, "‖W − c u vᵀ‖ is ", number("error"), ", the least so far ",
          number("record"), "; of the truncated SVD σ₂ = ",
          h("b", { class: "num" }, LR.secret("floor")), "."),
        h("p", {}, h("span", { id: "note", class: "secret" }),
          h("span", { class: "veil" },
            "The bar is the error; make it as short as you can.")),
        LR.more(LR.choices("Try", PRESETS, (W) => {
          this.complain("");
          this.setMatrix(W);
        }), this.entries,
        h("div", { class: "row controls" },
          LR.button("10,000 random pairs", () => this.race()),
          LR.button("Go to the SVD's pair", () => this.answer())),
        this.finding,
        LR.table("The rival", { factor: "best factor c = uᵀWv" })));
      this.setMatrix(this.W);
    }

    setMatrix(W) {
      this.W = W;
      this.svd = M.svd(W);
      this.size = M.norm(W);
      this.path = [];
      this.record = Infinity;
      this.finding.textContent = "";
      this.entries.set(W);
      this.paint();
      this.turn({});
    }

    /* Blue where the error is large; a pair and its opposites are one. */
    paint() {
      const ink = this.canvas.getContext("2d");
      ink.clearRect(0, 0, MAP, MAP);
      ink.fillStyle = getComputedStyle(this).getPropertyValue("--c1");
      R.map(this.W).forEach((row, i) => row.forEach((t, j) => {
        ink.globalAlpha = 0.85 * t;
        ink.fillRect(j, i, 1, 1);
      }));
    }

    turn(angles) {
      for (const key in angles) this[key] = (angles[key] + 720) % 360;
      const { error } = R.rival(this.W, this.theta, this.phi);
      this.record = Math.min(this.record, error);
      this.path.push([this.theta % 180, this.phi % 180]);
      if (this.path.length > 400) this.path.shift();
      this.draw();
    }

    race() {
      this.figure.classList.remove("asking");
      const best = R.best(this.W, TRIES, ++this.seed);
      this.record = Math.min(this.record, best.error);
      this.path = [];
      this.turn({ theta: best.theta, phi: best.phi });
      this.finding.textContent =
        R.finding(best.error, this.svd.s[1], this.size);
    }

    answer() {
      this.figure.classList.remove("asking");
      this.path = [];
      const { U, V } = this.svd;
      this.turn({ theta: angle(U[0]), phi: angle(V[0]) });
    }

    reveal(guess) {
      this.setMatrix(ASKED);
      this.answer();
      const least = this.svd.s[1];
      const said = guess === null ? "" : `You said ${guess}. `;
      return `${said}It is σ₂ = ${num(least)}, at u₁ and v₁: no pair of ` +
        "directions does better." + (guess !== null && guess < 0.9 * least
        ? " One number and two directions cannot hold all of a matrix of " +
          "rank two." : "");
    }

    draw() {
      const { W, theta, phi, svd, asking, left, right, size } = this;
      const { c, error } = R.rival(W, theta, phi), [first, least] = svd.s;
      for (const key of ["theta", "phi"])
        this.sliders[key].show(this[key], degrees(this[key]));
      const plane = (p, i, name, deg, best) => {
        p.range = 1.35;
        p.grid((x) => x);
        p.axes();
        p.line(LR.circle(), "body");
        if (!asking && first - least > 1e-9 * first) {
          p.line([best.map((x) => -x), best], "dash");
          p.label(best.map((x) => 0.55 * x), `${name}₁`, "ink",
            [best[1], -best[0]]);
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
      this.bar.style.width = `${(100 * error) / (size || 1)}%`;
      this.least.style.width = `${(100 * least) / (size || 1)}%`;
      this.write({ factor: num(c), error: num(error), floor: num(least),
        record: num(this.record), note: R.note(error - least, svd.s, size) });
      this.say(`u at ${degrees(theta)}, v at ${degrees(phi)}: error ${
        num(error)}.`);
    }
  }
  LR.define("lr-truncation-race", TruncationRace);
})();
