"""Stored results say how they came about, or are refused."""

import json
import subprocess
from pathlib import Path

import provenance
import pytest

from lorabook import assets, data
from lorabook.assets import read_stored
from lorabook.data import Results

CLEAN, DIRTY = "0" * 40, "0" * 40 + "-dirty"
ABOUT = {
    "command": "python experiments/x.py",
    "commit": CLEAN,
    "settings": {"steps": 3, "betas": (0.9, 0.99)},
    "python": "3.11.0",
    "torch": "2.13.0",
    "device": "CPU, 1 thread",
}


def without(*keys: str) -> dict:
    return {k: v for k, v in ABOUT.items() if k not in keys}


# The reader


@pytest.mark.parametrize(
    "content",
    [
        {"provenance": ABOUT},
        {"provenance": ABOUT, "runs": []},
        {"provenance": ABOUT, "runs": [{"commit": "f" * 40}]},
        # From before each run had a commit.
        {"provenance": ABOUT | {"runs without a commit": "x"}, "runs": [{}]},
    ],
)
def test_what_says_how_it_came_about_is_read(content, tmp_path) -> None:
    path = tmp_path / "found.json"
    path.write_text(json.dumps(content))
    assert read_stored(path) == json.loads(json.dumps(content))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "found.json does not say how it came about"),
        ({"runs": []}, "found.json does not say how it came about"),
        ({"provenance": "mine"}, "found.json does not say how it came about"),
        ({"provenance": without("commit")}, "its provenance has no commit"),
        ({"provenance": without("torch", "device")}, "no torch, device$"),
        (
            {"provenance": ABOUT | {"commit": DIRTY}},
            r"^found.json comes from a tree with changes .*-dirty\): run it",
        ),
        ({"provenance": ABOUT | {"commit": "unknown"}}, "changes"),
        ({"provenance": ABOUT | {"commit": "abc1234"}}, "changes"),
        ({"provenance": ABOUT | {"commit": None}}, "changes"),
        (
            {"provenance": ABOUT, "runs": [{"commit": CLEAN}, {"lr": 1}]},
            "^run 1 of found.json does not say of which commit it is$",
        ),
        (
            {"provenance": ABOUT, "runs": [{"commit": DIRTY}]},
            "^run 0 of found.json comes from a tree with changes",
        ),
        (
            {
                "provenance": ABOUT | {"runs without a commit": "x"},
                "runs": [{}, {"commit": DIRTY}],
            },
            "^run 1 of found.json comes from a tree with changes",
        ),
    ],
)
def test_what_does_not_say_so_is_refused(content, words, tmp_path) -> None:
    path = tmp_path / "found.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=words):
        read_stored(path)


def test_no_file_and_no_json_are_told(tmp_path) -> None:
    path = tmp_path / "found.json"
    with pytest.raises(FileNotFoundError, match=r"are stored in .*found\.jso"):
        read_stored(path)
    for text in ("", "{", "\x00"):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"^found\.json is no JSON$"):
            read_stored(path)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("adaptation", "results"),
        ("update_spectra", "results"),
        ("tiny_gpt", "checkpoints"),
        ("corpora", "data"),
    ],
)
def test_what_is_shipped_is_read(name: str, folder: str) -> None:
    about = data.results(name, folder).provenance
    assert about["command"].startswith("python experiments/")


def test_every_file_of_results_is_read_here() -> None:
    shipped = {x.stem for x in (assets.assets_folder() / "results").iterdir()}
    assert shipped == {
        "adaptation",
        "comparison",
        "smollm",
        "update_spectra",
    }


# The best rate

RUNS = [
    {"method": "a", "lr": 0.1, "seed": 0, "validation": 3.0, "test": 1.0},
    {"method": "a", "lr": 0.2, "seed": 0, "validation": 2.0, "test": 2.0},
    {"method": "a", "lr": 0.3, "seed": 0, "validation": 2.0, "test": 0.0},
    {"method": "a", "lr": 0.4, "seed": 0, "validation": None, "test": None},
    {"method": "a", "lr": 0.2, "seed": 2, "validation": 9.0, "test": 9.0},
    {"method": "a", "lr": 0.1, "seed": 1, "validation": 0.0, "test": 0.0},
    {"method": "a", "lr": 0.2, "seed": 1, "validation": 8.0, "test": 9.0},
    {"method": "b", "lr": 0.1, "seed": 0, "validation": 1.0, "test": 9.0},
    {"method": "c", "lr": 0.1, "seed": 0, "validation": None, "test": None},
]


def test_the_rate_is_chosen_on_validation_with_seed_0() -> None:
    found = Results({"runs": RUNS})
    assert found.best(method="a")["lr"] == 0.2
    assert found.best(method="b")["lr"] == 0.1
    assert [x["seed"] for x in found.at_best(method="a")] == [0, 1, 2]
    assert found.pick(method="a", seed=2) == [RUNS[4]]


def test_no_rate_is_no_answer() -> None:
    found = Results({"runs": RUNS})
    message = r"^every run with the settings \{'method': 'c'\} failed$"
    with pytest.raises(ValueError, match=message):
        found.best(method="c")["lr"]
    for ask in (found.best, found.at_best, found.pick):
        with pytest.raises(ValueError, match=r"no run has the settings \{.*z"):
            ask(method="z")


