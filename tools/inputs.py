"""What a chapter's results depend on, besides its own cells.

That is Python, the packages that `requirements/chapters.txt` pins, in the
versions that are installed, the environment, the modules of `lorabook` that
the chapter reaches, and the data in `assets` that they may read. What it
reaches is read off the code without running it: every import, also inside of
functions, and every module that a text in the code names.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import environment

FOLDERS = ("checkpoints", "data", "results")  # in assets, of data
NAMED = re.compile(r"lorabook[./](\w+)|lorabook import ([\w, ]+)")


@dataclass
class Uses:
    """What a piece of code imports, and the texts in it."""

    imports: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)


def uses(source: str) -> Uses:
    """Read off what a piece of code imports and says.

    Raises
    ------
    SyntaxError
        If it is not Python.
    """
    tree = ast.parse(source)
    found = Uses()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # A relative import is one of lorabook's: the package is flat.
            start = "lorabook" if node.level else ""
            parts = [x for x in (start, node.module) if x]
            module = ".".join(parts)
            found.imports.add(module)
            # What is imported may be a module, too.
            found.imports |= {f"{module}.{x.name}" for x in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.texts.add(node.value)
    found.texts -= set(docstrings(tree))
    for text in found.texts:
        for one, several in NAMED.findall(text):
            names = re.findall(r"\w+", one or several)
            found.imports |= {f"lorabook.{name}" for name in names}
    return found


def docstrings(tree: ast.AST) -> Iterator[str]:
    """Yield the docstrings, which a program does not act on."""
    documented = (
        ast.Module,
        ast.ClassDef,
        ast.FunctionDef,
        ast.AsyncFunctionDef,
    )
    for node in ast.walk(tree):
        if isinstance(node, documented) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield first.value.value


class State(NamedTuple):
    """Hashes of a chapter's file, and of all the files that any may use."""

    text: str
    files: str


class Inputs:
    """What results depend on in one book, at one moment.

    Every file is read once.

    Parameters
    ----------
    root
        The book's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modules = {
            f"lorabook.{path.stem}": path
            for path in sorted((root / "lorabook").glob("*.py"))
        }
        self._uses = cache(self._read_uses)
        self._hash = cache(self._read_hash)
        common = [
            sys.version,
            repr(environment.SETTINGS),
            repr(sorted(environment.inherited().items())),
            *versions(root),
        ]
        self._common = hashlib.sha256("\0".join(common).encode()).hexdigest()
        every = [*self.modules.values()]
        for folder in FOLDERS:
            every += self.data(folder)
        self._all = self._hash_of(every)

    def state(self, page: str) -> State:
        """Return what does not change without a chapter's `digest`."""
        text = self._read_hash(self.root / f"{page}.md")
        return State(text, self._all)

    def reach(self, source: str) -> Uses:
        """Return what a chapter's code uses, directly or by its modules.

        Code that cannot be read uses every module, and all data.
        """
        found = self._uses_of(source)
        found.imports.add("lorabook.__init__")
        todo = found.imports & set(self.modules)
        done: set[str] = set()
        while todo:
            name = todo.pop()
            done.add(name)
            more = self._uses(name)
            found.imports |= more.imports
            found.texts |= more.texts
            todo |= (more.imports & set(self.modules)) - done
        return found

    def files(self, source: str) -> list[Path]:
        """Return the files of the book that a chapter's code may use."""
        found = self.reach(source)
        names = sorted(found.imports & set(self.modules))
        files = [self.modules[name] for name in names]
        words = set(re.findall(r"\w+", " ".join(found.texts)))
        if "lorabook.assets" in found.imports or "assets" in words:
            # Who asks for the assets and names none may read all.
            folders = words & set(FOLDERS) or set(FOLDERS)
            for folder in sorted(folders):
                files += self.data(folder)
        return files

    def data(self, folder: str) -> list[Path]:
        """Return the files of one of the assets' folders."""
        top = self.root / "assets" / folder
        return sorted(path for path in top.rglob("*") if path.is_file())

    def digest(self, source: str) -> str:
        """Return one hash of everything that a chapter's code uses."""
        return self._hash_of(self.files(source))

    def held(self, source: str, digest: str, since: float) -> bool:
        """Return whether all of it has been as it is since some moment.

        Else a result may come from what was there in between, and would be
        taken for one of what is there now.
        """
        return self.digest(source) == digest and all(
            path.stat().st_mtime < since for path in self.files(source)
        )

    def _hash_of(self, files: list[Path]) -> str:
        """Hash some files, with what is common to all chapters."""
        found = hashlib.sha256(self._common.encode())
        for path in files:
            name = path.relative_to(self.root).as_posix()
            found.update(f"\0{name}\0{self._hash(path)}".encode())
        return found.hexdigest()

    def _uses_of(self, source: str) -> Uses:
        try:
            return uses(source)
        except SyntaxError:
            return Uses(set(self.modules), {"assets", *FOLDERS})

    def _read_uses(self, name: str) -> Uses:
        return self._uses_of(self.modules[name].read_text(encoding="utf8"))

    def _read_hash(self, path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()


def versions(root: Path) -> list[str]:
    """Return the installed version of each package that chapters run on."""
    pins = (root / "requirements" / "chapters.txt").read_text(encoding="utf8")
    pinned = {normal(x) for x in re.findall(r"^[\w.-]+(?===)", pins, re.M)}
    return [x for x in installed() if x.split("==")[0] in pinned]


def installed() -> list[str]:
    """Return every installed package with its version, as a requirement.

    The names of folders say it; to read the metadata would take long.
    """
    found = set()
    for place in ("purelib", "platlib"):
        for path in Path(sysconfig.get_path(place)).glob("*.dist-info"):
            name, _, version = path.stem.partition("-")
            found.add(f"{normal(name)}=={version}")
    return sorted(found)


def normal(name: str) -> str:
    """Return the one way to write the name of a package."""
    return re.sub(r"[-_.]+", "-", name).lower()
