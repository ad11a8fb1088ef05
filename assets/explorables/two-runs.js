/* Two LoRA runs on one small problem, and what they are to each other. Every
   knob is an exponent of two. All products are taken in an order that powers
   of two pass through without rounding, so "equal" can mean equal. */
(() => {
  "use strict";
  const M = LR.linalg;
  const OUT = 16, IN = 24, INPUTS = 32, SOURCES = 8, NORM = 4;

  const P = (LR.twoRuns = {
    STEPS: 30, TOO_MUCH: 1e4, ROUNDING: 1e-9, DRAWS: 200,

    percent: (x) => `${LR.short(100 * x, 2)}%`,

    /* A start for A, a target T for dW, and the covariance C of inputs whose
       neighbours are alike. The loss, <dW - T, (dW - T) C> / 2, starts
       at 1. */
    problem() {
      const random = M.random(1);
      const A = M.scaled(M.uniform(OUT, IN, random), 1 / Math.sqrt(IN));
      const X = M.uniform(INPUTS, IN, random);
      for (const x of X) for (let j = 1; j < IN; j++) x[j] += 0.8 * x[j - 1];
      const U = M.uniform(OUT, SOURCES, random).map((u) =>
        u.map((x, l) => x / (l + 1)));
      const product = M.times(U, M.uniform(SOURCES, IN, random));
      const T = M.scaled(product, NORM / M.norm(product));
      const C = M.times(M.turned(X), X);
      return { A, T, C: M.scaled(C, 2 / M.inner(M.times(T, C), T)) };
    },

    scale: ({ alpha, rank }, { scaling }) =>
      2 ** alpha / (scaling === "r" ? 2 ** rank : Math.sqrt(2 ** rank)),

    /* dW, its size, G and the loss, before every step and after the last.
       The run ends early when the loss explodes. */
    run({ A: A0, T, C }, knobs, shared) {
      const s = P.scale(knobs, shared), eta = 2 ** knobs.rate;
      const A = M.scaled(A0.slice(0, 2 ** knobs.rank), 2 ** knobs.start);
      const B = M.zeros(OUT, A.length);
      const [stepA, stepB] = [A, B].map((X) =>
        M[shared.optimizer](X));
      const found = [];
      for (let t = 0; ; t++) {
        const W = M.times(B, A, s), D = M.minus(W, T), G = M.times(D, C);
        const loss = M.inner(D, G) / 2;
        found.push({ W, G, loss, size: M.norm(W) });
        if (!(loss < P.TOO_MUCH)) return { found, exploded: t };
        if (t === P.STEPS) return { found, exploded: null };
        const gB = M.times(G, M.turned(A), s), gA = M.times(M.turned(B), G, s);
        stepB(gB, eta * 2 ** knobs.ratio);
        stepA(gA, eta);
      }
    },
    /* Distances at the steps that both reached; whether all are zero. */
    compare(one, two) {
      const steps = Math.min(one.found.length, two.found.length);
      const apart = Array.from({ length: steps }, (_, t) =>
        M.norm(M.minus(two.found[t].W, one.found[t].W)));
      return { apart, last: apart[steps - 1] / one.found[steps - 1].size,
        equal: one.exploded === two.exploded &&
          apart.every((x) => x === 0) };
    },

    /* By the theorem: how the scale and the two numbers of hers differ from
       yours, and her A and B, if the runs are the same; as exponents. */
    gauge(one, two, { optimizer, scaling }) {
      const by = (name) => two[name] - one[name];
      const p = optimizer === "sgd" ? 2 : 1, a = by("start");
      const s = by("alpha") - by("rank") * (scaling === "r" ? 1 : 0.5);
      const first = by("rate") - p * a;
      const second = p * (s + a) + by("rate") + by("ratio");
      return { s, first, second, a, b: -s - a,
        same: !by("rank") && !first && !second };
    },
    /* The scale and the two numbers themselves. */
    numbers(knobs, shared) {
      const s = P.scale(knobs, shared), p = shared.optimizer === "sgd" ? 2 : 1;
      const sigma = 2 ** knobs.start / Math.sqrt(3 * IN);
      return { scale: s, first: 2 ** knobs.rate / sigma ** p,
        second: (s * sigma) ** p * 2 ** (knobs.rate + knobs.ratio) };
    },
    /* What two runs are to each other: a sign and words, from the numbers
       alone. The knobs are so coarse that runs which differ by more than
       rounding differ by a millionth or more. */
    verdict(one, two, { apart, last, equal }) {
      const near = one.exploded === two.exploded &&
        apart.every((x, t) => x <= P.ROUNDING * one.found[t].size);
      if (equal)
        return "= The same run, to the last bit" + (one.exploded === null
          ? `, in all ${P.STEPS} steps.`
          : `: both explode at step ${one.exploded}.`);
      if (near)
        return "≈ The same run up to rounding: " +
          `${P.percent(last)} apart after ${apart.length - 1} steps.`;
      const burst = [[one, "yours explodes"], [two, "hers explodes"]]
        .filter(([run]) => run.exploded !== null)
        .map(([run, words]) => `${words} at step ${run.exploded}`);
      return "≠ Another run: " + (burst.length ? `${burst.join(", ")}.`
        : `${P.percent(last)} apart after ${P.STEPS} steps.`);
    },

    /* The first step on average over A: its part along -G, and its size. */
    firstStep({ T, C }, knobs, shared, draws) {
      const random = M.random(2), s = P.scale(knobs, shared);
      const eta = 2 ** (knobs.rate + knobs.ratio);
      const sgd = shared.optimizer === "sgd", G = M.times(T, C, -1);
      let along = 0, square = 0;
      for (let n = 0; n < draws; n++) {
        const A = M.scaled(M.uniform(2 ** knobs.rank, IN, random),
          2 ** knobs.start / Math.sqrt(IN));
        const gB = M.times(G, M.turned(A), s);
        const W = M.times(gB.map((row) => sgd ? row : row.map(Math.sign)), A,
          -s * eta);
        along -= M.inner(W, G) / M.norm(G) / draws;
        square += M.inner(W, W) / draws;
      }
      return { along, size: Math.sqrt(square) };
    },
    /* What theory says of another rank alone: the factors of both. */
    predicted(one, two, shared) {
      const s = P.scale(two, shared) / P.scale(one, shared);
      const [r, R] = [one, two].map(({ rank }) => 2 ** rank);
      if (shared.optimizer === "sgd") return { along: (s * s * R) / r };
      const square = (n) => n * (IN + (2 / Math.PI) * (n - 1));
      return { along: (s * R) / r,
        size: s * Math.sqrt(square(R) / square(r)) };
    },

    /* How an exponent of each knob is written. */
    write: {
      alpha: (e) => String(2 ** e), rank: (e) => String(2 ** e),
      rate: (e) => `${Number.isInteger(e) ? "2" : "√2·2"}${
        LR.raised(Math.floor(e))}`,
      start: (e) => `× ${LR.short(2 ** e)}`,
      ratio: (e) => `× ${LR.short(2 ** e)}`,
    },
    /* The rows of the table: yours, hers and their ratio, as text. */
    rows(yours, hers, shared, one, two) {
      const values = [[yours, one], [hers, two]].map(([knobs, run]) => {
        const { G } = run.found[0], { W, size } = run.found[1];
        const { loss, size: end } = run.exploded === null
          ? run.found[P.STEPS] : {};
        return { ...P.numbers(knobs, shared),
          along: -M.inner(W, G) / M.norm(G), size, loss, end };
      });
      const { s, first, second } = P.gauge(yours, hers, shared);
      const exact = { scale: s, first, second };
      return Object.fromEntries(Object.keys(values[0]).map((id) => {
        const [x, y] = values.map((v) => v[id]);
        const ratio = id in exact ? 2 ** exact[id] : y / x;
        return [id, [...[x, y].map((v) => v === undefined ? "–"
          : LR.short(v)), Number.isNaN(ratio) ? "–"
          : Math.abs(ratio - 1) < P.ROUNDING ? "same"
            : `× ${LR.short(ratio)}`]];
      }));
    },
    /* Why the runs are what they are to each other. */
    explain(problem, yours, hers, shared, one, two) {
      const { s, first, second, a, b, same } = P.gauge(yours, hers, shared);
      const burst = one.exploded === null && two.exploded === null ? ""
        : ` The loss passed ${LR.short(P.TOO_MUCH)} times its first value; ` +
          "a smaller rate helps.";
      const word = (e) => e ? `${LR.short(2 ** e)} times yours` : "as yours";
      if (same)
        return (a || b ? `At every step her A is ${word(a)}, and her B ${
          word(b)}. Her scale, ${word(s)}, takes that out again.`
          : "The settings are the same.") + burst;
      if (yours.rank === hers.rank)
        return "The ranks agree, so the two numbers in bold decide: her " +
          `pace of A is ${word(first)}, her pace of ΔW ${word(second)}.` +
          burst;
      const only = ["alpha", "rate", "start", "ratio"].every((name) =>
        hers[name] === yours[name]);
      if (!only || burst) return "Another rank is another run." + burst;
      const [mine, other] = [yours, hers].map((knobs) =>
        P.firstStep(problem, knobs, shared, P.DRAWS));
      const theory = P.predicted(yours, hers, shared);
      const found = (key) => `× ${LR.short(other[key] / mine[key])}; theory ` +
        `says × ${LR.short(theory[key])}`;
      return `Only the rank differs. Over ${P.DRAWS} draws of A, the first ` +
        `step’s part along −G is ${found("along")}` + (theory.size
        ? `. Its size is ${found("size")}` : "") +
        ". The table shows one draw.";
    },
    /* What to say to a guess: `hers` are the settings of the answer, 2. */
    answer(problem, yours, hers, shared, guess) {
      if (guess === null || guess === 2)
        return `${guess ? "Yes: times 2" : "By 2"}, the root of 64/16. ` +
          "The two runs are the same, to the last bit.";
      const e = Math.log2(guess);
      const [one, two] = [yours, { ...hers, rate: yours.rate + e, start: e }]
        .map((knobs) => P.run(problem, knobs, shared));
      return `You said ${guess}. It is 2, the root of 64/16. Times ${guess} ` +
        (two.exploded === null
          ? `ends ${P.percent(P.compare(one, two).last)} away from your ΔW.`
          : "explodes.");
    },
  });
})();
