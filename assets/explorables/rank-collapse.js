/* <lr-rank-collapse matrix="1 1; 0 1" tolerance="1e-10">: move the columns of
   a matrix, and see what it does to the unit circle or the unit sphere. */
(() => {
  "use strict";
  const { h, num } = LR;

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
  const rad = (degrees) => (degrees * Math.PI) / 180;
  /* Five parallels and six meridians of the unit sphere. */
  const GLOBE = [-60, -30, 0, 30, 60].map((a) => LR.circle(72).map(([x, y]) =>
    [x * Math.cos(rad(a)), y * Math.cos(rad(a)), Math.sin(rad(a))])).concat(
    [0, 30, 60, 90, 120, 150].map((a) => LR.circle(72).map(([x, y]) =>
      [x * Math.cos(rad(a)), x * Math.sin(rad(a)), y])));

  const R = (LR.rank = {
    /* How many singular values exceed tolerance * the largest. */
    count: (s, tolerance) => s.filter((x) => x > tolerance * s[0]).length,
    /* The Frobenius distance to the nearest matrix of rank r. */
    distance: (s, r) => Math.hypot(...s.slice(r)),
    /* The first r terms of the sum of s_k u_k v_k^T, as rows. */
    truncate: ({ U, s, V }, r) => Array.from(U[0], (_, i) =>
      Array.from(V[0], (_, j) => s.slice(0, r)
        .reduce((sum, sk, k) => sum + sk * U[k][i] * V[k][j], 0))),
  });

  class RankCollapse extends LR.Explorable {
    static title = "When columns line up, a matrix loses rank";
    static css = `${LR.planeCss}
      .stage{display:grid;gap:.75rem 1.25rem;margin:.75rem 0;
        grid-template:"before after" auto "matrix after" 1fr/
          minmax(0,2fr) minmax(0,3.2fr)}
      .before{grid-area:before}.after{grid-area:after}
      .matrices{grid-area:matrix;text-align:center}
      .stage p{margin:0 0 .25rem}
      .scale{display:grid;grid-template-columns:auto minmax(0,1fr);
        gap:.3rem .75rem;align-items:center;margin-block-end:.6rem}
      .tracks{position:relative;margin:0 8px}
      .track{height:1.15rem;margin:.35rem 0;background:var(--soft)}
      .bar{height:100%;background:var(--muted)}
      .bar.lost{background:none;border:2px dashed var(--muted)}
      .bar[style="width:0%"]{border:0}
      .cut{position:absolute;top:-.2rem;bottom:-1rem;width:0;
        border-inline-start:2px solid var(--fg)}
      .values>div{height:1.15rem;margin:.35rem 0;line-height:1.15rem}
      #tolerance{width:100%}
      .ticks{display:flex;justify-content:space-between;font-size:.85em}
      .answers{display:flex;flex-wrap:wrap;gap:.25rem 2rem;
        align-items:baseline;margin:.75rem 0 0}
      .answers b{font-size:1.35em}
      .small{font-size:.85em}
      .plane .wire{stroke:var(--muted);stroke-width:1}
      .plane .far{opacity:.35}
      @container (max-width:30rem){
        .stage{display:flex;flex-wrap:wrap;align-items:end}
        .before{flex:1 1 8rem;max-width:11rem}
        .matrices{margin:auto}.after{flex:1 1 100%}}`;

    start() {
      this.A = this.option("matrix", LR.square(2, 3),
        "2 or 3 rows like \"3 0; 4 5\", entries from −100 to 100",
        PRESETS[2].shear);
      this.tolerance = this.option("tolerance", LR.real(0, 1),
        "a number from 0 to 1", null);
      this.turn = 60;
      this.tilt = 20;

      const size = LR.radios("size", "Matrix", { 2: "2 × 2", 3: "3 × 3" },
        (event) => this.choose(PRESETS[event.target.value].shear));
      this.presets = h("div", { class: "row controls", role: "group",
        "aria-label": "Matrices to try" });
      this.before = LR.plane(() => this.draw());
      this.after = LR.plane(() => this.draw());
      this.handles = [0, 1, 2].map((j) => this.after.handle(
        j, `Tip of column a${LR.sub(j + 1)}`, [-100, 100],
        (point) => this.drag(j, point),
        (step) => this.moveColumn(j, (x, i) => x + 0.1 * (step[i] || 0))));
      this.matrices = h("div", { class: "matrices" });
      const angle = (id, max) => h("input", { type: "range", id, min: -max,
        max, oninput: (event) => {
          this[id] = +event.target.value;
          this.draw();
        } });
      this.view = { turn: angle("turn", 180), tilt: angle("tilt", 90) };
      this.viewRow = h("div", { class: "row controls" },
        h("label", { for: "turn" }, "Turn"), this.view.turn,
        h("label", { for: "tilt" }, "Tilt"), this.view.tilt);
      this.afterTitle = h("p");
      this.beforeTitle = h("p");
      this.values = h("div", { class: "values num" });
      this.tracks = h("div", { class: "tracks", "aria-hidden": "true" });
      this.slider = h("input", { type: "range", id: "tolerance",
        class: "controls", min: FLOOR, max: 0, step: 0.05, oninput: () => {
          this.tolerance = 10 ** +this.slider.value;
          this.draw();
        } });
      this.toleranceText = h("span", { class: "num" });
      this.answer = h("b", { id: "rank" });
      this.away = h("span", { id: "distance" });
      this.jump = LR.button("Go there", () => this.goNearest());
      this.note = h("p", { class: "note", id: "note" });

      this.figure.append(
        LR.guess("Take the columns (3, 4) and (0, 5). How far away is the " +
          "nearest matrix of rank 1? (Distance: the root of the sum of " +
          "the four squared changes.)", 0, 100, (x) => this.reveal(x)),
        h("div", { class: "row controls" }, size), this.presets,
        h("div", { class: "stage" },
          h("div", { class: "before" }, this.beforeTitle, this.before.svg,
            h("p", { class: "small muted" },
              "Dotted: the direction that A squeezes most")),
          this.matrices,
          h("div", { class: "after" }, this.afterTitle, this.after.svg,
            this.viewRow)),
        h("p", { class: "name" },
          "Singular values, divided by the largest (log scale)"),
        h("div", { class: "scale" }, this.values, this.tracks,
          h("label", { for: "tolerance" }, "Tolerance"), this.slider,
          h("span", { class: "muted" }, this.toleranceText),
          h("div", { class: "ticks muted controls", "aria-hidden": "true" },
            ["10⁻¹⁶", "10⁻¹²", "10⁻⁸", "10⁻⁴", "1"]
              .map((text) => h("span", {}, text)))),
        h("div", { class: "row controls" },
          h("span", {}, "Default tolerance for"),
          Object.keys(EPS).map((type) => LR.button(type, () => {
            this.tolerance = this.A.length * EPS[type];
            this.draw();
          }))),
        h("div", { class: "answers" },
          h("span", {}, "Numerical rank ", this.answer),
          h("span", {}, this.away), h("span", { class: "controls" },
            this.jump)),
        this.note);
      for (const { svg } of [this.before, this.after])
        LR.drag(svg, (event, first) => this.dragView(event, first));
      this.use(this.A);
    }

    choose(A) {
      this.complain("");
      this.use(A);
    }

    /* Show a new matrix, at a scale at which all of it can be seen. */
    use(A) {
      this.stop();
      this.A = A;
      if (this.size !== A.length) this.resize(A.length);
      this.fit();
      this.draw();
    }

    resize(n) {
      this.size = n;
      this.entries = LR.matrix(n, (k, x) => this.use(this.A.map((row, i) =>
        row.map((a, j) => (i * n + j === k ? x : a)))),
      (sentence) => this.complain(sentence));
      this.matrices.replaceChildren(this.entries);
      this.presets.replaceChildren(h("span", { class: "name" }, "Try"),
        ...Object.entries(PRESETS[n]).map(([name, M]) =>
          LR.button(name, () => this.choose(M))));
      const size = this.shadowRoot.querySelector(`[name=size][value="${n}"]`);
      size.checked = true;
      this.viewRow.hidden = n === 2;
      this.handles[2].style.display = n === 2 ? "none" : "";
    }

    fit() {
      const { s } = LR.svd(this.A);
      const longest = Math.max(...this.A[0].map((_, j) =>
        Math.hypot(...this.A.map((row) => row[j]))));
      const reach = Math.max(s[0], longest, 0.5);
      this.after.range = this.A.length === 2 ? LR.roundUp(reach * 1.1) : reach;
      this.before.range = this.A.length === 2 ? 1.4 : 1.1;
    }

    moveColumn(j, change) {
      this.A = this.A.map((row, i) => row.map((x, k) =>
        k !== j ? x
          : +Math.max(-100, Math.min(100, change(x, i))).toFixed(4)));
      this.complain("");
      this.draw();
    }

    drag(j, [x, y]) {
      // In space a tip moves in the plane of the screen: its depth stays.
      const eye = this.eye(), place = LR.apply(eye, this.A.map((r) => r[j]));
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
      const a = rad(this.turn), e = rad(this.tilt);
      const c = Math.cos(a), s = Math.sin(a), d = Math.cos(e), t = Math.sin(e);
      return [[-s, c, 0], [-c * t, -s * t, d], [c * d, s * d, t]];
    }

    /* Where the current rank ends: the matrix cut off there. */
    goNearest() {
      const svd = LR.svd(this.A), from = this.A;
      const to = R.truncate(svd, R.count(svd.s, this.limit) - 1);
      this.animate(700, (t) => {
        this.A = t === 1 ? to : from.map((row, i) => row.map((x, j) =>
          x + t * (to[i][j] - x)));
        this.draw();
      });
    }

    /* Unless the reader chose one: what NumPy and PyTorch use. */
    get limit() {
      return this.tolerance ?? this.A.length * EPS.float64;
    }

    reveal(guess) {
      this.tolerance = null;
      this.choose([[3, 0], [4, 5]]);
      const { s } = LR.svd(this.A), said = guess === null ? "" :
        Math.abs(guess - s[1]) < 0.05 ? "Right. " : `You said ${guess}. `;
      return `${said}The distance is ${num(s[1])}, the smaller singular ` +
        `value. To set the entry 3 to 0 costs 3; to move both columns to ` +
        `(1.5, 4.5) costs less, and nothing costs less than that.`;
    }

    draw() {
      const { A, before, after } = this, n = A.length, svd = LR.svd(A);
      const { s, V } = svd, { limit } = this, rank = R.count(s, limit);
      const columns = A[0].map((_, j) => A.map((row) => row[j]));
      this.entries.set(A);
      this.paint(before, A.map((row, i) => row.map((_, j) => +(i === j))),
        Array.from(V[n - 1]));
      this.paint(after, A, null, svd);
      const point = (c) => `(${c.map((x) => num(x)).join(", ")})`;
      const names = columns.map((c, j) => `a${LR.sub(j + 1)} ${point(c)}`)
        .join(", ");
      const body = BODIES[n][rank];
      const flat = n === 2 ? "circle" : "sphere";
      this.beforeTitle.textContent = `The unit ${flat} …`;
      this.afterTitle.textContent = `… and what A makes of it: ${body}`;
      before.show(`The unit ${flat}. Dotted: what A squeezes most.`);
      after.show(`The image of the unit ${flat}: ${body}. Columns ${names}.`);
      columns.forEach((c, j) => this.handles[j].put(
        LR.apply(this.eye(), c), c[0].toFixed(2), point(c)));

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
      this.toleranceText.textContent = num(limit);
      for (const id in this.view) this.view[id].value = this[id];
      this.slider.value = Math.log10(Math.max(10 ** FLOOR, limit));
      this.slider.setAttribute("aria-valuetext", num(limit));
      this.answer.textContent = `${rank} of ${n}`;
      const away = R.distance(s, Math.max(0, rank - 1));
      this.away.replaceChildren(...(rank ? [
        `Nearest matrix of rank ${rank - 1}: distance `,
        h("b", {}, num(away))] : ["No matrix has a smaller rank"]));
      this.jump.disabled = !rank;
      this.note.textContent = this.sentence(s, rank, n);
      this.say(`Columns ${names}. Singular values ${s.map((x) => num(x))
        .join(", ")}. Numerical rank ${rank}.`);
    }

    sentence(s, rank, n) {
      const lost = n - rank, rest = s[rank];
      if (!lost) {
        if (s[n - 1] < 0.01 * s[0])
          return `It looks flat, but it is not: half its thickness is ` +
            `${num(s[n - 1])}, which is above the tolerance. The rank is ` +
            `full, and the matrix is close to one whose rank is not.`;
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
    }

    /* What M makes of the unit circle or sphere. With its decomposition
       `svd` it is the image, with half axes; without, the picture before. */
    paint(plane, M, lost, svd) {
      const eye = this.eye(), see = (p) => LR.apply(eye, p);
      const map = (p) => LR.apply(M, p), flat = eye.length === 2;
      if (flat) {
        plane.grid(map);
        plane.axes(svd && Math.floor(Math.max(1, plane.range)));
      } else {
        this.wires(plane, map, see, eye[2]);
      }
      // The outline is the image of the sphere under eye * M.
      const { U, s } = LR.svd(eye.slice(0, 2).map((row) => M[0].map((_, j) =>
        row.reduce((sum, x, i) => sum + x * M[i][j], 0))));
      plane.line(LR.circle().map(([c, d]) => [0, 1].map((i) =>
        c * s[0] * U[0][i] + d * s[1] * U[1][i])), "body");
      if (!svd) plane.line([lost.map((x) => -x), lost].map(see), "dash");
      else svd.s.forEach((x, k) => {
        const end = see(Array.from(svd.U[k], (u) => -u * x));
        plane.line([[0, 0], end], "dash");
        if (x > plane.range / 30)
          plane.label(end, `σ${LR.sub(k + 1)}`, "ink", end);
      });
      M[0].forEach((_, j) => plane.arrow(see(M.map((row) => row[j])),
        `c${j + 1}`, `${svd ? "a" : "e"}${LR.sub(j + 1)}`));
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
            const here = LR.apply([near], p)[0] >= 0 === front;
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
