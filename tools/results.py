"""Keep the results of chapters, and know which of them are still true."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import nbformat
from inputs import State
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from kernels import Run
from sqlalchemy.exc import SQLAlchemyError


class ResultsError(Exception):
    """Results cannot be written."""


class Results:
    """The results of a book's chapters, in files of `_build`.

    jupyter-cache keeps the executed notebooks by the hash of their cells;
    beside each stands the digest of what else it depends on, and its own
    hash. `runs.json` says of each chapter when it was executed, how long that
    took, and in which state of all its inputs it was last found to be
    current. A new run is written there first: then its page is read again
    even if the rest does not succeed. Where a file is damaged, all are
    forgotten.

    Parameters
    ----------
    build
        The folder `_build`.
    """

    def __init__(self, build: Path) -> None:
        self.folder = build / ".jupyter_cache"
        self.file = build / "runs.json"
        build.mkdir(exist_ok=True)
        self.log: dict[str, dict[str, Any]] = {}
        self.keys: set[str] = set()
        if not self.sound():
            print(
                "the results of earlier runs are damaged and forgotten: "
                "every chapter runs again",
                file=sys.stderr,
            )
            self.forget()
        self.cache = get_cache(str(self.folder))

    def sound(self) -> bool:
        """Read the files as they are; return whether that is possible."""
        database = self.folder / "global.db"
        try:
            if self.file.exists():
                log = json.loads(self.file.read_text(encoding="utf8"))
                for entry in log.values():
                    float(entry["seconds"]) + float(entry["finished"])
                self.log = log
            if database.exists():
                with closing(sqlite3.connect(database)) as connection:
                    check = connection.execute("PRAGMA quick_check")
                    if check.fetchone() != ("ok",):
                        return False
                    keys = connection.execute("SELECT hashkey FROM nbcache")
                    self.keys = {key for (key,) in keys}
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            sqlite3.DatabaseError,
        ):
            return False
        return True

    def forget(self) -> None:
        """Forget every result."""
        self.log, self.keys = {}, set()
        self.file.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def seconds(self, page: str) -> float:
        """Return how long a chapter took; infinitely long if never run."""
        entry = self.log.get(page)
        return entry["seconds"] if entry else float("inf")

    def current(self, page: str, state: State) -> bool:
        """Return whether a page was found current in the same state."""
        entry = self.log.get(page, {})
        key = entry.get("key")
        return (
            entry.get("text") == state.text
            and entry.get("files") == state.files
            and key in self.keys
            and self._intact(key, entry.get("sha256"))
        )

    def digest(self, page: str, notebook: Any, state: State) -> str | None:
        """Return the digest of a page's inputs, where it is known.

        The same cells, and the same files that any may use, have the same.
        """
        entry = self.log.get(page, {})
        if entry.get("files") != state.files:
            return None
        try:
            record = self.cache.match_cache_notebook(notebook)
        except KeyError:
            return None
        if record.hashkey != entry.get("key"):
            return None
        found: str | None = (record.data or {}).get("inputs")
        return found

    def hold(
        self, page: str, notebook: Any, inputs: str, state: State
    ) -> bool:
        """Return whether there are results of these cells and inputs."""
        try:
            record = self.cache.match_cache_notebook(notebook)
        except KeyError:
            return False
        known = record.data or {}
        if known.get("inputs") != inputs or not self._intact(
            record.hashkey, known.get("sha256")
        ):
            return False
        if page in self.log:
            self.log[page] |= {
                **state._asdict(),
                "key": record.hashkey,
                "sha256": known["sha256"],
            }
            replace(self.file, json.dumps(self.log, indent=1))
        return True

    def _intact(self, key: str, expected: str | None) -> bool:
        """Return whether an executed notebook is the one that was kept."""
        file = self.folder / "executed" / key / "base.ipynb"
        return file.exists() and sha256(file.read_bytes()) == expected

    def keep(self, run: Run, inputs: str, state: State) -> None:
        """Keep what a chapter has printed and shown.

        Raises
        ------
        ResultsError
            If that cannot be written.
        """
        stored, key = self.cache.create_hashed_notebook(run.notebook)
        text = nbformat.writes(  # type: ignore[no-untyped-call]
            stored, nbformat.NO_CONVERT
        )
        self.log[run.page] = {
            "seconds": round(run.seconds, 1),
            # Sphinx reads a page again when it finds a later time here.
            "finished": time.time(),
            **state._asdict(),
            "key": key,
            "sha256": sha256(text.encode()),
        }
        bundle = CacheBundleIn(
            run.notebook,
            f"{run.page}.md",
            data={
                "execution_seconds": run.seconds,
                "inputs": inputs,
                "sha256": self.log[run.page]["sha256"],
            },
        )
        try:
            replace(self.file, json.dumps(self.log, indent=1))
            self.cache.cache_notebook_bundle(
                bundle, check_validity=False, overwrite=True
            )
        except (OSError, SQLAlchemyError) as error:
            why = getattr(error, "strerror", None) or error.args[0]
            raise ResultsError(
                f"The results of {run.page}.md cannot be written to "
                f"{self.folder.parent} ({why}). Is the disk full? "
                "Make room, then run make again."
            ) from error


def sha256(text: bytes) -> str:
    """Return a hash of a file's content."""
    return hashlib.sha256(text).hexdigest()


def replace(path: Path, text: str) -> None:
    """Write a file so that it is at all times the old one or the new one."""
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf8")
    os.replace(new, path)
