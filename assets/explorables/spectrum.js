/* Spectra and losses of updates: what they say about a rank. No document. */
(() => {
  "use strict";
  const { percent } = LR;
  const KINDS = {
    update: { name: "ΔW", type: "body" }, weight: { name: "W₀", type: "dash" },
    noise: { name: "noise", type: "dots" },
  };
  const mean = (lists) => lists[0].map((_, i) =>
    lists.reduce((sum, list) => sum + list[i], 0) / lists.length);

  const U = (LR.spectrum = {
    KINDS, ALL: "all",
    share: (x) => percent(x, 1).replace("-", "−"),
    norm: (s) => Math.hypot(...s),
    /* Energies of the first 0, 1, ..., n directions, as shares. */
    energies(s) {
      const e = [0];
      s.forEach((x, i) => e.push(e[i] + x * x));
      return e.map((x) => x / e[s.length]);
    },
    /* The root of the mean square: its squares are the mean energies. */
    rms: (lists) => mean(lists.map((list) => list.map((x) => x * x)))
      .map(Math.sqrt),
    /* Means over some layers; of a single one, itself. */
    facts(layers) {
      const facts = {};
      for (const kind in KINDS) {
        const all = layers.map((layer) => layer[kind]);
        const energies = all.map(U.energies), sizes = all.map(U.norm);
        facts[kind] = {
          norm: U.rms(all.map((s, i) => s.map((x) => x / sizes[i]))),
          absolute: U.rms(all),
          energy: mean(energies),
          need: mean(energies.map((e) => [e.findIndex((x) => x >= 0.9)]))[0],
          size: mean(sizes.map((x, i) => [x / U.norm(layers[i].weight)]))[0],
        };
      }
      return facts;
    },
    /* The facts of every layer, and of all together. */
    allFacts({ layers }) {
      const facts = { [U.ALL]: U.facts(Object.values(layers)) };
      for (const name in layers) facts[name] = U.facts([layers[name]]);
      return facts;
    },
    /* The share of a gain that is left, loss by loss. */
    shares: (losses, before, after) =>
      losses.map((x) => (before - x) / (before - after)),
    /* Losses and shares of the gain: of all together, or of both ways of
       cutting one. */
    gains({ layers, all, few }, layer) {
      const last = all.length - 1;
      if (layer === U.ALL)
        return [{ shape: "disc", words: `all ${Object.keys(layers).length} ` +
          "cut", losses: all, shares: U.shares(all, all[0], all[last]) }];
      const { alone, among } = layers[layer];
      return [
        { shape: "disc", words: "this one alone", losses: alone,
          shares: U.shares(alone, few.before, alone[last]) },
        { shape: "square", words: "the other 23 whole", losses: among,
          shares: U.shares(among, few.before, few.after) },
      ];
    },
    /* Where r is among the measured ranks, or the two around it. */
    around(ranks, r) {
      const at = ranks.findIndex((x) => x >= r);
      return ranks[at] === r ? [at] : [at - 1, at];
    },
    kept({ ranks }, r, { shares }) {
      const at = U.around(ranks, r);
      return at.map((k) => U.share(shares[k]) +
        (at.length === 1 ? "" : ` at ${ranks[k]}`)).join(", ");
    },
    /* The rows of both tables, as text. */
    spectra: (facts, r, layer) => Object.fromEntries(Object.keys(KINDS)
      .flatMap((kind) => {
        const { energy, need, size } = facts[kind];
        return [[`${kind}-energy`, percent(energy[r], 1)],
          [`${kind}-need`, need.toFixed(layer === U.ALL ? 1 : 0)],
          [`${kind}-size`, percent(size, 0)]];
      })),
    losses(data, r, gain) {
      const at = U.around(data.ranks, r), { losses } = gain;
      return [losses[0].toFixed(3),
        at.length === 1 ? losses[at[0]].toFixed(3) : "not measured",
        losses[losses.length - 1].toFixed(3), U.kept(data, r, gain)];
    },
    /* What the numbers say, whatever they are: two paragraphs. */
    reading(data, facts, gains, r, layer) {
      const { ranks, layers, few } = data, most = ranks[ranks.length - 1];
      const at = U.around(ranks, r), measured = at.length === 1;
      const last = ranks.length - 1, whole = few.before - few.after;
      const together = layer === U.ALL;
      const own = (name) => few.before - layers[name].alone[last];
      const e = (kind) => U.share(facts[kind].energy[r]);
      const energy = (r > 1 ? `The first ${r} of ${most} directions hold `
        : `The first of ${most} directions holds `) + `${e("update")} of ` +
        `the energy of ${together ? "the updates, on average"
          : "this update"}; of W₀ it is ${e("weight")}, of noise ${
          e("noise")}.`;
      const cut = measured ? `Cut to rank ${r}, ${together ? "they keep" :
        "it keeps"} ${U.kept(data, r, gains[0])} of ${together ? "their" :
        "its own"} gain` + (r < most && gains[0].shares[at[0]] >
          facts.update.energy[r] ? ", more than of the energy. " : ". ")
        : `At rank ${r} the loss was not measured. `;
      const sum = Object.keys(layers).reduce((x, name) => x + own(name), 0);
      return { energy, gain: together ? `${cut}Added up, the gains of each by ` +
        `itself are ${(sum / whole).toFixed(1)} times the gain of all.`
        : `By itself, this update saves ${own(layer).toFixed(3)} bits per ` +
          `byte, ${percent(own(layer) / whole, 0)} of what all 24 save ` +
          `together. ${cut}Without it, the other 23 have ${
            U.share(gains[1].shares[0])} of the gain of all 24.` };
    },
  });
})();
