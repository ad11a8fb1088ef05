/* Two LoRA runs on one small problem, and what they are to each other. Every
   knob is an exponent of two. All products are taken in an order that powers
   of two pass through without rounding, so "equal" can mean equal. */
(() => {
  "use strict";
  const OUT = 16, IN = 24, INPUTS = 32, SOURCES = 8, NORM = 4;

  const P = (LR.twoRuns = {
    STEPS: 30, TOO_MUCH: 1e4, ROUNDING: 1e-9,

    /* Three digits, two for a percentage; powers of ten where needed. */
    short: (x, digits = 3) =>
      x && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e5) ? LR.num(x)
        : String(+x.toPrecision(digits)).replace("-", "−"),
    percent: (x) => `${P.short(100 * x, 2)}%`,

    zeros: (m, n) => Array.from({ length: m }, () => new Float64Array(n)),
    times(X, Y, scale = 1) {
      const Z = P.zeros(X.length, Y[0].length);
      for (let i = 0; i < X.length; i++) {
        const x = X[i], z = Z[i];
        for (let l = 0; l < x.length; l++) {
          const a = x[l], y = Y[l];
          for (let j = 0; j < z.length; j++) z[j] += a * y[j];
        }
        for (let j = 0; j < z.length; j++) z[j] *= scale;
      }
      return Z;
    },
    turned: (X) => Array.from(X[0], (_, j) =>
      Float64Array.from(X, (row) => row[j])),
    scaled: (X, c) => X.map((row) => row.map((x) => c * x)),
    minus: (X, Y) => X.map((row, i) => row.map((x, j) => x - Y[i][j])),
    inner: (X, Y) => X.reduce((sum, row, i) =>
      row.reduce((t, x, j) => t + x * Y[i][j], sum), 0),
    size: (X) => Math.sqrt(P.inner(X, X)),
    uniform: (m, n, random) => P.zeros(m, n).map((row) =>
      row.map(() => 2 * random() - 1)),

    /* A start for A, a target T for dW, and the covariance C of inputs whose
       neighbours are alike. The loss, <dW - T, (dW - T) C> / 2, starts
       at 1. */
    problem() {
      const random = LR.random(1);
      const A = P.scaled(P.uniform(OUT, IN, random), 1 / Math.sqrt(IN));
      const X = P.uniform(INPUTS, IN, random);
      for (const x of X) for (let j = 1; j < IN; j++) x[j] += 0.8 * x[j - 1];
      const U = P.uniform(OUT, SOURCES, random).map((u) =>
        u.map((x, l) => x / (l + 1)));
      const product = P.times(U, P.uniform(SOURCES, IN, random));
      const T = P.scaled(product, NORM / P.size(product));
      const C = P.times(P.turned(X), X);
      return { A, T, C: P.scaled(C, 2 / P.inner(P.times(T, C), T)) };
    },

    scale: ({ alpha, rank }, { scaling }) =>
      2 ** alpha / (scaling === "r" ? 2 ** rank : Math.sqrt(2 ** rank)),

    /* dW, its size, G and the loss, before every step and after the last.
       The run ends early when the loss explodes. */
    run({ A: A0, T, C }, knobs, shared) {
      const s = P.scale(knobs, shared), eta = 2 ** knobs.rate;
      const A = P.scaled(A0.slice(0, 2 ** knobs.rank), 2 ** knobs.start);
      const B = P.zeros(OUT, A.length);
      const [stepA, stepB] = [A, B].map((X) =>
        shared.optimizer === "sgd" ? P.sgd(X) : P.adam(X));
      const found = [];
      for (let t = 0; ; t++) {
        const W = P.times(B, A, s), D = P.minus(W, T), G = P.times(D, C);
        const loss = P.inner(D, G) / 2;
        found.push({ W, G, loss, size: P.size(W) });
        if (!(loss < P.TOO_MUCH)) return { found, exploded: t };
        if (t === P.STEPS) return { found, exploded: null };
        const gB = P.times(G, P.turned(A), s), gA = P.times(P.turned(B), G, s);
        stepB(gB, eta * 2 ** knobs.ratio);
        stepA(gA, eta);
      }
    },
    sgd: (X) => (G, rate) => X.forEach((x, i) => {
      for (let j = 0; j < x.length; j++) x[j] -= rate * G[i][j];
    }),
    adam(X) {
      const [M, V] = [0, 0].map(() => P.zeros(X.length, X[0].length));
      let keepM = 1, keepV = 1;
      return (G, rate) => {
        keepM *= 0.9;
        keepV *= 0.999;
        X.forEach((x, i) => {
          const g = G[i], m = M[i], v = V[i];
          for (let j = 0; j < x.length; j++) {
            m[j] = 0.9 * m[j] + 0.1 * g[j];
            v[j] = 0.999 * v[j] + 0.001 * g[j] * g[j];
            x[j] -= rate * (m[j] / (1 - keepM)) /
              (Math.sqrt(v[j] / (1 - keepV)) + 1e-30);
          }
        });
      };
    },

    /* Distances at the steps that both reached; whether all are zero. */
    compare(one, two) {
      const steps = Math.min(one.found.length, two.found.length);
      const apart = Array.from({ length: steps }, (_, t) =>
        P.size(P.minus(two.found[t].W, one.found[t].W)));
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
      const random = LR.random(2), s = P.scale(knobs, shared);
      const eta = 2 ** (knobs.rate + knobs.ratio);
      const sgd = shared.optimizer === "sgd", G = P.times(T, C, -1);
      let along = 0, square = 0;
      for (let n = 0; n < draws; n++) {
        const A = P.scaled(P.uniform(2 ** knobs.rank, IN, random),
          2 ** knobs.start / Math.sqrt(IN));
        const gB = P.times(G, P.turned(A), s);
        const W = P.times(gB.map((row) => sgd ? row : row.map(Math.sign)), A,
          -s * eta);
        along -= P.inner(W, G) / P.size(G) / draws;
        square += P.inner(W, W) / draws;
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
  });
})();
