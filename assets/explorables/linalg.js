/* Matrices as arrays of rows, their singular values, random numbers, and the
   two rules by which the runs of the explorables learn. No document here. */
(() => {
  "use strict";
  if (LR.linalg) return;
  const M = (LR.linalg = {
    zeros: (m, n) => Array.from({ length: m }, () => new Float64Array(n)),
    eye: (n) => M.zeros(n, n).map((row, i) => ((row[i] = 1), row)),
    turned: (X) => Array.from(X[0], (_, j) =>
      Float64Array.from(X, (row) => row[j])),
    scaled: (X, c) => X.map((row) => row.map((x) => c * x)),
    plus: (X, Y) => X.map((row, i) => row.map((x, j) => x + Y[i][j])),
    minus: (X, Y) => X.map((row, i) => row.map((x, j) => x - Y[i][j])),
    inner: (X, Y) => X.reduce((sum, row, i) =>
      row.reduce((t, x, j) => t + x * Y[i][j], sum), 0),
    norm: (X) => Math.sqrt(M.inner(X, X)),
    apply: (X, v) =>
      X.map((row) => row.reduce((sum, x, j) => sum + x * v[j], 0)),
    /* scale X Y. The scale comes last, once for each entry: a power of two
       then passes through without rounding. */
    times(X, Y, scale = 1) {
      const Z = M.zeros(X.length, Y[0].length);
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

    /* Singular value decomposition by one-sided Jacobi: turn pairs of columns
       until all are orthogonal (Hestenes 1958). The result has the columns of
       U and V, largest singular value first. Where a singular value is 0, its
       column of U is 0 too. A generator: it pauses, so that a large matrix
       can be spread over several frames. */
    *jacobi(rows) {
      const wide = rows.length < rows[0].length;
      const W = wide ? rows.map((row) => Float64Array.from(row))
        : M.turned(rows);
      const n = W.length, V = M.eye(n);
      const turn = (a, b, c, s) => {
        for (let i = 0; i < a.length; i++) {
          const x = a[i];
          a[i] = c * x - s * b[i];
          b[i] = s * x + c * b[i];
        }
      };
      for (let sweep = 0, busy = true; busy && sweep < 50; sweep++) {
        busy = false;
        for (let p = 0; p < n; p++) {
          for (let q = p + 1; q < n; q++) {
            const a = W[p], b = W[q];
            let aa = 0, bb = 0, ab = 0;
            for (let i = 0; i < a.length; i++) {
              aa += a[i] * a[i];
              bb += b[i] * b[i];
              ab += a[i] * b[i];
            }
            if (Math.abs(ab) <= 2e-15 * Math.sqrt(aa * bb)) continue;
            busy = true;
            const z = (bb - aa) / (2 * ab);
            const t = (z < 0 ? -1 : 1) / (Math.abs(z) + Math.hypot(1, z));
            const c = 1 / Math.hypot(1, t);
            turn(a, b, c, c * t);
            turn(V[p], V[q], c, c * t);
          }
          yield;
        }
      }
      const norm = W.map((w) => Math.hypot(...w));
      const order = norm.map((_, i) => i).sort((i, j) => norm[j] - norm[i]);
      const s = order.map((i) => norm[i]);
      const left = order.map((i) => W[i].map((x) => x / (norm[i] || 1)));
      const right = order.map((i) => V[i]);
      return wide ? { U: right, s, V: left } : { U: left, s, V: right };
    },
    svd(rows) {
      const run = M.jacobi(rows);
      for (;;) {
        const step = run.next();
        if (step.done) return step.value;
      }
    },
    async svdInSlices(rows) {
      const run = M.jacobi(rows);
      for (;;) {
        const pause = performance.now() + 12;
        while (performance.now() < pause) {
          const step = run.next();
          if (step.done) return step.value;
        }
        await new Promise((go) => setTimeout(go));
      }
    },
    /* How many singular values exceed `tolerance` times the largest. */
    rank: (s, tolerance) => s.filter((x) => x > tolerance * s[0]).length,
    /* Terms low + 1 … high of the sum of s_k u_k v_k^T. */
    terms({ U, s, V }, low, high) {
      const rows = M.zeros(U[0].length, V[0].length);
      for (let k = low; k < high; k++)
        rows.forEach((row, i) => {
          const c = s[k] * U[k][i], v = V[k];
          for (let j = 0; j < row.length; j++) row[j] += c * v[j];
        });
      return rows;
    },

    /* Uniform random numbers from 0 to 1, the same for the same seed
       (mulberry32). */
    random: (seed) => () => {
      seed = (seed + 0x6d2b79f5) | 0;
      let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    },
    /* Entries between -1 and 1. */
    uniform: (m, n, random) => M.zeros(m, n).map((row) =>
      row.map(() => 2 * random() - 1)),
    /* Entries of the standard normal distribution, by Box and Muller. */
    normal: (m, n, random) => M.zeros(m, n).map((row) => row.map(() => {
      const radius = Math.sqrt(-2 * Math.log(1 - random()));
      return radius * Math.cos(2 * Math.PI * random());
    })),

    /* Both return a function that moves X by one step along -G. */
    sgd: (X) => (G, rate) => X.forEach((x, i) => {
      for (let j = 0; j < x.length; j++) x[j] -= rate * G[i][j];
    }),
    /* Its ε is so small that it never matters. */
    adam(X) {
      const [mean, square] = [0, 0].map(() => M.zeros(X.length, X[0].length));
      let keepMean = 1, keepSquare = 1;
      return (G, rate) => {
        keepMean *= 0.9;
        keepSquare *= 0.999;
        X.forEach((x, i) => {
          const g = G[i], m = mean[i], v = square[i];
          for (let j = 0; j < x.length; j++) {
            m[j] = 0.9 * m[j] + 0.1 * g[j];
            v[j] = 0.999 * v[j] + 0.001 * g[j] * g[j];
            x[j] -= rate * (m[j] / (1 - keepMean)) /
              (Math.sqrt(v[j] / (1 - keepSquare)) + 1e-30);
          }
        });
      };
    },
  });
})();
