/* <lr-svd-image rank="20" picture="photograph">: a picture as a sum of layers
   of rank one. The decomposition is computed here, in the page. */
(() => {
  "use strict";
  const { h, percent, linalg: M } = LR;
  const GOAL = 0.1;

  const PICTURES = {
    photograph: "photograph", checkerboard: "checkerboard",
    diagonal: "diagonal", noise: "noise", own: "your own …",
  };
  const ORDERS = { "as it is": "as it is", lines: "lines permuted",
    pixels: "pixels shuffled" };
  const VIEWS = {
    sum: "the sum of r layers", layer: "layer r alone",
    rest: "what is missing",
  };

  const P = (LR.picture = {
    drawn: (name, m, n, random) => M.zeros(m, n).map((row, i) =>
      row.map((_, j) => ({
        checkerboard: ((i >> 4) + (j >> 4)) % 2,
        diagonal: +(Math.abs(i - (j * m) / n) < 4),
        noise: random(),
      })[name])),
    /* A random order of 0 ... n - 1 (Fisher-Yates). */
    order(n, random) {
      const p = Array.from({ length: n }, (_, i) => i);
      for (let i = n - 1; i > 0; i--) {
        const j = Math.floor(random() * (i + 1));
        [p[i], p[j]] = [p[j], p[i]];
      }
      return p;
    },
    rearranged(W, how, random) {
      const m = W.length, n = W[0].length;
      if (how === "lines") {
        const rows = P.order(m, random), columns = P.order(n, random);
        return rows.map((i) => Float64Array.from(columns, (j) => W[i][j]));
      }
      if (how === "pixels") {
        const p = P.order(m * n, random);
        return W.map((row, i) => row.map((_, j) => {
          const k = p[i * n + j];
          return W[Math.floor(k / n)][k % n];
        }));
      }
      return W;
    },
    /* tails[r]: the root of the sum of the squares after the first r. */
    tails(s) {
      const t = new Float64Array(s.length + 1);
      for (let i = s.length; i--;) t[i] = Math.hypot(t[i + 1], s[i]);
      return t;
    },
    /* The smallest rank whose relative error is below the goal. */
    needed: (t, goal) => t.findIndex((x) => x < goal * t[0]),
    /* What the table says of the sum of r terms, whose rest is `rest`. */
    texts(W, rest, tails, r) {
      const m = W.length, n = W[0].length, tail = tails[r] / (tails[0] || 1);
      const share = (r * (m + n)) / (m * n);
      return { error: percent(M.norm(rest) / M.norm(W)), tail: percent(tail),
        energy: percent(1 - tail ** 2), stored: LR.grouped(r * (m + n)),
        share: percent(share, 1),
        note: share > 1
          ? `Above r = mn/(m + n) = ${((m * n) / (m + n)).toFixed(1)} the ` +
            "layers cost more than the picture itself."
          : `${percent(1 - tail ** 2, 1)} of the energy for ${
            percent(share, 1)} of the numbers: error ${percent(tail)}.` };
    },
    /* What rearranging has done; the second sentence knows the answer. */
    finding(how, before, after, change) {
      return {
        "as it is": ["", ""],
        lines: ["Nobody would recognise it, yet its rank is untouched: of " +
          `the ${change.length} singular values computed anew, none moved ` +
          `by more than ${LR.num(Math.max(...change))} of σ₁. `,
        `An error below 10% takes r = ${after}, as before.`],
        pixels: ["The same grey values, in random places. Low rank lies in " +
          "how pixels line up, not in which pixels there are. ",
        `An error below 10% now takes r = ${after} instead of ${before}.`],
      }[how];
    },
  });

  class SvdImage extends LR.Explorable {
    static title = "A photograph is a sum of rank-one layers";
    static css = `${LR.chartCss}
      .pictures{display:grid;grid-template-columns:1fr 1fr;gap:.4rem 1.25rem;
        align-items:end;margin:.4rem auto;max-width:29rem}
      .pictures p{margin:0 0 .15rem}
      canvas{display:block;width:100%;image-rendering:pixelated;
        border:1px solid var(--line)}
      .facts svg{touch-action:pan-y;cursor:ew-resize}
      svg .bar{fill:color-mix(in srgb,var(--fg) 50%,var(--bg));stroke:none}
      svg .kept{fill:var(--c1);stroke:none}
      svg .before{stroke-dasharray:4 3}
      .note{min-height:1.5em}`;

    start() {
      return Promise.resolve(LR.load("photo"))
        .then((data) => this.begin(data));
    }

    begin({ rows, columns, pixels }) {
      const bytes = atob(pixels);
      this.photo = M.zeros(rows, columns).map((row, i) => row.map((_, j) =>
        bytes.charCodeAt(i * columns + j) / 255));
      this.random = M.random(1);
      this.rank = this.option("rank", LR.whole(1, columns),
        `a whole number from 1 to ${columns}`, 20);
      const names = Object.keys(PICTURES).slice(0, 4);
      const name = this.option("picture", LR.oneOf(...names),
        `one of ${names.join(", ")}`, "photograph");
      this.build();
      this.figure.inert = true;
      this.check("picture", name);
      return this.pick(name).then(() => (this.figure.inert = false));
    }

    build() {
      this.slider = LR.slider("rank", "Rank r", { min: 1 },
        (r) => this.setRank(r), { label: "Rank r as a number",
          change: (r) => this.setRank(r) });
      this.file = h("input", { type: "file", accept: "image/*",
        "aria-label": "A picture of your own", onchange: () =>
          this.file.files[0] && this.open(this.file.files[0]) });
      this.fileRow = h("p", { hidden: true }, this.file,
        " It stays on your machine.");
      const canvas = () => h("canvas", { role: "img" });
      [this.left, this.right] = [canvas(), canvas()];
      this.rightTitle = h("p");
      this.svg = h("svg", { role: "img" });
      LR.drag(this.svg, (event) => {
        const box = this.svg.getBoundingClientRect(), left = 46;
        const x = (event.clientX - box.left - left) / (box.width - left - 12);
        this.setRank(Math.max(1, Math.min(this.k, Math.round(this.k * x))));
      });
      new ResizeObserver(() => this.svd && this.draw()).observe(this.svg);
      this.finding = [h("span"), h("span", { class: "secret" })];
      this.orders = LR.radios("order", "Arranged", ORDERS, (event) =>
        this.arrange(event.target.value));
      this.figure.append(
        LR.guess("How many of the 137 layers bring the error of the " +
          "photograph below 10%?", 1, 137, (x) => this.reveal(x)),
        LR.sliders(this.slider), this.orders,
        h("div", { class: "pictures" },
          h("div", {}, h("p", {}, "The matrix W"), this.left),
          h("div", {}, this.rightTitle, this.right)),
        h("p", { class: "note", id: "note" }),
        h("p", { role: "status", id: "finding" }, this.finding),
        LR.more(
          LR.radios("picture", "Picture", PICTURES, (event) => {
            const own = event.target.value === "own";
            this.fileRow.hidden = !own;
            if (!own) this.pick(event.target.value);
          }), this.fileRow,
          LR.radios("view", "On the right", VIEWS, () => this.draw()),
          h("div", { class: "charts facts" },
            h("div", {}, h("p", {}, "Singular values σ / σ₁"), this.svg,
              this.legend = h("p", { class: "row key", hidden: true },
                LR.sample("before"), "before it was rearranged")),
            LR.table("Quality and cost of the rank r picture", {
              error: "error, from the pixels", tail: "error, from σ",
              energy: "energy kept", stored: "numbers stored, r (m + n)",
              share: "of the mn pixels" }))));
    }

    /* Another picture, as it is. */
    pick(name) {
      const { length: m } = this.photo, n = this.photo[0].length;
      return this.use(name === "photograph" ? this.photo
        : P.drawn(name, m, n, this.random));
    }

    async open(file) {
      try {
        const bitmap = await createImageBitmap(file);
        const scale = 160 / Math.max(bitmap.width, bitmap.height);
        const canvas = h("canvas", {
          width: Math.max(2, Math.round(bitmap.width * scale)),
          height: Math.max(2, Math.round(bitmap.height * scale)) });
        const { width, height } = canvas, ink = canvas.getContext("2d");
        ink.drawImage(bitmap, 0, 0, width, height);
        const { data } = ink.getImageData(0, 0, width, height);
        this.complain("");
        await this.use(M.zeros(height, width).map((row, i) =>
          row.map((_, j) => {
            const at = 4 * (i * width + j);
            return (0.299 * data[at] + 0.587 * data[at + 1] +
              0.114 * data[at + 2]) / 255;
          })));
      } catch {
        this.complain("This file could not be read as a picture.");
      }
    }

    async use(W) {
      if (!M.norm(W)) {
        this.complain("This picture is black: there is nothing in it.");
        return;
      }
      this.original = W;
      this.spectrum = null;
      this.check("order", "as it is");
      // Nothing to compare with until it is taken apart.
      this.orders.disabled = true;
      if (!await this.decompose(W)) return;
      this.orders.disabled = false;
      this.old = this.svd.s;
      this.find("", "");
    }

    find(...sentences) {
      sentences.forEach((x, i) => (this.finding[i].textContent = x));
    }

    async arrange(how) {
      const { old } = this;
      this.spectrum = how === "as it is" ? null : old;
      const moved = P.rearranged(this.original, how, this.random);
      if (!await this.decompose(moved)) return;
      this.find(...P.finding(how,
        P.needed(P.tails(old), GOAL), P.needed(this.tails, GOAL),
        this.svd.s.map((x, i) => Math.abs(x - old[i]) / old[0])));
    }

    /* Take W apart, a slice at a time; false if another picture came first. */
    async decompose(W) {
      this.find("Computing the singular values …", "");
      const task = (this.task = {});
      this.setAttribute("aria-busy", "true");
      const svd = await M.svdInSlices(W);
      if (task !== this.task) return false;
      this.removeAttribute("aria-busy");
      Object.assign(this, { W, svd, k: svd.s.length, tails: P.tails(svd.s) });
      this.slider.input.max = this.k;
      this.paint(this.left, W, 0, 1);
      this.left.setAttribute("aria-label", `The picture, ${W.length} by ${
        W[0].length} pixels`);
      this.rank = Math.min(this.rank, this.k);
      this.draw();
      return true;
    }

    setRank(r) {
      const good = r >= 1 && r <= this.k;
      this.complain(good ? ""
        : `The rank must be a whole number from 1 to ${this.k}.`);
      if (good) this.rank = Math.round(r);
      this.draw();
    }

    async reveal(guess) {
      // Perhaps another is still being taken apart.
      if (this.W !== this.photo || this.original !== this.photo) {
        this.check("picture", "photograph");
        await this.use(this.photo);
      }
      const need = P.needed(this.tails, GOAL), [m, n] = [this.photo.length,
        this.photo[0].length];
      this.setRank(need);
      const said = guess === null ? "" : `You said ${guess}. `;
      return `${said}It takes r = ${need}, which is ${percent(need *
        (m + n) / m / n, 0)} of the storage.` +
        (guess > 1.3 * need ? " A photograph is closer to low rank than it " +
          "looks." : guess && guess < need / 1.3 ? " The face is there much " +
          "earlier; edges and grain need many layers." : "");
    }

    /* Grey values from low (black) to high (white). */
    paint(canvas, X, low, high) {
      const m = X.length, n = X[0].length;
      if (canvas.width !== n || canvas.height !== m)
        Object.assign(canvas, { width: n, height: m });
      const ink = canvas.getContext("2d"), image = ink.createImageData(n, m);
      let at = 0;
      for (const row of X)
        for (const x of row) {
          const grey = (255 * (x - low)) / (high - low);
          for (let c = 0; c < 3; c++) image.data[at++] = grey;
          image.data[at++] = 255;
        }
      ink.putImageData(image, 0, 0);
    }

    draw() {
      const { W, svd, rank: r, k, tails } = this;
      const sum = M.terms(svd, 0, r), rest = M.minus(W, sum);
      const view = this.shadowRoot.querySelector("[name=view]:checked").value;
      if (view === "sum") this.paint(this.right, sum, 0, 1);
      else {
        const X = view === "rest" ? rest : M.terms(svd, r - 1, r);
        const top = X.reduce((t, row) =>
          row.reduce((u, x) => Math.max(u, Math.abs(x)), t), 0.02);
        this.paint(this.right, X, -top, top);
      }
      const title = {
        sum: `Sum of ${r} layer${r > 1 ? "s" : ""}`,
        layer: `Layer ${r} alone (grey is 0)`,
        rest: `Missing after ${r} (grey is 0)`,
      }[view];
      this.rightTitle.textContent = title;
      this.right.setAttribute("aria-label", title);
      this.slider.show(r, `rank ${r} of ${k}`);
      const texts = P.texts(W, rest, tails, r);
      this.write(texts);
      this.chart();
      this.say(`Rank ${r}: error ${texts.error}, ${
        texts.share} of the numbers.`);
    }

    /* The spectrum from 1 down to 1e-4; dashed, that before rearranging. */
    chart() {
      const { svd: { s }, spectrum, rank, k } = this;
      const chart = LR.chart(this.svg, { height: 160,
        x: { at: (i) => i / k, ticks: [[0.5, "1"], [k, k]],
          label: "layer" },
        y: { at: (v) => 1 + Math.log10(Math.max(1e-4, v / (s[0] || 1))) / 4,
          ticks: [[s[0], "1"], [0.01 * s[0], "10⁻²"],
            [1e-4 * s[0], "10⁻⁴"]] } });
      const { X, Y } = chart, foot = Y(0);
      const bars = (type, from, to) => chart.path(type, s.slice(from, to)
        .map((v, i) => `M${X(from + i)} ${foot}V${Y(v)}H${
          X(from + i + 1)}V${foot}`).join(""));
      chart.show("Singular values: the first " +
        `${s[0].toFixed(1)}, number ${rank} ${LR.num(s[rank - 1])}, the last ${
          LR.num(s[k - 1])}`, bars("bar", rank, k), bars("kept", 0, rank),
      spectrum ? chart.line("before", Array.from(spectrum,
        (v, i) => [i + 0.5, v])) : "", chart.cut(rank));
      this.legend.hidden = !spectrum;
    }
  }
  LR.define("lr-svd-image", SvdImage);
})();
