/* <lr-svd-ellipse matrix="1 1; 0 1" angle="20">: turn a unit vector, look for
   the direction that is stretched most, take the map apart into U S V^T. */
(() => {
  "use strict";
  const { h, num, rad, unit, angle, degrees, linalg: M } = LR;

  const PRESETS = {
    shear: [[1, 1], [0, 1]],
    stretch: [[2, 0], [0, 0.5]],
    "rotate and stretch": [[3, 0], [4, 5]],
    mirror: [[0.5, 1.5], [1, 0]],
    rotation: [[0.8, -0.6], [0.6, 0.8]],
    "rank one": [[1, 2], [0.5, 1]],
  };
  const spin = (deg) => {
    const [c, s] = unit(deg);
    return [[c, -s], [s, c]];
  };
  const dot = (x, y) => x[0] * y[0] + x[1] * y[1];
  const NAMES = ["x", "Vᵀx", "ΣVᵀx", "Wx"];
  /* The letter F: the only thing here that shows a mirror image. */
  const LETTER = [[[-0.1, -0.2], [-0.1, 0.25], [0.15, 0.25]],
    [[-0.1, 0.05], [0.1, 0.05]]].map((stroke) =>
    stroke.map(([x, y]) => [x * 1.2 + 0.1, y * 1.2 - 0.45]));

  const E = (LR.ellipse = {
    PRESETS,
    /* W = U diag(s) V^T with V a rotation by `v` degrees, 0 <= v < 180, and U
       a rotation by `u` degrees, after a mirror in the x axis if det W < 0. */
    parts(W) {
      const svd = M.svd(W), { s } = svd;
      let v = angle(svd.V[0]);
      v = v < -1e-9 ? v + 180 : v > 180 - 1e-9 ? v - 180 : Math.max(0, v);
      const det = W[0][0] * W[1][1] - W[0][1] * W[1][0];
      return { s, v, u: s[0] ? angle(M.apply(W, unit(v))) : 0,
        mirror: det < 0 && s[1] > 1e-14 * s[0] };
    },
    /* The map after `step` of the three steps; 3 is all of W. */
    partial({ s, v, u, mirror }, step) {
      const part = (k) => Math.max(0, Math.min(1, step - k));
      const last = part(2), flip = mirror ? Math.min(1, 2 * last) : 0;
      const grow = s.map((x) => 1 + (x - 1) * part(1));
      const turned = mirror ? Math.max(0, 2 * last - 1) : last;
      return M.times(spin(u * turned), M.times(
        [[grow[0], 0], [0, grow[1] * (1 - 2 * flip)]], spin(-v * part(0))));
    },
    /* The unit vector at `turn` degrees, and x' a right angle ahead. */
    images: (W, turn) =>
      [0, 90].map((more) => M.apply(W, unit(turn + more))),
    /* Their lengths, dot product, and the angle between, NaN if one is 0;
       `largest` is the scale by which to judge what is 0. */
    measures([x, y], largest) {
      const a = Math.hypot(...x), b = Math.hypot(...y), d = dot(x, y);
      const cos = Math.max(-1, Math.min(1, d / a / b));
      const between = a * b > 1e-14 * largest ** 2
        ? (Math.acos(cos) * 180) / Math.PI : NaN;
      return { a, b, dot: Math.abs(d) < 1e-12 ? 0 : d, between,
        square: Math.abs(between - 90) < 0.05 };
    },
    cells: ({ a, b, dot, between, square }) => [num(a), num(b), num(dot),
      isNaN(between) ? "none" : degrees(between) + (square ? " ⟂" : "")],
    note: ({ between, square }) => isNaN(between)
      ? "One of the two is sent to 0: it spans the null space."
      : square
        ? "Perpendicular in, perpendicular out: such a pair, v₁ and v₂, " +
          "exists for every matrix."
        : "x and x′ (■) are perpendicular, their images are not. Turn on.",
    verdict({ s, v }, said) {
      return s[0] - s[1] <= 1e-9 * s[0]
        ? `${said}Every direction is as good: W stretches all by ${num(s[0])}.`
        : `${said}The most is σ₁ = ${num(s[0])}, at ${degrees(v)} (v₁) and ` +
          `opposite; its image points along u₁. The least is σ₂ = ${
            num(s[1])}, at a right angle to it.`;
    },
    steps: ({ s, v, u, mirror }) => [`Vᵀ: turn by ${degrees(-v)}`,
      `Σ: stretch by ${num(s[0])} and ${num(s[1])}`,
      `U: ${mirror ? "mirror, " : ""}turn by ${degrees(u)}`],
    story: (done, mirror) => ["Nothing has happened yet.",
      "Vᵀ turns the circle until v₁ lies on the first axis.",
      "Σ multiplies along the two axes by σ₁ and σ₂.",
      mirror ? "U mirrors in the first axis and turns. The determinant of W " +
        "is negative: no turning alone can do it, look at the F."
        : "U turns the ellipse to its place. The product is W."][done],
  });

  class SvdEllipse extends LR.Explorable {
    static title = "Which direction does a matrix stretch most?";
    static css = `${LR.planeCss}
      .planes{display:grid;gap:.4rem .75rem;margin:.25rem 0 .5rem;
        grid-template-columns:repeat(2,minmax(0,15.5rem));
        justify-content:space-evenly}
      .planes p{margin:0 0 .15rem}
      svg.plane{margin:0}
      .steps{display:grid;gap:.1rem .5rem;margin:.25rem 0;
        grid-template-columns:repeat(3,minmax(0,1fr))}
      .steps button{padding:.1rem .2rem}
      .plane .letter{stroke:var(--fg);stroke-width:2}
      .plane .right{stroke:var(--fg);stroke-width:1.5}
      .edge{stroke:var(--fg)}
      label .c1,th .c1,th .c2{font-weight:600}
      .note{min-height:1.5em}
      @container (max-width:22rem){th,td{padding:.2rem .1rem;font-size:.9em}
        .steps{font-size:.85em}.plane text{font-size:12px}}`;

    start() {
      this.W = this.option("matrix", LR.square(2),
        "2 rows like \"3 0; 4 5\", entries from −100 to 100", PRESETS.shear);
      this.turn = this.option("angle", LR.real(0, 360),
        "a number of degrees from 0 to 360", 15);
      this.step = 3;

      this.left = LR.plane(() => this.draw());
      this.right = LR.plane(() => this.draw());
      this.point = this.left.handle(0, "Unit vector x", [0, 360],
        (at) => this.setTurn(Math.round(angle(at))),
        ([dx, dy]) => this.setTurn(this.turn + dx + dy));
      this.entries = LR.entries(2, (W) => this.setMatrix(W),
        (sentence) => this.complain(sentence));
      this.slider = LR.slider("angle",
        ["Turn ", h("span", { class: "c1" }, "● x")],
        { min: 0, max: 359 }, (deg) => this.setTurn(deg),
        { label: "Angle of x in degrees", change: (x) => {
          const good = x >= -360 && x <= 360;
          this.complain(good ? "" : "The angle must be a number of degrees " +
            "from −360 to 360.");
          if (good) this.setTurn(x);
        } });
      this.steps = LR.slider("step", "How much of W", { min: 0, max: 3,
        step: 0.01 }, (step) => {
        this.step = step;
        this.draw();
      });
      this.buttons = [1, 2, 3].map((k) => LR.button("", () => this.go(k)));
      this.leftTitle = h("p", {}, "The unit circle …");
      this.rightTitle = h("p");
      this.cells = h("tr");

      this.form = LR.guess("Turn the unit vector x (●) to where you think W " +
        "stretches it most.", undefined, undefined, (x) => this.reveal(x));
      this.figure.append(this.form,
        LR.sliders(this.slider),
        h("div", { class: "planes" },
          h("div", {}, this.leftTitle, this.left.svg),
          h("div", {}, this.rightTitle, this.right.svg)),
        h("div", { class: "secret" }, LR.sliders(this.steps),
          h("div", { class: "steps controls" }, this.buttons)),
        h("p", { id: "story", class: "secret controls" }),
        LR.more(LR.choices("Try", PRESETS, (W) => {
          this.complain("");
          this.setMatrix(W);
        }), this.entries, h("table", {},
          h("caption", { class: "hidden" },
            "Two perpendicular unit vectors and their images"),
          h("thead", {}, h("tr", {}, h("td"), ["length of ●", "length of ■",
            "dot product", "angle"].map((text) =>
            h("th", { scope: "col" }, text)))),
          h("tbody", {}, h("tr", {}, h("th", { scope: "row" }, "x"),
            ["1", "1", "0", "90.0°"].map((x) => h("td", {}, x))),
          this.cells)), h("p", { class: "note secret", id: "note" })));
      this.setMatrix(this.W);
    }

    setMatrix(W) {
      this.stop();
      this.W = W;
      this.parts = E.parts(W);
      this.entries.set(W);
      this.write({ verdict: "" });
      const columns = M.turned(W).map((w) => Math.hypot(...w));
      this.right.range = LR.roundUp(1.15 *
        Math.max(this.parts.s[0], 1, ...columns));
      this.left.range = 1.4;
      this.draw();
    }

    setTurn(deg) {
      this.turn = (deg + 720) % 360;
      this.draw();
    }

    go(step) {
      const from = this.step === step ? step - 1 : this.step;
      this.animate(900, (t) => {
        this.step = from + t * (step - from);
        this.draw();
      });
    }

    reveal(guessed) {
      const reached = Math.hypot(...E.images(this.W, this.turn)[0]);
      this.step = 3;
      // The shorter way to v1 or to its opposite.
      const from = this.turn;
      const way = ((this.parts.v - from + 630) % 180) - 90;
      const said = guessed
        ? `At ${degrees(from)} you reached ${num(reached)}. ` : "";
      this.animate(900, (t) => this.setTurn(from + t * way));
      return E.verdict(this.parts, said);
    }

    draw() {
      const { left, right, W, parts, step, turn, asking } = this;
      const { s, mirror } = parts;
      const map = asking ? W : E.partial(parts, step);
      const before = E.images(M.eye(2), turn), after = E.images(map, turn);
      this.slider.show(turn, degrees(turn), +turn.toFixed(2));
      const done = Math.ceil(step - 1e-9), name = NAMES[asking ? 3 : done];
      const words = E.steps(parts);
      this.steps.show(step,
        step ? words.slice(0, done).join(", then ") : "nothing");
      this.steps.row[2].textContent = name;

      this.paint(left, M.eye(2), before, ["x", "x′"], !asking &&
        ["v₁", "v₂"]);
      this.paint(right, map, after, asking ? [] : ["", ""], !asking && [
        ["v₁", "v₂"], ["", ""], ["", ""], ["σ₁u₁", "σ₂u₂"]][done]);
      this.rightTitle.textContent = asking
        ? "… and the grid under W"
        : `… and its image${done === 3 ? " under W" : `: ${name}`}`;
      left.show(`The unit circle with x at ${degrees(turn)}`);
      const found = E.measures(after, s[0]);
      right.show(asking
        ? "The image of the grid; the rest is hidden until you have guessed"
        : `${name}: ● has length ${num(found.a)}, ■ ${num(found.b)}`);
      this.point.put(before[0], turn.toFixed(1), degrees(turn));
      const cells = E.cells(found);
      this.cells.replaceChildren(h("th", { scope: "row" }, name),
        ...cells.map((text, k) => h("td", {}, LR.secret(`image-${k}`))));
      this.write(Object.fromEntries(cells.map((text, k) =>
        [`image-${k}`, text])));
      this.write({ note: E.note(found), story: E.story(done, mirror) });
      words.forEach((text, k) => (this.buttons[k].textContent = text));
      this.say(`x at ${degrees(turn)}` + (asking ? "." : `, ${name} ` +
        `has length ${cells[0]}, angle between the images ${cells[3]}.`));
    }

    paint(plane, W, pair, names, axes) {
      const map = (p) => M.apply(W, p);
      plane.grid(map);
      plane.axes();
      if (!names.length) {
        M.turned(W).forEach((w, j) => {
          plane.line([[0, 0], w], "edge");
          plane.label(w, `w${LR.sub(j + 1)}`, "ink", w);
        });
        return;
      }
      plane.line(LR.circle().map(map), "body");
      LETTER.forEach((stroke) => plane.line(stroke.map(map), "letter"));
      if (axes) E.images(W, this.parts.v).forEach((end, k) => {
        plane.line([[0, 0], end], "dash");
        // Beside the line, outside the quarter between the two.
        const out = [end[1], -end[0]].map((x) => (k ? -x : x));
        if (Math.hypot(...end) > plane.range / 20)
          plane.label(end.map((x) => 0.6 * x), axes[k], "ink", out);
      });
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
