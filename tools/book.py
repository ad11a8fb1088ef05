"""Build the book: execute what is stale, then write the strict site.

    python tools/book.py [CHAPTER ...] [--jobs N] [--force] [--linkcheck]

Sphinx works on a copy of the last good site and of what it remembers of it. A
build that succeeds is shown by moving one link; one that fails or is killed
leaves nothing behind, so the next starts from the same good site again. In
`_build`:

    html, notebooks     what is shown
    site -> site.N      the last good site, with Sphinx's memory of it
    next                the site that is being built
    sphinx.log          what Sphinx and its helpers said, besides warnings
"""

from __future__ import annotations

import argparse
import functools
import gc
import hashlib
import importlib
import io
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import environment

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    environment.enter(ROOT)

# It draws pictures for social networks, which are switched off here, and it
# would import all of Matplotlib.
sys.modules["sphinxext.opengraph._social_cards"] = None  # type: ignore

import execute
import myst_nb.core.execute.cache
import nbformat.v4.nbbase
import pybtex.plugin
import pybtex.style.formatting
import yaml
from inputs import installed
from jsonschema.exceptions import ValidationError
from jupyter_book.config import get_final_config
from sphinx.application import Sphinx, builtin_extensions
from sphinx.errors import ExtensionError, SphinxError
from sphinx.util.console import nocolor
from sphinx.util.docutils import docutils_namespace, patch_docutils


