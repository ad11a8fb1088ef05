/* <lr-rank-collapse matrix="1 1; 0 1" tolerance="1e-10">: move the columns of
   a matrix, and see what it does to the unit circle or the unit sphere. */
(() => {
  "use strict";
  const { h, num, rad, linalg: M } = LR;

  const PRESETS = {
    2: {
      rotation: [[0.6, -0.8], [0.8, 0.6]],
      shear: [[1, 1], [0, 1]],
      "nearly dependent": [[2, 2], [1, 1.001]],
      "rank one": [[1, 2], [0.5, 1]],
    },
    3: {
      rotation: [[0.36, 0.48, -0.8], [-0.8, 0.6, 0], [0.48, 0.64, 0.6]],
      shear: [[1, 0.8, 0.5], [0, 1, 0.8], [0, 0, 1]],
      "nearly dependent": [[2, 0, 1], [0, 2, 1], [1, 1, 1.001]],
      "rank two": [[2, 0, 1], [0, 2, 1], [1, 1, 1]],
      "rank one": [[1, 2, -1], [0.5, 1, -0.5], [1, 2, -1]],
      "1 to 9": [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
    },
  };
  const EPS = { float64: 2 ** -52, float32: 2 ** -23, bfloat16: 2 ** -7 };
  const BODIES = {
    2: ["a point", "a segment", "an ellipse"],
    3: ["a point", "a segment", "a flat disc", "an ellipsoid"],
  };
  const FLOOR = -16;
  /* Five parallels and six meridians of the unit sphere. */
  const GLOBE = [-60, -30, 0, 30, 60].map((a) => LR.circle(72).map(([x, y]) =>
    [x * Math.cos(rad(a)), y * Math.cos(rad(a)), Math.sin(rad(a))])).concat(
    [0, 30, 60, 90, 120, 150].map((a) => LR.circle(72).map(([x, y]) =>
      [x * Math.cos(rad(a)), x * Math.sin(rad(a)), y])));
  const point = (w) => `(${w.map((x) => num(x)).join(", ")})`;

  const R = (LR.collapse = {
    PRESETS,
    /* The Frobenius distance to the nearest matrix of rank r. */
    distance: (s, r) => Math.hypot(...s.slice(r)),
    body: (n, rank) => BODIES[n][rank],
    /* What the numbers say, for singular values s and a tolerance. */
    note(s, tolerance) {
      const n = s.length, rank = M.rank(s, tolerance);
      const lost = n - rank, rest = s[rank];
      if (!lost) {
        if (s[n - 1] < 0.01 * s[0])
          return "It looks flat, but it is not: half its thickness is " +
            `${num(s[n - 1])}, which is above the tolerance. The rank is ` +
            "full, and the matrix is close to one whose rank is not.";
        if (s[0] - s[n - 1] < 1e-9 * s[0])
          return "Every direction is stretched alike: as far from losing " +
            "rank as a matrix of this size can be.";
        return "No direction is lost: whatever the image shows, the input " +
          "can be found again.";
      }
      const many = lost === 1 ? "One direction (dotted) is sent to 0"
        : `${lost} directions are sent to 0`;
      if (rest === 0) return `${many}: the null space has dimension ${lost}.`;
      return `${many}, as far as this tolerance can tell: σ${
        LR.sub(rank + 1)} is ${num(rest)}, which ` + (rest < 1e-14 * s[0]
        ? "is the size of rounding errors." : "counts as 0.");
    },
  });

  class RankCollapse extends LR.Explorable {
    static title = "When does a matrix lose rank?";
    static css = `${LR.planeCss}
      .stage{display:grid;gap:.4rem 1.25rem;margin:.25rem 0;
        grid-template-columns:minmax(0,1fr) minmax(0,1.05fr)}
      .stage p{margin:0 0 .15rem}
      svg.plane{margin:0}
      .after svg.plane{max-width:19rem}
      .given{display:grid;gap:0 1rem;align-items:end;
        grid-template-columns:minmax(0,9.5rem) auto;margin-block-end:.5rem}
      .tracks{position:relative;margin-inline-end:8px}
      .scale{display:grid;grid-template-columns:auto minmax(0,1fr);
        gap:0 .75rem;align-items:center}
      #tolerance{width:100%;min-width:0}
      .track{height:1.05rem;margin:.25rem 0;background:var(--soft)}
      .bar{height:100%;background:var(--muted)}
      .bar.lost{background:none;border:2px dashed var(--muted)}
      .bar[style="width:0%"]{border:0}
      .cut{position:absolute;top:-.1rem;bottom:-.1rem;width:0;
        border-inline-start:2px solid var(--fg)}
      .values>div{height:1.05rem;margin:.25rem 0;line-height:1.05rem}
      .answers{gap:0 .75rem;margin:.25rem 0}.answers b{font-size:1.2em}
      .plane .wire{stroke:var(--muted);stroke-width:1}
      .plane .far{opacity:.35}
      @container (max-width:34rem){
        .stage{grid-template-columns:1fr}
        .after{order:-1}.after svg.plane{max-width:13.5rem;margin:auto}
        .given{grid-template-columns:minmax(0,7.5rem) auto}}`;

    start() {
      this.W = this.option("matrix", LR.square(2, 3),
        "2 or 3 rows like \"3 0; 4 5\", entries from −100 to 100",
        PRESETS[2].shear);
      this.tolerance = this.option("tolerance", LR.real(0, 1),
        "a number from 0 to 1", null);
      this.turn = 60;
      this.tilt = 20;

      this.presets = h("div");
      this.before = LR.plane(() => this.draw());
      this.after = LR.plane(() => this.draw());
      this.handles = [0, 1, 2].map((j) => this.after.handle(
        j, `Tip of column w${LR.sub(j + 1)}`, [-100, 100],
        (to) => this.drag(j, to),
        (step) => this.moveColumn(j, (x, i) => x + 0.1 * (step[i] || 0))));
      this.matrices = h("div");
      const view = (id, name, max) => LR.slider(id, name,
        { min: -max, max }, (x) => {
          this[id] = x;
          this.draw();
        });
      this.view = { turn: view("turn", "Turn", 180),
        tilt: view("tilt", "Tilt", 90) };
      this.viewRow = LR.sliders(this.view.turn, this.view.tilt);
      this.afterTitle = h("p");
      this.beforeTitle = h("p");
      this.values = h("div", { class: "values num" });
      this.tracks = h("div", { class: "tracks", "aria-hidden": "true" });
      this.slider = LR.slider("tolerance", "Tolerance",
        { min: FLOOR, max: 0, step: 0.05 }, (x) => {
          this.tolerance = 10 ** x;
          this.draw();
        });
      for (const el of this.slider.row.slice(0, 2))
        el.classList.add("controls");
      this.away = h("span", { id: "distance" });
      this.jump = LR.button("Go there", () => this.goNearest());

      this.figure.append(
        LR.guess("Take the columns (3, 4) and (0, 5). How far away is the " +
          "nearest matrix of rank 1? (Distance: root of the sum of the " +
          "squared changes.)", 0, 100, (x) => this.reveal(x)),
        h("div", { class: "stage" },
          h("div", {},
            h("div", { class: "given" },
              h("div", {}, this.beforeTitle, this.before.svg),
              this.matrices),
            h("p", { class: "name" }, "Singular values / the largest"),
            h("div", { class: "scale" }, this.values, this.tracks,
              this.slider.row.slice(0, 2)),
            h("p", { class: "answers" }, "Numerical rank ",
              h("b", { id: "rank" }), " at ", this.slider.row[2])),
          h("div", { class: "after" }, this.afterTitle, this.after.svg)),
        h("p", { class: "row answers" },
          this.away, h("span", { class: "controls" },
            this.jump)),
        h("p", { class: "note", id: "note" }),
        LR.more(
          LR.radios("size", "Matrix", { 2: "2 × 2", 3: "3 × 3" },
            (event) => this.choose(PRESETS[event.target.value].shear)),
          this.presets, this.viewRow,
          LR.choices("Default tolerance for", Object.fromEntries(
            Object.keys(EPS).map((type) => [type, type])), (type) => {
            this.tolerance = this.W.length * EPS[type];
            this.draw();
          })));
      for (const { svg } of [this.before, this.after])
        LR.drag(svg, (event, first) => this.dragView(event, first));
      this.use(this.W);
    }

    choose(W) {
      this.complain("");
      this.use(W);
    }

    /* Show a new matrix, at a scale at which all of it can be seen. */
    use(W) {
      this.stop();
      this.W = W;
      if (this.size !== W.length) this.resize(W.length);
      this.fit();
      this.draw();
    }

    resize(n) {
      this.size = n;
      this.entries = LR.entries(n, (W) => this.use(W),
        (sentence) => this.complain(sentence));
      this.matrices.replaceChildren(this.entries);
      this.presets.replaceChildren(LR.choices("Try", PRESETS[n],
        (W) => this.choose(W)));
      this.check("size", n);
      this.viewRow.hidden = n === 2;
      this.handles[2].style.display = n === 2 ? "none" : "";
    }

    fit() {
      const longest = Math.max(...M.turned(this.W).map((w) =>
        Math.hypot(...w)));
      const reach = Math.max(M.svd(this.W).s[0], longest, 0.5);
      this.after.range = this.size === 2 ? LR.roundUp(reach * 1.1) : reach;
      this.before.range = this.size === 2 ? 1.4 : 1.1;
    }

    moveColumn(j, change) {
      this.W = this.W.map((row, i) => row.map((x, k) =>
        k !== j ? x
          : +Math.max(-100, Math.min(100, change(x, i))).toFixed(4)));
      this.complain("");
      this.draw();
    }

    drag(j, [x, y]) {
      // In space a tip moves in the plane of the screen: its depth stays.
      const eye = this.eye(), place = M.apply(eye, this.W.map((r) => r[j]));
      place.splice(0, 2, x, y);
      this.moveColumn(j, (_, i) => Math.round(10 * place.reduce((sum, v, k) =>
        sum + v * eye[k][i], 0)) / 10);
    }

    dragView(event, first) {
      if (this.size === 2) return;
      if (event === first) this.grip = [this.turn, this.tilt];
      const turn = this.grip[0] - (event.clientX - first.clientX) / 2;
      const tilt = this.grip[1] + (event.clientY - first.clientY) / 2;
      this.turn = ((turn + 540) % 360) - 180;
      this.tilt = Math.max(-90, Math.min(90, tilt));
      this.draw();
    }

    /* Rows: right, up, and (in space) towards the reader. */
    eye() {
      if (this.size === 2) return [[1, 0], [0, 1]];
      const [c, s] = LR.unit(this.turn), [d, t] = LR.unit(this.tilt);
      return [[-s, c, 0], [-c * t, -s * t, d], [c * d, s * d, t]];
    }

    /* Where the current rank ends: the matrix cut off there. */
    goNearest() {
      const svd = M.svd(this.W), from = this.W;
      const to = M.terms(svd, 0, M.rank(svd.s, this.limit) - 1);
      this.animate(700, (t) => {
        this.W = t === 1 ? to : from.map((row, i) => row.map((x, j) =>
          x + t * (to[i][j] - x)));
        this.draw();
      });
    }

    /* Unless the reader chose one: what NumPy and PyTorch use. */
    get limit() {
      return this.tolerance ?? this.size * EPS.float64;
    }

    reveal(guess) {
      this.tolerance = null;
      this.choose([[3, 0], [4, 5]]);
      const { s } = M.svd(this.W), said = guess === null ? "" :
        Math.abs(guess - s[1]) < 0.05 ? "Right. " : `You said ${guess}. `;
      return `${said}The distance is ${num(s[1])}, the smaller singular ` +
        "value. To set the entry 3 to 0 costs 3; to move both columns to " +
        "(1.5, 4.5) costs less, and nothing costs less than that.";
    }

    draw() {
      const { W, before, after, limit } = this, n = W.length;
      const svd = M.svd(W), { s, V } = svd, rank = M.rank(s, limit);
      const columns = M.turned(W).map((w) => [...w]);
      this.entries.set(W);
      this.paint(before, M.eye(n), V[n - 1]);
      this.paint(after, W, null, svd);
      const names = columns.map((w, j) => `w${LR.sub(j + 1)} ${point(w)}`)
        .join(", ");
      const body = R.body(n, rank), flat = n === 2 ? "circle" : "sphere";
      this.beforeTitle.textContent = `The unit ${flat}`;
      this.afterTitle.textContent = `What W makes of it: ${body}`;
      before.show(`The unit ${flat}. Dotted: what W squeezes most.`);
      after.show(`The image of the unit ${flat}: ${body}. Columns ${names}.`);
      columns.forEach((w, j) => this.handles[j].put(
        M.apply(this.eye(), w), w[0].toFixed(2), point(w)));

      const share = (x) => x > 0 ? Math.max(0, 100 *
        (1 - Math.log10(x) / FLOOR)) : 0;
      this.values.replaceChildren(...s.map((x, k) =>
        h("div", {}, `σ${LR.sub(k + 1)} = ${num(x)}`)));
      this.tracks.replaceChildren(...s.map((x, k) => h("div",
        { class: "track" }, h("div", {
          class: k < rank ? "bar" : "bar lost",
          style: `width:${share(x / s[0])}%` }))),
      h("div", { class: "cut",
        style: `left:${Math.min(100, share(limit))}%` }));
      for (const id in this.view)
        this.view[id].show(this[id], `${Math.round(this[id])}°`);
      this.slider.show(Math.log10(Math.max(10 ** FLOOR, limit)), num(limit));
      const away = R.distance(s, Math.max(0, rank - 1));
      this.away.replaceChildren(...(rank ? [
        `Distance to rank ${rank - 1}: `, h("b", {}, num(away))] : ["No matrix has a smaller rank"]));
      this.jump.disabled = !rank;
      this.write({ rank: `${rank} of ${n}`, note: R.note(s, limit) });
      this.say(`Columns ${names}. Singular values ${s.map((x) => num(x))
        .join(", ")}. Numerical rank ${rank}.`);
    }

    /* What W makes of the unit circle or sphere. With its decomposition
       `svd` it is the image, with half axes; without, the picture before. */
    paint(plane, W, lost, svd) {
      const eye = this.eye(), see = (p) => M.apply(eye, p);
      const map = (p) => M.apply(W, p), flat = eye.length === 2;
      if (flat) {
        plane.grid(map);
        plane.axes(svd && Math.floor(Math.max(1, plane.range)));
      } else {
        this.wires(plane, map, see, eye[2]);
      }
      // The outline is the image of the sphere under eye * W.
      const { U, s } = M.svd(M.times(eye.slice(0, 2), W));
      plane.line(LR.circle().map(([c, d]) => [0, 1].map((i) =>
        c * s[0] * U[0][i] + d * s[1] * U[1][i])), "body");
      if (!svd) {
        const ends = [[...lost].map((x) => -x), [...lost]];
        plane.line(ends.map(see), "dash");
      } else svd.s.forEach((x, k) => {
        const end = see(Array.from(svd.U[k], (u) => -u * x));
        plane.line([[0, 0], end], "dash");
        if (x > plane.range / 30)
          plane.label(end, `σ${LR.sub(k + 1)}`, "ink", end);
      });
      M.turned(W).forEach((w, j) => plane.arrow(see([...w]),
        `c${j + 1}`, `${svd ? "w" : "e"}${LR.sub(j + 1)}`));
    }

    /* The image of a globe, its far side paler. */
    wires(plane, map, see, near) {
      if (plane === this.after) [0, 1, 2].forEach((j) => {
        const end = see([0, 1, 2].map((i) => (i === j ? plane.range : 0)));
        plane.line([[0, 0], end], "axis");
        plane.label(end, "xyz"[j], "tick", end);
      });
      for (const ring of GLOBE) {
        const points = ring.map(map);
        for (const front of [false, true]) {
          let piece = [];
          points.forEach((p, i) => {
            const here = M.apply([near], p)[0] >= 0 === front;
            if (here) piece.push(see(p));
            if (here && points[i + 1]) return;
            if (piece[1]) plane.line(piece, front ? "wire" : "wire far");
            piece = [];
          });
        }
      }
    }
  }
  LR.define("lr-rank-collapse", RankCollapse);
})();
