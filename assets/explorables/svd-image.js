/* <lr-svd-image rank="20" picture="photograph">: a picture as a sum of layers
   of rank one. The decomposition is computed here, in the page. */
(() => {
  "use strict";
  const { h, percent } = LR;
  const GOAL = 0.1;

  const PICTURES = {
    photograph: "photograph", checkerboard: "checkerboard",
    diagonal: "diagonal", noise: "noise", own: "your own …",
  };
  const ORDERS = {
    "as it is": "as it is", lines: "rows and columns permuted",
    pixels: "all pixels shuffled",
  };
  const VIEWS = {
    sum: "the sum of r layers", layer: "layer r alone",
    rest: "what is missing",
  };

  const P = (LR.picture = {
    drawn: (name, m, n) => Array.from({ length: m }, (_, i) =>
      Float64Array.from({ length: n }, (_, j) => ({
        checkerboard: ((i >> 4) + (j >> 4)) % 2,
        diagonal: +(Math.abs(i - (j * m) / n) < 4),
        noise: Math.random(),
      })[name])),
    /* A random order of 0 ... n - 1 (Fisher-Yates). */
    order(n) {
      const p = Array.from({ length: n }, (_, i) => i);
      for (let i = n - 1; i > 0; i--) {
        const j = Math.floor(Math.random() * (i + 1));
        [p[i], p[j]] = [p[j], p[i]];
      }
      return p;
    },
    rearranged(A, how) {
      const m = A.length, n = A[0].length;
      if (how === "lines") {
        const rows = P.order(m), columns = P.order(n);
        return rows.map((i) => Float64Array.from(columns, (j) => A[i][j]));
      }
      if (how === "pixels") {
        const p = P.order(m * n);
        return A.map((row, i) => row.map((_, j) => {
          const k = p[i * n + j];
          return A[Math.floor(k / n)][k % n];
        }));
      }
      return A;
    },
    /* Layers low + 1 ... high of the sum of s_k u_k v_k^T. */
    layers({ U, s, V }, low, high) {
      const rows = Array.from(U[0], () => new Float64Array(V[0].length));
      for (let k = low; k < high; k++)
        rows.forEach((row, i) => {
          const c = s[k] * U[k][i], v = V[k];
          for (let j = 0; j < row.length; j++) row[j] += c * v[j];
        });
      return rows;
    },
    minus: (A, B) => A.map((row, i) => row.map((x, j) => x - B[i][j])),
    norm: (A) => Math.sqrt(A.reduce((sum, row) =>
      row.reduce((t, x) => t + x * x, sum), 0)),
    /* tails[r]: the root of the sum of the squares after the first r. */
    tails(s) {
      const t = new Float64Array(s.length + 1);
      for (let i = s.length; i--;) t[i] = Math.hypot(t[i + 1], s[i]);
      return t;
    },
    /* The smallest rank whose relative error is below the goal. */
    needed: (t, goal) => t.findIndex((x) => x < goal * t[0]),
  });

  class SvdImage extends LR.Explorable {
    static title = "A photograph is a sum of rank-one layers";
    static css = `
      .pictures{display:grid;grid-template-columns:1fr 1fr;gap:.75rem 1.25rem;
        align-items:end;margin:.75rem auto;max-width:36rem}
      .pictures p{margin:0 0 .25rem}
      canvas{display:block;width:100%;image-rendering:pixelated;
        border:1px solid var(--line)}
      .facts{display:grid;gap:.5rem 1.25rem;align-items:start;
        grid-template-columns:repeat(auto-fit,minmax(min(100%,17rem),1fr))}
      svg{display:block;width:100%;touch-action:pan-y;cursor:ew-resize}
      svg .bar{fill:color-mix(in srgb,var(--fg) 50%,var(--bg))}
      svg .kept{fill:var(--c1)}
      svg .cut{stroke:var(--c2);stroke-width:2}
      svg .before{fill:none;stroke:var(--fg);stroke-width:1.5;
        stroke-dasharray:4 3}
      svg text{font-size:12px;fill:var(--muted)}
      .key{display:inline-block;width:1.6em;border-top:2px dashed;
        vertical-align:.3em}
      .file{margin:.25rem 0}`;

    start() {
      return Promise.resolve(LR.load("photo"))
        .then((data) => this.begin(data));
    }

    begin({ rows, columns, pixels }) {
      const bytes = atob(pixels);
      this.photo = Array.from({ length: rows }, (_, i) =>
        Float64Array.from({ length: columns }, (_, j) =>
          bytes.charCodeAt(i * columns + j) / 255));
      const rank = this.option("rank", LR.whole(1, columns),
        `a whole number from 1 to ${columns}`, 20);
      const names = Object.keys(PICTURES).slice(0, 4);
      const name = this.option("picture", LR.oneOf(...names),
        `one of ${names.join(", ")}`, "photograph");
      this.rank = rank;
      this.build();
      this.figure.inert = true;
      this.shadowRoot.querySelector(`[value="${name}"]`).checked = true;
      return this.pick(name).then(() => (this.figure.inert = false));
    }

    build() {
      const set = (input) => () => this.setRank(input.valueAsNumber);
      this.slider = h("input", { type: "range", id: "rank", min: 1 });
      this.slider.addEventListener("input", set(this.slider));
      this.typed = h("input", { type: "number", min: 1,
        "aria-label": "Rank r as a number" });
      this.typed.addEventListener("change", set(this.typed));
      this.file = h("input", { type: "file", accept: "image/*",
        "aria-label": "A picture of your own", onchange: () =>
          this.file.files[0] && this.open(this.file.files[0]) });
      this.fileRow = h("p", { class: "file", hidden: true }, this.file,
        " It stays on your machine.");
      const canvas = () => h("canvas", { role: "img" });
      [this.left, this.right] = [canvas(), canvas()];
      this.rightTitle = h("p");
      this.svg = h("svg", { role: "img" });
      LR.drag(this.svg, (event) => {
        const box = this.svg.getBoundingClientRect(), left = 34;
        const x = (event.clientX - box.left - left) / (box.width - left);
        this.setRank(Math.max(1, Math.min(this.k, Math.round(this.k * x))));
      });
      new ResizeObserver(() => this.svd && this.draw()).observe(this.svg);
      this.note = h("p", { class: "note", id: "note" });
      this.finding = h("p", { role: "status", id: "finding" });
      const row = (id, ...words) => h("tr", {},
        h("th", { scope: "row" }, ...words), h("td", { id }));

      const pictures = LR.radios("picture", "Picture", PICTURES, (event) => {
        this.fileRow.hidden = event.target.value !== "own";
        if (event.target.value !== "own") this.pick(event.target.value);
      });
      this.orders = LR.radios("order", "Arranged", ORDERS, (event) =>
        this.arrange(event.target.value));
      this.figure.append(
        LR.guess("How many of the 137 layers bring the error of the " +
          "photograph below 10%?", 1, 137, (x) => this.reveal(x)),
        pictures, this.fileRow, this.orders,
        h("div", { class: "row controls" },
          h("label", { for: "rank", class: "name" }, "Rank r"), this.slider,
          this.typed),
        h("div", { class: "pictures" },
          h("div", {}, h("p", {}, "The matrix A"), this.left),
          h("div", {}, this.rightTitle, this.right)),
        LR.radios("view", "On the right", VIEWS, () => this.draw()),
        this.finding,
        h("div", { class: "facts" },
          h("div", {}, h("p", { class: "name" },
            "Singular values σ / σ₁ (log scale)"), this.svg,
          this.legend = h("p", { hidden: true }, h("span", { class: "key" }),
            " before it was rearranged")),
          h("table", {}, h("caption", { class: "hidden" },
            "Quality and cost of the rank r picture"), h("tbody", {},
            row("error", "error, from the pixels"),
            row("tail", "error, from σ"),
            row("energy", "energy kept"),
            row("stored", "numbers stored, r(m + n)"),
            row("share", "of the mn pixels")))),
        this.note);
    }

    /* Another picture, as it is. */
    pick(name) {
      const { length: m } = this.photo, n = this.photo[0].length;
      return this.use(name === "photograph" ? this.photo
        : P.drawn(name, m, n));
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
        await this.use(Array.from({ length: height }, (_, i) =>
          Float64Array.from({ length: width }, (_, j) => {
            const at = 4 * (i * width + j);
            return (0.299 * data[at] + 0.587 * data[at + 1] +
              0.114 * data[at + 2]) / 255;
          })));
      } catch {
        this.complain("This file could not be read as a picture.");
      }
    }

    async use(A) {
      if (!P.norm(A)) {
        this.complain("This picture is black: there is nothing in it.");
        return;
      }
      this.original = A;
      this.spectrum = null;
      this.shadowRoot.querySelector("[name=order]").checked = true;
      // Nothing to compare with until it is taken apart.
      this.orders.disabled = true;
      if (!await this.decompose(A)) return;
      this.orders.disabled = false;
      this.old = this.svd.s;
      this.finding.textContent = "";
    }

    async arrange(how) {
      const { old } = this;
      this.spectrum = how === "as it is" ? null : old;
      if (!await this.decompose(P.rearranged(this.original, how))) return;
      const before = P.needed(P.tails(old), GOAL);
      const after = P.needed(this.tails, GOAL);
      const change = Math.max(...this.svd.s.map((x, i) =>
        Math.abs(x - old[i]))) / old[0];
      this.finding.textContent = {
        "as it is": "",
        lines: "Nobody would recognise it, yet its rank is untouched: of " +
          `the ${this.k} singular values computed anew, none moved by more ` +
          `than ${LR.num(change)} of σ₁. An error below 10% takes r = ${
            after}, as before.`,
        pixels: "The same grey values, in random places: an error below " +
          `10% now takes r = ${after} instead of ${before}. Low rank lies ` +
          "in how pixels line up, not in which pixels there are.",
      }[how];
    }

    /* Take A apart, a slice at a time; false if another picture came first. */
    async decompose(A) {
      this.finding.textContent = "Computing the singular values …";
      const task = (this.task = {});
      this.setAttribute("aria-busy", "true");
      const svd = await LR.svdInSlices(A);
      if (task !== this.task) return false;
      this.removeAttribute("aria-busy");
      Object.assign(this, { A, svd, k: svd.s.length, tails: P.tails(svd.s) });
      this.m = A.length;
      this.n = A[0].length;
      this.slider.max = this.typed.max = this.k;
      this.paint(this.left, A, 0, 1);
      this.left.setAttribute("aria-label", `The picture, ${this.m} by ${
        this.n} pixels`);
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
      if (this.A !== this.photo) {
        this.shadowRoot.querySelector("[value=photograph]").checked = true;
        await this.use(this.photo);
      }
      const need = P.needed(this.tails, GOAL);
      this.setRank(need);
      const said = guess === null ? "" : `You said ${guess}. `;
      return `${said}It takes r = ${need}, which is ${percent(need *
        (this.m + this.n) / this.m / this.n, 0)} of the storage.` +
        (guess > 1.3 * need ? " A photograph is closer to low rank than it " +
          "looks." : guess && guess < need / 1.3 ? " The face is there much " +
          "earlier; edges and grain need many layers." : "");
    }

    /* Grey values from low (black) to high (white). */
    paint(canvas, A, low, high) {
      const m = A.length, n = A[0].length;
      if (canvas.width !== n || canvas.height !== m)
        Object.assign(canvas, { width: n, height: m });
      const ink = canvas.getContext("2d"), image = ink.createImageData(n, m);
      let at = 0;
      for (const row of A)
        for (const x of row) {
          const grey = (255 * (x - low)) / (high - low);
          for (let c = 0; c < 3; c++) image.data[at++] = grey;
          image.data[at++] = 255;
        }
      ink.putImageData(image, 0, 0);
    }

    draw() {
      const { A, svd, rank: r, m, n, k, tails } = this;
      const sum = P.layers(svd, 0, r), rest = P.minus(A, sum);
      const total = tails[0] || 1, tail = tails[r] / total;
      const error = P.norm(rest) / P.norm(A), share = (r * (m + n)) / (m * n);
      const view = this.shadowRoot.querySelector("[name=view]:checked").value;
      if (view === "sum") this.paint(this.right, sum, 0, 1);
      else {
        const X = view === "rest" ? rest : P.layers(svd, r - 1, r);
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
      this.slider.value = this.typed.value = r;
      this.slider.setAttribute("aria-valuetext", `rank ${r} of ${k}`);
      const text = {
        error: percent(error), tail: percent(tail),
        energy: percent(1 - tail ** 2),
        stored: (r * (m + n)).toLocaleString("en"),
        share: percent(share, 1),
      };
      for (const id in text)
        this.shadowRoot.getElementById(id).textContent = text[id];
      this.note.textContent = share > 1
        ? `Above r = mn/(m + n) = ${((m * n) / (m + n)).toFixed(1)} the ` +
          "layers cost more than the picture itself."
        : `${percent(1 - tail ** 2, 1)} of the energy for ${
          percent(share, 1)} of the numbers.`;
      this.chart();
      this.say(`Rank ${r}: error ${text.error}, ${
        text.share} of the numbers.`);
    }

    /* The spectrum from 1 down to 1e-4; dashed, that before rearranging. */
    chart() {
      const { svd: { s }, spectrum, rank, k } = this;
      const W = this.svg.clientWidth || 300, H = 150, left = 34;
      const x = (i) => left + ((W - left) * i) / k;
      const y = (v) => 6 + ((H - 6) * Math.min(4,
        -Math.log10(Math.max(1e-9, v / (s[0] || 1))))) / 4;
      const bars = (from, to) => Array.from(s.slice(from, to), (v, i) =>
        `M${x(from + i)} ${H}V${y(v)}H${x(from + i + 1)}V${H}`).join("");
      this.svg.setAttribute("viewBox", `0 0 ${W} ${H + 20}`);
      this.svg.innerHTML = `<path class="bar" d="${bars(rank)}"/>` +
        `<path class="kept" d="${bars(0, rank)}"/>` +
        (spectrum ? `<path class="before" d="M${Array.from(spectrum,
          (v, i) => `${x(i + 0.5)} ${y(v)}`).join("L")}"/>` : "") +
        `<path class="cut" d="M${x(rank)} 0V${H}"/>` +
        ["1", "10⁻²", "10⁻⁴"].map((t, i) => `<text x="0" y="${
          10 + (i * (H - 6)) / 2}">${t}</text>`).join("") +
        `<text x="${left}" y="${H + 15}">layer 1</text>` +
        `<text x="${W}" y="${H + 15}" text-anchor="end">${k}</text>`;
      this.svg.setAttribute("aria-label", "Singular values: the first " +
        `${s[0].toFixed(1)}, number ${rank} ${LR.num(s[rank - 1])}, the last ${
          LR.num(s[k - 1])}`);
      this.legend.hidden = !spectrum;
    }
  }
  LR.define("lr-svd-image", SvdImage);
})();
