/* <lr-update-spectrum layer="all" rank="8">: what the first r directions of
   an update hold, and what the loss makes of them. All numbers were measured
   by experiments/update_spectra.py; none is interpolated. */
(() => {
  "use strict";
  const { h, num, percent, spectrum: U } = LR;
  const MAPS = ["q", "k", "v", "o", "up", "down"], ALL = "all";
  const share = (x) => percent(x, 1).replace("-", "−");
  const TICKS = [[1e-3, "10⁻³"], [1e-2, "10⁻²"], [0.1, "10⁻¹"], [1, "1"],
    [10, "10"]];

  class UpdateSpectrum extends LR.Explorable {
    static title = "What do the first r directions hold?";
    static css = `
      .grid{margin:.25rem 0 .5rem;table-layout:fixed}
      .grid th,.grid td{padding:.1rem;text-align:center;border:0}
      .grid th{color:var(--fg);font-size:.85rem}
      .grid tr>:first-child{text-align:start;width:4.1rem}
      .pick{display:flex;position:relative;min-height:2rem;cursor:pointer;
        align-items:center;justify-content:center;border-radius:.25rem;
        border:1px solid var(--line);font-variant-numeric:tabular-nums;
        background:color-mix(in srgb,var(--c1) var(--much),var(--bg))}
      .pick.wide{display:inline-flex;padding:0 .75rem}
      .pick input{position:absolute;inset:0;width:100%;height:100%;margin:0;
        opacity:0;cursor:pointer}
      .pick:has(:checked){outline:3px solid var(--fg);outline-offset:-2px;
        font-weight:700;text-decoration:underline}
      .pick:has(:focus-visible){outline:3px solid var(--c1);
        outline-offset:2px}
      .ranks{gap:.4rem;margin:.25rem 0 .75rem}
      .ranks button{min-width:2.3rem}
      .pair{display:grid;gap:.5rem 1.5rem;margin:.25rem 0;align-items:start;
        grid-template-columns:repeat(auto-fit,minmax(min(100%,16rem),1fr))}
      .pair p{margin:0 0 .25rem}
      svg{display:block;width:100%;touch-action:pan-y;cursor:ew-resize}
      .key{gap:.1rem 1rem;margin:.25rem 0 .5rem}
      .key svg{display:inline-block;width:2.1rem;height:.8rem;cursor:auto}
      svg path{fill:none;stroke:var(--fg)}
      svg .axis{stroke:var(--muted);stroke-width:1}
      svg .net{stroke:var(--line);stroke-width:1}
      svg .first{fill:var(--soft);stroke:none}
      svg .body{stroke:var(--c1);stroke-width:2.4}
      svg .dash{stroke:var(--c2);stroke-width:2;stroke-dasharray:7 4}
      svg .dots{stroke:var(--c3);stroke-width:2.6;stroke-dasharray:0 5;
        stroke-linecap:round}
      svg .cut{stroke:var(--fg);stroke-width:1.5}
      svg .mark{stroke:var(--fg);stroke-width:2;fill:var(--bg)}
      svg .mark.now{fill:var(--fg)}
      svg text{font-size:12px;fill:var(--muted)}
      @container (width<19rem){table{font-size:.85rem}
        th,td{padding-inline:.15rem}}
      .veil{display:none}
      @media not print{.asking .secret,.asking .mark{display:none}
        .asking .veil{display:inline}}
      .losses th{white-space:nowrap}.losses thead th{white-space:normal}
      .note{min-height:6em}`;

    start() {
      return Promise.resolve(LR.load("updates"))
        .then((data) => this.begin(data));
    }

    begin(data) {
      const { layers, all, few, ranks } = data;
      this.data = data;
      this.names = Object.keys(layers);
      this.most = ranks[ranks.length - 1];
      this.layer = this.option("layer", LR.oneOf(ALL, ...this.names),
        `"${ALL}" or the name of a map, like "${this.names[12]}"`, ALL);
      this.rank = this.option("rank", LR.whole(1, this.most),
        `a whole number from 1 to ${this.most}`, 8);
      this.scale = "norm";
      this.facts = { [ALL]: U.facts(Object.values(layers)) };
      for (const name of this.names)
        this.facts[name] = U.facts([layers[name]]);
      const [none, whole] = [all[0], all[all.length - 1]];
      this.gains = { [ALL]: [{ shape: "disc", words: "all 24 cut",
        losses: all, shares: U.shares(all, none, whole) }] };
      for (const name of this.names) {
        const { alone, among } = layers[name];
        this.gains[name] = [
          { shape: "disc", words: "this one alone", losses: alone,
            shares: U.shares(alone, few.before, alone[alone.length - 1]) },
          { shape: "square", words: "the other 23 whole", losses: among,
            shares: U.shares(among, few.before, few.after) },
        ];
      }

      this.slider = h("input", { type: "range", id: "rank", min: 1,
        max: this.most, oninput: () => this.setRank(+this.slider.value) });
      this.typed = h("input", { type: "number", min: 1, max: this.most,
        "aria-label": "Rank r as a number", onchange: () =>
          this.setRank(this.typed.valueAsNumber) });
      [this.left, this.right] = [0, 1].map(() => {
        const svg = h("svg", { role: "img" });
        LR.drag(svg, (event) => {
          const box = svg.getBoundingClientRect();
          const t = (event.clientX - box.left - 48) / (box.width - 60);
          this.setRank(Math.round(this.most ** Math.min(1, Math.max(0, t))));
        });
        return svg;
      });
      new ResizeObserver(() => this.draw()).observe(this.left);
      this.note = h("p", { class: "note secret", id: "note" });
      const count = (x) => x.toLocaleString("en");
      this.figure.classList.add("asking");
      this.figure.append(
        LR.guess(`Together, the ${this.names.length} updates save ${
          (none - whole).toFixed(3)} bits per byte of unseen code. Cut each ` +
          `to rank 8 of ${this.most}: which share of that gain is left, in ` +
          "percent?", 0, 100, (x) => this.reveal(x)),
        this.grid(),
        h("div", { class: "row controls" },
          h("label", { for: "rank", class: "name" }, "Rank r"), this.slider,
          this.typed),
        h("div", { class: "row controls ranks", role: "group",
          "aria-label": "Ranks at which the loss was measured" },
        h("span", { class: "name" }, "Measured at"),
        ranks.slice(1).map((r) => LR.button(r, () => this.setRank(r)))),
        LR.radios("scale", "Singular values", { norm: "over the norm",
          absolute: "as they are" }, (event) => {
          this.scale = event.target.value;
          this.draw();
        }),
        this.key(),
        h("div", { class: "pair" },
          h("div", {}, this.leftTitle = h("p"), this.left),
          h("div", {}, h("p", {}, "kept by the first r, in percent"),
            this.right)),
        this.tables(), this.note,
        h("p", { class: "note veil" },
          "What the loss makes of it comes after your guess."),
        h("p", { class: "muted", id: "source" }, `One run: seed ${data.seed}` +
          `, learning rate ${data.lr}, ${data.steps} steps. The loss was ` +
          "measured at the ranks that have a mark and nowhere else: with " +
          `all updates on ${count(data.bytes.all)} bytes of unseen code, ` +
          `with one of them on ${count(data.bytes.few)} of these. The gain ` +
          "of one alone is its own; with the other 23 whole, it is that of " +
          "all 24."));
      this.draw();
    }

    /* One cell for each map, with the energy of its update. */
    grid() {
      this.cells = {};
      const pick = (name, type = "pick") => {
        const input = h("input", { type: "radio", name: "layer", value: name,
          onchange: () => {
            this.layer = name;
            this.draw();
          } });
        const label = h("label", { class: type }, input, h("span"));
        this.cells[name] = { input, label };
        return label;
      };
      const blocks = [...new Set(this.names.map((n) => n.split(".")[1]))];
      const cell = (b, map) => h("td", {}, pick(this.names.find((n) =>
        n.startsWith(`blocks.${b}.`) && n.endsWith(`.${map}`))));
      return h("div", { role: "radiogroup", "aria-labelledby": "which" },
        h("p", { class: "name", id: "which" }), pick(ALL, "pick wide"),
        h("table", { class: "grid" },
          h("thead", {}, h("tr", {}, h("td"),
            MAPS.map((map) => h("th", { scope: "col" }, map)))),
          h("tbody", {}, blocks.map((b) => h("tr", {},
            h("th", { scope: "row" }, `blocks.${b}`),
            MAPS.map((map) => cell(b, map)))))));
    }

    key() {
      const sample = (type, d) => {
        const svg = h("svg", { viewBox: "0 0 34 12", "aria-hidden": "true" });
        svg.innerHTML = `<path class="${type}" d="${d}"/>`;
        return svg;
      };
      return h("div", { class: "row key" },
        Object.values(U.KINDS).map(({ name, type }) =>
          h("span", {}, sample(type, "M2 6H32"), ` ${name}`)),
        this.keys = ["disc", "square"].map((shape) => {
          const svg = sample("", U.mark(shape, 17, 6));
          return h("span", {}, svg, h("span"));
        }));
    }

    tables() {
      const table = (caption, head, rows) => h("table",
        { class: caption.toLowerCase() },
        h("caption", { class: "hidden" }, caption),
        h("thead", {}, h("tr", {}, head.map((words) =>
          h("th", { scope: "col" }, words)))),
        h("tbody", {}, rows.map(([words, ...cells]) => h("tr", {},
          h("th", { scope: "row" }, words), cells))));
      const cells = (key) => Object.keys(U.KINDS).map((kind) =>
        h("td", { id: `${kind}-${key}` }));
      this.columns = [0, 1].map((i) => ({ head: h("span"),
        cells: ["none", "cut", "whole", "kept"].map((key) =>
          h("td", { id: `${key}-${i}` })) }));
      const pair = (k) => this.columns.map((column) => column.cells[k]);
      return h("div", { class: "pair" },
        table("Spectra", ["matrix",
          ...Object.values(U.KINDS).map(({ name }) => name)], [
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
      this.figure.classList.remove("asking");
      this.layer = ALL;
      this.setRank(8);
      const kept = this.gains[ALL][0].shares[this.data.ranks.indexOf(8)];
      const said = guess === null ? "" : `You said ${guess}%. `;
      return `${said}It is ${percent(kept, 1)}. The same directions hold ${
        percent(this.facts[ALL].update.energy[8], 1)} of the energy.`;
    }

    draw() {
      const { data, layer, rank: r, most, columns } = this;
      const facts = this.facts[layer], gains = this.gains[layer];
      const asking = this.figure.classList.contains("asking");
      const write = (id, text) =>
        (this.shadowRoot.getElementById(id).textContent = text);
      this.slider.value = this.typed.value = r;
      this.slider.setAttribute("aria-valuetext", `rank ${r} of ${most}`);
      write("which", "Which update? In the cells: percent of its energy in " +
        `its first ${r} direction${r > 1 ? "s" : ""}`);
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
      for (const kind in U.KINDS) {
        const { energy, need, size } = facts[kind];
        write(`${kind}-energy`, percent(energy[r], 1));
        write(`${kind}-need`, need.toFixed(layer === ALL ? 1 : 0));
        write(`${kind}-size`, percent(size, 0));
      }
      const at = U.around(data.ranks, r), measured = at.length === 1;
      const kept = ({ shares }) => at.map((k) => share(shares[k]) +
        (measured ? "" : ` at ${data.ranks[k]}`)).join(", ");
      columns.forEach(({ head, cells }, i) => {
        const found = gains[i], hidden = !found;
        [head.parentNode, ...cells, this.keys[i]].forEach((el) =>
          (el.hidden = hidden));
        if (hidden) return;
        const { words, losses } = found;
        head.textContent = words;
        this.keys[i].lastChild.textContent = `gain in loss, ${words}`;
        [losses[0].toFixed(3),
          measured ? losses[at[0]].toFixed(3) : "not measured",
          losses[losses.length - 1].toFixed(3), kept(found)]
          .forEach((text, k) => {
            const secret = k % 2;
            cells[k].replaceChildren(
              h("span", { class: secret ? "secret" : null }, text),
              secret ? h("span", { class: "veil" }, "?") : "");
          });
      });
      this.note.textContent = this.reading(facts, gains, at, kept);
      this.charts(facts, gains, asking);
      this.say(`Rank ${r}: ${percent(facts.update.energy[r], 1)} of the ` +
        "energy" + (asking ? "" : `; gain kept, ${gains.map((found) =>
          `${found.words}: ${kept(found)}`).join("; ")}`) + ".");
    }

    /* What the numbers say, whatever they are. */
    reading(facts, gains, at, kept) {
      const { data: { ranks, layers, few }, rank: r, most, layer } = this;
      const measured = at.length === 1, together = layer === ALL;
      const last = ranks.length - 1, whole = few.before - few.after;
      const own = (name) => few.before - layers[name].alone[last];
      const e = (kind) => share(facts[kind].energy[r]);
      const first = (r > 1 ? `The first ${r} of ${most} directions hold `
        : `The first of ${most} directions holds `) + `${e("update")} of the ` +
        `energy of ${together ? "the updates, on average" : "this update"}; ` +
        `of W₀ it is ${e("weight")}, of noise ${e("noise")}. `;
      const cut = measured ? `Cut to rank ${r}, ${together ? "they keep" :
        "it keeps"} ${kept(gains[0])} of ${together ? "their" : "its own"} ` +
        "gain" + (r < most && gains[0].shares[at[0]] >
          facts.update.energy[r] ? ", more than of the energy. " : ". ")
        : `At rank ${r} the loss was not measured. `;
      const sum = this.names.reduce((total, name) => total + own(name), 0);
      return first + (together ? `${cut}Added up, the gains of each by ` +
        `itself are ${(sum / whole).toFixed(1)} times the gain of all.`
        : `By itself, this update saves ${own(layer).toFixed(3)} bits per ` +
          `byte, ${percent(own(layer) / whole, 0)} of what all 24 save ` +
          `together. ${cut}Without it, the other 23 have ${
            share(gains[1].shares[0])} of the gain of all 24.`);
    }

    charts(facts, gains, asking) {
      const { data: { ranks }, rank, scale, layer } = this;
      const draw = (svg, options, description) => {
        const width = svg.clientWidth || 300;
        const { height, body } = U.chart({ width, ranks, rank, ...options });
        svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
        svg.setAttribute("aria-label", description);
        svg.innerHTML = body;
      };
      const pick = (read) => Object.fromEntries(Object.keys(U.KINDS).map(
        (kind) => [kind, read(facts[kind])]));
      const listed = (read) => Object.entries(U.KINDS).map(
        ([kind, { name }]) => `${name} ${read(facts[kind])}`).join(", ");
      const decades = scale === "norm" ? 3 : 4;
      this.leftTitle.textContent = "singular values" + (scale === "norm"
        ? " / norm" : "") + (layer === "all" ? ", rms of 24" : "");
      draw(this.left, {
        shaded: true, label: "direction", marks: [],
        lines: pick((f) => f[scale]),
        y: (v) => Math.min(1, Math.max(0, (Math.log10(v) + 3) / decades)),
        ticks: TICKS.slice(0, decades + 1),
      }, `${this.leftTitle.textContent}, number ${rank} of each: ${
        listed((f) => num(f[scale][rank - 1]))}`);
      draw(this.right, {
        label: "rank r", lines: pick((f) => f.energy.slice(1)),
        y: (v) => (v + 0.08) / 1.1, ticks: [0, 0.25, 0.5, 0.75, 1].map((v) =>
          [v, String(100 * v)]),
        marks: gains.flatMap(({ shape, shares }) => ranks.map((r, k) =>
          [shape, r, shares[k]]).slice(1)),
      }, `Energy in the first ${rank}: ${
        listed((f) => percent(f.energy[rank], 1))}` + (asking ? ""
        : gains.map(({ words, shares }) => `; gain kept, ${words}, at ranks ${
          ranks.slice(1).join(", ")}: ${shares.slice(1).map((x) =>
          share(x)).join(", ")}`).join("")));
    }
  }
  LR.define("lr-update-spectrum", UpdateSpectrum);
})();
