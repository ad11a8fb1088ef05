/* Spectra and losses of updates: what they say about a rank, and how they
   are drawn. All functions here are pure. */
(() => {
  "use strict";
  const KINDS = {
    update: { name: "ΔW", type: "body" }, weight: { name: "W₀", type: "dash" },
    noise: { name: "noise", type: "dots" },
  };
  const mean = (lists) => lists[0].map((_, i) =>
    lists.reduce((sum, list) => sum + list[i], 0) / lists.length);

  const U = (LR.spectrum = {
    KINDS,
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
    /* The share of a gain that is left, loss by loss. */
    shares: (losses, before, after) =>
      losses.map((x) => (before - x) / (before - after)),
    /* Where r is among the measured ranks, or the two around it. */
    around(ranks, r) {
      const at = ranks.findIndex((x) => x >= r);
      return ranks[at] === r ? [at] : [at - 1, at];
    },

    mark: (shape, x, y) => shape === "disc"
      ? `M${x - 4.5} ${y}a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0Z`
      : `M${x - 4} ${y - 4}h8v8h-8Z`,
    /* A chart over a logarithmic axis of ranks, up to the last of `ranks`.
       `y` maps values to 0 ... 1, and `marks` are [shape, rank, value]. */
    chart({ width, ranks, rank, shaded, label, ticks, y, lines, marks }) {
      const height = 210, left = 40, right = width - 12, low = height - 34;
      const most = ranks[ranks.length - 1];
      const X = (i) => +(left + 8 +
        ((right - left - 8) * Math.log(i)) / Math.log(most)).toFixed(1);
      const Y = (v) => +(low - (low - 8) * y(v)).toFixed(1);
      const path = (type, d) => `<path class="${type}" d="${d}"/>`;
      const text = (words, x, y, anchor = "middle") =>
        `<text x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`;
      const body = [
        shaded ? path("first", `M${left} 8H${X(rank)}V${low}H${left}Z`) : "",
        ...ticks.map(([v, words]) => path("net", `M${left} ${Y(v)}H${right}`) +
          text(words, left - 5, Y(v) + 4, "end")),
        path("axis", `M${left} 8V${low}H${right}`),
        ...ranks.filter(Boolean).map((r) => text(r, X(r), low + 15)),
        text(label, (left + right) / 2, height - 4),
        path("cut", `M${X(rank)} 8V${low}`),
        ...Object.entries(KINDS).map(([kind, { type }]) => path(type,
          `M${lines[kind].map((v, i) => `${X(i + 1)} ${Y(v)}`).join("L")}`)),
        ...marks.map(([shape, r, v]) => path(r === rank ? "mark now" : "mark",
          U.mark(shape, X(r), Y(v)))),
      ];
      return { height, body: body.join("") };
    },
  });
})();
