// What every page needs before it is drawn, and what its buttons do. A page
// has no script of its own: its policy allows none.
"use strict";

(() => {
  // A browser may forbid to remember.
  const remembered = (name) => {
    try { return localStorage.getItem(name); } catch { return null; }
  };
  const page = document.documentElement.dataset;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  page.mode = remembered("mode") || "auto";
  page.theme = page.mode === "auto" ? (dark ? "dark" : "light") : page.mode;
  // The faces of the text, which would else be asked for when the first line
  // stands already. What lies on a disk comes at once, and may not be asked
  // for in this way.
  if (location.protocol === "file:") return;
  for (const face of ["serif", "sans", "sans-bold", "serif-bold"]) {
    const link = document.createElement("link");
    const href = new URL(`fonts/${face}.woff2`, document.currentScript.src);
    Object.assign(link, { rel: "preload", as: "font", type: "font/woff2",
                          crossOrigin: "anonymous", href });
    document.head.append(link);
  }
})();

// Settings of sphinx-togglebutton, which looks for them here.
var toggleHintShow = "Click to show";
var toggleHintHide = "Click to hide";
var toggleOpenOnPrint = "true";
var togglebuttonSelector = ".toggle, .admonition.dropdown";

document.addEventListener("click", (event) => {
  const what = event.target.closest?.("[data-do]")?.dataset.do;
  if (what === "print") print();
  if (what === "fullscreen") toggleFullScreen();
});

// Formulas are drawn by style sheets, of which a copy has nothing. Their TeX
// goes to the clipboard instead, between the words that stand around them.
document.addEventListener("copy", (event) => {
  const selection = getSelection();
  if (!selection.rangeCount || selection.isCollapsed) return;
  const range = selection.getRangeAt(0);
  const within = range.commonAncestorContainer;
  const around = (within.closest ? within : within.parentElement)
    .closest("mjx-container");
  const copy = document.createElement("div");
  copy.append(around ? around.cloneNode(true) : range.cloneContents());
  const formulas = copy.querySelectorAll("mjx-container");
  if (!formulas.length) return;
  for (const formula of formulas) {
    const wide = formula.getAttribute("display") === "true";
    const mark = wide ? "$$" : "$";
    const tex = document.createElement(wide ? "div" : "span");
    tex.textContent = mark + formula.dataset.tex + mark;
    // Its frame would put it on a line of its own.
    (wide ? formula : formula.closest(".math") ?? formula).replaceWith(tex);
  }
  copy.querySelectorAll(".headerlink").forEach((link) => link.remove());
  // Where lines end is known once it is laid out.
  Object.assign(copy.style, { position: "fixed", left: "-9999px" });
  document.body.append(copy);
  event.clipboardData.setData("text/plain", copy.innerText.trim());
  copy.remove();
  copy.removeAttribute("style");
  event.clipboardData.setData("text/html", copy.outerHTML);
  event.preventDefault();
});
