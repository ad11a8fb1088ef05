"""Write the two text corpora, from the Python that runs this script.

    python experiments/make_corpora.py

English is the reference documentation that ``help()`` shows (the module
`pydoc_data.topics`); code is the beginning of every top-level module of the
standard library. The files in ``assets/data`` are a snapshot: the book's
numbers must not change with the reader's Python. ``corpora.json`` beside them
tells where they come from, and the SHA-256 of each.

Both texts repeat themselves: the help on "compound" contains that on "if",
"while" and "for", and licences open many modules. A passage that had occurred
before would be learned by heart and then be met again in the test set. So
repetitions are dropped first, and what is left is split afterwards.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from pydoc_data.topics import topics

import provenance

STDLIB = Path(sysconfig.get_paths()["stdlib"])
SPLITS = ("train", "validation", "test")
WORDS = 8  # of a shingle: that many equal words in a row are no accident
FILE_BYTES = 12 * 1024
DOCS_GROUP = 8  # paragraphs that stay together in one split


def shingles(text: str) -> set[tuple[str, ...]]:
    """Return all runs of `WORDS` words; of a shorter text, the whole."""
    words = re.findall(r"\w+", text.lower())
    last = max(1, len(words) - WORDS + 1)
    return {tuple(words[i : i + WORDS]) for i in range(last)}


def fresh(paragraphs: Iterable[str], seen: set[tuple[str, ...]]) -> list[str]:
    """Drop each paragraph of which half or more has occurred before."""
    kept = []
    for paragraph in paragraphs:
        mine = shingles(paragraph)
        if len(mine & seen) < len(mine) / 2:
            kept.append(paragraph)
        seen |= mine
    return kept


def paragraphs_of(text: str) -> list[str]:
    """Split at blank lines; lines keep their indentation."""
    parts = re.split(r"\n\s*\n", text.strip("\n"))
    return [part.rstrip() for part in parts if part.strip()]


def deal(parts: list[str]) -> Iterator[tuple[str, str]]:
    """Yield each part with its split: of ten, the ninth and the tenth."""
    for i, part in enumerate(parts):
        yield {8: "validation", 9: "test"}.get(i % 10, "train"), part


def docs() -> dict[str, str]:
    """Return the English corpus, one text a split."""
    seen: set[tuple[str, ...]] = set()
    kept: list[str] = []
    for name in sorted(topics):
        kept += fresh(paragraphs_of(topics[name]), seen)
    groups = [
        "\n\n".join(kept[i : i + DOCS_GROUP]) + "\n\n"
        for i in range(0, len(kept), DOCS_GROUP)
    ]
    return join(deal(groups))


def code() -> dict[str, str]:
    """Return the corpus of code, one text a split, split by module."""
    seen: set[tuple[str, ...]] = set()
    modules = []
    for path in sorted(STDLIB.glob("*.py")):
        if path.name.startswith("_sysconfigdata"):
            continue  # settings of one build on one machine, no source
        head = path.read_bytes()[:FILE_BYTES].decode("utf8", errors="ignore")
        if len(head.encode()) >= FILE_BYTES - 4:
            head = head.rsplit("\n", 1)[0]  # not the middle of a line
        kept = fresh(paragraphs_of(head), seen)
        if kept:
            modules.append("\n\n".join(kept) + "\n\n\n")
    return join(deal(modules))


def join(dealt: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Put the parts of each split together, in order."""
    texts = dict.fromkeys(SPLITS, "")
    for split, part in dealt:
        texts[split] += part
    return texts


def main(arguments: list[str] | None = None) -> None:
    """Run the command line: write the files and their provenance."""
    parser = provenance.parser(__doc__, provenance.ASSETS / "data")
    options = parser.parse_args(arguments)
    folder: Path = options.out
    texts = {
        f"python_{corpus}.{split}.txt": text.encode()
        for corpus, parts in (("docs", docs()), ("code", code()))
        for split, text in parts.items()
    }
    licence, index = folder / "LICENSE-PSF.txt", folder / "corpora.json"
    own = [licence, index, *(folder / name for name in texts)]
    settings = {
        "docs": "pydoc_data.topics",
        "code": f"the first {FILE_BYTES // 1024} KiB of each top-level "
        "module of the standard library",
        "words of a shingle": WORDS,
        "paragraphs of docs that stay together": DOCS_GROUP,
    }
    try:
        about = provenance.record(
            "python experiments/make_corpora.py",
            settings,
            own,
            options.allow_dirty,
        )
    except provenance.Refused as error:
        parser.error(str(error))
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for name, content in texts.items():
        (folder / name).write_bytes(content)
        files[name] = {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        print(f"{name}: {len(content):,} bytes")
    shutil.copy(STDLIB / "LICENSE.txt", licence)
    found = {"provenance": about, "licence": licence.name, "files": files}
    provenance.write(index, found)


if __name__ == "__main__":
    main()