def test_parts_have_their_names() -> None:
    found = Results({"provenance": ABOUT, "all": {"1": 2}})
    assert found["all"] == {"1": 2}
    assert found.provenance == ABOUT
    with pytest.raises(KeyError, match="few"):
        found["few"]


# The writer


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """Return a repository with one commit, in which scripts would lie."""
    root = tmp_path / "tree"
    root.mkdir()
    monkeypatch.delenv("LORABOOK_SEED", raising=False)
    monkeypatch.setattr(provenance, "ROOT", root)
    (root / "code.py").write_text("x = 1\n")
    (root / ".gitignore").write_text("*.ignored\n")
    for command in (
        "init -q",
        "add .",
        "-c user.name=x -c user.email=x@x.x commit -q -m one",
    ):
        subprocess.run(["git", *command.split()], cwd=root, check=True)
    return root


def record(tree: Path, allow_dirty: bool = False) -> dict:
    return provenance.record(
        "python x.py", {"steps": 3}, [tree / "found.json"], allow_dirty
    )


def test_a_clean_tree_names_its_commit(tree: Path) -> None:
    head = provenance.git("rev-parse", "HEAD").strip()
    assert len(head) == 40
    about = record(tree)
    assert about["commit"] == head
    assert set(assets.PROVENANCE) == set(about)
    assert about["device"].startswith("CPU (")


def test_a_gpu_has_a_name(monkeypatch) -> None:
    monkeypatch.setattr(provenance.torch.cuda, "get_device_name", str.upper)
    assert provenance.device("cuda") == "CUDA"


@pytest.mark.parametrize("path", ["code.py", "new.py", "folder/new.py"])
def test_a_tree_with_changes_is_refused(tree: Path, path: str) -> None:
    (tree / path).parent.mkdir(exist_ok=True)
    (tree / path).write_text("x = 2\n")
    with pytest.raises(provenance.Refused, match=r"is in no commit \(.*-dir"):
        record(tree)
    about = record(tree, allow_dirty=True)
    assert about["commit"].endswith("-dirty")
    provenance.write(tree / "found.json", {"provenance": about})
    with pytest.raises(ValueError, match="changes that are in no commit"):
        read_stored(tree / "found.json")


def test_what_the_script_writes_itself_is_no_change(tree: Path) -> None:
    """It must be able to go on where it was cut off."""
    (tree / "found.json").write_text("{}")
    (tree / "x.ignored").write_text("")
    assert len(record(tree)["commit"]) == 40
    outside = provenance.commit([tree.parent / "elsewhere.json"])
    assert outside.endswith("-dirty")


def test_outside_of_a_repository_nothing_is_known(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(provenance.Refused, match=r"in no commit \(unknown\)"):
        record(tmp_path)
    assert record(tmp_path, allow_dirty=True)["commit"] == "unknown"


def test_shifted_seeds_are_not_stored(tree: Path, monkeypatch) -> None:
    monkeypatch.setenv("LORABOOK_SEED", "1000")
    with pytest.raises(provenance.Refused, match="LORABOOK_SEED=0 only"):
        record(tree, allow_dirty=True)


def test_a_file_is_written_whole_and_readable(tmp_path) -> None:
    path = tmp_path / "new" / "found.json"
    content = {
        "provenance": ABOUT,
        "numbers": [1, -2.5, 1e-9, 3],
        "words": ["a, 1", "b [ 2 ]"],
        "rows": [[1, 2], [3, 4]],
        "runs": [{"commit": CLEAN, "lr": 0.1}],
    }
    provenance.write(path, content)
    assert read_stored(path) == json.loads(json.dumps(content))
    text = path.read_text()
    assert '"numbers": [1, -2.5, 1e-09, 3],\n' in text
    assert text.endswith("}\n")
    assert [x.name for x in path.parent.iterdir()] == ["found.json"]


def test_what_is_no_number_is_not_written(tmp_path) -> None:
    path = tmp_path / "found.json"
    provenance.write(path, {"loss": 1})
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            provenance.write(path, {"loss": wrong})
    assert json.loads(path.read_text()) == {"loss": 1}


def test_a_file_goes_on_with_its_runs(tmp_path) -> None:
    path = tmp_path / "found.json"
    assert provenance.resume(path, dict(ABOUT)) == []
    runs = [
        {"lr": 0.1, "commit": CLEAN},
        {"lr": 0.2, "commit": CLEAN, "device": "a GPU"},
    ]
    provenance.write(path, {"provenance": ABOUT, "runs": runs})
    # Each keeps the device that it was made on.
    later = ABOUT | {"commit": "1" * 40, "device": "a faster GPU"}
    runs[0]["device"] = ABOUT["device"]
    assert provenance.resume(path, later) == runs
    assert "runs without a commit" not in later
    old = ABOUT | {"runs without a commit": "made at 0 or before"}
    provenance.write(path, {"provenance": old, "runs": [{"lr": 0.1}]})
    kept = [{"lr": 0.1, "device": ABOUT["device"]}]
    assert provenance.resume(path, later) == kept
    assert later["runs without a commit"] == "made at 0 or before"


@pytest.mark.parametrize("key", ["settings", "python", "torch"])
def test_runs_of_another_kind_do_not_mix(key: str, tmp_path) -> None:
    path = tmp_path / "found.json"
    provenance.write(path, {"provenance": ABOUT, "runs": []})
    with pytest.raises(provenance.Refused, match=f"another value of {key}$"):
        provenance.resume(path, ABOUT | {key: "other"})
