// Search the book, in the page: the index is a script, so that this works
// from a disk too. A section is found if it has all words; what stands in its
// title, and the words in their order, come first.
"use strict";

const Search = (() => {
  const MOST = 40; // results that are shown
  const AROUND = 110; // letters before and after what was found

  // As it is compared: small letters without accents, "-ise" as "-ize". It
  // is as long as before, so that what is found can be shown.
  const bare = (letter) => {
    const parts = letter.normalize("NFKD").replace(/[\u0300-\u036f]/g, "");
    return parts.length === 1 ? parts : letter;
  };
  const plain = (text) => text.replace(/[^\x00-\x7f]/g, bare)
    .toLowerCase().replace(/’/g, "'")
    .replace(/([a-z]{2})is(?=(e|ed|es|er|ers|ing|able|ations?)\b)/g, "$1iz")
    .replace(/([a-z]{2})ys(?=(e|ed|es|er|ers|ing)\b)/g, "$1yz");
  const escaped = (word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const words = (query) => plain(query).match(/[\p{L}\p{N}_.-]+/gu) ?? [];

  // The beginning of a word is enough, and a plural is its singular.
  const beginning = (word) => {
    const stem = word.length > 3 && !/(ss|us|is)$/.test(word)
      ? word.replace(/(?<=s|x|ch|sh)es$|s$/, "") : word;
    return `(?<![\\p{L}\\p{N}_])${escaped(stem)}`;
  };

  // "theorem 4.2", "eq. (4.2)": what has a number, by its kind.
  const KINDS = { eq: "equation", fig: "figure", thm: "theorem",
    ch: "chapter", sec: "section", ex: "exercise" };
  const numbered = (query, index) => {
    const found = /^\s*([a-z]+)\.?\s*\(?(\d+(?:\.\d+)*)\)?\.?\s*$/i
      .exec(query);
    if (!found) return null;
    const kind = found[1].toLowerCase();
    return index.numbers[`${KINDS[kind] ?? kind} ${found[2]}`] ?? null;
  };

  // Return {place, title, text, at, length, score} for each section found.
  const find = (query, index) => {
    const wanted = words(query);
    if (!wanted.length) return [];
    const each = wanted.map((word) => new RegExp(beginning(word), "u"));
    const phrase = new RegExp(
      wanted.map(beginning).join("[\\p{L}'-]*[\\s-]+"), "gu");
    const whole = new RegExp(`^${wanted.map(beginning)
      .join("[\\p{L}'-]*[\\s-]+")}s?$`, "u");
    const results = [];
    for (const [place, title, text, code] of index.sections) {
      const [head, body] = [plain(title), plain(text)];
      const all = `${head} ${body} ${plain(code)}`;
      if (!each.every((word) => word.test(all))) continue;
      const inTitle = each.every((word) => word.test(head));
      const told = [...body.matchAll(phrase)];
      const first = told[0] ?? each.map((word) => word.exec(body))
        .find((match) => match);
      results.push({ place, title, text, at: first?.index ?? 0,
        length: first?.[0].length ?? 0,
        score: (whole.test(head) ? 100 : 0) + (inTitle ? 40 : 0) +
          (head.match(phrase) ? 20 : 0) + Math.min(told.length, 8) * 4 +
          each.filter((word) => word.test(body)).length });
    }
    return results.sort((one, other) => other.score - one.score);
  };

  const element = (name, text = "") => {
    const made = document.createElement(name);
    made.textContent = text;
    return made;
  };

  const excerpt = ({ text, at, length }) => {
    const from = at > AROUND ? text.indexOf(" ", at - AROUND) + 1 : 0;
    const end = text.lastIndexOf(" ", at + length + AROUND);
    const to = at + length + AROUND < text.length ? end : text.length;
    const made = element("p", (from ? "… " : "") + text.slice(from, at));
    made.className = "context";
    if (length) made.append(element("mark", text.slice(at, at + length)));
    made.append(text.slice(at + length, to) + (to < text.length ? " …" : ""));
    return made;
  };

  const show = (query, index, box) => {
    const results = find(query, index);
    const exact = numbered(query, index);
    if (exact) results.unshift({ ...exact, text: "", at: 0, length: 0 });
    const list = element("ul");
    list.className = "search";
    for (const result of results.slice(0, MOST)) {
      const item = element("li");
      const link = element("a", result.title);
      link.href = result.place;
      item.append(link);
      const page = index.pages[result.place.split("#")[0]];
      if (page && page !== result.title) {
        item.append(element("span", ` ${page}`));
      }
      if (result.text) item.append(excerpt(result));
      // The page marks them, once.
      link.addEventListener("click", () => {
        try {
          localStorage.setItem("sphinx_highlight_terms", query);
        } catch { /* then they are not marked */ }
      });
      list.append(item);
    }
    const count = results.length === 1 ? "One place" :
      `${results.length || "No"} places`;
    const more = results.length > MOST ? `; the first ${MOST} are shown` : "";
    const said = element("p", words(query).length
      ? `${count} with ${words(query).length > 1 ? "all these words" :
        "this word"}${more}.` : "");
    said.setAttribute("role", "status");
    said.className = "mt-3";
    box.replaceChildren(said, list);
  };

  const start = (index) => {
    const box = document.querySelector("#search-results");
    const form = box.parentElement.querySelector("form");
    const field = form.querySelector("input[type=search]");
    const query = new URLSearchParams(location.search).get("q") ?? "";
    const exact = numbered(query, index);
    if (exact) {
      location.replace(exact.place);
      return;
    }
    field.value = query;
    show(query, index, box);
    field.focus();
    field.select();
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const found = numbered(field.value, index);
      if (found) location.assign(found.place);
    });
    field.addEventListener("input", () => {
      show(field.value, index, box);
      const address = new URL(location);
      address.searchParams.set("q", field.value);
      try { history.replaceState(null, "", address); } catch { /* a disk */ }
    });
  };

  return { find, numbered, start };
})();

if (typeof SEARCH_INDEX !== "undefined") Search.start(SEARCH_INDEX);
