/* <lr-lora-calculator model="llama-3-8b" rank="16">: what training needs, in
   full and with LoRA. cost.js has the formulas. */
(() => {
  "use strict";
  const { h, cost: C } = LR;
  const DEFAULT = { model: "llama-3-8b", rank: 16, targets: "all-linear",
    base: "bf16", trained: "fp32", optimizer: "adamw", batch: 1,
    sequence: 1024, checkpointing: true };
  const PARTS = { weights: "weights", adapter: "adapter",
    gradients: "gradients", optimizer: "optimiser",
    activations: "activations" };
  const LIMITS = { batch: 512, sequence: 131072 };
  const CARDS = [24, 80];
  const count = (x) => x.toLocaleString("en");
  const fixed = (x, digits) => x.toLocaleString("en",
    { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const giga = (x, digits = 3) => fixed(x / 1e9, digits);
  const equal = (a, b) => a.length === b.length &&
    a.every((x) => b.includes(x));

  class LoraCalculator extends LR.Explorable {
    static title = "What would it take to train your model?";
    static css = `
      .settings{display:grid;gap:.35rem .75rem;align-items:center;
        grid-template-columns:auto minmax(4rem,1fr) auto;margin:.75rem 0}
      .settings [type=range]{min-width:0}
      .wide{grid-column:2/4}
      svg{display:block;width:100%;margin:.5rem 0}
      svg text{font-size:13px;fill:var(--fg);paint-order:stroke;
        stroke:var(--bg);stroke-width:4px}
      svg path{stroke:none}
      svg .weights{fill:color-mix(in srgb,var(--fg) 58%,var(--bg))}
      svg .adapter{fill:var(--c3)}svg .gradients{fill:var(--c1)}
      svg .optimizer{fill:var(--c2)}
      svg .body{fill:none;stroke:var(--fg);stroke-width:1.2}
      svg .dash{stroke:var(--fg);stroke-width:1.2;stroke-dasharray:5 4}
      .key{display:inline;width:16px;height:11px;margin:0 .4rem 0 0}
      td{white-space:nowrap}tfoot th,tfoot td{font-weight:600}
      code{display:block;font-size:.85em;overflow-wrap:anywhere;
        padding:.5rem .75rem;background:var(--soft);border-radius:.25rem}
      table+p{margin:1rem 0 .25rem}
      @container (max-width:24rem){td,th{font-size:.9em;padding:.2rem}}
      .bytes td{font-size:.85em}.note{min-height:3em}`;

    async start() {
      this.known = await LR.load("architectures");
      const models = Object.keys(this.known.models);
      const one = (name, words) => this.option(name, LR.oneOf(...words),
        `one of ${words.join(", ")}`, DEFAULT[name]);
      this.set = { ...DEFAULT, model: one("model", models),
        base: one("base", this.known.bases) };
      this.set.names = this.group(one("targets",
        Object.keys(this.known.targets)));
      this.set.rank = this.option("rank", LR.whole(1, 16384),
        "a whole number from 1 to 16384", DEFAULT.rank);
      this.set.rank = Math.min(this.set.rank, this.most());
      this.unit = "GB";
      this.form(models);
      this.draw();
    }

    /* The maps of a group that this model has. */
    group(name, model = this.set.model) {
      return this.known.targets[name].filter((x) =>
        x in this.known.models[model].linears);
    }

    most(set = this.set) {
      return C.most(this.known.models[set.model], set.names);
    }

    form(models) {
      const { known } = this;
      const choice = (id, words) => h("select", { id, onchange: (event) =>
        this.change({ [id]: event.target.value }) },
      words.map((word) => h("option", { value: word }, word)));
      const typed = (id, label) => h("input", { type: "number", id, min: 1,
        step: 1, "aria-label": label, onchange: (event) =>
          this.change({ [id]: event.target.valueAsNumber }) });
      const line = (id, words, ...parts) => [
        h("label", { for: id, class: "name" }, words), ...parts];
      const last = (el) => (el.classList.add("wide"), el);
      this.slider = h("input", { type: "range", id: "slide", min: 0, step: 0.5,
        oninput: () => this.change({ rank: Math.min(this.most(),
          Math.round(2 ** +this.slider.value)) }) });
      this.maps = h("fieldset", { class: "controls" });
      this.bars = h("svg", { role: "img" });
      new ResizeObserver(() => this.draw()).observe(this.bars);
      this.code = h("code", { id: "code" });
      this.note = h("p", { class: "note", id: "note" });
      const row = (id, words) => h("tr", {},
        h("th", { scope: "row" }, words), h("td", { id }));
      this.table = h("table", {},
        h("caption", { class: "hidden" }, "Memory of training, by its parts"),
        h("thead", {}, h("tr", {}, h("th", { scope: "col", id: "unit" }),
          h("th", { scope: "col" }, "full"),
          h("th", { scope: "col" }, "LoRA"))),
        h("tbody", {}, Object.entries(PARTS).map(([part, words]) =>
          h("tr", {}, h("th", { scope: "row" }, this.key(part), words),
            h("td", { id: `full-${part}` }), h("td", { id: `lora-${part}` })))),
        h("tfoot", {}, h("tr", {}, h("th", { scope: "row" }, "total"),
          h("td", { id: "full-total" }), h("td", { id: "lora-total" }))));
      this.levers = h("tbody");
      this.figure.append(
        LR.guess("To train all of llama-3-8b takes 129 GB, with the settings " +
          "below. How many GB does LoRA take, at r = 16 on all its linear " +
          "maps?", 0, 1000, (x) => this.reveal(x)),
        h("div", { class: "settings controls" },
          line("model", "model", last(choice("model", models))),
          line("slide", "rank r", this.slider,
            typed("rank", "r as a number")),
          line("base", "frozen base in", last(choice("base", known.bases))),
          line("trained", "trained in", last(choice("trained",
            Object.keys(known.formats)))),
          line("optimizer", "optimiser", last(choice("optimizer",
            Object.keys(known.optimizers)))),
          line("batch", "texts in a batch", last(typed("batch",
            "texts in a batch"))),
          line("sequence", "tokens of each", last(typed("sequence",
            "tokens of each")))),
        this.maps,
        h("div", { class: "row controls" }, Object.keys(known.targets).map(
          (name) => LR.button(name, () =>
            this.change({ names: this.group(name) }, true))),
        h("label", { class: "option" }, h("input", { type: "checkbox",
          id: "checkpointing", onchange: (event) =>
            this.change({ checkpointing: event.target.checked }) }),
        "gradient checkpointing")),
        this.bars,
        LR.radios("unit", "Show", { GB: "GB (10⁹ bytes)", bytes: "bytes" },
          (event) => {
            this.unit = event.target.value;
            this.draw();
          }),
        this.table,
        h("p", { class: "name" }, "The adapter"),
        h("table", {}, h("caption", { class: "hidden" }, "The adapter"),
          h("tbody", {}, row("parameters", "numbers in the model"),
            row("count", "numbers in A and B"), row("share", "their share"),
            row("file", "as a file, 16 bits"),
            row("work", "operations of a step, of full fine-tuning's"))),
        h("p", { class: "name" }, "One change, and LoRA's total moves by"),
        h("table", {}, h("caption", { class: "hidden" },
          "What one change does"), this.levers),
        this.note, h("p", {}, "The same in Python:"), this.code);
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
      if (part !== "activations")
        return `<path class="bar ${part}" d="${d}"/>`;
      let hatch = d;
      for (let s = 4; s < w + t; s += 5) {
        const x0 = Math.max(0, s - t), x1 = Math.min(w, s);
        hatch += `M${x + x0} ${y + s - x0}L${x + x1} ${y + s - x1}`;
      }
      return `<path class="body" d="${hatch}"/>`;
    }

    /* Take new settings if they fit, and else say what would. */
    change(values, clamp = false) {
      const next = { ...this.set, ...values };
      const whole = (x, low, high) =>
        Number.isInteger(x) && x >= low && x <= high;
      if (values.model && !values.names) {
        clamp = true;
        // A group stays a group: another model may have more maps in it.
        const had = Object.keys(this.known.targets).find((name) =>
          equal(this.group(name), this.set.names));
        const has = this.known.models[next.model].linears;
        next.names = had ? this.group(had, next.model)
          : next.names.filter((x) => x in has);
        if (!next.names.length) next.names = Object.keys(has);
      }
      if (!next.names.length)
        return this.refuse("At least one map must have an adapter.");
      const most = this.most(next);
      if ("rank" in values && !clamp && !whole(next.rank, 1, most))
        return this.refuse(
          `r must be a whole number from 1 to ${most} for these maps.`);
      next.rank = Math.min(next.rank, most);
      for (const [name, words] of [["batch", "The texts in a batch"],
        ["sequence", "The tokens of a text"]])
        if (!whole(next[name], 1, LIMITS[name]))
          return this.refuse(`${words} must be a whole number from 1 to ${
            count(LIMITS[name])}.`);
      this.complain("");
      this.set = next;
      this.draw();
    }

    refuse(sentence) {
      this.complain(sentence);
      this.draw();
    }

    reveal(guess) {
      this.change({ ...DEFAULT,
        names: this.group(DEFAULT.targets, DEFAULT.model) });
      const gb = (change, part = "total") =>
        giga(this.lora({ ...this.set, ...change })[part], 1);
      const said = guess === null ? "" : `You said ${guess}. `;
      return `${said}It is ${gb({})}, and ${gb({}, "weights")} of them are ` +
        `the frozen weights. With r = 64 it would be ${gb({ rank: 64 })}, ` +
        `with a base in NF4 ${gb({ base: "nf4" })}.`;
    }

    lora(set) {
      return C.memory(this.known.models[set.model], set, this.known, true);
    }

    /* Change one setting: words, and the settings that result. */
    changes() {
      const { set } = this, found = [];
      const add = (words, change) => found.push([words,
        { ...set, ...change }]);
      if (2 * set.rank <= this.most()) add("double r", { rank: 2 * set.rank });
      for (const base of ["nf4", "bf16"])
        if (set.base !== base) add(`a base in ${base}`, { base });
      if (set.optimizer !== "adamw-8bit")
        add("Adam's memory in 8 bits", { optimizer: "adamw-8bit" });
      if (2 * set.sequence <= LIMITS.sequence)
        add("texts twice as long", { sequence: 2 * set.sequence });
      add(set.checkpointing ? "keep all activations"
        : "gradient checkpointing", { checkpointing: !set.checkpointing });
      return found;
    }

    draw() {
      const { set, known, shadowRoot } = this;
      const at = (id) => shadowRoot.getElementById(id);
      const m = known.models[set.model];
      for (const el of shadowRoot.querySelectorAll("select, [type=number]"))
        if (el.id in set) el.value = set[el.id];
      at("checkpointing").checked = set.checkpointing;
      this.slider.max = Math.log2(this.most());
      this.slider.value = Math.log2(set.rank);
      this.slider.setAttribute("aria-valuetext", `r = ${set.rank}`);
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

      const full = C.memory(m, set, known, false), lora = this.lora(set);
      const write = this.unit === "GB" ? (x) => giga(x) : count;
      this.table.classList.toggle("bytes", this.unit === "bytes");
      const text = { unit: this.unit };
      for (const part of [...Object.keys(PARTS), "total"]) {
        text[`lora-${part}`] = write(lora[part]);
        text[`full-${part}`] = write(full[part]);
      }
      const n = C.adapter(m, set.rank, set.names), all = C.parameters(m);
      text.parameters = count(all);
      text.count = count(n);
      text.share = LR.percent(n / all, 3);
      text.file = `${fixed(2 * n / 1e6, 1)} MB`;
      text.work = LR.percent(C.operations(m, set.rank, set.names), 1);
      const targets = Object.keys(known.targets).find((name) =>
        equal(this.group(name), set.names)) ?? set.names.join();
      text.code = `cost.training_memory("${set.model}", ${set.rank}, "${
        targets}", base="${set.base}", trained="${set.trained}", optimizer="${
        set.optimizer}", batch=${set.batch}, sequence=${
        set.sequence}, checkpointing=${
        set.checkpointing ? "True" : "False"})`;
      for (const id in text) at(id).textContent = text[id];

      this.levers.replaceChildren(...this.changes().map(([words, next]) => {
        const by = this.lora(next).total - lora.total;
        return h("tr", {}, h("th", { scope: "row" }, words), h("td", {},
          `${by < 0 ? "−" : "+"}${giga(Math.abs(by))} GB`));
      }));
      this.paint(full, lora);
      const most = Object.keys(PARTS).reduce((a, b) =>
        lora[a] >= lora[b] ? a : b);
      const part = LR.percent(lora[most] / lora.total, 0);
      this.note.textContent = `The largest part of LoRA's memory is ${
        { weights: "the frozen weights", optimizer: "what the optimiser " +
          "remembers" }[most] ?? `the ${PARTS[most]}`}, ${part}. ` +
        (lora.total > full.total ? "LoRA needs more than full fine-tuning. "
          : "") + "Take all this as a lower bound: buffers of the framework " +
        "and of its kernels come on top.";
      this.say(`Full fine-tuning ${giga(full.total)} gigabytes, LoRA ${
        giga(lora.total)}; the largest part is ${part}.`);
    }

    paint(full, lora) {
      const room = this.bars.clientWidth || 480, tall = 26;
      const scale = (room - 2) / Math.max(full.total, lora.total);
      let body = "", words = "";
      for (const [k, [name, found]] of [["full fine-tuning", full],
        ["LoRA", lora]].entries()) {
        const y = 20 + k * (tall + 30);
        let x = 1;
        words += `<text x="0" y="${y - 6}">${name}, ${
          giga(found.total, found.total < 1e8 ? 3 : 1)} GB</text>`;
        for (const part in PARTS) {
          const w = found[part] * scale;
          if (w >= 0.3) body += this.box(part, x, y, Math.max(0.3, w - 1),
            tall);
          x += w;
        }
      }
      const low = 20 + 2 * tall + 30;
      for (const card of CARDS) {
        const x = 1 + card * 1e9 * scale;
        if (x > 24 && x < room - 24)
          body += `<path class="dash" d="M${x} 20V${low + 4}"/><text x="${
            x}" y="${low + 18}" text-anchor="middle">${card} GB</text>`;
      }
      this.bars.setAttribute("viewBox", `0 0 ${room} ${low + 22}`);
      this.bars.innerHTML = body + words;
      this.bars.setAttribute("aria-label", `Two bars. Full fine-tuning ${
        giga(full.total)} GB, LoRA ${giga(lora.total)} GB: ${
        Object.entries(PARTS).map(([part, words]) =>
          `${words} ${giga(lora[part])}`).join(", ")}`);
    }
  }
  LR.define("lr-lora-calculator", LoraCalculator);
})();
