/* <lr-lora-calculator model="llama-3-8b" rank="16">: what training needs, in
   full and with LoRA. cost.js has the formulas, calculator.js the words. */
(() => {
  "use strict";
  const { h, cost: C, grouped, calculator: W } = LR;
  const { SETTINGS, PARTS, MOMENTS, NUMBERS, giga } = W;
  const FIRST = { model: "llama-3-8b", rank: 16, targets: "all-linear" };
  const CHOICES = { base: "frozen base in", trained: "trained in",
    optimizer: "optimiser", loss: "logits at the loss",
    sharding: "on several GPUs" };
  const SWITCHES = { checkpointing: "gradient checkpointing",
    autocast: "autocast", dropout: "adapters drop out",
    prepared: "base prepared by PEFT (int8, nf4)",
    double_quantisation: "double quantisation (nf4)" };
  const GIB = 2 ** 30;

  class LoraCalculator extends LR.Explorable {
    static title = "What would it take to train your model?";
    static css = `
      .sliders{margin:.5rem 0}.wide{grid-column:2/4}
      .settings{display:grid;gap:.3rem .75rem;align-items:center;
        grid-template-columns:auto minmax(4rem,1fr)}
      svg[role]{display:block;width:100%;margin:0}
      p:has(+svg){margin:.3rem 0 0}
      svg text{font-size:13px;fill:var(--fg);paint-order:stroke;
        stroke:var(--bg);stroke-width:4px}
      svg path{stroke:none}
      svg .weights{fill:color-mix(in srgb,var(--fg) 58%,var(--bg))}
      svg .adapter{fill:var(--c3)}svg .gradients{fill:var(--c1)}
      svg .optimizer{fill:var(--c2)}
      svg .body{fill:none;stroke:var(--fg);stroke-width:1.2}
      svg .dash{stroke:var(--fg);stroke-width:1.2;stroke-dasharray:5 4}
      .keys{gap:.1rem .9rem}
      .key{display:inline;width:16px;height:11px;margin:0 .4rem 0 0}
      td{white-space:nowrap}tfoot th,tfoot td{font-weight:600}
      code{display:block;font-size:.85em;overflow-wrap:anywhere;
        padding:.5rem .75rem;background:var(--soft);border-radius:.25rem}
      @container (max-width:28rem){td,th{font-size:.85em;padding:.2rem .1rem}
        td{white-space:normal}}
      .bytes td{font-size:.8em}`;

    start() {
      return Promise.resolve(LR.load("architectures"))
        .then((known) => this.begin(known));
    }

    begin(known) {
      this.known = known;
      const models = Object.keys(known.models);
      const one = (name, words, usual) => this.option(name,
        LR.oneOf(...words), `one of ${words.join(", ")}`, usual);
      const model = one("model", models, FIRST.model);
      const group = one("targets", Object.keys(known.targets), FIRST.targets);
      this.set = { ...SETTINGS, model,
        base: one("base", known.bases, SETTINGS.base),
        names: W.group(known, model, group) };
      this.set.rank = Math.min(this.most(), this.option("rank",
        LR.whole(1, 16384), "a whole number from 1 to 16384", FIRST.rank));
      this.fit(this.set);
      this.unit = "GB";
      this.form(models);
      this.draw();
    }

    most(set = this.set) {
      return C.most(this.known.models[set.model], set.names);
    }

    /* Make a text no longer than the model's positions. */
    fit(set) {
      const { positions } = this.known.models[set.model];
      if (positions !== null)
        set.sequence = Math.min(set.sequence, positions);
    }

    form(models) {
      const { known } = this;
      const select = (id, words, last = "") => h("select", { id, class: last,
        onchange: (event) => this.change({ [id]: event.target.value }) },
      words.map((word) => h("option", { value: word }, word)));
      const name = (id, words) => h("label", { for: id, class: "name" },
        words);
      const words = { base: known.bases, trained: Object.keys(known.formats),
        optimizer: Object.keys(known.optimizers), loss: known.losses,
        sharding: known.shardings };
      this.slider = LR.slider("rank", "rank r", { min: 0, step: 0.5 },
        (e) => this.change({ rank: Math.min(this.most(),
          Math.round(2 ** e)) }), { label: "r as a number",
          change: (rank) => this.change({ rank }) });
      this.bars = ["full", "lora"].map(() => h("svg", { role: "img" }));
      new ResizeObserver(() => this.draw()).observe(this.bars[0]);
      this.maps = h("fieldset", { class: "controls" });
      this.code = h("code", { id: "code" });
      this.levers = h("tbody");
      this.figure.append(
        LR.guess(this.ask(), 0, 10000, (x) => this.reveal(x)),
        h("div", { class: "sliders controls" }, name("model", "model"),
          select("model", models, "wide"), this.slider.row),
        h("p", {}, "full fine-tuning, ", h("span", { id: "full" })),
        this.bars[0],
        h("p", {}, "LoRA, ", LR.secret("lora")), this.bars[1],
        h("div", { class: "row keys" }, Object.entries(PARTS).map(
          ([part, words]) => h("span", {}, this.key(part), words))),
        h("p", { class: "note" }, h("span", { class: "secret", id: "note" }),
          h("span", { class: "veil" },
            "What LoRA takes comes after your guess.")),
        LR.more(
          h("div", { class: "settings controls" },
            Object.entries(CHOICES).map(([id, text]) =>
              [name(id, text), select(id, words[id])]),
            Object.entries(NUMBERS).map(([id, [text]]) => [name(id, text),
              h("input", { type: "number", id, min: 1, step: 1,
                onchange: (event) =>
                  this.change({ [id]: event.target.valueAsNumber }) })])),
          this.maps,
          h("div", { class: "row controls" }, Object.keys(known.targets).map(
            (group) => LR.button(group, () => this.change(
              { names: W.group(known, this.set.model, group) }, true)))),
          h("div", { class: "row controls" }, Object.entries(SWITCHES).map(
            ([id, text]) => h("label", { class: "option" },
              h("input", { type: "checkbox", id, onchange: (event) =>
                this.change({ [id]: event.target.checked }) }), text))),
          LR.radios("unit", "Show", { GB: "GB (10⁹ bytes)", bytes: "bytes" },
            (event) => {
              this.unit = event.target.value;
              this.draw();
            }),
          this.memoryTable(), LR.table("The adapter", {
            parameters: "numbers in the model", count: "numbers in A and B",
            share: "their share", file: "as a file, fp32",
            work: "products of a step, of full fine-tuning's" }),
          h("p", { class: "name" }, "One change, and LoRA's peak moves by"),
          h("table", {}, h("caption", { class: "hidden" },
            "What one change does"), this.levers),
          h("p", {}, "The same in Python:"), this.code));
    }

    ask() {
      const { full } = W.peaks(this.known, this.asked());
      return `To train all of ${FIRST.model} takes ${giga(full.total, 0)} ` +
        `GB. How many GB does LoRA take, at r = ${FIRST.rank} on all its ` +
        "linear maps?";
    }

    asked() {
      return { ...SETTINGS, ...FIRST,
        names: W.group(this.known, FIRST.model, FIRST.targets) };
    }

    reveal(guess) {
      const set = this.asked();
      this.change(set, true);
      const gb = (change, part = "total") =>
        giga(W.peaks(this.known, { ...set, ...change }).lora[part], 1);
      const said = guess === null ? "" : `You said ${guess}. `;
      return `${said}It is ${gb({})}, and ${gb({}, "weights")} of them are ` +
        `the frozen weights. With r = 64 it would be ${gb({ rank: 64 })}, ` +
        `with a base in NF4 ${gb({ base: "nf4" })}.`;
    }

    memoryTable() {
      const row = (id, words, sign) => h("tr", {},
        h("th", { scope: "row" }, sign, words), h("td", { id: `full-${id}` }),
        h("td", {}, LR.secret(`lora-${id}`)));
      return (this.table = h("table", {},
        h("caption", { class: "hidden" }, "Memory at the peak, by its parts"),
        h("thead", {}, h("tr", {}, h("th", { scope: "col", id: "unit" }),
          h("th", { scope: "col" }, "full"),
          h("th", { scope: "col" }, "LoRA"))),
        h("tbody", {}, Object.entries(PARTS).map(([part, words]) =>
          row(part, words, this.key(part)))),
        h("tfoot", {}, row("total", "the peak"),
          row("moment", "at the moment of"),
          row("card", "smallest card, GiB"))));
    }

    /* A sample of how a part is drawn. */
    key(part) {
      const svg = h("svg", { class: "key", viewBox: "0 0 16 11",
        "aria-hidden": "true" });
      svg.innerHTML = this.box(part, 0.6, 0.6, 14.8, 9.8);
      return svg;
    }

    box(part, x, y, w, t) {
      const d = `M${x} ${y}h${w}v${t}h${-w}Z`;
      const lines = { copies: "cross", activations: "slant",
        temporary: "level" }[part];
      if (!lines) return `<path class="bar ${part}" d="${d}"/>`;
      let hatch = d;
      if (lines === "level")
        for (let s = 3; s < t; s += 3) hatch += `M${x} ${y + s}h${w}`;
      if (lines === "cross")
        for (let s = 4; s < w; s += 4) hatch += `M${x + s} ${y}v${t}`;
      if (lines === "slant")
        for (let s = 4; s < w + t; s += 5) {
          const x0 = Math.max(0, s - t), x1 = Math.min(w, s);
          hatch += `M${x + x0} ${y + s - x0}L${x + x1} ${y + s - x1}`;
        }
      return `<path class="body" d="${hatch}"/>`;
    }

    /* Take new settings if they fit, and else say what would. With `clamp`
       a rank that is too large becomes the largest. */
    change(values, clamp = false) {
      const { known } = this, next = { ...this.set, ...values };
      if (values.model && !values.names) {
        clamp = true;
        // A group stays a group: another model may have more maps in it.
        const had = W.groupOf(known, this.set.model, this.set.names);
        const has = known.models[next.model].linears;
        next.names = had ? W.group(known, next.model, had)
          : next.names.filter((x) => x in has);
        if (!next.names.length) next.names = Object.keys(has);
      }
      if (clamp) this.fit(next);
      if (clamp && next.names.length)
        next.rank = Math.min(next.rank, this.most(next));
      const mistake = W.mistake(known, next);
      this.complain(mistake ?? "");
      if (!mistake) this.set = next;
      this.draw();
    }

    draw() {
      const { set, known } = this, m = known.models[set.model];
      for (const id of ["model", ...Object.keys(CHOICES),
        ...Object.keys(NUMBERS)]) this.at(id).value = set[id];
      for (const id in SWITCHES) this.at(id).checked = set[id];
      this.slider.input.max = Math.log2(this.most());
      this.slider.show(Math.log2(set.rank), `r = ${set.rank}`, set.rank);
      const maps = Object.keys(m.linears);
      if (this.shown !== set.model) {
        this.shown = set.model;
        this.maps.replaceChildren(h("legend", {}, "adapters on"),
          ...maps.map((name) => h("label", { class: "option" },
            h("input", { type: "checkbox", name, onchange: () => this.change({
              names: maps.filter((x) => this.maps.querySelector(
                `[name=${x}]`).checked) }, true) }), name)));
      }
      for (const name of maps)
        this.maps.querySelector(`[name=${name}]`).checked =
          set.names.includes(name);

      const inBytes = this.unit === "bytes";
      this.table.classList.toggle("bytes", inBytes);
      this.write({ ...W.texts(known, set, inBytes ? grouped
        : (x) => giga(x)), unit: this.unit, code: W.python(known, set) });
      this.levers.replaceChildren(...W.changes(known, set).map(
        ([words, by]) => h("tr", {}, h("th", { scope: "row" }, words),
          h("td", {}, h("span", { class: "secret" },
            `${by < 0 ? "−" : "+"}${giga(Math.abs(by))} GB`),
          h("span", { class: "veil" }, "?")))));
      const { full, lora } = W.peaks(known, set);
      const most = Object.keys(PARTS).reduce((a, b) =>
        lora[a] >= lora[b] ? a : b);
      const part = LR.percent(lora[most] / lora.total, 0);
      this.write({ note: `LoRA's peak comes with ${MOMENTS[lora.moment]}. ` +
        `The largest part of it is ${{ weights: "the frozen weights",
          optimizer: "what the optimiser remembers",
          temporary: "what is held for this moment",
        }[most] ?? `the ${PARTS[most]}`}, ${part}.${
          lora.total > full.total ? " LoRA needs more than full fine-tuning."
            : ""}` });
      this.paint(full, lora);
      this.say(this.asking ? `Full fine-tuning ${giga(full.total)} gigabytes.`
        : `Full fine-tuning ${giga(full.total)} gigabytes, LoRA ${
          giga(lora.total)}; the largest part is ${part}.`);
    }

    paint(full, lora) {
      const room = this.bars[0].clientWidth || 480, tall = 26;
      const scale = (room - 2) / Math.max(full.total, lora.total);
      // Cards that the picture has room for, the largest first.
      const cards = [];
      for (const card of [...this.known.cards].reverse()) {
        const x = 1 + card * GIB * scale, right = cards[0]?.[1] ?? room + 34;
        if (x >= 26 && x <= right - 60) cards.unshift([card, x]);
      }
      for (const [k, found] of [full, lora].entries()) {
        const name = ["full", "lora"][k], low = tall + (k ? 20 : 2);
        const said = `${giga(found.total, found.total < 1e8 ? 3 : 1)} GB`;
        let x = 1, bar = "";
        for (const part in PARTS) {
          const w = found[part] * scale;
          if (w >= 0.3) bar += this.box(part, x, 1, Math.max(0.3, w - 1),
            tall);
          x += w;
        }
        const marks = cards.map(([card, x]) => `<path class="dash" d="M${
          x} 0V${tall + 2}"/>` + (k ? `<text x="${x}" y="${
          tall + 16}" text-anchor="middle">${card} GiB</text>` : ""));
        const svg = this.bars[k];
        svg.setAttribute("viewBox", `0 0 ${room} ${low}`);
        svg.innerHTML = (k ? `<g class="secret">${bar}</g>` : bar) +
          marks.join("");
        svg.setAttribute("aria-label", k && this.asking ? "A bar, hidden"
          : `A bar, ${said}: ${Object.entries(PARTS).map(([part, words]) =>
            `${words} ${giga(found[part])}`).join(", ")}`);
        this.write({ [name]: said });
      }
    }
  }
  LR.define("lr-lora-calculator", LoraCalculator);
})();
