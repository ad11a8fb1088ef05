"""Where the files lie that the package reads."""

from pathlib import Path


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
