// Folds open for whoever is sent into one: by a link, by a search, by print.
// Without this script they still open by a click.
(() => {
  const folds = () => document.querySelectorAll(".fold");

  // Open every fold around an element, and the element if it is one.
  const open = (inside) => {
    for (let fold = inside?.closest("details"); fold;
         fold = fold.parentElement.closest("details")) {
      fold.open = true;
    }
  };
  const target = (hash) => {
    const name = decodeURIComponent(hash.slice(1));
    return name ? document.getElementById(name) : null;
  };
  // A target that was hidden had no place to scroll to.
  const follow = () => {
    const found = target(location.hash);
    if (found?.closest("details:not([open])")) {
      open(found);
      found.scrollIntoView();
    }
  };
  addEventListener("hashchange", follow);
  // A link to where the page already is changes no hash.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href*='#']");
    if (link && link.pathname === location.pathname) open(target(link.hash));
  });
  addEventListener("load", () => {
    follow();
    // The search marks its words ten milliseconds after the page stands.
    setTimeout(() => {
      document.querySelectorAll("details .highlighted").forEach(open);
    }, 100);
  });

  // A button opens all, or closes all, but verdicts and hints: those would
  // give an answer away.
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-do=unfold]");
    if (!button) return;
    const unfold = button.textContent === "Unfold all";
    for (const fold of folds()) {
      if (!fold.closest(".quiz, .exercise")) fold.open = unfold;
    }
    button.textContent = unfold ? "Fold all" : "Unfold all";
  });

  // Paper is light and has no folds.
  let closed = [];
  let theme = "";
  addEventListener("beforeprint", () => {
    closed = [...folds()].filter((fold) => !fold.open);
    closed.forEach((fold) => { fold.open = true; });
    theme = document.documentElement.dataset.theme ?? "";
    document.documentElement.dataset.theme = "light";
  });
  addEventListener("afterprint", () => {
    closed.forEach((fold) => { fold.open = false; });
    document.documentElement.dataset.theme = theme;
  });
})();
