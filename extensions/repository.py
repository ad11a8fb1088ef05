"""The repository on GitHub, from the configuration or from GitHub itself."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config


def find_repository(app: Sphinx, config: Config) -> None:
    """Set `launch_repository` to "owner/name", or to nothing.

    Anything else ends the build with one sentence: an exception would bury
    it under the traceback of everything that called this.
    """
    del app
    name, said_by = config.launch_repository, "launch_repository"
    if not name:
        said_by = "GITHUB_REPOSITORY"
        name = os.environ.get(said_by, "")
    if name and not re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.A):
        sys.exit(f"{said_by} is {name!r}, but has to be like owner/name.")
    config.launch_repository = name


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the value, and find it before others ask."""
    app.add_config_value("launch_repository", "", "env", types=[str])
    app.connect("config-inited", find_repository, priority=50)
    return {"version": "1", "parallel_read_safe": True}
