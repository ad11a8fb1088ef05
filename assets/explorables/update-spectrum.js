/* <lr-update-spectrum layer="all" rank="8">: what the first r directions of
   an update hold, and what the loss makes of them. All numbers were measured
   by experiments/update_spectra.py; none is interpolated. */
(() => {
  "use strict";
  const { h, num, percent, spectrum: U } = LR;
  const MAPS = ["q", "k", "v", "o", "up", "down"], { ALL, KINDS } = U;
  const TICKS = [[1e-3, "10⁻³"], [1e-2, "10⁻²"], [0.1, "10⁻¹"], [1, "1"],
    [10, "10"]];
  const mark = (shape, x, y) => shape === "disc" ? LR.disc(x, y)
    : `M${x - 4} ${y - 4}h8v8h-8Z`;

  class UpdateSpectrum extends LR.Explorable {
    static title = "What do the first r directions hold?";
    static css = `${LR.chartCss}
      .grid{margin:.1rem 0;table-layout:fixed}
      .grid th,.grid td{padding:.08rem;text-align:center;border:0}
      .grid th{color:var(--fg);font-size:.85rem}
      .grid tr>:first-child{text-align:start;width:1.3rem}
      #which{margin:0 0 .25rem}
      .pick{display:flex;position:relative;min-height:1.75rem;cursor:pointer;
        align-items:center;justify-content:center;border-radius:.25rem;
        border:1px solid var(--line);font-variant-numeric:tabular-nums;
        background:color-mix(in srgb,var(--c1) var(--much),var(--bg))}
      .pick input{position:absolute;inset:0;width:100%;height:100%;margin:0;
        opacity:0;cursor:pointer}
      .pick:has(:checked){outline:3px solid var(--fg);outline-offset:-2px;
        font-weight:700;text-decoration:underline}
      .pick:has(:focus-visible){outline:3px solid var(--c1);
        outline-offset:2px}
      .ranks{gap:.4rem}
      .ranks button{min-width:2.3rem}
      .charts svg[role]{touch-action:pan-y;cursor:ew-resize}
      .key{margin:0}
      @container (width<19rem){table{font-size:.85rem}
        th,td{padding-inline:.15rem}}
      .losses th{white-space:nowrap}.losses thead th{white-space:normal}
      @media not print{.asking .mark{display:none}}`;

    start() {
      return Promise.resolve(LR.load("updates"))
        .then((data) => this.begin(data));
    }

    begin(data) {
      const { layers, all, ranks } = data;
      this.data = data;
      this.names = Object.keys(layers);
      this.most = ranks[ranks.length - 1];
      this.layer = this.option("layer", LR.oneOf(ALL, ...this.names),
        `"${ALL}" or the name of a map, like "${this.names[12]}"`, ALL);
      this.rank = this.option("rank", LR.whole(1, this.most),
        `a whole number from 1 to ${this.most}`, 8);
      this.scale = "norm";
      this.facts = U.allFacts(data);

      this.slider = LR.slider("rank", "Rank r", { min: 1, max: this.most },
        (r) => this.setRank(r), { label: "Rank r as a number",
          change: (r) => this.setRank(r) });
      [this.left, this.right] = [0, 1].map(() => {
        const svg = h("svg", { role: "img" });
        LR.drag(svg, (event) => {
          const box = svg.getBoundingClientRect();
          const t = (event.clientX - box.left - 46) / (box.width - 58);
          this.setRank(Math.round(this.most ** Math.min(1, Math.max(0, t))));
        });
        new ResizeObserver(() => this.draw()).observe(svg);
        return svg;
      });
      this.keys = ["disc", "square"].map((shape) => h("span", {},
        LR.sample("", `<path class="mark" d="${mark(shape, 17, 6)}"/>`),
        h("span")));
      this.leftTitle = h("p");
      this.figure.append(
        LR.guess(`Together, the ${this.names.length} updates save ${
          (all[0] - all[all.length - 1]).toFixed(3)} bits per byte of unseen ` +
          `code. Cut each to rank 8 of ${this.most}: which share of that ` +
          "gain is left, in percent?", 0, 100, (x) => this.reveal(x)),
        LR.sliders(this.slider),
        h("div", { class: "charts" }, this.grid(),
          h("div", {}, h("p", {}, "kept by the first r, in percent"),
            this.right,
            h("div", { class: "row key" },
              Object.values(KINDS).map(({ name, type }) =>
                h("span", {}, LR.sample(type), name)),
              this.keys.map((key) => (key.classList.add("secret"), key))))),
        h("p", { class: "note" }, h("span", { class: "secret", id: "gain" }),
          h("span", { class: "veil" },
            "What the loss makes of it comes after your guess.")),
        LR.more(
          h("div", { class: "row controls ranks", role: "group",
            "aria-label": "Ranks at which the loss was measured" },
          h("span", { class: "name" }, "Measured at"),
          ranks.slice(1).map((r) => LR.button(r, () => this.setRank(r)))),
          LR.radios("scale", "Singular values", { norm: "over the norm",
            absolute: "as they are" }, (event) => {
            this.scale = event.target.value;
            this.draw();
          }),
          this.leftTitle, this.left, h("p", { id: "energy" }), this.tables(),
          h("p", { class: "muted", id: "source" }, `One run: seed ${
            data.seed}, learning rate ${data.lr}, ${data.steps} steps. The ` +
            "loss was measured at the ranks that have a mark and nowhere " +
            `else: with all updates on ${LR.grouped(data.bytes.all)} bytes ` +
            `of unseen code, with one of them on ${
              LR.grouped(data.bytes.few)} of these. The gain of one alone ` +
            "is its own; with the other 23 whole, it is that of all 24.")));
      this.draw();
    }

    /* One cell for each map, with the energy of its update. */
    grid() {
      this.cells = {};
      const pick = (name) => {
        const input = h("input", { type: "radio", name: "layer", value: name,
          onchange: () => {
            this.layer = name;
            this.draw();
          } });
        const label = h("label", { class: "pick" }, input, h("span"));
        this.cells[name] = { input, label };
        return label;
      };
      const blocks = [...new Set(this.names.map((n) => n.split(".")[1]))];
      const cell = (b, map) => h("td", {}, pick(this.names.find((n) =>
        n.startsWith(`blocks.${b}.`) && n.endsWith(`.${map}`))));
      return h("div", { role: "radiogroup", "aria-labelledby": "which" },
        h("p", { id: "which" }), pick(ALL),
        h("table", { class: "grid" },
          h("thead", {}, h("tr", {}, h("td"),
            MAPS.map((map) => h("th", { scope: "col" }, map)))),
          h("tbody", {}, blocks.map((b) => h("tr", {},
            h("th", { scope: "row", "aria-label": `block ${b}` }, b),
            MAPS.map((map) => cell(b, map)))))));
    }

    tables() {
      const table = (caption, head, rows) => h("table",
        { class: caption.toLowerCase() },
        h("caption", { class: "hidden" }, caption),
        h("thead", {}, h("tr", {}, head.map((words) =>
          h("th", { scope: "col" }, words)))),
        h("tbody", {}, rows.map(([words, ...cells]) => h("tr", {},
          h("th", { scope: "row" }, words), cells))));
      const cells = (key) => Object.keys(KINDS).map((kind) =>
        h("td", { id: `${kind}-${key}` }));
      this.columns = [0, 1].map((i) => ({ head: h("span"),
        cells: ["none", "cut", "whole", "kept"].map((key, k) =>
          h("td", {}, k % 2 ? LR.secret(`${key}-${i}`)
            : h("span", { id: `${key}-${i}` }))) }));
      const pair = (k) => this.columns.map((column) => column.cells[k]);
      return h("div", { class: "charts" },
        table("Spectra", ["matrix",
          ...Object.values(KINDS).map(({ name }) => name)], [
          [this.headEnergy = h("span"), ...cells("energy")],
          ["directions for 90%", ...cells("need")],
          ["norm / ‖W₀‖", ...cells("size")]]),
        table("Losses", ["bits per byte", ...this.columns.map((c) => c.head)],
          [["r = 0", ...pair(0)], [this.headCut = h("span"), ...pair(1)],
            [`r = ${this.most}`, ...pair(2)], ["gain kept", ...pair(3)]]));
    }

    setRank(r) {
      const good = Number.isInteger(r) && r >= 1 && r <= this.most;
      this.complain(good ? ""
        : `The rank must be a whole number from 1 to ${this.most}.`);
      if (good) this.rank = r;
      this.draw();
    }

    reveal(guess) {
      this.layer = ALL;
      this.setRank(8);
      const said = guess === null ? "" : `You said ${guess}%. `;
      return `${said}It is ${U.kept(this.data, 8, U.gains(this.data, ALL)[0])
      }. The same directions hold ${
        percent(this.facts[ALL].update.energy[8], 1)} of the energy.`;
    }

    draw() {
      const { data, layer, rank: r, most, asking } = this;
      const facts = this.facts[layer], gains = U.gains(data, layer);
      this.slider.show(r, `rank ${r} of ${most}`);
      this.write({ which: "Which update? In the cells: percent of its " +
        `energy in its first ${r} direction${r > 1 ? "s" : ""}` });
      for (const [name, { input, label }] of Object.entries(this.cells)) {
        const share = this.facts[name].update.energy[r];
        const text = percent(share, 0).slice(0, -1);
        input.checked = name === layer;
        label.lastChild.textContent = name === ALL
          ? `all 24, on average ${text}` : text;
        if (name !== ALL) input.setAttribute("aria-label", `${name}: ${text}`);
        label.style.setProperty("--much", `${Math.round(35 * share)}%`);
      }

      this.headEnergy.textContent = `energy in the first ${r}`;
      this.headCut.textContent = `r = ${r}`;
      this.write(U.spectra(facts, r, layer));
      this.columns.forEach(({ head, cells }, i) => {
        const found = gains[i], hidden = !found;
        [head.parentNode, ...cells, this.keys[i]].forEach((el) =>
          (el.hidden = hidden));
        if (hidden) return;
        head.textContent = found.words;
        this.keys[i].lastChild.textContent = `gain in loss, ${found.words}`;
        U.losses(data, r, found).forEach((text, k) => {
          cells[k].firstChild.textContent = text;
        });
      });
      this.write(U.reading(data, facts, gains, r, layer));
      this.charts(facts, gains);
      this.say(`Rank ${r}: ${percent(facts.update.energy[r], 1)} of the ` +
        "energy" + (asking ? "" : `; gain kept, ${gains.map((found) =>
          `${found.words}: ${U.kept(data, r, found)}`).join("; ")}`) + ".");
    }

    charts(facts, gains) {
      const { data: { ranks }, rank, scale, layer, most, asking } = this;
      const x = { at: (r) => Math.log(r) / Math.log(most),
        ticks: ranks.slice(1).map((r) => [r, r]) };
      const lines = (chart, read) => Object.entries(KINDS).map(
        ([kind, { type }]) => chart.line(type, read(facts[kind]).map((v, i) =>
          [i + 1, v])));
      const listed = (read) => Object.entries(KINDS).map(
        ([kind, { name }]) => `${name} ${read(facts[kind])}`).join(", ");
      const decades = scale === "norm" ? 3 : 4;
      this.leftTitle.textContent = "singular values" + (scale === "norm"
        ? " / norm" : "") + (layer === ALL ? ", rms of 24" : "");
      const left = LR.chart(this.left, { height: 200,
        x: { ...x, label: "direction" }, y: {
          at: (v) => Math.min(1, Math.max(0, (Math.log10(v) + 3) / decades)),
          ticks: TICKS.slice(0, decades + 1) } });
      left.show(`${this.leftTitle.textContent}, number ${rank} of each: ${
        listed((f) => num(f[scale][rank - 1]))}`, left.until(rank),
      left.cut(rank), lines(left, (f) => f[scale]));
      const right = LR.chart(this.right, { height: 175,
        x: { ...x, label: "rank r" }, y: { at: (v) => (v + 0.08) / 1.1,
          ticks: [0, 0.25, 0.5, 0.75, 1].map((v) => [v, 100 * v]) } });
      right.show(`Energy in the first ${rank}: ${
        listed((f) => percent(f.energy[rank], 1))}` + (asking ? ""
        : gains.map(({ words, shares }) => `; gain kept, ${words}, at ranks ${
          ranks.slice(1).join(", ")}: ${shares.slice(1).map((v) =>
          U.share(v)).join(", ")}`).join("")), right.cut(rank),
      lines(right, (f) => f.energy.slice(1)),
      gains.flatMap(({ shape, shares }) => ranks.map((r, k) => right.path(
        r === rank ? "mark now" : "mark", r ? mark(shape, right.X(r),
          right.Y(shares[k])) : "")).slice(1)));
    }
  }
  LR.define("lr-update-spectrum", UpdateSpectrum);
})();
