"""The built site is whole: links, names, addresses, downloads, no other host.

Each check takes a site and returns what is wrong with it. A small site that
passes them all is then broken in one place at a time, to see that every check
bites. What a browser has to judge is in test_browser.py, the weight of the
pages included.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import contents
import pytest
import yaml
from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).resolve().parents[2]
# Pages that Sphinx makes by itself: they are in no reading order.
MADE = {"404.html", "search.html", "genindex.html"}
LOADED = {
    "audio": "src",
    "embed": "src",
    "form": "action",
    "iframe": "src",
    "image": "href",
    "img": "src",
    "input": "src",
    "object": "data",
    "script": "src",
    "source": "src",
    "track": "src",
    "use": "href",
    "video": "src",
}
# Of <link>: these are read by machines and loaded by no browser.
NOT_LOADED = {"canonical", "alternate", "license", "author", "search"}
LEFTOVERS = (
    r"\{(?:eq|ref|numref|prf:ref|cite(?::\w)?|glue(?::\w+)?|term|doc)\}"
    r"|\(<a class=\"[^\"]*\" href=\"[^\"]*#equation-[^\"]*\">\("
    r"|tex-math|mjx-merror|data-mjx-error|system-message|(?:lab|lorabook)-static:|\\\("
    r"|Project name not set|\[\?\]|\?\?\?"
)


class Site:
    """A built site, parsed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.texts: dict[str, str] = {}
        self.soups: dict[str, BeautifulSoup] = {}
        for path in sorted(folder.rglob("*.html")):
            name = path.relative_to(folder).as_posix()
            if not name.startswith("_static/"):
                text = self.texts[name] = path.read_text(encoding="utf8")
                self.soups[name] = BeautifulSoup(text, "html.parser")
        self.ids = {
            name: Counter(str(tag["id"]) for tag in soup.find_all(id=True))
            for name, soup in self.soups.items()
        }
        self.content = {
            name: soup for name, soup in self.soups.items() if name not in MADE
        }
        first = self.soups["index.html"].find("link", rel="canonical")
        self.base = str(first["href"]) if isinstance(first, Tag) else ""
        self.base = self.base.removesuffix("index.html")

    def resolve(self, page: str, address: str) -> tuple[str, str] | None:
        """Return the file and anchor of an address; None if elsewhere."""
        if self.base and address.startswith(self.base):
            address = "/" + address.removeprefix(self.base)
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            return None
        path = unquote(parts.path)
        if path.startswith("/"):
            prefix = urlsplit(self.base).path or "/"
            path = path.removeprefix(prefix).lstrip("/")
        elif path:
            path = posixpath.join(posixpath.dirname(page), path)
        else:
            path = page
        path = posixpath.normpath(path)
        if (self.folder / path).is_dir():
            path = posixpath.normpath(posixpath.join(path, "index.html"))
        return path, unquote(parts.fragment)

    def notebooks(self) -> list[str]:
        """Return the pages that are written as text notebooks."""
        return [
            name
            for name in self.content
            if (source := self.source(name)).exists()
            and "format_name: myst" in source.read_text("utf8")[:500]
        ]

    def source(self, page: str, suffix: str = ".md") -> Path:
        """Return where the page's source is offered."""
        return (self.folder / "_sources" / page).with_suffix(suffix)


def addresses(soup: BeautifulSoup) -> Iterator[tuple[Tag, str]]:
    """Yield every element that refers to something, and to what."""
    for tag in soup.find_all(True):
        attribute = LOADED.get(tag.name, "href")
        for name in {attribute, "poster"} & set(tag.attrs):
            yield tag, str(tag[name])
        for part in str(tag.get("srcset", "")).split(","):
            if part.strip():
                yield tag, part.split()[0]


def meta(soup: BeautifulSoup, **which: str) -> str:
    """Return the content of one <meta>; "" if there is none or several."""
    found = soup.find_all("meta", attrs=which)
    return str(found[0].get("content", "")) if len(found) == 1 else ""


# The checks -----------------------------------------------------------------


