/* The formulas of lorabook/cost.py, to the last digit. `m` is an entry of the
   table of architectures, `names` are the maps with an adapter, and `rank` is
   null for full fine-tuning. */
(() => {
  "use strict";
  const sum = (list) => list.reduce((a, b) => a + b, 0);

  const C = (LR.cost = {
    linear: (m) => m.layers * sum(Object.values(m.linears).map(
      ([d, k]) => d * k)),
    parameters: (m) => C.linear(m) + m.other,
    most: (m, names) => Math.min(...names.flatMap((x) => m.linears[x])),
    adapter: (m, rank, names) => m.layers * sum(names.map((x) =>
      rank * (m.linears[x][0] + m.linears[x][1]))),
    weights(m, base, bytes) {
      if (base in bytes) return C.parameters(m) * bytes[base];
      const block = sum(Object.values(m.linears).map(([d, k]) => {
        if (base === "int8") return d * k + 4 * d;
        const scales = Math.ceil((d * k) / 64);
        return Math.ceil((d * k) / 2) + scales + 4 * Math.ceil(scales / 256);
      }));
      return m.layers * block + 2 * m.other;
    },
    statistics: (m) => ("gate" in m.linears ? 1 : 2),
    /* What one block saves for each token; activations are bf16. */
    block(m, rank, names, size) {
      const d = m.width, kv = m.linears.k[0], hidden = m.linears.up[0];
      const some = (list) => list.some((x) => names.includes(x));
      let numbers = 4 * d + 2 * kv + hidden * ("gate" in m.linears ? 3 : 1);
      const rest = 4 * (2 * C.statistics(m) + m.heads);
      if (rank !== null && size !== 2)
        return 2 * numbers + rest + size * sum(names.map((x) =>
          m.linears[x][1] + rank));
      if (some(["q", "k", "v"])) numbers += d;
      if (some(["gate", "up"])) numbers += d;
      if (some(["down"])) numbers += hidden;
      if (rank !== null) numbers += rank * names.length;
      return 2 * numbers + rest;
    },
    memory(m, set, known, lora) {
      const { base, trained, batch, sequence, checkpointing } = set;
      const names = lora ? set.names : Object.keys(m.linears);
      const rank = lora ? set.rank : null, tokens = batch * sequence;
      const n = lora ? C.adapter(m, rank, names) : C.parameters(m);
      const size = known.formats[trained], thin = 2 * m.width;
      const [remembered, each] = known.optimizers[set.optimizer];
      const block = C.block(m, rank, names, size);
      const end = thin + 4 * C.statistics(m) + (lora ? 0 : thin);
      const loss = m.decoder ? 12 * m.vocabulary : 0;
      const found = {
        weights: lora ? C.weights(m, base, known.formats)
          : n * size + (size > 2 ? 2 * C.linear(m) : 0),
        adapter: lora ? n * size : 0,
        gradients: n * size,
        optimizer: n * remembered * (each ?? size),
        activations: tokens * (m.layers * (checkpointing ? thin : block) +
          end),
        peak: tokens * Math.max(loss, checkpointing ? block - thin : 0),
      };
      return { ...found, total: sum(Object.values(found)) };
    },
    operations(m, rank, names, again) {
      const more = again ? 2 : 0, all = C.linear(m);
      return ((4 + more) * all + (6 + more) * C.adapter(m, rank, names)) /
        ((6 + more) * all);
    },
  });
})();
