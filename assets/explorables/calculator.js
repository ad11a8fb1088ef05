/* What the calculator says: settings, mistakes, numbers as text. It needs no
   document. */
(() => {
  "use strict";
  const { cost: C, grouped } = LR;
  /* The defaults of cost.training_memory. */
  const SETTINGS = { base: "bf16", trained: "fp32", autocast: true,
    dropout: false, optimizer: "adamw", loss: "freed", batch: 1,
    sequence: 1024, checkpointing: true, accumulation: 1, prepared: true,
    double_quantisation: false, gpus: 1, sharding: "ddp" };
  const PARTS = { weights: "weights", copies: "copies", adapter: "adapter",
    gradients: "gradients", optimizer: "optimiser",
    activations: "activations", temporary: "for a moment" };
  const MOMENTS = { loss: "the loss", backward: "the backward pass",
    step: "the optimiser's step" };
  const NUMBERS = { batch: ["texts in a batch", 512],
    sequence: ["tokens of each", 131072],
    accumulation: ["batches for a step", 1024], gpus: ["GPUs", 1024] };
  const fixed = (x, digits) => x.toLocaleString("en",
    { minimumFractionDigits: digits, maximumFractionDigits: digits });
  const giga = (x, digits = 3) => fixed(x / 1e9, digits);
  const equal = (a, b) => a.length === b.length &&
    a.every((x) => b.includes(x));

  const W = (LR.calculator = { SETTINGS, PARTS, MOMENTS, NUMBERS, fixed, giga,
    /* The maps of a group that a model has. */
    group: (known, model, name) => known.targets[name].filter((x) =>
      x in known.models[model].linears),
    groupOf: (known, model, names) => Object.keys(known.targets).find((g) =>
      equal(W.group(known, model, g), names)),
    /* The call of the package that gives the same; defaults are left out. */
    python(known, set) {
      const said = Object.entries(SETTINGS).flatMap(([name, usual]) => {
        const x = set[name];
        if (x === usual) return [];
        const text = typeof x === "string" ? `"${x}"`
          : x === true ? "True" : x === false ? "False" : x;
        return [`, ${name}=${text}`];
      });
      const group = W.groupOf(known, set.model, set.names) ??
        set.names.join();
      return `cost.training_memory("${set.model}", ${set.rank}, "${group}"${
        said.join("")})`;
    },
    peaks(known, set) {
      const m = known.models[set.model];
      return { full: C.peak(m, null, set.names, set),
        lora: C.peak(m, set.rank, set.names, set) };
    },
    /* All texts of the two tables, by id; `write` turns bytes into text. */
    texts(known, set, write) {
      const m = known.models[set.model], found = W.peaks(known, set);
      const text = {};
      for (const [column, peak] of Object.entries(found)) {
        for (const part of [...Object.keys(PARTS), "total"])
          text[`${column}-${part}`] = write(peak[part]);
        text[`${column}-moment`] = MOMENTS[peak.moment];
        text[`${column}-card`] = `${C.card(peak.total) ?? "several"}`;
      }
      const n = C.adapter(m, set.rank, set.names), all = C.parameters(m);
      const work = [set.rank, null].map((r) =>
        C.flops(m, r, set.names, set.checkpointing, set.sequence));
      return { ...text, parameters: grouped(all), count: grouped(n),
        share: LR.percent(n / all, 3), file: `${fixed(4 * n / 1e6, 1)} MB`,
        work: LR.percent(work[0] / work[1], 1) };
    },
    /* Single changes: words, and by how many bytes they move LoRA's peak. */
    changes(known, set) {
      const m = known.models[set.model];
      const of = (s) => C.peak(m, s.rank, s.names, s).total;
      const found = [];
      const add = (words, change) => found.push([words,
        of({ ...set, ...change }) - of(set)]);
      if (2 * set.rank <= C.most(m, set.names))
        add("double r", { rank: 2 * set.rank });
      for (const base of ["nf4", "bf16"])
        if (set.base !== base) add(`a base in ${base}`, { base });
      if (set.optimizer !== "adamw-8bit")
        add("Adam's memory in 8 bits", { optimizer: "adamw-8bit" });
      if (2 * set.sequence <= NUMBERS.sequence[1] &&
        !(2 * set.sequence > m.positions && m.positions !== null))
        add("texts twice as long", { sequence: 2 * set.sequence });
      if (set.loss !== "fused") add("a fused loss", { loss: "fused" });
      add(set.checkpointing ? "keep all activations"
        : "gradient checkpointing", { checkpointing: !set.checkpointing });
      return found;
    },
    /* What is wrong with settings, in one sentence, or nothing. */
    mistake(known, set) {
      const m = known.models[set.model];
      const whole = (x, high) => Number.isInteger(x) && x >= 1 && x <= high;
      if (!set.names.length) return "At least one map must have an adapter.";
      const most = C.most(m, set.names);
      if (!whole(set.rank, most))
        return `r must be a whole number from 1 to ${most} for these maps.`;
      for (const [name, [words, high]] of Object.entries(NUMBERS))
        if (!whole(set[name], high))
          return `"${words}" must be a whole number from 1 to ${
            grouped(high)}.`;
      if (m.positions !== null && set.sequence > m.positions)
        return `${set.model} has learned ${grouped(m.positions)} positions ` +
          `and takes no text of ${grouped(set.sequence)} tokens.`;
    },
  });
})();