def links(site: Site) -> list[str]:
    """Every address within the site leads to a file and an anchor in it."""
    found = []
    for page, soup in site.soups.items():
        for tag, address in addresses(soup):
            target = site.resolve(page, address)
            if target is None:
                if urlsplit(address).scheme == "javascript":
                    found.append(f"{page}: {address} is no address")
                continue
            path, anchor = target
            if not (site.folder / path).is_file():
                found.append(f"{page}: <{tag.name}> to {address}: no file")
            elif anchor and anchor not in site.ids.get(path, {}):
                found.append(f"{page}: <{tag.name}> to {address}: no anchor")
    return found


def sitemap(site: Site) -> list[str]:
    """The sitemap has every page once, by its canonical address."""
    text = (site.folder / "sitemap.xml").read_text(encoding="utf8")
    listed = Counter(re.findall(r"<loc>(.*?)</loc>", text))
    own = Counter(
        str(link["href"])
        for soup in site.content.values()
        for link in soup.find_all("link", rel="canonical")
    )
    found = [f"sitemap: lacks {x}" for x in own - listed]
    return found + [f"sitemap: {x} is no page" for x in listed - own]


def heads(site: Site) -> list[str]:
    """Titles, descriptions, and what a shared link shows."""
    found = []
    titles: Counter[str] = Counter()
    descriptions: Counter[str] = Counter()
    for page, soup in site.soups.items():
        title = soup.title.get_text().strip() if soup.title else ""
        titles[title] += 1
        if not title:
            found.append(f"{page}: no <title>")
        if page in MADE:
            continue
        description = meta(soup, name="description")
        descriptions[description] += 1
        if not 50 <= len(description) <= 160:
            found.append(f"{page}: description of {len(description)} letters")
        canonical = [
            str(link["href"])
            for link in soup.find_all("link", rel="canonical")
        ]
        shared = {
            name: meta(soup, property=f"og:{name}")
            for name in ("title", "description", "url", "site_name", "type")
        }
        own = site.base + page
        if canonical not in ([own], [own.removesuffix("index.html")]):
            found.append(f"{page}: canonical is {canonical}, not {own}")
        elif shared["url"] not in canonical:
            found.append(f"{page}: og:url is {shared['url']}")
        if shared["description"] != description:
            found.append(f"{page}: og:description is not the description")
        if not shared["title"] or shared["title"] not in title:
            found.append(f"{page}: og:title {shared['title']!r} in {title!r}")
        if not shared["site_name"] or not title.endswith(shared["site_name"]):
            found.append(f"{page}: og:site_name is {shared['site_name']!r}")
        if not shared["type"]:
            found.append(f"{page}: no og:type")
    for counted in (titles, descriptions):
        found += [f"{n} pages say {x!r}" for x, n in counted.items() if n > 1]
    return found


def markup(site: Site) -> list[str]:
    """A language, one h1, one main, one viewport, no id twice."""
    found = []
    for page, soup in site.soups.items():
        if not (soup.html and soup.html.get("lang")):
            found.append(f"{page}: no language")
        # The theme's cover sheet repeats the title, on paper only.
        own = [
            x
            for x in soup.find_all("h1")
            if not x.find_parent(id="jb-print-docs-body")
        ]
        counts = {
            "h1": len(own),
            "main": len(soup.find_all("main")),
            "viewport": len(soup.find_all("meta", attrs={"name": "viewport"})),
            "icon": len(soup.find_all("link", rel="icon")),
        }
        for what, count in counts.items():
            if count != 1:
                found.append(f"{page}: {count} of {what}, not one")
        twice = [name for name, n in site.ids[page].items() if n > 1]
        found += [f"{page}: id {name} occurs twice" for name in twice]
        level = 1
        for heading in soup.select("article :is(h1, h2, h3, h4, h5, h6)"):
            if int(heading.name[1]) > level + 1:
                found.append(f"{page}: {heading.get_text()!r} skips a level")
            level = int(heading.name[1])
    return found


