"""The scripts that write what is shipped, and what they wrote."""

import hashlib
import json
import runpy
import subprocess
import sys
from pathlib import Path

import adapt_tiny_gpt
import pretrain_tiny_gpt
import pytest
import torch
import update_spectra
from safetensors.torch import load_file

from lorabook import data, models

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "assets" / "checkpoints" / "tiny_gpt.safetensors"


@pytest.fixture
def short_texts(monkeypatch) -> None:
    """Read the beginning of each corpus: losses take most of the time."""
    whole = data.corpus
    monkeypatch.setattr(data, "corpus", lambda *which: whole(*which)[:4096])


def test_they_run_as_scripts_from_any_folder(tmp_path) -> None:
    """One of them imports the others, from its own folder."""
    done = subprocess.run(
        [sys.executable, update_spectra.__file__, "--steps", "0"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.endswith("--steps needs 1 or more, got 0\n")


def provenance() -> dict:
    return json.loads(CHECKPOINT.with_suffix(".json").read_text("utf8"))


# The corpora ----------------------------------------------------------------


@pytest.fixture(scope="module")
def corpora() -> dict:
    return runpy.run_path(str(ROOT / "experiments" / "make_corpora.py"))


def test_the_files_are_those_described() -> None:
    folder = ROOT / "assets" / "data"
    files = json.loads((folder / "corpora.json").read_text("utf8"))["files"]
    assert len(files) == 6
    for name, about in files.items():
        content = (folder / name).read_bytes()
        assert len(content) == about["bytes"]
        assert hashlib.sha256(content).hexdigest() == about["sha256"]
    assert "PYTHON SOFTWARE FOUNDATION LICENSE" in (
        folder / "LICENSE-PSF.txt"
    ).read_text("utf8")


def test_repetitions_are_dropped(corpora) -> None:
    words = [f"w{i}" for i in range(40)]
    first, second = " ".join(words[:20]), " ".join(words[20:])
    near = first.replace("w19", "other")
    half = " ".join(words[:12] + [f"x{i}" for i in range(30)])
    fresh = corpora["fresh"]
    kept = fresh([first, second, first, near, near.upper(), half], set())
    assert kept == [first, second, half]


def test_of_ten_parts_two_are_held_out(corpora) -> None:
    parts = [str(i) for i in range(25)]
    texts = corpora["join"](corpora["deal"](parts))
    assert texts["validation"] == "8" + "18"
    assert texts["test"] == "9" + "19"
    assert texts["train"] == "".join(x for x in parts if int(x) % 10 < 8)


# The checkpoint -------------------------------------------------------------


def test_the_checkpoint_has_the_loss_it_claims() -> None:
    model = models.load_tiny_gpt()
    about = provenance()
    assert sum(p.numel() for p in model.parameters()) == about["parameters"]
    for name in ("docs validation", "docs test", "code test"):
        text = data.corpus(*name.split())
        found = models.bits_per_byte(model, text)
        assert found == pytest.approx(about["bits per byte"][name], abs=2e-3)
    # It has learnt English from the documentation, and not code.
    assert about["bits per byte"]["docs test"] < 2.1
    assert about["bits per byte"]["code test"] > 3


def test_its_provenance_is_complete() -> None:
    about = provenance()
    assert about["command"].startswith("python experiments/pretrain_tiny_gpt")
    assert len(about["commit"]) == 40
    assert about["torch"].startswith("2.")


def test_another_checkpoint_is_refused(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / CHECKPOINT.name).write_bytes(CHECKPOINT.read_bytes()[:-1])
    about = CHECKPOINT.with_suffix(".json")
    (folder / about.name).write_bytes(about.read_bytes())
    monkeypatch.setattr(models, "assets_folder", lambda: tmp_path)
    with pytest.raises(RuntimeError, match=r"not what tiny_gpt\.json names"):
        models.load_tiny_gpt()


def test_a_short_run_of_the_script(tmp_path, short_texts) -> None:
    """It learns, repeats itself bit for bit, and describes what it wrote."""
    found = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        torch.rand(7)  # the script's own seed counts, and not where we are
        pretrain_tiny_gpt.main(["--steps", "30", "--out", str(folder)])
        file = folder / CHECKPOINT.name
        about = json.loads(file.with_suffix(".json").read_text("utf8"))
        content = file.read_bytes()
        assert hashlib.sha256(content).hexdigest() == about["sha256"]
        assert sorted(x.name for x in folder.iterdir()) == [
            "tiny_gpt.json",
            "tiny_gpt.safetensors",
        ]
        found.append(content)
        assert about["bits per byte"]["docs test"] < 5.5
        assert about["command"].endswith("--steps 30")
    assert found[0] == found[1]
    # The same parameters as the model that is shipped, in its own numbers.
    shipped, mine = load_file(CHECKPOINT), load_file(file)
    assert {k: v.shape for k, v in shipped.items()} == {
        k: v.shape for k, v in mine.items()
    }
    assert not torch.equal(shipped["head.weight"], mine["head.weight"])


# The adaptations ------------------------------------------------------------


def test_a_cut_off_adaptation_goes_on(
    tmp_path, short_texts, monkeypatch, capsys
) -> None:
    """Runs that are in the file are kept, and the others are added."""
    file = tmp_path / "found.json"
    executed: list[float] = []
    execute = adapt_tiny_gpt.execute

    def counted(setting, steps):
        executed.append(setting["lr"])
        return execute(setting, steps)

    monkeypatch.setattr(adapt_tiny_gpt, "execute", counted)
    for limit in (1, 2):
        adapt_tiny_gpt.main(
            ["--steps", "2", "--limit", str(limit), "--out", str(file)]
        )
        found = json.loads(file.read_text("utf8"))
        assert [run["lr"] for run in found["runs"]] == [1e-4, 3e-4][:limit]
        assert executed == [1e-4, 3e-4][:limit]
    base = found["base"]["validation"]
    assert all(run["validation"] < base for run in found["runs"])
    # Longer runs may not go into the file of short ones.
    before = file.read_bytes()
    with pytest.raises(SystemExit, match="2"):
        adapt_tiny_gpt.main(["--steps", "3", "--out", str(file)])
    error = capsys.readouterr().err
    assert "found.json has runs with other settings" in error
    assert file.read_bytes() == before


def test_the_adaptations_are_complete() -> None:
    """Five seeds of each method, at a rate that is not at an end."""
    file = ROOT / "assets" / "results" / "adaptation.json"
    runs = json.loads(file.read_text("utf8"))["runs"]
    for setting in adapt_tiny_gpt.settings(runs):
        found = [run for run in runs if setting.items() <= run.items()]
        assert len(found) == 1
        if setting["seed"]:
            rates = adapt_tiny_gpt.RATES[setting["method"]]
            assert rates[0] < setting["lr"] < rates[-1]
        if setting["method"] == "matrices":
            cut = found[0]["truncated"]
            # Nothing is lost at full rank, everything at none.
            assert cut["128"] == pytest.approx(found[0]["test"], abs=1e-4)
            assert cut["0"] > cut["8"] > cut["64"]


# The spectra of the updates --------------------------------------------------


RANKS = ["0", "1", "2", "4", "8", "16", "32", "64", "128"]


def check_spectra(found: dict, ranks: list[str]) -> None:
    """24 layers, each with all its numbers."""
    model = models.load_tiny_gpt()
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "head"
    ]
    assert list(found["layers"]) == names
    assert len(names) == 24
    assert list(found["all"]) == ranks
    for name, layer in found["layers"].items():
        for kind in ("update", "weight", "noise"):
            assert len(layer[kind]) == 128
            assert layer[kind] == sorted(layer[kind], reverse=True)
            assert all(x > 0 for x in layer[kind])
        for kind in ("alone", "among"):
            assert list(layer[kind]) == ranks
        assert layer["alone"]["0"] == found["few"]["before"]
        assert layer["among"]["128"] == found["few"]["after"]
        W = model.get_submodule(name).weight.detach().double()
        assert layer["weight"] == pytest.approx(
            torch.linalg.svdvals(W).tolist(), rel=1e-4
        )
        update, noise = (
            torch.tensor(layer[x]).norm().item() for x in ("update", "noise")
        )
        assert update == pytest.approx(noise, rel=1e-4)


def test_the_spectra_are_complete() -> None:
    """The settings are those of the stored run, and so are its losses."""
    folder = ROOT / "assets" / "results"
    found = json.loads((folder / "update_spectra.json").read_text("utf8"))
    check_spectra(found, RANKS)
    about = found["provenance"]
    assert len(about["commit"]) == 40  # and not marked as changed
    assert about["command"].endswith("update_spectra.py --steps 100")
    runs = json.loads((folder / "adaptation.json").read_text("utf8"))["runs"]
    (same,) = [
        run
        for run in runs
        if run["method"] == "matrices"
        and run["seed"] == about["settings"]["seed"]
        and run["lr"] == about["settings"]["lr"]
    ]
    assert about["settings"]["lr"] == update_spectra.best_rate(
        runs, {"method": "matrices"}
    )
    assert found["all"] == pytest.approx(same["truncated"], abs=2e-3)
    # A fifth of the text, and not a special one.
    few = found["few"]
    whole = about["settings"]["bytes of test text"]
    assert few["bytes"] == pytest.approx(whole / 5, rel=0.05)
    gains = (
        found["all"]["0"] - found["all"]["128"],
        (few["before"] - few["after"]),
    )
    assert gains[1] == pytest.approx(gains[0], rel=0.1)


def test_a_cut_is_the_best_of_its_rank() -> None:
    M = torch.randn(30, 20, dtype=torch.float64)
    parts = torch.linalg.svd(M, full_matrices=False)
    cut = update_spectra.cut(parts, 7)
    assert torch.linalg.matrix_rank(cut) == 7
    rest = torch.linalg.svdvals(M)[7:].norm()
    assert (M - cut).norm() == pytest.approx(rest.item())
    assert not update_spectra.cut(parts, 0).any()


def test_a_short_run_takes_updates_apart(
    tmp_path, short_texts, monkeypatch
) -> None:
    file = tmp_path / "found.json"
    monkeypatch.setattr(update_spectra, "CUTS", (0, 8, 128))
    update_spectra.main(
        ["--steps", "2", "--bytes", "3000", "--out", str(file)]
    )
    text = file.read_text("utf8")
    found = json.loads(text)
    check_spectra(found, ["0", "8", "128"])
    assert len(text.splitlines()) < 1000  # a spectrum on a line
    assert found["provenance"]["command"].endswith("--steps 2 --bytes 3000")
    assert found["all"]["128"] < found["all"]["0"]
