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
    activations(m, { batch, sequence, checkpointing }, rank, names) {
      const d = m.width, kv = m.linears.k[0], hidden = m.linears.up[0];
      const gated = "gate" in m.linears, norms = gated ? 1 : 2;
      const some = (list) => list.some((x) => names.includes(x));
      let numbers = 4 * d + 2 * kv + hidden * (gated ? 3 : 1);
      if (some(["q", "k", "v"])) numbers += d;
      if (some(["gate", "up"])) numbers += d;
      if (some(["down"])) numbers += hidden;
      if (rank !== null) numbers += rank * names.length;
      const block = 2 * numbers + 4 * (2 * norms + m.heads);
      const end = 2 * d + 4 * norms + 4 * m.vocabulary +
        (rank === null ? 2 * d : 0);
      const blocks = checkpointing
        ? m.layers * 2 * d + block - 2 * d : m.layers * block;
      return batch * sequence * (blocks + end);
    },
    memory(m, set, known, lora) {
      const { rank, base, trained, optimizer } = set;
      const names = lora ? set.names : Object.keys(m.linears);
      const n = lora ? C.adapter(m, rank, names) : C.parameters(m);
      const size = known.formats[trained];
      const found = {
        weights: lora ? C.weights(m, base, known.formats) : n * size,
        adapter: lora ? n * size : 0,
        gradients: n * size,
        optimizer: n * known.optimizers[optimizer],
        activations: C.activations(m, set, lora ? rank : null, names),
      };
      return { ...found, total: sum(Object.values(found)) };
    },
    operations: (m, rank, names) =>
      (4 * C.linear(m) + 6 * C.adapter(m, rank, names)) / (6 * C.linear(m)),
  });
})();