def pictures(site: Site) -> list[str]:
    """A picture of the text says what it shows; no other lacks the word."""
    found = []
    for page, soup in site.soups.items():
        for image in soup.find_all("img"):
            alt = image.get("alt")
            name = f"{page}: {str(image.get('src'))[-40:]}"
            if alt is None:
                found.append(f"{name}: no alt")
            elif image.find_parent("article") and (
                len(str(alt)) < 15 or re.search(r"\.(svg|png|jpe?g)", str(alt))
            ):
                found.append(f"{name}: alt {alt!r} says nothing")
    return found


def other_hosts(site: Site) -> list[str]:
    """No page, style sheet, picture or script of ours loads from elsewhere."""
    found = []
    remote = re.compile(r"\s*(?:https?:|wss?:|ftp:)?//", re.I)
    # Of a style sheet, @import and url() are all that loads something.
    in_css = re.compile(
        r"@import\s+['\"]\s*((?:\w+:)?//[^'\"]*)"
        r"|url\(\s*['\"]?\s*((?:\w+:)?//[^'\")]*)"
    )
    for page, soup in site.soups.items():
        for tag, address in addresses(soup):
            relations = set(tag.get("rel") or [])
            loads = tag.name in LOADED or (
                tag.name == "link" and not relations <= NOT_LOADED
            )
            if loads and remote.match(address):
                found.append(f"{page}: <{tag.name}> loads {address}")
        styles = [x.get_text() for x in soup.find_all("style")]
        styles += [str(x["style"]) for x in soup.find_all(style=True)]
        hits = [hit for style in styles for hit in in_css.findall(style)]
        found += [f"{page}: a style loads {max(hit)}" for hit in hits]
    for path in sorted(site.folder.rglob("*")):
        name = path.relative_to(site.folder).as_posix()
        if path.suffix == ".css":
            hits = in_css.findall(path.read_text(encoding="utf8"))
            found += [f"{name}: loads {max(hit)}" for hit in hits]
        elif path.suffix == ".svg":
            text = path.read_text(encoding="utf8")
            hits = in_css.findall(text)
            hits += re.findall(r"()\b(?:href|src)=\"((?:\w+:)?//[^\"]*)", text)
            hits += re.findall(r"()<!(?:DOCTYPE|ENTITY)[^>]*(\w+://\S+)", text)
            found += [f"{name}: loads {max(hit)}" for hit in hits]
        elif path.suffix == ".js" and "explorables" in name:
            text = path.read_text(encoding="utf8")
            found += [
                f"{name}: names {address}"
                for address in re.findall(r"['\"`]((?:\w+:)?//[^'\"`]+)", text)
                if not address.startswith("http://www.w3.org/")
            ]
    return found


def search_index(site: Site) -> list[str]:
    """A reader who searches can find each page, by its title and words."""
    text = (site.folder / "searchindex.js").read_text(encoding="utf8")
    index = json.loads(text[text.index("{") : text.rindex("}") + 1])
    words: Counter[str] = Counter()
    found = []
    for place, title, told, code in index["sections"]:
        page, _, anchor = place.partition("#")
        words[page] += len({*told.split(), *code.split()})
        if not title:
            found.append(f"{place}: found without a title")
        lost = anchor and anchor not in site.ids.get(page, {})
        if lost or page not in site.content:
            found.append(f"{place}: found, but not there")
    for name, target in index["numbers"].items():
        page, _, anchor = target["place"].partition("#")
        if anchor and anchor not in site.ids.get(page, {}):
            found.append(f"{name} is not at {target['place']}")
    # A short page has few words, a chapter hundreds.
    least = dict.fromkeys(site.content, 5)
    least |= dict.fromkeys(site.notebooks(), 100)
    return found + [
        f"{page}: {words[page]} words in the search index"
        for page in site.content
        if words[page] < least[page]
    ]


