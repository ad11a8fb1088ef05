/* <lr-rank-collapse matrix="1 1; 0 1" tolerance="1e-10">: move the columns of
   a matrix, and see what it does to the unit circle or the unit sphere. */
(() => {
  "use strict";
  const { h, num } = LR;

  const PRESETS = {
    2: {
      rotation: [[0.6, -0.8], [0.8, 0.6]],
      shear: [[1, 1], [0, 1]],
      "nearly dependent columns": [[2, 2], [1, 1.001]],
      "rank one": [[1, 2], [0.5, 1]],
    },
    3: {
      rotation: [[0.36, 0.48, -0.8], [-0.8, 0.6, 0], [0.48, 0.64, 0.6]],
      shear: [[1, 0.8, 0.5], [0, 1, 0.8], [0, 0, 1]],
      "nearly dependent columns": [[2, 0, 1], [0, 2, 1], [1, 1, 1.001]],
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
        gap:.3rem .75rem;align-items:center}
      .tracks{position:relative;margin:0 8px}
      .track{height:1.15rem;margin:.35rem 0;background:var(--soft)}
      .bar{height:100%;background:currentColor;border:2px solid currentColor}
      .bar.lost{background:none;border-style:dashed}
      .cut{position:absolute;top:-.2rem;bottom:-1rem;width:0;
        border-inline-start:2px solid var(--fg)}
      .values>div{height:1.15rem;margin:.35rem 0;line-height:1.15rem}
      #tolerance{width:100%}
      .ticks{display:flex;justify-content:space-between;font-size:.85em}
      .answers{display:flex;flex-wrap:wrap;gap:.25rem 2rem;
        align-items:baseline;margin:.75rem 0 0}
      .answers b{font-size:1.35em}
      @container (max-width:30rem){.stage{
        grid-template:"matrix" "after" "before"/minmax(0,1fr)}
        .before svg{max-width:13rem;margin:auto}}`;

    start() {
      this.A = this.option("matrix", LR.square(2, 3),
        "2 or 3 rows like \"3 0; 4 5\", entries from −100 to 100",
        PRESETS[2].shear);
      const tolerance = this.option("tolerance", LR.real(0, 1),
        "a number from 0 to 1", null);
      this.turn = 35;
      this.tilt = 20;

      const size = LR.radios("size", "Matrix", { 2: "2 × 2", 3: "3 × 3" },
        (event) => this.use(PRESETS[event.target.value].shear));
      this.presets = h("div", { class: "row controls", role: "group",
        "aria-label": "Matrices to try" });
      this.before = LR.plane(() => this.draw());
      this.after = LR.plane(() => this.draw());
      this.handles = [0, 1, 2].map((j) => this.after.handle(
        j, `Tip of column a${LR.sub(j + 1)}`,
        (point) => this.drag(j, point),
        (step) => this.moveColumn(j, (x, i) => x + 0.1 * (step[i] || 0))));
      this.matrices = h("div", { class: "matrices" });
      this.view = h("input", { type: "range", id: "turn", min: -180, max: 180,
        oninput: () => {
          this.turn = +this.view.value;
          this.draw();
        } });
      this.viewRow = h("div", { class: "row controls" },
        h("label", { for: "turn" }, "Turn the view"), this.view);
      this.afterTitle = h("p");
      this.beforeTitle = h("p");
      this.values = h("div", { class: "values num" });
      this.tracks = h("div", { class: "tracks", "aria-hidden": "true" });
      this.slider = h("input", { type: "range", id: "tolerance", min: FLOOR,
        max: 0, step: 0.05, oninput: () => {
          this.setTolerance(10 ** +this.slider.value);
        } });
      this.toleranceText = h("span", { class: "num" });
      this.answer = h("span", { id: "rank" });
      this.away = h("span", { id: "distance" });
      this.jump = LR.button("", () => this.goNearest());
      this.note = h("p", { class: "note", id: "note" });

      this.figure.append(
        LR.guess("A has the columns (3, 4) and (0, 5). Its entries may be " +
          "changed until its rank is 1. How far away is the nearest such " +
          "matrix? (Distance: the root of the sum of the squared changes.) ",
        0, 100, (x) => this.reveal(x)),
        h("div", { class: "row controls" }, size), this.presets,
        h("div", { class: "stage" },
          h("div", { class: "before" }, this.beforeTitle, this.before.svg),
          this.matrices,
          h("div", { class: "after" }, this.afterTitle, this.after.svg,
            this.viewRow)),
        h("p", { class: "name" },
          "Singular values, as shares of the largest"),
        h("div", { class: "scale" }, this.values, this.tracks,
          h("label", { for: "tolerance" }, "Tolerance"), this.slider,
          h("span", { class: "muted" }, this.toleranceText),
          h("div", { class: "ticks muted", "aria-hidden": "true" },
            ["10⁻¹⁶", "10⁻¹²", "10⁻⁸", "10⁻⁴", "1"]
              .map((text) => h("span", {}, text)))),
        h("div", { class: "row controls" },
          h("span", {}, "What rounding leaves in"),
          Object.keys(EPS).map((type) => LR.button(type, () =>
            this.setTolerance(this.A.length * EPS[type])))),
        h("div", { class: "answers" },
          h("span", {}, "Numerical rank ", h("b", {}, this.answer)),
          h("span", {}, this.away), h("span", { class: "controls" },
            this.jump)),
        this.note);
      this.dragView();
      this.tolerance = tolerance;
      this.use(this.A);
    }

    /* Show a new matrix, at a scale at which all of it can be seen. */
    use(A) {
      const n = A.length, old = this.A.length;
      if (n !== old || !this.entries) {
        if (this.entries || this.tolerance === null) this.tolerance = null;
        this.entries = LR.matrix(n, (k, x) => {
          this.A = this.A.map((row, i) => row.map((a, j) =>
            i * n + j === k ? x : a));
          this.fit();
          this.draw();
        }, (sentence) => this.complain(sentence));
        this.matrices.replaceChildren(this.entries);
        this.presets.replaceChildren(h("span", { class: "name" }, "Try"),
          ...Object.entries(PRESETS[n]).map(([name, M]) =>
            LR.button(name, () => this.use(M))));
        this.shadowRoot.querySelector(`[name=size][value="${n}"]`).checked =
          true;
        this.viewRow.hidden = n === 2;
        this.handles[2].style.display = n === 2 ? "none" : "";
      }
      this.complain(this.entries && this.A !== A ? "" :
        this.error.textContent);
      this.A = A.map((row) => Array.from(row));
      if (this.tolerance === null) this.tolerance = n * EPS.float64;
      this.fit();
      this.setTolerance(this.tolerance);
    }

    fit() {
      const { s } = LR.svd(this.A);
      const longest = Math.max(...this.A[0].map((_, j) =>
        Math.hypot(...this.A.map((row) => row[j]))));
      this.after.range = LR.roundUp(Math.max(s[0], longest, 0.5) * 1.1);
      this.before.range = 1.4;
    }

    setTolerance(tolerance) {
      this.tolerance = tolerance;
      this.slider.value = Math.log10(Math.max(1e-16, tolerance));
      this.slider.setAttribute("aria-valuetext",
        tolerance.toExponential(1));
      this.draw();
    }

    moveColumn(j, change) {
      this.A = this.A.map((row, i) => row.map((x, k) =>
        k === j ? +Math.max(-100, Math.min(100, change(x, i))).toFixed(4) : x));
      this.complain("");
      this.draw();
    }

    drag(j, [x, y]) {
      const snap = (v) => Math.round(v * 10) / 10;
      if (this.A.length === 2)
        return this.moveColumn(j, (_, i) => snap([x, y][i]));
      // In space a tip moves in the plane of the screen.
      const [right, up, near] = this.camera();
      const depth = LR.apply([near], this.A.map((row) => row[j]))[0];
      this.moveColumn(j, (_, i) =>
        snap(x * right[i] + y * up[i] + depth * near[i]));
    }

    dragView() {
      let last = null;
      for (const { svg } of [this.before, this.after]) {
        svg.addEventListener("pointerdown", (event) => {
          if (this.A.length === 3 && !event.target.closest(".handle")) {
            svg.setPointerCapture(event.pointerId);
            last = [event.clientX, event.clientY];
          }
        });
        svg.addEventListener("pointermove", (event) => {
          if (!last) return;
          this.turn -= (event.clientX - last[0]) / 2;
          this.tilt += (event.clientY - last[1]) / 2;
          this.turn = ((this.turn + 540) % 360) - 180;
          this.tilt = Math.max(-90, Math.min(90, this.tilt));
          last = [event.clientX, event.clientY];
          this.view.value = this.turn;
          this.draw();
        });
        for (const end of ["pointerup", "pointercancel"])
          svg.addEventListener(end, () => (last = null));
      }
    }

    camera() {
      const a = (this.turn * Math.PI) / 180, e = (this.tilt * Math.PI) / 180;
      const c = Math.cos(a), s = Math.sin(a), ce = Math.cos(e), se = Math.sin(e);
      return [[-s, c, 0], [-c * se, -s * se, ce], [c * ce, s * ce, se]];
    }

    /* Where the current rank ends: the matrix cut off there. */
    goNearest() {
      const svd = LR.svd(this.A), from = this.A;
      const to = R.truncate(svd, R.count(svd.s, this.tolerance) - 1);
      LR.animate(700, (t) => {
        this.A = t === 1 ? to : from.map((row, i) => row.map((x, j) =>
          x + t * (to[i][j] - x)));
        this.draw();
      });
    }

    reveal(guess) {
      this.tolerance = 2 * EPS.float64;
      this.use([[3, 0], [4, 5]]);
      const { s } = LR.svd(this.A), said = guess === null ? "" :
        Math.abs(guess - s[1]) < 0.05 ? "Right. " : `You said ${num(guess)}. `;
      return `${said}The distance is ${num(s[1])}, the smaller singular ` +
        `value. To set the entry 3 to 0 costs 3; to move both columns to ` +
        `(1.5, 4.5) costs less, and nothing costs less than that.`;
    }

    draw() {
      const { A, before, after } = this, n = A.length, svd = LR.svd(A);
      const { s, V } = svd, rank = R.count(s, this.tolerance);
      const columns = A[0].map((_, j) => A.map((row) => row[j]));
      this.entries.set(A);
      const I = A.map((row, i) => row.map((_, j) => +(i === j)));
      if (n === 2) {
        this.paint2(before, I, V);
        this.paint2(after, A, V, svd);
      } else {
        this.paint3(before, I, V);
        this.paint3(after, A, V, svd);
      }
      const body = BODIES[n][rank], names = columns.map((c, j) =>
        `a${LR.sub(j + 1)} (${c.map((x) => num(x)).join(", ")})`).join(", ");
      const flat = n === 2 ? "circle" : "sphere";
      this.beforeTitle.textContent = `The unit ${flat} …`;
      this.afterTitle.textContent = `… and what A makes of it: ${body}`;
      before.show(`The unit ${flat}. Dashed: the direction that A squeezes most.`);
      after.show(`The image of the unit ${flat}: ${body}. Columns ${names}.`);
      const eye = this.camera().slice(0, 2);
      columns.forEach((c, j) => this.handles[j].put(
        n === 2 ? c : LR.apply(eye, c), c[0].toFixed(2),
        `(${c.map((x) => num(x)).join(", ")})`));

      const share = (x) => x > 0 ? Math.max(0, 100 *
        (1 - Math.log10(x) / FLOOR)) : 0;
      this.values.replaceChildren(...s.map((x, k) =>
        h("div", {}, `σ${LR.sub(k + 1)} = ${num(x)}`)));
      this.tracks.replaceChildren(...s.map((x, k) => h("div",
        { class: `track c${k + 1}` }, h("div", {
          class: k < rank ? "bar" : "bar lost",
          style: `width:${share(x / s[0])}%` }))),
      h("div", { class: "cut",
        style: `left:${Math.min(100, share(this.tolerance))}%` }));
      this.toleranceText.textContent = num(this.tolerance);
      this.answer.textContent = `${rank} of ${n}`;
      const away = R.distance(s, Math.max(0, rank - 1));
      this.away.replaceChildren(...(rank ? [
        `Distance to the nearest matrix of rank ${rank - 1} `,
        h("b", {}, num(away))] : ["No matrix has a smaller rank"]));
      this.jump.textContent = `Go there`;
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
      const many = lost === 1 ? "One direction (dashed) is sent to 0"
        : `${lost} directions are sent to 0`;
      if (rest === 0) return `${many}: the null space has dimension ${lost}.`;
      return `${many}, as far as this tolerance can tell: σ${
        LR.sub(rank + 1)} is ${num(rest)}, which ` + (rest < 1e-14 * s[0]
        ? "is the size of rounding errors." : "counts as 0.");
    }

    /* M maps the unit circle; the columns of `images` are what is drawn. */
    paint2(plane, M, V, image) {
      const map = (p) => LR.apply(M, p);
      plane.grid(map);
      plane.axes();
      plane.line(LR.circle().map(map), "body");
      if (image) {
        image.s.forEach((x, k) => {
          const end = image.U[k].map((u) => u * x);
          plane.line([[0, 0], end.map((v) => -v)], "dash");
        });
      } else plane.line([V[1].map((v) => -v), Array.from(V[1])], "dash");
      M[0].forEach((_, j) => plane.arrow(M.map((row) => row[j]), `c${j + 1}`,
        `${image ? "a" : "e"}${LR.sub(j + 1)}`));
    }

    paint3(plane, M, V, image) {
      const eye = this.camera(), flat = eye.slice(0, 2);
      const map = (p) => LR.apply(M, p), see = (p) => LR.apply(flat, p);
      for (let j = 0; j < 3; j++) {
        const end = [0, 0, 0];
        end[j] = plane.range;
        plane.line([[0, 0], see(end)], "axis");
        plane.label(see(end), "xyz"[j], "tick", see(end));
      }
      // The silhouette is the image of the sphere under eye * M.
      const { U, s } = LR.svd(flat.map((row) => M[0].map((_, j) =>
        row.reduce((sum, x, i) => sum + x * M[i][j], 0))));
      plane.line(LR.circle().map(([c, d]) => [0, 1].map((i) =>
        c * s[0] * U[0][i] + d * s[1] * U[1][i])), "body");
      for (const near of [false, true])
        for (const ring of this.rings) {
          let piece = [];
          const flush = () => {
            if (piece.length > 1) plane.line(piece, near ? "wire" : "wire far");
            piece = [];
          };
          for (const p of ring) {
            const q = map(p);
            if ((LR.apply([eye[2]], q)[0] >= 0) === near) piece.push(see(q));
            else flush();
          }
          flush();
        }
      if (!image) plane.line([V[2].map((v) => -v), Array.from(V[2])]
        .map(see), "dash");
      M[0].forEach((_, j) => plane.arrow(see(M.map((row) => row[j])),
        `c${j + 1}`, `${image ? "a" : "e"}${LR.sub(j + 1)}`));
    }

    /* Five parallels and six meridians of the unit sphere. */
    rings = [
      ...[-60, -30, 0, 30, 60].map((deg) => LR.circle(72).map(([x, y]) => {
        const a = (deg * Math.PI) / 180;
        return [x * Math.cos(a), y * Math.cos(a), Math.sin(a)];
      })),
      ...[0, 30, 60, 90, 120, 150].map((deg) => LR.circle(72).map(([x, y]) => {
        const a = (deg * Math.PI) / 180;
        return [x * Math.cos(a), x * Math.sin(a), y];
      })),
    ];
  }
  LR.define("lr-rank-collapse", RankCollapse);
})();
