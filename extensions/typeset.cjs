// Typeset TeX with MathJax, one request a line: read {"formulas": [{"tex",
// "display"}], "fonts": URL} and answer {"html": [...], "css", "errors"}.
// The style sheet holds only what these formulas use.
//
//     node typeset.cjs FOLDER_OF_MATHJAX MACROS_AS_JSON
"use strict";
const readline = require("readline");
const [folder, macros] = process.argv.slice(2);
// The letters of MathJax's fonts beside those of the text.
const SCALE = 1.05;
// In the box of a theorem, a phone 390 px wide shows about so many em. What
// is wider scrolls, and who scrolls by keyboard must be able to get there.
const PHONE = 16;

async function main() {
  const MathJax = await require(folder + "/node-main.js").init({
    loader: {
      load: ["input/tex", "output/chtml", "adaptors/liteDOM",
        "a11y/assistive-mml"],
      paths: { mathjax: folder },
      require: require,
    },
    // Without "noundefined", an unknown command is an error, not red text.
    tex: {
      macros: JSON.parse(macros),
      packages: { "[-]": ["noundefined", "noerrors"] },
    },
    chtml: { fontURL: "@fonts@", adaptiveCSS: true, scale: SCALE },
  });
  const { adaptor, output } = MathJax.startup;
  // The width, in em, is known only while a formula is being set.
  let width = 0;
  const setMath = output.processMath.bind(output);
  output.processMath = (root, node) => {
    setMath(root, node);
    let box = output.nodeMap.values().next().value;
    while (box?.parent) box = box.parent;
    width = box ? box.getOuterBBox().w * SCALE : 0;
  };
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { formulas, fonts } = JSON.parse(line);
    output.clearCache();
    const errors = [];
    const html = [];
    for (const { tex, display } of formulas) {
      const node = await MathJax.tex2chtmlPromise(tex, { display });
      if (display && width > PHONE) adaptor.setAttribute(node, "tabindex", "0");
      const text = adaptor.outerHTML(node);
      const problem = /data-mjx-error="([^"]*)"/.exec(text);
      if (problem) errors.push(`${problem[1]}: ${tex}`);
      html.push(text);
    }
    const css = adaptor.textContent(MathJax.chtmlStylesheet());
    console.log(JSON.stringify({
      html, errors, css: css.replaceAll("@fonts@", fonts),
    }));
  }
}

main().catch((error) => { console.error(error); process.exit(1); });