def policy(site: Site) -> list[str]:
    """A page has a policy before all that it is about, and keeps it."""
    found = []
    for page, soup in site.soups.items():
        about = soup.find_all(["script", "style", "link", "meta", "base"])
        first = [x for x in about if not x.has_attr("charset")][:1]
        said = [str(x.get("content")) for x in first if x.get("http-equiv")]
        allowed = dict(
            part.split(maxsplit=1) for x in said for part in x.split("; ")
        )
        for rule in ("default-src", "base-uri"):
            if allowed.get(rule) != "'none'":
                found.append(f"{page}: its policy lets {rule} be anything")
        if not {"'self'", "file:"} >= set(
            allowed.get("script-src", "*").split()
        ):
            found.append(f"{page}: its policy lets others' scripts run")
        for tag in soup.find_all(True):
            if tag.name == "base":
                found.append(f"{page}: has a <base>")
            if tag.name == "script" and not tag.get("src"):
                found.append(f"{page}: has a script of its own: {tag.text}")
            if any(name.startswith("on") for name in tag.attrs):
                found.append(f"{page}: <{tag.name}> has a script")
    return found


def downloads(site: Site) -> list[str]:
    """Each page offers its source, and each chapter its notebook."""
    found = []
    for page, soup in site.content.items():
        offered = {
            site.resolve(page, str(link["href"]))
            for link in soup.select("a[download]")
        }
        notebook = page in site.notebooks()
        for suffix in (".md", ".ipynb")[: 1 + notebook]:
            file = site.source(page, suffix)
            where = file.relative_to(site.folder).as_posix()
            if (where, "") not in offered:
                found.append(f"{page}: does not offer {suffix}")
            if not file.is_file():
                found.append(f"{page}: there is no {where}")
        if notebook:
            for file in (
                site.source(page, ".ipynb"),
                site.folder.parent / "notebooks" / f"{Path(page).stem}.ipynb",
            ):
                found += [f"{page}: {x}" for x in not_a_notebook(file)]
    if not site.notebooks():
        found.append("no page is a notebook")
    return found


def not_a_notebook(file: Path) -> list[str]:
    if not file.is_file():
        return [f"there is no {file.name} in {file.parent.name}"]
    content = json.loads(file.read_text(encoding="utf8"))
    cells = Counter(cell["cell_type"] for cell in content["cells"])
    if content["nbformat"] != 4 or min(cells["code"], cells["markdown"]) < 2:
        return [f"{file.name} in {file.parent.name} is no whole notebook"]
    if any(cell.get("outputs") for cell in content["cells"]):
        return [f"{file.name} in {file.parent.name} carries outputs"]
    return []


def launch_buttons(site: Site, repository: str = "") -> list[str]:
    """Links to the repository and to Colab or Binder: all, or none at all."""
    hosts = r"colab\.research\.google|mybinder\.org|//github\.com/[^/]+/[^/]+"
    found = []
    for page, soup in site.content.items():
        shown = [
            str(link["href"])
            for link in soup.select(".article-header-buttons a[href]")
            if re.search(hosts, str(link["href"]))
        ]
        if not repository:
            found += [f"{page}: a button leads to {x}" for x in shown]
        elif page in site.notebooks() and not (
            any("colab" in x and f"{repository}/" in x for x in shown)
            and any("mybinder" in x and f"{repository}/" in x for x in shown)
        ):
            found.append(f"{page}: no button for Colab or Binder")
    return found


def leftovers(site: Site) -> list[str]:
    """No markup that Sphinx, MathJax or our extensions failed to resolve."""
    found = []
    quoted = re.compile(r"<(code|pre|script|style)\b.*?</\1>", re.S)
    for page, text in site.texts.items():
        text = quoted.sub("", text)
        for hit in re.finditer(LEFTOVERS, text):
            around = text[max(hit.start() - 40, 0) : hit.end() + 40]
            found.append(f"{page}: {' '.join(around.split())}")
    return found


def numbers(site: Site) -> list[str]:
    """What cells hand to sentences is there, and written for readers."""
    wrong = re.compile(
        r"(?i:\b(nan|inf)\b)|\d[eE][+-]?\d|(^|[ (])-[\d.]|^\s*$"
    )
    return [
        f"{page}: {found.text!r} in a sentence"
        for page, soup in site.content.items()
        for found in soup.select(".glued")
        if wrong.search(found.text)
    ]