def stamp() -> str:
    """Return a hash of what builds the site, besides the book itself."""
    parts = [sys.version, *installed(), Path(__file__).read_text("utf8")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def begin(build: Path, by: str, anew: bool = False) -> Path:
    """Return the folder to build in: empty, or a copy of the good site.

    Of a site that something else has built than the given stamp says,
    nothing is kept.
    """
    good, new = build / "site", build / "next"
    shutil.rmtree(new, ignore_errors=True)
    for old in build.glob("site.*"):
        if not (good.exists() and old.samefile(good)):
            shutil.rmtree(old)
    before = good / "stamp"
    known = before.exists() and before.read_text(encoding="utf8") == by
    if known and not anew:
        shutil.copytree(good, new)
    else:
        new.mkdir()
        (new / "stamp").write_text(by, encoding="utf8")
    return new


def publish(build: Path) -> None:
    """Show what has been built, by moving one link."""
    numbers = [int(x.suffix[1:]) for x in build.glob("site.*")]
    new = build / f"site.{max(numbers, default=0) + 1}"
    (build / "next").rename(new)
    link(build / "site", new.name)
    for name in ("html", "notebooks"):
        link(build / name, f"site/{name}")
    for number in numbers:
        shutil.rmtree(build / f"site.{number}")


def link(path: Path, target: str) -> None:
    """Point a link at a target; what was there before is replaced."""
    if path.is_symlink() and os.readlink(path) == target:
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    new = path.with_name(f".{path.name}")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    os.replace(new, path)


def refuse(notebook: Any, **_: Any) -> NoReturn:
    """Stand in for MyST-NB's execution, which knows no digest."""
    del notebook
    raise SphinxError(
        "a chapter has changed since it was executed: run make again"
    )


def hasten() -> None:
    """Let others do once what they do again and again, all in vain."""
    # Sphinx makes millions of objects that stay: looking for garbage among
    # them again and again took a third of the time.
    gc.set_threshold(1_000_000, 20, 100)
    # At each citation the names of all plugins would be read anew.
    pybtex.plugin.entry_points = functools.cache(pybtex.plugin.entry_points)
    # Each work would be formatted for the list, and anew for the tooltips.
    formatted: dict[tuple[type, str, int], tuple[Any, Any]] = {}
    format_entry = pybtex.style.formatting.BaseStyle.format_entry

    def once(style: Any, label: str, entry: Any, bib_data: Any = None) -> Any:
        key = type(style), label, id(entry)
        if key not in formatted:
            # With the entry, so that no other one can get its number.
            found = format_entry(style, label, entry, bib_data)
            formatted[key] = entry, found
        return formatted[key][1]

    pybtex.style.formatting.BaseStyle.format_entry = once
    # A notebook is validated whole when it is written.
    nbformat.v4.nbbase.validate = lambda *_, **__: None


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Send what this process and its children print to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with path.open("w", encoding="utf8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in enumerate(saved, start=1):
            os.dup2(copy, number)
            os.close(copy)


def run_sphinx(root: Path, builder: str, folder: Path) -> str:
    """Build from the book's sources; return the warnings."""
    config, _ = get_final_config(
        user_yaml=root / "_config.yml",
        cli_config={
            "external_toc_path": "_toc.yml",
            "latex_individualpages": False,
            "nb_execution_cache_path": str(root / "_build/.jupyter_cache"),
            "nitpicky": True,
        },
        sourcedir=root,
        raise_on_invalid=True,
    )
    nocolor()
    warnings = io.StringIO()
    with patch_docutils(None), docutils_namespace():
        app = Sphinx(
            srcdir=root,
            confdir=None,
            outdir=folder / builder,
            doctreedir=folder / "doctrees",
            buildername=builder,
            confoverrides=config,
            status=None,
            warning=warnings,
        )
        app.build()
    text = warnings.getvalue()
    if app.statuscode and not text:
        raise SphinxError(f"it ended with status {app.statuscode}")
    return text


def get_ready(root: Path) -> None:
    """Import what Sphinx will import, as far as it is not the book's own."""
    # What is wrong with the configuration, the build will say.
    with suppress(Exception), output_to(Path(os.devnull)):
        text = (root / "_config.yml").read_text(encoding="utf8")
        config = yaml.safe_load(text)["sphinx"]
        for name in [*builtin_extensions, *config["config"]["extensions"]]:
            if name not in config["local_extensions"]:
                importlib.import_module(name)


def unforeseen(error: Exception) -> bool:
    """Return whether nobody raised this to tell an author something."""
    if isinstance(error, ExtensionError) and error.orig_exc is not None:
        return unforeseen(error.orig_exc)
    return not isinstance(
        error, SphinxError | ValidationError | yaml.YAMLError
    )


def attempt(
    root: Path, builder: str, folder: Path
) -> tuple[str, Exception | None]:
    """Let Sphinx build; return its warnings, and what has stopped it."""
    with output_to(root / "_build" / "sphinx.log"):
        try:
            return run_sphinx(root, builder, folder), None
        except Exception as error:
            traceback.print_exc()
            return "", error


def build_site(root: Path) -> int:
    """Write the site, with every warning an error; return the status."""
    build, started = root / "_build", time.time()
    folder = begin(build, stamp())
    continued = (folder / "doctrees").exists()
    warnings, error = attempt(root, "html", folder)
    if error and continued and unforeseen(error):
        print(
            "what Sphinx remembers of the last site is damaged and "
            "forgotten: every page is written again",
            file=sys.stderr,
        )
        folder = begin(build, stamp(), anew=True)
        warnings, error = attempt(root, "html", folder)
    if error or warnings:
        return failed(build, warnings, error)
    if changed_since(root, started):
        print("a source has changed meanwhile: the site is built again")
        return build_site(root)
    publish(build)
    return 0


def changed_since(root: Path, moment: float) -> bool:
    """Return whether a source was written after some moment.

    Sphinx notes when it has read a page, and not what: of a page that was
    edited at that time it would show the older text for ever.
    """
    folders = ("assets", "chapters", "extensions", "lorabook")
    files = [x for name in folders for x in (root / name).rglob("*.*")]
    files += [*root.glob("_*.yml"), *root.glob("*.md"), *root.glob("*.bib")]
    return any(
        path.stat().st_mtime >= moment
        for path in files
        if path.suffix != ".pyc" and path.exists()
    )


def failed(build: Path, warnings: str, error: Exception | None) -> int:
    """Say why there is no new site."""
    shutil.rmtree(build / "next", ignore_errors=True)
    print(warnings, end="", file=sys.stderr)
    if error is None:
        why = "every warning above is an error"
    else:
        kind = getattr(error, "category", type(error).__name__)
        why = f"{kind}: {error} (more in _build/sphinx.log)"
    return execute.fail(f"The site was not built: {why}.")


def check_links(root: Path) -> int:
    """Ask other sites for what the book links to; return the status."""
    folder = root / "_build" / "linkcheck"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    warnings, error = attempt(root, "linkcheck", folder)
    if error or warnings:
        print(warnings, end="", file=sys.stderr)
        return execute.fail(f"Links are broken: {error or 'see above'}.")
    return 0


def main(root: Path, options: argparse.Namespace) -> int:
    """Execute and write what the options ask for; return the status."""
    status = execute.main(root, options)
    if status == 0:
        build = check_links if options.linkcheck else build_site
        status = build(root)
    return status


if __name__ == "__main__":
    hasten()
    # Sphinx reads a chapter from the cache, or not at all.
    myst_nb.core.execute.cache.single_nb_execution = refuse
    cli = argparse.ArgumentParser(description=(__doc__ or "").split(".")[0])
    execute.add_arguments(cli)
    cli.add_argument(
        "--linkcheck", action="store_true", help="check links, write no site"
    )
    cli.add_argument(
        "--wait", action="store_true", help="get ready, and wait for a line"
    )
    options = cli.parse_args()
    if options.wait:
        get_ready(ROOT)
        if not sys.stdin.readline():
            sys.exit()
    execute.guarded(main, ROOT, options)
