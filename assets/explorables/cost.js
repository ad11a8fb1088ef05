/* The formulas of lorabook/cost.py, to the last digit and under its names,
   where their reasons stand. `m` is an architecture, `names` are the maps with
   an adapter, `r` is null for full fine-tuning, and `set` has the settings. */
(() => {
  "use strict";
  const sum = (list) => list.reduce((a, b) => a + b, 0);
  const product = ([m, n]) => m * n;
  const largest = (list) => list.reduce((a, b) =>
    b.total > a.total ? b : a);
  const all = (m) => Object.keys(m.linears);
  const bytes = () => LR.data.architectures.formats;
  const reads = (name) => LR.data.architectures.reads[name];

  const C = (LR.cost = {
    linear: (m) => m.layers * sum(Object.values(m.linears).map(product)),
    head: (m) => m.decoder ? m.vocabulary * m.width : 0,
    parameters: (m) => C.linear(m) + m.other,
    /* Shapes, by the name of the first map of each. */
    maps(m, names) {
      const found = {};
      for (const name of names) {
        const group = m.fused.find((g) => g.includes(name)) ?? [];
        const [outputs, inputs] = m.linears[name];
        if (!group.length || !group.every((x) => names.includes(x)))
          found[name] = [outputs, inputs];
        else if (name === group[0])
          found[name] = [sum(group.map((x) => m.linears[x][0])), inputs];
      }
      return found;
    },
    most: (m, names) => Math.min(...Object.values(C.maps(m, names)).flat()),
    adapter: (m, r, names) =>
      m.layers * sum(Object.values(C.maps(m, names)).map((shape) =>
        r * sum(shape))),
    weights(m, base, twice, rest) {
      if (base in bytes()) return C.parameters(m) * bytes()[base];
      const block = sum(Object.values(m.linears).map(([d, k]) => {
        if (base === "int8") return d * k + 4 * d;
        const scales = Math.ceil((d * k) / 64);
        return Math.ceil((d * k) / 2) +
          (twice ? scales + 4 * Math.ceil(scales / 256) : 4 * scales);
      }));
      return m.layers * block + rest * m.other;
    },

    /* Bytes of a number in a block's tensors. */
    block(set, r) {
      const factor = bytes()[set.trained];
      const quantised = r === null || set.base in bytes() ? "" : set.base;
      const residual = r === null ? factor
        : quantised ? (set.prepared ? 4 : 2) : bytes()[set.base];
      const compute = set.autocast ? 2 : residual;
      return { residual, compute, wide: quantised ? residual : compute,
        factor: r === null ? null : factor, autocast: set.autocast,
        dropout: set.dropout && r !== null, quantised };
    },
    rotated: (m) => m.positions === null &&
      m.fused.some((g) => g.join() === "q,k,v"),
    norm(m, r, f) {
      const d = m.width;
      if (m.norm === "layer") return (f.autocast ? 4 : f.residual) * d + 8;
      return 4 * d + 4 +
        (r === null ? (m.norm === "gemma" ? 4 : f.residual) * d : 0);
    },
    /* Of an input: the bytes of a number as copied, or 0, and as it is. */
    copied(m, source, f) {
      let taken = source === "product" ? f.wide : f.compute;
      if (source.startsWith("norm"))
        taken = m.norm === "layer" && f.autocast ? 4 : f.residual;
      if (f.factor === null)
        return [f.autocast && taken === 4 ? 2 : 0, taken];
      const computed = f.autocast ? 2 : f.factor;
      const back = f.autocast && f.factor === 4 && !f.quantised;
      return [f.dropout || taken !== computed || back ? computed : 0, taken];
    },
    inputs(m, r, names, f) {
      let kept = 0;
      const shared = {};
      if (f.quantised === "int8") {
        for (const name of all(m))
          shared[reads(name)] = C.copied(m, reads(name), f)[1] *
            m.linears[name][1];
        shared.attention = 0;
      }
      for (const [name, [, n]] of Object.entries(C.maps(m, names))) {
        const [own, taken] = C.copied(m, reads(name), f);
        if (r !== null)
          kept += r * (f.autocast ? 2 : f.factor) + (f.dropout ? n : 0);
        if (own) kept += own * n;
        else if (reads(name) !== "attention" || C.rotated(m))
          shared[reads(name)] = taken * n;
      }
      return kept + sum(Object.values(shared));
    },
    saved(m, r, names, f) {
      const d = m.width, [q] = m.linears.q, [k] = m.linears.k;
      const [hidden] = m.linears.up;
      let attention = f.compute * (2 * q + 2 * k) + 4 * m.heads;
      if (C.rotated(m)) attention += f.compute * (q + k);
      if (m.head_norms)
        attention += 4 * (q + k) + Math.floor(4 * (q + k) * m.heads / q) +
          (r === null ? f.compute * (q + k) : 0);
      const mlp = hidden * (m.activation === "gelu_new"
        ? (f.autocast && f.wide === 2 ? 14 : 4 * f.wide)
        : f.wide * ("gate" in m.linears ? 3 : 1));
      let norms = m.norms * C.norm(m, r, f);
      if (m.parallel && (f.residual === 4 || !f.autocast))
        norms -= f.residual * d;
      return norms + attention + mlp + (m.dropout ? 2 * d : 0) +
        C.inputs(m, r, names, f);
    },
    end: (m, r, f) =>
      C.norm(m, r, f) + (r === null ? f.compute * m.width : 0),
    working(m, names, f) {
      const [hidden] = m.linears.up, c = f.wide;
      const gated = "gate" in m.linears, old = m.activation === "gelu_new";
      const down = names.includes("down");
      const converted = f.factor === 4 && c === 2 && !f.quantised;
      if (converted && gated &&
          ["gate", "up", "down"].some((x) => names.includes(x))) {
        // As _CONVERTED in lorabook/cost.py.
        const held = !down ? (f.autocast ? [[4, 10], [6, 2]]
          : [[8, f.dropout ? 10 : 6]])
          : f.autocast ? [[f.dropout ? 10 : 6, 10]]
            : f.dropout ? [[6, 14]]
              : names.includes("up") ? [[4, 12]] : [[2, 14], [4, 4]];
        return Math.max(...held.map(([h, d]) => h * hidden + d * m.width));
      }
      let widest = old && f.autocast ? 12 : (old || gated ? 3 : 2) * c;
      if (down) widest -= c;
      if (down && f.factor !== null) {
        const [own] = C.copied(m, "product", f);
        let there = 2 * c;
        if (own && converted) there += f.autocast ? 4 : 2;
        if (f.dropout) there += 4;
        widest = Math.max(widest, there);
      }
      return f.residual * m.width + widest * hidden;
    },
    loss(m, tokens, kind, number) {
      if (!m.decoder) return 0;
      if (kind === "fused") return tokens * m.width * (2 * number + 4);
      return tokens * m.vocabulary * (12 + (kind === "held" ? number : 0));
    },

    /* { loss, backward, step }, each with its parts and their total. */
    moments(m, r, names, set) {
      if (r === null) names = all(m);
      const f = C.block(set, r), number = bytes()[set.trained];
      const tokens = set.batch * set.sequence, { layers, width } = m;
      const n = r === null ? C.parameters(m) : C.adapter(m, r, names);
      const [states, each, lists, tensors] =
        LR.data.architectures.optimizers[set.optimizer];
      const sharded = set.gpus > 1 && set.sharding === "fsdp";
      const share = (x) => sharded ? Math.ceil(x / set.gpus) : x;
      const stored = r === null ? n * number : C.weights(m, set.base,
        set.double_quantisation, f.residual === 4 ? 4 : 2);
      const rest = f.residual * m.other;
      const gathered = sharded ? rest + (r === null ? 3 : 2) *
        Math.floor((stored - rest) / layers) : 0;
      const buckets = set.gpus > 1 && !sharded ? n * number : 0;
      const at = (copies, gradients, activations, temporary, whole = true) => {
        const found = { weights: share(stored),
          copies: copies + buckets + (whole ? gathered : 0),
          adapter: share(r === null ? 0 : n * number),
          gradients: share(gradients),
          optimizer: share(states * n * (each ?? number) +
            (each === 1 ? states * 4 * Math.ceil(n / 256) : 0)),
          activations, temporary };
        return { ...found, total: sum(Object.values(found)) };
      };

      const converted = set.autocast && f.residual === 4;
      const headCopy = converted ? 2 * C.head(m) : 0;
      const mapCopies = converted && !f.quantised ? 2 * C.linear(m) : 0;
      const factorCopies = set.autocast && r !== null && number === 4
        ? 2 * n : 0;
      const copies = mapCopies + factorCopies;
      const saved = C.saved(m, r, names, f);
      const kept = layers * (set.checkpointing ? f.residual * width : saved);
      const grown = set.accumulation > 1 ? n * number : 0;
      const held = set.loss === "held" && m.decoder
        ? tokens * m.vocabulary * f.compute : 0;

      const hidden = tokens * f.residual * width;
      const back = C.loss(m, tokens, set.loss, f.compute);
      const forth = set.loss === "fused" || !m.decoder ? back
        : tokens * m.vocabulary * (f.compute === 2 ? 10 : 8);
      const before = headCopy + (r === null || !set.checkpointing
        ? copies : factorCopies);
      const after = headCopy + (set.checkpointing ? 0 : copies);
      const saves = tokens * (kept + C.end(m, r, f));
      const loss = [at(before, grown, saves, hidden + forth),
        at(after, grown, saves, hidden + back)];

      const head = r === null ? C.head(m) * number : 0;
      let block = tokens * C.working(m, names, f), first = saved;
      if (set.checkpointing) {
        const asItIs = f.residual === 4 ||
          (m.norm === "layer" && !f.autocast);
        block += tokens * (saved - (asItIs ? f.residual * width : 0));
        first = f.residual * width;
      }
      if (f.quantised)
        block += 2 * Math.max(...Object.values(m.linears).map(product));
      const one = Math.floor(copies / layers);
      const added = m.tied ? (headCopy ? 1 : 2) : 0;
      const backward = [
        at(set.checkpointing ? one : copies, grown || head, tokens * kept,
          block + held),
        at(one, grown || n * number - (m.tied ? 0 : head), tokens * first,
          block + held),
        at(0, n * number, 0, held + head * (added + (grown ? 1 : 0)))];

      const large = r === null
        ? Math.max(m.vocabulary * m.width,
          ...Object.values(m.linears).map(product))
        : r * Math.max(...Object.values(C.maps(m, names)).flat());
      const step = at(0, n * number, 0, share(lists * n * number) +
        tensors * large * number + held, false);
      return { loss: largest(loss), backward: largest(backward), step };
    },
    /* The largest, and its name. */
    peak(m, r, names, set) {
      const found = C.moments(m, r, names, set);
      const moment = Object.keys(found).reduce((a, b) =>
        found[b].total > found[a].total ? b : a);
      return { ...found[moment], moment };
    },
    flops(m, r, names, again, sequence) {
      const more = again ? 2 : 0, products = r === null ? 6 : 4;
      return (products + more) * C.linear(m) +
        (r === null ? 0 : (6 + more) * C.adapter(m, r, names)) +
        products * C.head(m) +
        (7 + more) * m.layers * 2 * sequence * m.linears.q[0];
    },
    card: (total) => LR.data.architectures.cards.find((x) =>
      11 * total <= 10 * x * 2 ** 30),
  });
})();