Check = Callable[[Site], list[str]]
CHECKS: list[Check] = [
    links,
    sitemap,
    heads,
    markup,
    pictures,
    other_hosts,
    search_index,
    policy,
    downloads,
    leftovers,
    numbers,
]


def name(value: Any) -> str | None:
    return getattr(value, "__name__", None)


# The book's site ------------------------------------------------------------


@pytest.fixture(scope="module")
def site(site_dir: Path) -> Site:
    return Site(site_dir)


def test_launch_buttons(site: Site) -> None:
    text = (ROOT / "_config.yml").read_text(encoding="utf8")
    config = yaml.safe_load(text)["sphinx"]["config"]
    repository = config["launch_repository"] or os.environ.get(
        "GITHUB_REPOSITORY", ""
    )
    assert launch_buttons(site, repository) == []


@pytest.mark.parametrize("check", CHECKS, ids=name)
def test_site(site: Site, check: Check) -> None:
    found = check(site)
    assert not found, "\n".join(["", *found])


def test_site_has_every_page_of_the_reading_order(site: Site) -> None:
    assert set(site.content) == {f"{x}.html" for x in contents.pages(ROOT)}
    assert set(site.soups) >= {"404.html", "search.html"}


# A small site, and what breaks it -------------------------------------------


def page(title: str, up: str, body: str, where: str) -> str:
    described = f"{title} is a page of a small site that is as it should be."
    return f"""\
<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src 'self'; base-uri 'none'">
<title>{title} — Small</title>
<meta name="viewport" content="width=device-width">
<meta name="description" content="{described}">
<meta property="og:title" content="{title}">
<meta property="og:description" content="{described}">
<meta property="og:url" content="https://example.org/small/{where}">
<meta property="og:site_name" content="Small">
<meta property="og:type" content="website">
<link rel="canonical" href="https://example.org/small/{where}">
<link rel="icon" href="{up}icon.svg"><link rel="stylesheet" href="{up}x.css">
<style>p {{ background: url("data:,") }}</style>
</head><body><main><article><h1 id="top">{title}</h1>{body}</article></main>
<div class="article-header-buttons">
<a download href="{up}_sources/{where.replace("html", "md")}">.md</a>
</div></body></html>"""


