/* Shared by the geometric explorables: a plane to draw in, with points that
   the reader moves, and a matrix to type in. */
(() => {
  "use strict";
  if (LR.plane) return;
  const { h } = LR;

  LR.SHAPES = ["●", "■", "▲"];
  const OUTLINES = [
    '<circle r="7"/>',
    '<rect x="-6.5" y="-6.5" width="13" height="13"/>',
    '<path d="M0-8.5L8.5 6.5H-8.5Z"/>',
  ];
  /* The smallest round number that is at least x. */
  LR.roundUp = (x) => {
    const ten = 10 ** Math.floor(Math.log10(x || 1));
    return ten * [1, 1.5, 2, 3, 4, 5, 6, 8, 10]
      .find((k) => k * ten >= 0.999 * x);
  };

  /* n points of the unit circle, the first one repeated at the end. */
  LR.circle = (n = 90) => Array.from({ length: n + 1 }, (_, i) =>
    [Math.cos((2 * Math.PI * i) / n), Math.sin((2 * Math.PI * i) / n)]);
  LR.rad = (degrees) => (degrees * Math.PI) / 180;
  LR.unit = (degrees) => [Math.cos(LR.rad(degrees)), Math.sin(LR.rad(degrees))];
  /* The angle of a vector, from -180 to 180 degrees, and how it is written. */
  LR.angle = ([x, y]) => (Math.atan2(y, x) * 180) / Math.PI;
  LR.degrees = (x) =>
    `${(Math.round(10 * x) / 10 || 0).toFixed(1).replace("-", "−")}°`;

  /* A square picture of [-range, range]^2, one SVG unit a CSS pixel, so that
     text keeps its size on a phone. A new size calls for `redraw`. */
  LR.plane = (redraw) => {
    const drawing = h("g", { "aria-hidden": "true" });
    const handles = h("g");
    const svg = h("svg", { class: "plane", role: "group" }, drawing, handles);
    let half = 150, text = "";
    const plane = {
      svg, range: 2,
      px: ([x, y]) => {
        const k = (half - 18) / plane.range;
        return [x * k, -y * k].map((v) => +v.toFixed(2));
      },
      line(points, type) {
        text += `<path class="${type}" d="M${
          points.map(plane.px).join("L")}"/>`;
      },
      label(at, words, type, side, gap = 15) {
        const [x, y] = plane.px(at), size = Math.hypot(...side) || 1;
        const edge = half - 10;
        const put = (v, d) =>
          Math.max(-edge, Math.min(edge, v + (gap * d) / size));
        text += `<text class="${type}" x="${put(x, side[0])}" y="${
          put(y, -side[1]) + 5}">${words}</text>`;
      },
      arrow(tip, type, words) {
        const [x, y] = plane.px(tip), size = Math.hypot(x, y);
        plane.line([[0, 0], tip], `arrow ${type}`);
        if (size > 8) {
          const u = x / size, v = y / size;
          text += `<path class="tip ${type}" d="M${x} ${y}L${
            x - 10 * u - 5 * v} ${y - 10 * v + 5 * u}L${
            x - 10 * u + 5 * v} ${y - 10 * v - 5 * u}Z"/>`;
        }
        if (words) plane.label(tip, words, type, tip, 19);
      },
      /* The lines x = i and y = i for whole i, sent through `map`. */
      grid(map) {
        for (let i = -12; i <= 12; i++) {
          plane.line([map([i, -12]), map([i, 12])], "grid");
          plane.line([map([-12, i]), map([12, i])], "grid");
        }
      },
      axes(tick) {
        const r = plane.range * 1.15;
        plane.line([[-r, 0], [r, 0]], "axis");
        plane.line([[0, -r], [0, r]], "axis");
        if (!tick) return;
        plane.label([tick, 0], String(tick), "tick", [0, -1]);
        plane.label([0, tick], String(tick), "tick", [-1, 0]);
      },
      /* Show what was drawn since the last call. */
      show(description) {
        drawing.innerHTML = text;
        text = "";
        svg.setAttribute("aria-label", description);
      },
      /* A point to drag, or to move with the arrow keys.
         drag([x, y]) gets the new place, nudge([dx, dy, dz]) the step. */
      handle(i, name, [low, high], drag, nudge) {
        const g = h("g", { class: `handle c${i + 1}`, tabindex: 0,
          role: "slider", "aria-label": name,
          "aria-valuemin": low, "aria-valuemax": high });
        g.innerHTML = `<circle class="reach" r="20"/>${OUTLINES[i]}`;
        handles.append(g);
        let place = [0, 0], grip;
        const world = (event) => {
          const box = svg.getBoundingClientRect();
          const k = (2 * half * plane.range) / (half - 18);
          return [((event.clientX - box.left) / box.width - 0.5) * k,
            (0.5 - (event.clientY - box.top) / box.height) * k];
        };
        LR.drag(g, (event, first) => {
          const at = world(event), limit = plane.range * 1.08;
          if (event === first) grip = place.map((v, d) => v - at[d]);
          else drag(at.map((v, d) =>
            Math.max(-limit, Math.min(limit, v + grip[d]))));
        });
        g.addEventListener("keydown", (event) => {
          const step = {
            ArrowRight: [1, 0, 0], ArrowLeft: [-1, 0, 0],
            ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0],
            PageUp: [0, 0, 1], PageDown: [0, 0, -1],
          }[event.key];
          if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
          event.preventDefault();
          nudge(step.map((v) => v * (event.shiftKey ? 10 : 1)));
        });
        g.put = (point, now, words) => {
          place = point;
          g.setAttribute("transform", `translate(${plane.px(point)})`);
          g.setAttribute("aria-valuenow", now);
          g.setAttribute("aria-valuetext", words);
        };
        return g;
      },
    };
    const fit = () => {
      svg.setAttribute("viewBox", `${-half} ${-half} ${2 * half} ${2 * half}`);
    };
    fit();
    new ResizeObserver(([entry]) => {
      const width = entry.contentRect.width;
      if (!width || Math.abs(width - 2 * half) < 1) return;
      half = width / 2;
      fit();
      redraw();
    }).observe(svg);
    return plane;
  };

  /* The n x n matrix W to type in. `change` gets the new matrix; `complain`
     gets a sentence about a bad entry, or "" when all are good again. */
  LR.entries = (n, change, complain) => {
    let W;
    const cells = Array.from({ length: n * n }, (_, k) => h("input", {
      type: "number", step: 0.1, inputmode: "decimal",
      "aria-label": `W, row ${Math.floor(k / n) + 1}, column ${k % n + 1}`,
      oninput: () => {
        if (wrong()) return;
        complain("");
        change(W.map((row, i) => row.map((x, j) =>
          i * n + j === k ? cells[k].valueAsNumber : x)));
      },
      // Not while a number is half typed.
      onchange: () => wrong() && complain(`${wrong().ariaLabel}: type a ` +
        "number from −100 to 100. Until then the picture stays as it is."),
    }));
    const wrong = () =>
      cells.find((cell) => !(Math.abs(cell.valueAsNumber) <= 100));
    const heads = cells.slice(0, n).map((_, j) =>
      h("span", { class: `c${j + 1}` }, `${LR.SHAPES[j]} w${LR.sub(j + 1)}`));
    const el = h("div", { class: "matrix", role: "group",
      "aria-label": "The matrix W", style: `--n:${n}` }, heads, cells);
    el.set = (to) => {
      W = to;
      cells.forEach((cell, k) => {
        const text = String(+W[Math.floor(k / n)][k % n].toFixed(4));
        if (cell.valueAsNumber !== +text) cell.value = text;
      });
    };
    return el;
  };

  LR.planeCss = `
  svg.plane{display:block;width:100%;aspect-ratio:1;margin-inline:auto;
    touch-action:pan-y;user-select:none;
    border:1px solid var(--line);border-radius:.3rem}
  .plane path{fill:none;stroke:currentColor;stroke-width:1.5}
  .plane text{font-size:14px;fill:currentColor;text-anchor:middle;
    paint-order:stroke;stroke:var(--bg);stroke-width:4px;font-weight:600}
  .plane .grid{stroke:var(--line);stroke-width:1}
  .plane .axis{stroke:var(--muted);stroke-width:1}
  .plane text.tick{font-size:12px;font-weight:400;fill:var(--muted)}
  .c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}
  :is(text,span).c1{color:color-mix(in srgb,var(--c1) 70%,var(--fg))}
  :is(text,span).c2{color:color-mix(in srgb,var(--c2) 70%,var(--fg))}
  :is(text,span).c3{color:color-mix(in srgb,var(--c3) 70%,var(--fg))}
  .plane .arrow{stroke-width:2.5}.plane .tip{fill:currentColor;stroke:none}
  .plane .body{stroke:var(--fg);stroke-width:2;
    fill:color-mix(in srgb,var(--fg) 9%,transparent)}
  .plane .dash{stroke:var(--fg);stroke-width:2.5;stroke-dasharray:.1 5;
    stroke-linecap:round}
  .plane text.ink{fill:var(--fg)}
  .handle{cursor:grab;touch-action:none;outline:none}
  .handle:active{cursor:grabbing}
  .plane .handle>*{fill:currentColor;stroke:var(--bg);stroke-width:2}
  .plane .handle .reach{fill:transparent;stroke:none}
  .plane .handle:hover .reach{fill:currentColor;opacity:.15}
  .plane .handle:focus-visible .reach{stroke:var(--fg);stroke-width:3}
  .matrix{display:inline-grid;gap:.3rem .35rem;padding:0 .6rem .3rem;
    grid-template-columns:repeat(var(--n),minmax(3rem,4.2rem));
    position:relative;text-align:center}
  .matrix::before,.matrix::after{content:"";position:absolute;top:1.7rem;
    bottom:0;width:.45rem;border:2px solid var(--fg)}
  .matrix::before{left:0;border-right:0}.matrix::after{right:0;border-left:0}
  .matrix input{width:100%;text-align:center;padding:.15rem .1rem;
    appearance:textfield}
  .matrix ::-webkit-inner-spin-button{display:none}
  @media print{.handle .reach{display:none}}
  `;
})();
