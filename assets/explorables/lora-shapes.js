/* <lr-lora-shapes outputs="512" inputs="512" rank="8">: a weight and the two
   factors of its update, to scale, with what they count up to. */
(() => {
  "use strict";
  const { h, percent } = LR;
  const LOW = 16, HIGH = 16384, THINNEST = 1.5;

  const PRESETS = {
    "512 × 512": [512, 512, 8],
    "4096 × 4096": [4096, 4096, 8],
    "GPT-3": [12288, 12288, 4],
    "Llama 3 8B, MLP": [14336, 4096, 16],
  };
  const SIZES = { outputs: "d_out", inputs: "d_in", rank: "r" };
  const count = (x) => x.toLocaleString("en");
  const size = (bytes) => bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB`
    : bytes >= 1e6 ? `${(bytes / 1e6).toFixed(2)} MB`
      : bytes >= 1e3 ? `${(bytes / 1e3).toFixed(2)} kB` : `${bytes} B`;

  const S = (LR.shapes = {
    facts(d, k, r) {
      const w0 = d * k, ab = r * (d + k);
      return { w0, ab, share: ab / w0, even: w0 / (d + k), bytes: 2 * ab };
    },
    /* Rectangles [x, y, width, height] of W0, B and A in `room` by `tall`
       pixels, to one scale; `thin` tells that a strip is drawn too thick. */
    layout(d, k, r, room, tall) {
      const gap = 26;
      const unit = Math.min((room - 2 * gap - 4) / (2 * k + r),
        tall / Math.max(d, r));
      const strip = Math.max(THINNEST, r * unit);
      const b = 2 + k * unit + gap, a = b + strip + gap;
      return { thin: strip > r * unit, unit, W0: [2, 2, k * unit, d * unit],
        B: [b, 2, strip, d * unit], A: [a, 2, k * unit, strip] };
    },
  });

  class LoraShapes extends LR.Explorable {
    static title = "How large is the update beside the weight?";
    static css = `
      .sizes{display:grid;gap:.35rem .75rem;align-items:center;
        grid-template-columns:auto minmax(5rem,1fr) auto;margin:.75rem 0}
      .sizes input[type=number]{width:6.2rem}
      svg{display:block;width:100%;margin:.5rem 0}
      svg .body{fill:color-mix(in srgb,var(--fg) 9%,transparent);
        stroke:var(--fg);stroke-width:1.5}
      svg .kept{fill:var(--c1)}
      svg text{font-size:14px;fill:var(--fg)}
      svg .mid{text-anchor:middle}
      .note{min-height:4.5em}`;

    start() {
      const attribute = (name, low, fallback) => this.option(name,
        LR.whole(low, HIGH), `a whole number from ${low} to ${HIGH}`,
        fallback);
      this.outputs = attribute("outputs", LOW, 512);
      this.inputs = attribute("inputs", LOW, 512);
      this.rank = attribute("rank", 1, 8);
      if (this.rank > this.most()) this.rank = this.most();

      this.fields = {};
      const form = h("div", { class: "sizes controls" });
      for (const [name, sign] of Object.entries(SIZES)) {
        const low = name === "rank" ? 1 : LOW;
        const slider = h("input", { type: "range", id: name, step: 0.5,
          min: Math.log2(low), max: Math.log2(HIGH), oninput: () =>
            this.set({ [name]: Math.round(2 ** +slider.value) }, true) });
        const typed = h("input", { type: "number", min: low, max: HIGH,
          step: 1, "aria-label": `${sign} as a number`, onchange: () =>
            this.set({ [name]: typed.valueAsNumber }) });
        this.fields[name] = { slider, typed };
        form.append(h("label", { for: name, class: "name" }, sign), slider,
          typed);
      }
      this.svg = h("svg", { role: "img" });
      new ResizeObserver(() => this.draw()).observe(this.svg);
      this.note = h("p", { class: "note", id: "note" });
      const row = (id, words) => h("tr", {},
        h("th", { scope: "row" }, words), h("td", { id }));
      this.figure.append(
        LR.guess("A layer has 4096 inputs and 4096 outputs, and r = 8. How " +
          "many numbers do A and B hold together, in percent of those of " +
          "W₀?", 0, 100, (x) => this.reveal(x)),
        h("div", { class: "row controls", role: "group",
          "aria-label": "Layers to try" },
        h("span", { class: "name" }, "Try"),
        Object.entries(PRESETS).map(([name, [outputs, inputs, rank]]) =>
          LR.button(name, () => this.set({ outputs, inputs, rank })))),
        form, this.svg,
        h("table", {}, h("caption", { class: "hidden" },
          "What the three matrices hold"), h("tbody", {},
          row("w0", "numbers in W₀, d_out · d_in"),
          row("ab", "numbers in B and A, r (d_out + d_in)"),
          row("share", "trained share"),
          row("even", "break-even rank"),
          row("bytes", "the adapter as a file, 16 bits"))),
        this.note);
      this.draw();
    }

    most() {
      return Math.min(this.outputs, this.inputs);
    }

    /* A slider that goes too far stops; a number that does is named. */
    set(values, clamp = false) {
      for (const [name, x] of Object.entries(values)) {
        const low = name === "rank" ? 1 : LOW;
        if (!Number.isInteger(x) || x < low || x > HIGH) {
          this.complain(`${SIZES[name]} must be a whole number from ${low} ` +
            `to ${HIGH}.`);
          return this.draw();
        }
      }
      const next = { outputs: this.outputs, inputs: this.inputs,
        rank: this.rank, ...values };
      const most = Math.min(next.outputs, next.inputs);
      if (next.rank > most) {
        if (!clamp && "rank" in values) {
          this.complain(`r must not exceed the smaller side, ${most}.`);
          return this.draw();
        }
        next.rank = most;
      }
      this.complain("");
      Object.assign(this, next);
      this.draw();
    }

    reveal(guess) {
      this.set({ outputs: 4096, inputs: 4096, rank: 8 });
      const right = 100 * S.facts(4096, 4096, 8).share;
      const said = guess === null ? "" : `You said ${guess}%. `;
      return `${said}It is ${right.toFixed(2)}%: two strips of 4096 by 8 ` +
        "beside a square of 4096 by 4096." +
        (guess > 2 * right ? " Twice the side, half the share." : "");
    }

    draw() {
      const { outputs: d, inputs: k, rank: r } = this;
      for (const name in SIZES) {
        const { slider, typed } = this.fields[name];
        slider.value = Math.log2(this[name]);
        slider.setAttribute("aria-valuetext",
          `${SIZES[name]} = ${this[name]}`);
        typed.value = this[name];
      }
      const { w0, ab, share, even, bytes } = S.facts(d, k, r);
      const digits = share < 0.001 ? 3 : share < 1 ? 2 : 0;
      const text = { w0: count(w0), ab: count(ab),
        share: percent(share, digits), even: even.toFixed(1),
        bytes: size(bytes) };
      for (const id in text)
        this.shadowRoot.getElementById(id).textContent = text[id];
      const room = this.svg.clientWidth || 480;
      const at = S.layout(d, k, r, room, 240);
      const tall = Math.max(at.W0[3], at.A[3]) + 30;
      const box = (type, [x, y, w, t]) =>
        `<path class="${type}" d="M${x} ${y}h${w}v${t}h${-w}Z"/>`;
      const word = (words, x, y, type = "mid") =>
        `<text class="${type}" x="${x}" y="${y}">${words}</text>`;
      const mid = ([x, , w]) => x + w / 2;
      this.svg.setAttribute("viewBox", `0 0 ${room} ${tall}`);
      this.svg.innerHTML = box("body", at.W0) + box("kept", at.B) +
        box("kept", at.A) + word("W₀", mid(at.W0), at.W0[3] + 20) +
        word("B", mid(at.B), at.B[3] + 20) +
        word("A", mid(at.A), at.A[3] + 20);
      this.svg.setAttribute("aria-label", `W₀, ${d} by ${k}; B, ${d} by ${
        r}; A, ${r} by ${k}: A and B hold ${text.share} as many numbers`);
      this.note.textContent = (share > 1
        ? `From r = ${Math.floor(even) + 1} on, A and B hold more numbers ` +
          "than W₀ itself. "
        : "") + (at.thin
        ? "The strips are drawn thicker than they are: to scale they would " +
          `be ${(r * at.unit).toFixed(r * at.unit < 0.01 ? 4 : 2)} pixels ` +
          "thin."
        : "All is drawn to one scale.");
      this.say(`d_out ${d}, d_in ${k}, r ${r}: A and B hold ${
        text.share} of the numbers of W₀.`);
    }
  }
  LR.define("lr-lora-shapes", LoraShapes);
})();
