"""The scripts that write what is shipped, and what they wrote."""

import hashlib
import json
import math
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small import Bytes, byte_llama
from transformers import LlamaForCausalLM

from lorabook import data, models, tasks

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "assets" / "checkpoints" / "tiny_gpt.safetensors"


def script(name: str) -> dict:
    """Import a script as Python does that runs it: from its own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "experiments"))
        return runpy.run_path(str(ROOT / "experiments" / f"{name}.py"))


@pytest.fixture
def run(monkeypatch) -> Iterator[Callable[..., None]]:
    """Run scripts on the beginnings of the texts, and with one thread."""
    corpus, threads = data.corpus, torch.get_num_threads()
    monkeypatch.setattr(data, "corpus", lambda *names: corpus(*names)[:3000])
    monkeypatch.delenv("LORABOOK_SEED", raising=False)

    def one(name: str, *options: object) -> None:
        # The tests may be run before a commit.
        arguments = [*map(str, options), "--allow-dirty"]
        script(name)["main"](arguments)

    yield one
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "name",
    [
        "adapt_tiny_gpt",
        "adapt_smollm",
        "compare_tiny_gpt",
        "update_spectra",
        "pretrain_tiny_gpt",
        "make_corpora",
    ],
)
def test_no_script_writes_what_it_refuses(
    name: str, tmp_path, run, monkeypatch, capsys
) -> None:
    """Seeds are shifted, so that the test does not depend on the tree."""
    monkeypatch.setenv("LORABOOK_SEED", "7")
    out = tmp_path / "new" / "found.json"
    with pytest.raises(SystemExit) as refused:
        run(name, "--out", out)
    assert refused.value.code == 2
    message = "error: results are stored with LORABOOK_SEED=0 only"
    assert message in capsys.readouterr().err
    assert not out.parent.exists()


# The corpora ----------------------------------------------------------------


@pytest.fixture(scope="module")
def corpora() -> dict:
    return script("make_corpora")


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


def test_the_texts_are_written_with_their_provenance(tmp_path, run) -> None:
    run("make_corpora", "--out", tmp_path)
    about = json.loads((tmp_path / "corpora.json").read_text("utf8"))
    assert about["provenance"]["command"].endswith("make_corpora.py")
    for name, file in about["files"].items():
        content = (tmp_path / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"]
    assert (tmp_path / about["licence"]).exists()
    stored = data.results("corpora", folder="data")
    if stored.provenance["python"] == about["provenance"]["python"]:
        assert stored["files"] == about["files"]


# The checkpoint -------------------------------------------------------------


@pytest.mark.training
def test_the_checkpoint_has_the_loss_it_claims() -> None:
    model = models.load_tiny_gpt()
    about = data.results("tiny_gpt", folder="checkpoints")
    assert sum(p.numel() for p in model.parameters()) == about["parameters"]
    for name in ("docs validation", "docs test", "code test"):
        text = data.corpus(*name.split())
        found = models.bits_per_byte(model, text)
        assert found == pytest.approx(about["bits per byte"][name], abs=2e-3)
    # It has learnt English from the documentation, and not code.
    assert about["bits per byte"]["docs test"] < 2.1
    assert about["bits per byte"]["code test"] > 3


def test_the_script_has_the_settings_of_its_provenance() -> None:
    about = data.results("tiny_gpt", folder="checkpoints").provenance
    pretrain = script("pretrain_tiny_gpt")
    settings = dict(about["settings"])
    settings["betas"] = tuple(settings["betas"])
    assert settings == {
        "seed": pretrain["SEED"],
        "steps": 3000,
        "batch": pretrain["BATCH"],
        **pretrain["SETTINGS"],
        **pretrain["ADAMW"],
    }


def test_another_checkpoint_is_refused(tmp_path, monkeypatch) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / CHECKPOINT.name).write_bytes(CHECKPOINT.read_bytes()[:-1])
    about = CHECKPOINT.with_suffix(".json")
    (folder / about.name).write_bytes(about.read_bytes())
    monkeypatch.setattr(models, "assets_folder", lambda: tmp_path)
    with pytest.raises(RuntimeError, match=r"not what tiny_gpt\.json names"):
        models.load_tiny_gpt()


@pytest.mark.training
def test_a_short_run_of_the_script(tmp_path, run) -> None:
    """It learns, repeats itself bit for bit, and describes what it wrote."""
    found = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        run("pretrain_tiny_gpt", "--steps", 15, "--out", folder)
        file = folder / CHECKPOINT.name
        about = json.loads(file.with_suffix(".json").read_text("utf8"))
        content = file.read_bytes()
        assert hashlib.sha256(content).hexdigest() == about["sha256"]
        assert sorted(x.name for x in folder.iterdir()) == [
            "tiny_gpt.json",
            "tiny_gpt.safetensors",
        ]
        found.append(content)
        assert about["bits per byte"]["docs test"] < 7
        assert about["provenance"]["command"].endswith("--steps 15")
        assert about["provenance"]["settings"]["steps"] == 15
    assert found[0] == found[1]
    # The same parameters as the model that is shipped, in its own numbers.
    shipped, mine = load_file(CHECKPOINT), load_file(file)
    assert {k: v.shape for k, v in shipped.items()} == {
        k: v.shape for k, v in mine.items()
    }
    assert not torch.equal(shipped["head.weight"], mine["head.weight"])


# The adaptations ------------------------------------------------------------


@pytest.mark.training
def test_a_cut_off_adaptation_goes_on(tmp_path, run, capsys) -> None:
    """Runs that are in the file are kept, and the others are added."""
    file = tmp_path / "found.json"
    for limit in (1, 2):
        options = ("--steps", 2, "--limit", limit, "--out", file)
        run("adapt_tiny_gpt", *options)
        runs = json.loads(file.read_text("utf8"))["runs"]
        assert [run["lr"] for run in runs] == [1e-4, 3e-4][:limit]
    found = json.loads(file.read_text("utf8"))
    base = found["base"]
    for key in ("commit", "device"):
        made = found["provenance"][key]
        assert [run[key] for run in runs] == [made, made]
    assert all(run["validation"] < base["validation"] for run in runs)
    # Longer runs may not go into the file of short ones.
    before = file.read_bytes()
    capsys.readouterr()
    with pytest.raises(SystemExit) as refused:
        run("adapt_tiny_gpt", "--steps", 3, "--out", file)
    assert refused.value.code == 2
    message = "found.json has runs with another value of settings"
    assert message in capsys.readouterr().err
    assert file.read_bytes() == before


def test_a_run_that_failed_has_no_loss(monkeypatch) -> None:
    """Not 99 bits a byte: no number would be the right one."""
    adapt = script("adapt_tiny_gpt")

    def fails(**setting: object) -> None:
        raise FloatingPointError

    monkeypatch.setitem(adapt["execute"].__globals__, "adapt", fails)
    setting = {"method": "lora", "rank": 8, "lr": 1e9, "seed": 0}
    assert adapt["execute"](setting, 5) == setting | {
        "validation": None,
        "test": None,
        "docs": None,
    }


def test_alpha_and_the_rates_are_walked_to_a_valley() -> None:
    """Also where the best of either is far from where the walk starts."""
    adapt = script("adapt_tiny_gpt")
    done: list[dict] = []

    def loss(run: dict) -> float:
        # At rank r the valley is at α = 256/r, its best rate at 0.02/√α.
        alpha, rank = run.get("alpha", 16.0), run.get("rank", 8)
        rate = 0.02 * alpha**-0.5 if rank > 1 else 2e-3
        away = math.log(run["lr"] / rate) ** 2
        return away + math.log(alpha * rank / 256) ** 2 + run["seed"]

    for setting in adapt["settings"](done):
        if setting not in [x["setting"] for x in done]:
            losses = {"validation": loss(setting)}
            done.append(setting | losses | {"setting": setting})
    runs = data.Results({"runs": done})
    kind = {"method": "lora", "scaling": "alpha/r"}
    best = {r: runs.best(rank=r, **kind)["alpha"] for r in adapt["RANKS"]}
    assert best == {1: 256, 2: 64, 4: 64, 8: 16, 16: 16, 32: 4}
    for r in adapt["RANKS"]:
        at_best = runs.at_best(rank=r, **kind)
        assert [x["seed"] for x in at_best] == [0, 1, 2, 3, 4]
        assert len(runs.at_best(rank=r, alpha=16.0, **kind)) == 5
        for factor in (1 / 4, 4):
            runs.best(rank=r, alpha=best[r] * factor, **kind)


def test_the_adaptations_are_complete() -> None:
    """Five seeds of each method, at rates and α that are not at an end."""
    adapt = script("adapt_tiny_gpt")
    stored = data.results("adaptation")
    runs = stored.runs
    assert stored.provenance["settings"] == adapt["settings_used"](100)
    for setting in adapt["settings"](runs):
        found = [run for run in runs if setting.items() <= run.items()]
        assert len(found) == 1
        if setting["seed"]:
            tried = stored.pick(
                seed=0,
                method=setting["method"],
                **{x: setting[x] for x in ("rank", "alpha") if x in setting},
            )
            rates = sorted(run["lr"] for run in tried)
            assert rates[0] < setting["lr"] < rates[-1]
        if setting["method"] == "lora" and setting["seed"]:
            assert adapt["ALPHAS"][0] < setting["alpha"] < adapt["ALPHAS"][-1]
        if setting["method"] == "matrices":
            cut = found[0]["truncated"]
            # Nothing is lost at full rank, everything at none.
            assert cut["128"] == pytest.approx(found[0]["test"], abs=1e-4)
            assert cut["0"] > cut["8"] > cut["64"]


# The spectra of the updates --------------------------------------------------


@pytest.fixture(scope="module")
def spectra_script() -> dict:
    return script("update_spectra")


def check_spectra(found: dict) -> None:
    """24 layers, each with all its numbers."""
    model = models.load_tiny_gpt()
    names = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name != "head"
    ]
    ranks = ["0", "1", "2", "4", "8", "16", "32", "64", "128"]
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
    found = data.results("update_spectra")
    check_spectra(found.content)
    about = found.provenance
    assert about["command"].endswith("update_spectra.py --steps 100")
    runs = data.results("adaptation")
    lr = runs.best(method="matrices")["lr"]
    assert about["settings"]["lr"] == lr
    seed = about["settings"]["seed"]
    (same,) = runs.pick(method="matrices", seed=seed, lr=lr)
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


def test_a_cut_is_the_best_of_its_rank(spectra_script) -> None:
    M = torch.randn(30, 20, dtype=torch.float64)
    cut = spectra_script["cut"](torch.linalg.svd(M, full_matrices=False), 7)
    assert torch.linalg.matrix_rank(cut) == 7
    rest = torch.linalg.svdvals(M)[7:].norm()
    assert (M - cut).norm() == pytest.approx(rest.item())
    zero = spectra_script["cut"](torch.linalg.svd(M, full_matrices=False), 0)
    assert not zero.any()


@pytest.mark.training
def test_a_short_run_takes_updates_apart(tmp_path, run) -> None:
    file = tmp_path / "found.json"
    options = ("--steps", 2, "--bytes", 2048, "--out", file)
    run("update_spectra", *options)
    text = file.read_text("utf8")
    found = json.loads(text)
    check_spectra(found)
    assert len(text.splitlines()) < 1000  # a spectrum on a line
    assert found["provenance"]["command"].endswith("--steps 2 --bytes 2048")
    assert found["all"]["128"] < found["all"]["0"]


# The adaptations of the real model -------------------------------------------


@pytest.fixture
def tiny_llama(monkeypatch) -> LlamaForCausalLM:
    """Stand in for the real model."""
    model = byte_llama()
    monkeypatch.setattr(models, "load_smollm2", lambda: (model, Bytes()))
    monkeypatch.setattr(tasks, "LONGEST", 2)
    examples = tasks.examples
    monkeypatch.setattr(tasks, "examples", lambda x, n: examples(x, n // 30))
    return model


@pytest.mark.training
def test_a_cut_off_adaptation_of_the_real_model_goes_on(
    tmp_path, run, tiny_llama
) -> None:
    before = {k: w.clone() for k, w in tiny_llama.state_dict().items()}
    file = tmp_path / "found.json"
    options = ("--steps", 2, "--out", file)
    for limit in (1, 3, 12):
        run("adapt_smollm", *options, "--limit", limit)
    found = json.loads(file.read_text("utf8"))
    assert found["provenance"]["command"].endswith("--device cpu --steps 2")
    assert found["provenance"]["device"].startswith("CPU")
    done = found["runs"]
    # The rates around the first guess, and on to where it learns most.
    assert [x["lr"] for x in done[:3]] == [1e-3, 5e-4, 2e-3]
    best = data.Results(found).best(method="lora", rank=16)
    tried = [x["lr"] for x in done if x.get("rank") == 16 and not x["seed"]]
    assert min(tried) < best["lr"]
    base = found["base"]
    assert base["test"] == pytest.approx(math.log(256), abs=0.3)
    assert all(x["validation"] < base["validation"] for x in done)
    assert all(len(x["history"]) == 2 for x in done)
    assert len(base["said"]) == 3
    # Each run begins with the same weights.
    after = tiny_llama.state_dict()
    assert all(torch.equal(w, after[k]) for k, w in before.items())


@pytest.mark.training
def test_what_each_method_trains_and_what_a_cut_leaves(
    run, tiny_llama
) -> None:
    adapt = script("adapt_smollm")
    task = adapt["load"]("cpu")
    shapes = {
        name: p.shape
        for name, p in tiny_llama.named_parameters()
        if name.endswith("proj.weight")
    }
    for group in adapt["groups"]():
        # The least of the maps has rank 16 at most.
        rank = min(group.get("rank", 0), 16)
        setting = group | {"lr": 1e-2, "seed": 0, "rank": rank}
        model, history = adapt["adapt"](task, setting, 3)
        assert history[-1] < history[0]
        trained = {
            name: p for name, p in model.named_parameters() if p.requires_grad
        }
        method, part = group["method"], group.get("targets", "")
        if method == "matrices":
            assert set(trained) == set(shapes)
            cut = adapt["truncated"](task, model)
            test = task.loss(model, "test")
            assert cut["32"] == pytest.approx(test, abs=1e-4)
            assert cut["32"] < cut["1"] < task.loss(task.model, "test")
        elif method in ("lora", "few"):
            names = {name.rpartition(".")[0] for name in trained}
            wanted = {"all": "", "attention": "self_attn", "mlp": ".mlp."}
            chosen = [x for x in shapes if wanted[part] in x]
            assert names == {x.removesuffix(".weight") for x in chosen}
            count = sum(sum(shapes[x]) for x in chosen) * rank
            assert sum(p.numel() for p in trained.values()) == count
        elif method == "norms":
            assert all("norm" in name for name in trained)
            assert len(trained) == 2 * 2 + 1
        elif method == "last block":
            assert all(
                x.startswith(("model.layers.1.", "model.norm."))
                for x in trained
            )
        else:
            assert len(trained) == len(list(tiny_llama.parameters()))


def test_few_examples_are_the_first_of_all(monkeypatch) -> None:
    adapt, seen = script("adapt_smollm"), set()
    monkeypatch.setattr(tasks, "batch", lambda _, chosen: seen.update(chosen))
    monkeypatch.setattr(tasks, "answer_loss", lambda model, _: model)
    task = adapt["Task"](None, None, {"train": range(1000)}, None, 0)
    for known, more in ((25, {"known": 25}), (1000, {})):
        loss = adapt["batches"](task, {"seed": 0, **more})
        for _ in range(60):
            loss(None)
        assert max(seen) < known <= 1.2 * max(seen)
        assert len(seen) == known if known == 25 else len(seen) > 150


def test_parts_of_the_real_model_have_equal_budgets() -> None:
    """As many numbers, within a tenth, as all maps at rank 4."""
    parts = script("adapt_smollm")["PARTS"]
    d, kv, wide = 576, 192, 1536
    attention = 2 * (d + d) + 2 * (d + kv)
    mlp = 3 * (d + wide)
    whole = 4 * (attention + mlp)
    assert parts["attention"][0] * attention == pytest.approx(whole, rel=0.1)
    assert parts["mlp"][0] * mlp == pytest.approx(whole, rel=0.1)


def test_all_of_the_real_model_is_compared() -> None:
    """With the seeds that follow the rate with the least loss."""
    adapt = script("adapt_smollm")
    done: list[dict] = []
    for setting in adapt["settings"](done):
        # A rate that is too large fails.
        lr = setting["lr"]
        done.append(setting | {"validation": None if lr > 8e-3 else 1 / lr})
    assert {x["lr"] for x in done if x["seed"]} == {8e-3}
    assert {x["seed"] for x in done} == set(adapt["SEEDS"])
    every = adapt["groups"]()
    assert len([x for x in done if x["seed"]]) == len(every)


def test_a_walk_ends_beside_the_best_or_at_the_end() -> None:
    walk = script("sweeps")["walk_rates"]
    rates = (1.0, 2.0, 4.0, 8.0, 16.0)
    for best in rates:
        done: list[dict] = []
        for setting in walk(done, {"method": "x"}, rates, 3.9):
            done.append(setting | {"validation": abs(setting["lr"] - best)})
        tried = {x["lr"] for x in done}
        at = rates.index(best)
        assert set(rates[max(at - 1, 0) : at + 2]) <= tried
        assert all(x["seed"] == 0 for x in done)


# What is trained, and how large a batch --------------------------------------


@pytest.mark.training
def test_a_short_comparison_is_kept(tmp_path, run, monkeypatch) -> None:
    file = tmp_path / "found.json"
    run("compare_tiny_gpt", "--out", file, "--limit", 1)
    found = json.loads(file.read_text("utf8"))
    (only,) = found["runs"]
    assert (only["targets"], only["rank"], only["lr"]) == ("all", 8, 1e-2)
    # On a text of 3,000 bytes, more is forgotten than learned.
    assert 1.5 < found["base"]["docs"] < only["docs"] < 8


def test_each_method_of_the_comparison_trains_its_part() -> None:
    compare = script("compare_tiny_gpt")
    sizes = {}
    for group in compare["groups"]():
        model = models.load_tiny_gpt()
        compare["prepare"](model, group)
        trained = [n for n, p in model.named_parameters() if p.requires_grad]
        name = group.get("targets", group["method"])
        if group["steps"] == 400 and group["batch"] == 8:
            continue
        sizes[name] = sum(
            p.numel() for p in model.parameters() if p.requires_grad
        )
        belongs: Callable[[str], bool] = {
            "attention": lambda x: ".attention." in x,
            "mlp": lambda x: ".up." in x or ".down." in x,
            "all": lambda x: x.endswith((".A", ".B")),
            "full": lambda x: True,
            "head": lambda x: x.startswith(("norm.", "head.")),
            "last block": lambda x: x.startswith(
                ("blocks.3.", "norm.", "head.")
            ),
            "biases": lambda x: x.endswith("bias"),
            "norms": lambda x: "norm" in x,
        }[name]
        assert all(belongs(x) for x in trained)
        assert group["batch"] * group["steps"] == 800
    assert sizes["full"] == sum(
        p.numel() for p in models.load_tiny_gpt().parameters()
    )
    assert sizes["head"] == 128 * 256 + 256
    assert sizes["norms"] == (2 * 4 + 1) * 256
    for part in ("attention", "mlp"):
        assert sizes[part] == pytest.approx(sizes["all"], rel=0.03)


def test_long_runs_keep_their_losses(monkeypatch) -> None:
    """Of full fine-tuning and of each rank, at a rate of their own."""
    long = {"batch": 8, "steps": 400}
    compare = script("compare_tiny_gpt")
    ranks = [
        x.get("rank") for x in compare["groups"]() if long.items() <= x.items()
    ]
    assert ranks == [None, 1, 8, 32]
    done: list[dict] = []
    for setting in compare["settings"](done):
        done.append(setting | {"validation": setting["lr"]})
    found = data.Results({"runs": done})
    seeds = {x["seed"] for x in found.pick(method="full", **long)}
    assert seeds == {0, 1, 2}
    few = {x["seed"] for x in found.pick(method="full", batch=8, steps=100)}
    assert few == {0, 1, 2, 3, 4}
    # What is kept of a run.
    execute = compare["execute"]
    history = torch.arange(400.0, dtype=torch.float64)
    monkeypatch.setitem(
        execute.__globals__, "adapt", lambda _: (None, history)
    )
    monkeypatch.setitem(execute.__globals__, "losses", lambda _: {"test": 1.0})
    kept = execute({"method": "full", **long})["history"]
    assert len(kept) == 40
    assert kept[:2] == [4.5, 14.5]
    assert "history" not in execute({"method": "full", **long, "steps": 100})
