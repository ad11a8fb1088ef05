/* <lr-lora-shapes outputs="512" inputs="512" rank="8">: a weight and the two
   factors of its update, to scale, with what they count up to. */
(() => {
  "use strict";
  const { h, percent, grouped } = LR;
  const LOW = 16, HIGH = 16384, THINNEST = 1.5, ASKED = 4096;

  const LAYERS = {
    "512 × 512": [512, 512, 8],
    "4096 × 4096": [4096, 4096, 8],
    "GPT-3": [12288, 12288, 4],
    "Llama 3 8B, MLP": [14336, 4096, 16],
  };
  const SIZES = { rank: "r", outputs: "d_out", inputs: "d_in" };
  const size = (bytes) => bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB`
    : bytes >= 1e6 ? `${(bytes / 1e6).toFixed(2)} MB`
      : bytes >= 1e3 ? `${(bytes / 1e3).toFixed(2)} kB` : `${bytes} B`;

  const S = (LR.shapes = {
    facts(d, k, r) {
      const w0 = d * k, ab = r * (d + k);
      return { w0, ab, share: ab / w0, even: w0 / (d + k), bytes: 2 * ab };
    },
    /* The same as text. */
    texts(d, k, r) {
      const { w0, ab, share, even, bytes } = S.facts(d, k, r);
      const digits = share < 0.001 ? 3 : share < 1 ? 2 : 0;
      return { w0: grouped(w0), ab: grouped(ab),
        share: percent(share, digits), even: even.toFixed(1),
        bytes: size(bytes) };
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
    note(d, k, r, { thin, unit }) {
      const { share, even } = S.facts(d, k, r), wide = r * unit;
      return (share > 1
        ? `From r = ${Math.floor(even) + 1} on, A and B hold more numbers ` +
          "than W₀ itself. " : "") + (thin
        ? "The strips are drawn thicker than they are: to scale they would " +
          `be ${wide.toFixed(wide < 0.01 ? 4 : 2)} pixels thin.`
        : "All is drawn to one scale.");
    },
  });

  class LoraShapes extends LR.Explorable {
    static title = "How large is the update beside the weight?";
    static css = `
      .sliders input[type=number]{width:6.2rem}
      svg{display:block;width:100%;margin:.5rem 0}
      svg .body{fill:color-mix(in srgb,var(--fg) 9%,transparent);
        stroke:var(--fg);stroke-width:1.5}
      svg .kept{fill:var(--c1)}
      svg text{font-size:14px;fill:var(--fg);text-anchor:middle}`;

    start() {
      const attribute = (name, low, fallback) => this.option(name,
        LR.whole(low, HIGH), `a whole number from ${low} to ${HIGH}`,
        fallback);
      this.outputs = attribute("outputs", LOW, 512);
      this.inputs = attribute("inputs", LOW, 512);
      this.rank = Math.min(attribute("rank", 1, 8), this.most());

      this.fields = {};
      for (const [name, sign] of Object.entries(SIZES)) {
        const low = name === "rank" ? 1 : LOW;
        this.fields[name] = LR.slider(name, sign,
          { min: Math.log2(low), max: Math.log2(HIGH), step: 0.5 },
          (e) => this.set({ [name]: Math.round(2 ** e) }, true),
          { label: `${sign} as a number`,
            change: (x) => this.set({ [name]: x }) });
      }
      const { rank, outputs, inputs } = this.fields;
      this.svg = h("svg", { role: "img" });
      new ResizeObserver(() => this.draw()).observe(this.svg);
      this.note = h("p", { id: "note" });
      const number = (id) => h("b", { class: "num", id });
      this.figure.append(
        LR.guess(`A weight W₀ is ${ASKED} by ${ASKED}. At which rank r do A ` +
          "and B together hold as many numbers as W₀ itself?", 1, HIGH,
        (x) => this.reveal(x)),
        LR.choices("Layer", LAYERS, ([outputs, inputs, rank]) =>
          this.set({ outputs, inputs, rank })),
        LR.sliders(rank), this.svg,
        h("p", { id: "line" }, "W₀ holds ", number("w0"), " numbers, B and A ",
          number("ab"), ": ", number("share"), "."),
        this.note,
        LR.more(LR.sliders(outputs, inputs), LR.table("More about the layer", {
          even: "B and A hold as many as W₀ at the rank d_out · d_in / " +
            "(d_out + d_in)",
          bytes: "the adapter as a file, 16 bits a number" }, "even")));
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
      const { even } = S.facts(ASKED, ASKED, 1);
      this.set({ outputs: ASKED, inputs: ASKED, rank: even });
      const said = guess === null ? "" : `You said ${guess}. `;
      return `${said}At r = ${even}, half the width: then r (${ASKED} + ${
        ASKED}) is ${ASKED}². At r = 8 they hold ${
        S.texts(ASKED, ASKED, 8).share}.`;
    }

    draw() {
      const { outputs: d, inputs: k, rank: r } = this;
      for (const name in SIZES)
        this.fields[name].show(Math.log2(this[name]),
          `${SIZES[name]} = ${this[name]}`, this[name]);
      const text = S.texts(d, k, r);
      this.write(text);
      const room = this.svg.clientWidth || 480;
      const at = S.layout(d, k, r, room, 240);
      const tall = Math.max(at.W0[3], at.A[3]) + 30;
      const part = (type, name, [x, y, w, t]) =>
        `<path class="${type}" d="M${x} ${y}h${w}v${t}h${-w}Z"/>` +
        `<text x="${x + w / 2}" y="${t + 20}">${name}</text>`;
      this.svg.setAttribute("viewBox", `0 0 ${room} ${tall}`);
      this.svg.innerHTML = part("body", "W₀", at.W0) +
        part("kept", "B", at.B) + part("kept", "A", at.A);
      this.svg.setAttribute("aria-label", `W₀, ${d} by ${k}; B, ${d} by ${
        r}; A, ${r} by ${k}: A and B hold ${text.share} as many numbers`);
      this.note.textContent = S.note(d, k, r, at);
      this.say(`d_out ${d}, d_in ${k}, r ${r}: A and B hold ${
        text.share} of the numbers of W₀.`);
    }
  }
  LR.define("lr-lora-shapes", LoraShapes);
})();
