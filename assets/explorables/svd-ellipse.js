/* <lr-svd-ellipse matrix="1 1; 0 1" angle="20">: turn a unit vector, look for
   the direction that is stretched most, take the map apart into U S V^T. */
(() => {
  "use strict";
  const { h, num } = LR;

  const PRESETS = {
    shear: [[1, 1], [0, 1]],
    stretch: [[2, 0], [0, 0.5]],
    "rotate and stretch": [[3, 0], [4, 5]],
    mirror: [[0.5, 1.5], [1, 0]],
    rotation: [[0.8, -0.6], [0.6, 0.8]],
    "rank one": [[1, 2], [0.5, 1]],
  };
  const rad = (deg) => (deg * Math.PI) / 180;
  const deg = (x, y) => (Math.atan2(y, x) * 180) / Math.PI;
  const spin = (angle) => {
    const c = Math.cos(rad(angle)), s = Math.sin(rad(angle));
    return [[c, -s], [s, c]];
  };
  const degrees = (x) =>
    `${(Math.round(10 * x) / 10 || 0).toFixed(1).replace("-", "−")}°`;
  const times = (A, B) => A.map((row) => [0, 1].map((j) =>
    row[0] * B[0][j] + row[1] * B[1][j]));
  const dot = (x, y) => x[0] * y[0] + x[1] * y[1];

  const E = (LR.ellipse = {
    /* A = U diag(s) V^T with V a rotation by `v` degrees, 0 <= v < 180, and U
       a rotation by `u` degrees, after a mirror in the x axis if det A < 0. */
    parts(A) {
      const svd = LR.svd(A), { s } = svd;
      let v = deg(...svd.V[0]);
      v = v < -1e-9 ? v + 180 : v > 180 - 1e-9 ? v - 180 : Math.max(0, v);
      const x = LR.apply(A, [Math.cos(rad(v)), Math.sin(rad(v))]);
      const det = A[0][0] * A[1][1] - A[0][1] * A[1][0];
      return { s, v, u: s[0] ? deg(...x) : 0,
        mirror: det < 0 && s[1] > 1e-14 * s[0] };
    },
    /* The map after `step` of the three steps; 3 is all of A. */
    partial({ s, v, u, mirror }, step) {
      const part = (k) => Math.max(0, Math.min(1, step - k));
      const last = part(2), flip = mirror ? Math.min(1, 2 * last) : 0;
      const grow = s.map((x) => 1 + (x - 1) * part(1));
      const turned = mirror ? Math.max(0, 2 * last - 1) : last;
      return times(spin(u * turned), times(
        [[grow[0], 0], [0, grow[1] * (1 - 2 * flip)]], spin(-v * part(0))));
    },
  });
  /* The letter F: the only thing here that shows a mirror image. */
  const LETTER = [[[-0.1, -0.2], [-0.1, 0.25], [0.15, 0.25]],
    [[-0.1, 0.05], [0.1, 0.05]]].map((stroke) =>
    stroke.map(([x, y]) => [x * 1.2 + 0.1, y * 1.2 - 0.45]));
  const NAMES = ["x", "Vᵀx", "ΣVᵀx", "Ax"];

  class SvdEllipse extends LR.Explorable {
    static title = "Which direction does a matrix stretch most?";
    static css = `${LR.planeCss}
      .planes{display:grid;gap:.75rem 1.25rem;margin:.75rem 0;
        grid-template-columns:repeat(auto-fit,minmax(min(100%,15rem),1fr))}
      .planes p{margin:0 0 .25rem}
      .top{display:flex;flex-wrap:wrap;gap:.5rem 1.5rem;align-items:center}
      .top .row{flex:1 1 15rem}
      .steps{display:grid;gap:.1rem .5rem;margin:.25rem 0;
        grid-template-columns:repeat(3,minmax(0,1fr))}
      .steps input{grid-column:1/-1;width:100%;margin:0}
      .steps button{padding:.1rem .2rem}
      .plane .letter{stroke:var(--fg);stroke-width:2}
      .plane .right{stroke:var(--fg);stroke-width:1.5}
      label .c1,th .c1,th .c2{font-weight:600}
      @container (max-width:22rem){th,td{padding:.2rem .1rem;font-size:.9em}}`;

    start() {
      this.A = this.option("matrix", LR.square(2),
        "2 rows like \"3 0; 4 5\", entries from −100 to 100", PRESETS.shear);
      this.angle = this.option("angle", LR.real(0, 360),
        "a number of degrees from 0 to 360", 15);
      this.step = 3;
      this.shown = false;

      this.left = LR.plane(() => this.draw());
      this.right = LR.plane(() => this.draw());
      this.point = this.left.handle(0, "Unit vector x", [0, 360],
        ([x, y]) => this.setAngle(Math.round(deg(x, y))),
        ([dx, dy]) => this.setAngle(this.angle + dx + dy));
      this.entries = LR.matrix(2, (k, x) => {
        const A = this.A.map((row) => [...row]);
        A[k >> 1][k & 1] = x;
        this.setMatrix(A);
      }, (sentence) => this.complain(sentence));
      this.slider = h("input", { type: "range", id: "angle", min: 0, max: 359,
        step: 1, oninput: () => this.setAngle(+this.slider.value) });
      this.typed = h("input", { type: "number", step: "any",
        "aria-label": "Angle of x in degrees", onchange: () => {
          const x = this.typed.valueAsNumber;
          const good = x >= -360 && x <= 360;
          this.complain(good ? "" : "The angle must be a number of degrees " +
            "from −360 to 360.");
          if (good) this.setAngle(x);
        } });
      this.steps = h("input", { type: "range", id: "step", min: 0, max: 3,
        step: 0.01, "aria-label": "How much of A is applied", oninput: () => {
          this.shown = true;
          this.step = +this.steps.value;
          this.draw();
        } });
      this.buttons = [1, 2, 3].map((k) => LR.button("", () => this.go(k)));
      this.verdict = h("p", { role: "status", id: "verdict" });
      this.leftTitle = h("p");
      this.rightTitle = h("p");
      this.rows = h("tbody");
      this.story = h("p", { id: "story" });
      this.note = h("p", { class: "note", id: "note" });

      this.figure.append(
        h("div", { class: "ask controls" },
          h("p", {}, h("strong", {}, "Guess first. "), "Turn the unit " +
            "vector x (●) to where you think A stretches it most."),
          h("div", { class: "row" },
            LR.button("Check my guess", () => this.reveal(true)),
            LR.button("Just show me", () => this.reveal(false))),
          this.verdict),
        h("div", { class: "top" }, this.entries,
          h("div", { class: "row controls", role: "group",
            "aria-label": "Matrices to try" },
          h("span", { class: "name" }, "Try"),
          Object.entries(PRESETS).map(([name, A]) =>
            LR.button(name, () => {
              this.complain("");
              this.setMatrix(A);
            })))),
        h("div", { class: "planes" },
          h("div", {}, this.leftTitle, this.left.svg),
          h("div", {}, this.rightTitle, this.right.svg)),
        h("div", { class: "row controls" },
          h("label", { for: "angle" }, "Turn ", h("span", { class: "c1" },
            "● x")), this.slider,
          h("span", {}, this.typed, " °")),
        h("table", {},
          h("caption", { class: "hidden" },
            "Two perpendicular unit vectors and their images"),
          h("thead", {}, h("tr", {}, h("td"), ["length of ●", "length of ■",
            "dot product", "angle"].map((text) =>
            h("th", { scope: "col" }, text)))), this.rows),
        this.note,
        h("p", { class: "name" }, "The same map in three steps, A = U Σ Vᵀ"),
        h("div", { class: "steps controls" }, this.steps, this.buttons),
        this.story);
      this.setMatrix(this.A);
    }

    setMatrix(A) {
      this.stop();
      this.A = A;
      this.parts = E.parts(A);
      this.entries.set(A);
      this.verdict.textContent = "";
      const columns = [0, 1].map((j) => Math.hypot(A[0][j], A[1][j]));
      this.right.range = LR.roundUp(1.15 *
        Math.max(this.parts.s[0], 1, ...columns));
      this.left.range = 1.4;
      this.draw();
    }

    setAngle(angle) {
      this.angle = (angle + 720) % 360;
      this.draw();
    }

    go(step) {
      this.shown = true;
      const from = this.step === step ? step - 1 : this.step;
      this.animate(900, (t) => {
        this.step = from + t * (step - from);
        this.draw();
      });
    }

    reveal(guessed) {
      const { s, v } = this.parts, x = this.images(this.A)[0];
      const said = guessed ? `At ${degrees(this.angle)} you reached ` +
        `${num(Math.hypot(...x))}. ` : "";
      this.verdict.textContent = s[0] - s[1] <= 1e-9 * s[0]
        ? `${said}Every direction is as good: A stretches all by ${num(s[0])}.`
        : `${said}The most is σ₁ = ${num(s[0])}, at ${degrees(v)} (v₁) and ` +
          `opposite; its image points along u₁. The least is σ₂ = ${
            num(s[1])}, at a right angle to it.`;
      this.shown = true;
      this.step = 3;
      // The shorter way to v1 or to its opposite.
      const way = ((v - this.angle + 630) % 180) - 90, from = this.angle;
      this.animate(900, (t) => this.setAngle(t === 1 ? from + way :
        from + t * way));
    }

    /* The unit vector x, x' a right angle ahead of it, both through M. */
    images(M) {
      const c = Math.cos(rad(this.angle)), s = Math.sin(rad(this.angle));
      return [[c, s], [-s, c]].map((x) => LR.apply(M, x));
    }

    draw() {
      const { left, right, A, parts, step, shown } = this;
      const { s, v, u, mirror } = parts;
      const I = [[1, 0], [0, 1]], M = shown ? E.partial(parts, step) : A;
      const before = this.images(I), after = this.images(M);
      this.slider.value = this.angle;
      this.slider.setAttribute("aria-valuetext", degrees(this.angle));
      this.typed.value = +this.angle.toFixed(2);
      this.steps.value = step;
      const done = Math.ceil(step - 1e-9), name = NAMES[done];

      this.paint(left, I, before, ["x", "x′"], shown && ["v₁", "v₂"]);
      this.paint(right, M, after, shown ? ["", ""] : [], shown && [
        ["v₁", "v₂"], ["", ""], ["", ""], ["σ₁u₁", "σ₂u₂"]][done]);
      this.leftTitle.textContent = "The unit circle …";
      this.rightTitle.textContent = shown
        ? `… and its image${done === 3 ? " under A" : `: ${name}`}`
        : "… and what A makes of the grid";
      left.show(`The unit circle with x at ${degrees(this.angle)}`);
      const [a, b] = after.map((x) => Math.hypot(...x)), d = dot(...after);
      const between = a * b > 1e-14 * s[0] ** 2
        ? (Math.acos(Math.max(-1, Math.min(1, d / a / b))) * 180) / Math.PI
        : NaN;
      const square = Math.abs(between - 90) < 0.05;
      right.show(shown ? `${name}: ● has length ${num(a)}, ■ ${num(b)}`
        : "The image of the grid; the rest is hidden until you have guessed");
      this.point.put(before[0], this.angle.toFixed(1),
        degrees(this.angle));
      const cells = (values) => values.map((x) => h("td", {}, x));
      this.rows.replaceChildren(
        h("tr", {}, h("th", { scope: "row" }, "x"),
          cells(["1", "1", "0", "90.0°"])),
        h("tr", {}, h("th", { scope: "row" }, shown ? name : "Ax"),
          cells(shown ? [num(a), num(b), num(Math.abs(d) < 1e-12 ? 0 : d),
            isNaN(between) ? "none"
              : degrees(between) + (square ? " ⟂" : "")] : [..."????"])));
      this.note.textContent = !shown ? "" : isNaN(between)
        ? "One of the two is sent to 0: it spans the null space."
        : square
          ? "Perpendicular in, perpendicular out: such a pair, v₁ and v₂, " +
            "exists for every matrix."
          : "x and x′ (■) are perpendicular, their images are not. Turn on.";
      const words = shown ? [`Vᵀ: turn by ${degrees(-v)}`,
        `Σ: stretch by ${num(s[0])} and ${num(s[1])}`,
        `U: ${mirror ? "mirror, " : ""}turn by ${degrees(u)}`]
        : ["Vᵀ: turn", "Σ: stretch", `U: ${mirror ? "mirror, " : ""}turn`];
      words.forEach((text, k) => (this.buttons[k].textContent = text));
      this.steps.setAttribute("aria-valuetext",
        step ? words.slice(0, done).join(", then ") : "nothing");
      this.story.textContent = !shown ? "" : [
        "Nothing has happened yet.",
        "Vᵀ turns the circle until v₁ lies on the first axis.",
        "Σ multiplies along the two axes by σ₁ and σ₂.",
        mirror ? "U mirrors in the first axis and turns. The determinant of " +
          "A is negative: no turning alone can do it, look at the F."
          : "U turns the ellipse to its place. The product is A.",
      ][done];
      this.say(`x at ${degrees(this.angle)}` + (shown ? `, ${name} ` +
        `has length ${num(a)}, angle between the images ${
          isNaN(between) ? "none" : degrees(between)}.` : "."));
    }

    paint(plane, M, pair, names, axes) {
      const map = (p) => LR.apply(M, p);
      plane.grid(map);
      plane.axes();
      if (!names.length) {
        [0, 1].forEach((j) => {
          const a = [M[0][j], M[1][j]];
          plane.line([[0, 0], a], "edge");
          plane.label(a, `a${LR.sub(j + 1)}`, "ink", a);
        });
        return;
      }
      plane.line(LR.circle().map(map), "body");
      LETTER.forEach((stroke) => plane.line(stroke.map(map), "letter"));
      if (axes) {
        const c = Math.cos(rad(this.parts.v)), s = Math.sin(rad(this.parts.v));
        [[c, s], [-s, c]].map(map).forEach((end, k) => {
          plane.line([[0, 0], end], "dash");
          // Beside the line, outside the quarter between the two.
          const out = [end[1], -end[0]].map((x) => (k ? -x : x));
          if (Math.hypot(...end) > plane.range / 20)
            plane.label(end.map((x) => 0.6 * x), axes[k], "ink", out);
        });
      }
      const [a, b] = pair, [p, q] = pair.map((x) => Math.hypot(...x));
      if (Math.abs(dot(a, b)) < 1e-3 * p * q) {
        const e = plane.range / 14, f = a.map((x) => (e * x) / p);
        const g = b.map((x) => (e * x) / q);
        plane.line([f, [f[0] + g[0], f[1] + g[1]], g], "right");
      }
      pair.forEach((tip, k) => plane.arrow(tip, `c${k + 1}`, names[k]));
      if (plane === this.right) pair.forEach((tip, k) =>
        plane.label(tip, LR.SHAPES[k], `c${k + 1}`, [0, 0]));
      else plane.label(b, LR.SHAPES[1], "c2", [0, 0]);
    }
  }
  LR.define("lr-svd-ellipse", SvdEllipse);
})();