NOTEBOOK = json.dumps(
    {
        "nbformat": 4,
        "cells": [
            {"cell_type": kind, "source": ""}
            for kind in ("code", "markdown") * 2
        ],
    }
)
SMALL = {
    "html/index.html": page(
        "Home",
        "",
        '<a href="chapters/one.html#claim">One</a> <code>{eq}`x`</code>'
        '<a href="https://example.com/">elsewhere</a>',
        "index.html",
    ),
    "html/chapters/one.html": page(
        "One",
        "../",
        '<h2 id="claim">Claim</h2><a href="../index.html">up</a>'
        '<img src="../icon.svg" alt="A square, filled with one colour.">'
        '<span class="glued">−0.2 (−0.3 to 6 × 10⁻⁵)</span>'
        '<a download href="../_sources/chapters/one.ipynb">.ipynb</a>',
        "chapters/one.html",
    ),
    "html/404.html": page(
        "Not found",
        "/small/",
        '<a href="/small/index.html">home</a>',
        "404.html",
    ).replace("_sources/404.md", "icon.svg"),
    "html/search.html": page("Search", "", "", "search.html").replace(
        "_sources/search.md", "icon.svg"
    ),
    "html/icon.svg": '<svg xmlns="http://www.w3.org/2000/svg"></svg>',
    "html/x.css": "p { background: url(icon.svg) }",
    "html/_static/explorables/x.js": 'const here = "/x"; // https://elsewhere',
    "html/sitemap.xml": "<loc>https://example.org/small/index.html</loc>"
    "<loc>https://example.org/small/chapters/one.html</loc>",
    "html/searchindex.js": "const SEARCH_INDEX = "
    + json.dumps(
        {
            "numbers": {
                "theorem 1.1": {"place": "chapters/one.html#claim"},
                "chapter 1": {"place": "chapters/one.html"},
            },
            "sections": [
                ["chapters/one.html", "One", "Its words.", "seed_all"],
                [
                    "chapters/one.html#claim",
                    "Claim",
                    " ".join(f"word{i}" for i in range(200)),
                    "",
                ],
                ["index.html", "Home", "Here begins a small site.", ""],
            ],
        }
    )
    + ";",
    "html/_sources/index.md": "# Home",
    "html/_sources/chapters/one.md": "---\n  format_name: myst\n---\n# One",
    "html/_sources/chapters/one.ipynb": NOTEBOOK,
    "notebooks/one.ipynb": NOTEBOOK,
}
ONE, HOME = "html/chapters/one.html", "html/index.html"
BROKEN: list[tuple[Check, str, str, str]] = [
    (links, HOME, "one.html#claim", "two.html"),
    (links, HOME, "one.html#claim", "one.html#claims"),
    (links, HOME, "https://example.com/", "https://example.org/small/x.html"),
    (links, HOME, "https://example.com/", "javascript:void(0)"),
    (links, "html/404.html", "/small/index.html", "/small/start.html"),
    (links, "html/404.html", "/small/icon.svg", "/small/logo.svg"),
    (links, "html/search.html", "x.css", "y.css"),
    (links, ONE, 'src="../icon.svg"', 'src="icon.svg"'),
    (links, ONE, 'src="', 'srcset="../big.svg 2x" src="'),
    (sitemap, "html/sitemap.xml", "chapters/one", "chapters/two"),
    (sitemap, "html/sitemap.xml", "<loc>https://example.org/small/index.", ""),
    (heads, ONE, "<title>One — Small", "<title>"),
    (heads, ONE, "<title>One — Small", "<title>Home — Small"),
    (heads, ONE, "One is a page of a small site that", "It"),
    (heads, ONE, '"One is', '"Home is'),
    (heads, ONE, 'property="og:description" content="One', 'content="One'),
    (heads, ONE, 'property="og:title" content="One', 'content="One'),
    (heads, ONE, 'og:site_name" content="Small', 'og:site_name" content="Big'),
    (heads, ONE, '"og:type"', '"og:kind"'),
    (heads, ONE, 'og:url" content="https', 'og:url" content="http'),
    (heads, ONE, 'canonical" href="https', 'canonical" href="http'),
    (markup, ONE, ' lang="en"', ""),
    (markup, ONE, "<h2", "<h1>Two</h1><h2"),
    (markup, ONE, "<h2", '<meta name="viewport"><h2'),
    (markup, ONE, 'id="claim"', 'id="top"'),
    (markup, ONE, 'rel="icon"', 'rel="shortcut"'),
    (markup, ONE, "<h2", "<h3>Three</h3><h2"),
    (markup, ONE, "main>", "div>"),
    (pictures, ONE, ' alt="A square, filled with one colour."', ""),
    (pictures, ONE, "A square, filled with one colour.", "A square"),
    (
        pictures,
        ONE,
        "A square, filled with one colour.",
        "_images/abcdefg.svg",
    ),
    (other_hosts, ONE, 'href="../x.css"', 'href="https://example.com/x.css"'),
    (
        other_hosts,
        ONE,
        'rel="icon" href="..',
        'rel="icon" href="//example.com',
    ),
    (other_hosts, ONE, 'src="../icon.svg"', 'src="https://example.com/x.svg"'),
    (
        other_hosts,
        ONE,
        "<h2",
        '<script src="http://example.com/x"></script><h2',
    ),
    (other_hosts, ONE, "<h2", '<iframe src="//example.com/"></iframe><h2'),
    (other_hosts, ONE, "<h2", '<img srcset="https://example.com/x 2x"><h2'),
    (other_hosts, ONE, 'url("data:,', 'url("https://example.com/x'),
    (other_hosts, ONE, "<h2", '<p style="background:url(//example.com)"><h2'),
    (other_hosts, "html/x.css", "icon.svg", "https://example.com/icon.svg"),
    (other_hosts, "html/x.css", "p {", "@import 'https://example.com'; p {"),
    (
        other_hosts,
        "html/icon.svg",
        "></",
        '><image href="http://example.com"/></',
    ),
    (
        other_hosts,
        "html/_static/explorables/x.js",
        '"/x"',
        '"https://example.com"',
    ),
    (search_index, "html/searchindex.js", 'one.html", "One', 'x", "One'),
    (search_index, "html/searchindex.js", "Here begins", "So"),
    (search_index, "html/searchindex.js", '#claim", "Cl', '#c", "Cl'),
    (search_index, "html/searchindex.js", '#claim"}', '#claims"}'),
    (search_index, "html/searchindex.js", '"Claim"', '""'),
    (policy, ONE, "'none'", "'self'"),
    (policy, ONE, "script-src 'self'", "script-src 'self' example.org"),
    (policy, ONE, "script-src 'self'", "script-src 'self' 'unsafe-inline'"),
    (policy, ONE, "<title>", "<base href='/'><title>"),
    (policy, ONE, "<h2", "<script>x()</script><h2"),
    (policy, ONE, "<h2", '<p onclick="x()"></p><h2'),
    (policy, ONE, 'http-equiv="Content', 'name="Content'),
    (
        downloads,
        ONE,
        '<a download href="../_sources/chapters/one.ipynb"',
        "<a",
    ),
    (downloads, HOME, "<a download", "<a"),
    (downloads, "html/_sources/chapters/one.ipynb", "markdown", "raw"),
    (downloads, "notebooks/one.ipynb", '"source": ""', '"outputs": [1]'),
    (downloads, "html/_sources/chapters/one.md", "format_name", "format"),
    (leftovers, ONE, "Claim", "Claim {eq}`x`"),
    (
        leftovers,
        ONE,
        "Claim",
        '(<a class="x" href="two.html#equation-x">(1.2)</a>)',
    ),
    (leftovers, ONE, "Claim", "<tex-math>x</tex-math>"),
    (leftovers, ONE, "Claim", '<div class="system-message">x</div>'),
    (leftovers, ONE, "Claim", '<img src="lab-static:x.svg">'),
    (numbers, ONE, "6 × 10⁻⁵", "6e-05"),
    (numbers, ONE, "−0.3", "-0.3"),
    (numbers, ONE, "−0.2", "nan"),
    (numbers, ONE, "−0.2 (−0.3 to 6 × 10⁻⁵)", ""),
]


