/* Line charts: axes with ticks, and paths in between. */
(() => {
  "use strict";
  if (LR.chart) return;

  /* A chart of an <svg>, one unit a CSS pixel, so that text keeps its size on
     a phone. `x` and `y` are { at, ticks, label }: `at` maps a value to
     0 … 1, ticks are [value, words]. `show` draws paths in it. */
  LR.chart = (svg, { height = 190, x, y }) => {
    const width = svg.clientWidth || 300, left = 40, right = width - 12;
    const top = 8, low = height - (x.label ? 34 : 20);
    const X = (v) => +(left + 6 + (right - left - 6) * x.at(v)).toFixed(1);
    // What explodes leaves through the top.
    const Y = (v) =>
      +Math.max(-999, low - (low - top) * y.at(v)).toFixed(1);
    const path = (type, d) => `<path class="${type}" d="${d}"/>`;
    const text = (words, x, y, anchor = "middle") =>
      `<text x="${x}" y="${y}" text-anchor="${anchor}">${words}</text>`;
    const frame = [
      ...y.ticks.map(([v, words]) => path("net", `M${left} ${Y(v)}H${right}`) +
        text(words, left - 5, Y(v) + 4, "end")),
      path("axis", `M${left} ${top}V${low}H${right}`),
      ...x.ticks.map(([v, words]) => text(words, X(v), low + 16)),
      x.label ? text(x.label, (left + right) / 2, height - 4) : "",
    ].join("");
    return {
      X, Y, path,
      line: (type, points) =>
        path(type, `M${points.map(([a, b]) => `${X(a)} ${Y(b)}`).join("L")}`),
      /* A line of `width` across at the value v, and one upright. */
      level: (type, v) => path(type, `M${left} ${Y(v)}H${right}`),
      cut: (v) => path("cut", `M${X(v)} ${top}V${low}`),
      until: (v) => path("first", `M${left} ${top}H${X(v)}V${low}H${left}Z`),
      show(description, ...parts) {
        svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
        svg.setAttribute("aria-label", description);
        svg.innerHTML = frame + parts.flat().join("");
      },
    };
  };
  /* A sample of a line, for a key. */
  LR.sample = (type, marks = "") => {
    const svg = LR.h("svg", { class: "sample", viewBox: "0 0 34 12",
      "aria-hidden": "true" });
    svg.innerHTML = `<path class="${type}" d="M2 6H32"/>${marks}`;
    return svg;
  };
  LR.disc = (x, y, r = 4.5) =>
    `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 -${2 * r} 0Z`;

  LR.chartCss = `
  svg{display:block;width:100%}
  .charts{display:grid;gap:.4rem 1.25rem;margin:.4rem 0;
    grid-template-columns:repeat(auto-fit,minmax(min(100%,16rem),1fr))}
  .charts p{margin:0}
  .key{gap:.1rem 1rem}
  .key>span{display:inline-flex;gap:.4rem;align-items:center}
  .sample{width:34px;height:12px;flex:none}
  svg path{fill:none;stroke:var(--fg)}
  svg .axis{stroke:var(--muted);stroke-width:1}
  svg .net{stroke:var(--line);stroke-width:1}
  svg .first{fill:var(--soft);stroke:none}
  svg .body{stroke:var(--c1);stroke-width:2.4}
  svg .dash{stroke:var(--c2);stroke-width:2;stroke-dasharray:7 4}
  svg .dots{stroke:var(--c3);stroke-width:2.6;stroke-dasharray:.1 5;
    stroke-linecap:round}
  svg .aim{stroke-width:1.2;stroke-dasharray:2 4}
  svg .cut{stroke-width:1.5}
  svg .mark{stroke-width:2;fill:var(--bg)}
  svg .mark.now{fill:var(--fg)}
  svg text{font-size:12px;fill:var(--muted)}`;
})();