def write(folder: Path, files: dict[str, str]) -> Site:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf8")
    return Site(folder / "html")


@pytest.mark.parametrize("check", [*CHECKS, launch_buttons], ids=name)
def test_small_site_passes(check: Check, tmp_path: Path) -> None:
    assert check(write(tmp_path, SMALL)) == []


@pytest.mark.parametrize(("check", "file", "old", "new"), BROKEN, ids=name)
def test_check_bites(
    check: Check, file: str, old: str, new: str, tmp_path: Path
) -> None:
    assert old in SMALL[file]
    broken = {**SMALL, file: SMALL[file].replace(old, new)}
    assert check(write(tmp_path, broken)) != []


def test_missing_notebook_is_noticed(tmp_path: Path) -> None:
    small = write(tmp_path, SMALL)
    (tmp_path / "notebooks" / "one.ipynb").unlink()
    assert downloads(small) != []


def test_launch_buttons_bite(tmp_path: Path) -> None:
    button = '<a href="https://colab.research.google.com/github/a/b/x.ipynb">x'
    button += '</a><a href="https://mybinder.org/v2/gh/a/b/x">x</a>'
    with_buttons = SMALL[ONE].replace("<a download", f"{button}<a download")
    launchable = write(tmp_path, {**SMALL, ONE: with_buttons})
    assert launch_buttons(launchable) != []
    assert launch_buttons(launchable, "a/c") != []
    assert launch_buttons(launchable, "a/b") == []
    assert launch_buttons(write(tmp_path, SMALL), "a/b") != []


def test_every_check_is_seen_to_bite() -> None:
    assert {check for check, *_ in BROKEN} == set(CHECKS)
