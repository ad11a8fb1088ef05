"""Adapters in files, against PEFT and loralib, and against ill will."""

from __future__ import annotations

import copy
import json
import os
import pickle
import re
import struct
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import loralib
import peft
import pytest
import safetensors.torch
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from peft.tuners.tuners_utils import check_target_module_exists
from peft.utils.other import get_pattern_key
from small import snapshot, unchanged
from torch import Tensor, nn
from torch.testing import assert_close
from transformers.pytorch_utils import Conv1D

from lorabook import files
from lorabook.adapters import adapt, disabled, inject, layers, merge
from lorabook.files import (
    CONFIG,
    NUMBERS,
    PREFIX,
    AdapterError,
    from_loralib,
    load,
    save,
)
from lorabook.layers import LoRALayer, LoRALinear
from lorabook.small import logits_of, small_model

# PEFT asks transformers for a name that will go; and says what it decides.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`"),
]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def untied(name: str) -> nn.Module:
    """Return a small model whose embedding is no output layer too."""
    model = small_model(name)
    if name == "gpt2":
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone())
    return model


def train_all(parameters: Mapping[str, nn.Parameter]) -> None:
    """Give adapters values, as training would."""
    for p in parameters.values():
        if p.requires_grad:
            nn.init.normal_(p, std=0.3)


def logits(model: nn.Module, x: Tensor) -> Tensor:
    # How PyTorch takes a product depends on what wants a gradient.
    with torch.no_grad():
        return logits_of(model, x)


def text() -> Tensor:
    # So few words that no products are taken in another order.
    return torch.randint(5, 30, (1, 5))


def theirs(model: nn.Module, **settings: Any) -> peft.PeftModel:
    """Return PEFT's adapters in a copy of the model, trained."""
    config = peft.LoraConfig(**settings)
    found = peft.get_peft_model(copy.deepcopy(model), config)
    train_all(dict(found.named_parameters()))
    return found.eval()


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / CONFIG).read_text())


def numbers_of(folder: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(folder / NUMBERS)


# Both ways, with PEFT


ATTENTION = {
    "llama": ["q_proj", "v_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj"],
    "t5": ["q", "v", "wo"],
}
EMBEDDING = {"llama": "embed_tokens", "gpt2": "wte"}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"{name}-{case}": (name, dict(target_modules=targets, r=4, **more))
        for name, targets in ATTENTION.items()
        for case, more in {
            "plain": {"lora_alpha": 8},
            "rslora": {"lora_alpha": 4, "use_rslora": True},
            "dropout": {"lora_alpha": 2, "lora_dropout": 0.25},
            "patterns": {
                "lora_alpha": 4,
                "rank_pattern": {targets[0]: 2, f".*0.*{targets[1]}": 8},
                "alpha_pattern": {f"^.*1.*{targets[0]}": 16},
            },
        }.items()
    },
    **{
        f"{name}-all-linear": (
            name,
            dict(target_modules="all-linear", r=2, lora_alpha=4),
        )
        for name in ATTENTION
    },
    **{
        f"{name}-embedding": (
            name,
            dict(
                target_modules=[word, ATTENTION[name][0]],
                r=2,
                lora_alpha=4,
                lora_dropout=0.1,
            ),
        )
        for name, word in EMBEDDING.items()
    },
    "llama-pattern": (
        "llama",
        dict(target_modules=r".*\.0\..*[qk]_proj"),
    ),
    "llama-excluded": (
        "llama",
        dict(
            target_modules=["q_proj", "up_proj", "model.layers.0.mlp.up_proj"],
            exclude_modules=["0.self_attn.q_proj"],
            layers_to_transform=[1],
            layers_pattern="layers",
        ),
    ),
    "gpt2-one-layer": (
        "gpt2",
        dict(target_modules=["c_attn", "c_fc"], layers_to_transform=1),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_peft_writes_computes_the_same_here(
    case: str, tmp_path: Path
) -> None:
    name, config = CASES[case]
    model = untied(name)
    peft_model = theirs(model, **config)
    peft_model.save_pretrained(tmp_path)
    x = text()
    before, expected = logits(model, x), logits(peft_model, x)
    found = load(model, tmp_path)
    assert torch.equal(logits(model, x), expected)
    assert (expected - before).norm() > 0.01 * before.norm()
    modules = peft_model.base_model.model.named_modules()
    other = {
        n: m for n, m in modules if isinstance(m, peft.tuners.lora.LoraLayer)
    }
    assert list(found) == list(other)
    for n, layer in found.items():
        assert layer.r == other[n].r["default"]
        assert layer.scale == other[n].scaling["default"]
        p = getattr(other[n].lora_dropout["default"], "p", 0.0)
        assert layer.dropout.p == (p if layer.can_drop(layer.base) else 0.0)
    learning = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learning == {f"{n}.{factor}" for n in found for factor in "AB"}
    with disabled(model):
        assert torch.equal(logits(model, x), before)


@pytest.mark.parametrize("case", CASES)
def test_what_we_write_computes_the_same_in_peft(
    case: str, tmp_path: Path
) -> None:
    name, config = CASES[case]
    model = untied(name)
    theirs(model, **config).save_pretrained(tmp_path / "first")
    tuned = copy.deepcopy(model)
    load(tuned, tmp_path / "first")
    train_all(dict(tuned.named_parameters()))
    save(tuned, tmp_path / "ours")
    x = text()
    expected = logits(tuned, x)
    read = peft.PeftModel.from_pretrained(
        copy.deepcopy(model), tmp_path / "ours"
    )
    assert torch.equal(logits(read, x), expected)
    # PEFT writes the same bytes, but for a copy of the whole embedding.
    read.save_pretrained(tmp_path / "theirs", save_embedding_layers=False)
    ours = (tmp_path / "ours" / NUMBERS).read_bytes()
    assert ours == (tmp_path / "theirs" / NUMBERS).read_bytes()
    mine, their = (config_of(tmp_path / n) for n in ("ours", "theirs"))
    for key, value in their.items():
        if isinstance(value, list):
            assert sorted(mine[key]) == sorted(value)
        elif key in mine:
            assert mine[key] == value, key
        elif key not in files.IGNORED:
            assert not value, key
    # And we read what we have written, bit for bit.
    again = load(model, tmp_path / "ours")
    assert torch.equal(logits(model, x), expected)
    for n, layer in layers(tuned).items():
        assert torch.equal(again[n].A, layer.A)
        assert (again[n].alpha, again[n].scale) == (layer.alpha, layer.scale)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_formats_of_the_model(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    model = small_model("llama").to(dtype)
    peft_model = theirs(model, r=2, lora_alpha=4, target_modules=["q_proj"])
    peft_model.save_pretrained(tmp_path)
    x = text()
    found = load(model, tmp_path)
    assert torch.equal(logits(model, x), logits(peft_model, x))
    wide = torch.promote_types(dtype, torch.float32)
    assert {layer.A.dtype for layer in found.values()} == {wide}
    save(model, tmp_path / "again")
    again = (tmp_path / "again" / NUMBERS).read_bytes()
    assert again == (tmp_path / NUMBERS).read_bytes()


@pytest.mark.parametrize("alpha", [3, 5.0])
def test_with_other_scales_only_the_last_digits_differ(
    alpha: float, tmp_path: Path
) -> None:
    """PEFT scales d numbers a row, we scale r: both round, elsewhere."""
    model = small_model("llama")
    peft_model = theirs(
        model, r=4, lora_alpha=alpha, target_modules=["q_proj", "up_proj"]
    )
    peft_model.save_pretrained(tmp_path)
    load(model, tmp_path)
    x = text()
    assert_close(logits(model, x), logits(peft_model, x))
    save(model, tmp_path / "again")
    back = peft.PeftModel.from_pretrained(
        small_model("llama"), tmp_path / "again"
    )
    for ours, other in ((numbers_of(tmp_path / "again"), tmp_path),):
        for key, value in numbers_of(other).items():
            assert torch.equal(ours[key], value)
    scaling = back.base_model.model.model.layers[0].self_attn.q_proj.scaling
    assert scaling["default"] == alpha / 4


def test_the_square_root_is_pefts_for_every_rank() -> None:
    for r in (2, 3, 7, 2921, 3541):
        base = nn.Linear(4000, 4000, device="meta")
        layer = adapt(base, r, 1.0, scaling="alpha/sqrt(r)")
        other = peft.tuners.lora.Linear(
            nn.Linear(2, 2),
            "default",
            config=peft.LoraConfig(use_rslora=True),
            r=r,
            lora_alpha=1,
        )
        assert layer.scale == other.scaling["default"]


class Pictures(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, **settings)
        self.second = nn.Conv2d(6, 8, 1)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x).relu())
        return self.last(y.mean((-2, -1)))


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_size": 3, "padding": "same"},
        {"kernel_size": (3, 2), "stride": 2, "padding": (1, 0)},
        {"kernel_size": 2, "bias": False},
    ],
)
def test_convolutions(settings: dict[str, Any], tmp_path: Path) -> None:
    model = Pictures(**settings)
    peft_model = theirs(
        model, r=2, lora_alpha=4, target_modules=["first", "second", "last"]
    )
    peft_model.save_pretrained(tmp_path)
    x = torch.randn(2, 3, 6, 6)
    load(model, tmp_path)
    with torch.no_grad():
        assert torch.equal(model(x), peft_model(x))
    save(model, tmp_path / "again")
    again = (tmp_path / "again" / NUMBERS).read_bytes()
    assert again == (tmp_path / NUMBERS).read_bytes()


# How layers are named


class Named(nn.Module):
    """Names that end, or match, as others do."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(4, 4)
        self.a = nn.ModuleDict({"q": nn.Linear(4, 4), "xq": nn.Linear(4, 4)})
        self.b = nn.ModuleList([nn.Linear(4, 4), nn.Sequential(nn.ReLU())])
        self.aqq = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)


NAMED = ("q", "a.q", "a.xq", "b.0", "aqq")


@given(st.lists(st.sampled_from(NAMED), unique=True, min_size=1))
@settings(max_examples=31)
def test_the_layers_that_are_written_are_the_layers_meant(
    names: list[str],
) -> None:
    model = Named()
    for i, name in enumerate(names):
        inject(model, 1 + i % 3, 1.0 + i, re.compile(re.escape(name)))
    train_all(dict(model.named_parameters()))
    expected = {n: (m.r, m.scale) for n, m in layers(model).items()}
    with tempfile.TemporaryDirectory() as folder:
        save(model, folder)
        read = peft.PeftModel.from_pretrained(Named(), folder)
        other = Named()
        load(other, folder)
    assert {n: (m.r, m.scale) for n, m in layers(other).items()} == expected
    found = {
        n: (m.r["default"], m.scaling["default"])
        for n, m in read.base_model.model.named_modules()
        if isinstance(m, peft.tuners.lora.LoraLayer)
    }
    assert found == expected
    for n, layer in layers(model).items():
        theirs_too = read.base_model.model.get_submodule(n)
        assert torch.equal(theirs_too.lora_A["default"].weight, layer.A)
        assert torch.equal(layers(other)[n].B, layer.B)


def test_short_names_are_written_where_they_suffice(tmp_path: Path) -> None:
    model = small_model("llama")
    inject(model, 2, 4.0, ("q_proj", "v_proj"))
    save(model, tmp_path)
    assert config_of(tmp_path)["target_modules"] == ["q_proj", "v_proj"]
    for names, written in (
        (["a.xq", "aqq"], ["aqq", "xq"]),
        (["a.q", "aqq"], ["a.q", "aqq"]),
        (["q", "aqq"], "q|aqq"),
    ):
        model = Named()
        for name in names:
            inject(model, 2, 4.0, re.compile(re.escape(name)))
        save(model, tmp_path)
        found = config_of(tmp_path)["target_modules"]
        assert found == written


CHOICES = st.fixed_dictionaries(
    {
        "target_modules": st.one_of(
            st.lists(st.sampled_from(("q", "a.q", "0", "1.q", "h.1.q", "x"))),
            st.sampled_from(("q", ".*q", r".*\.[01]\..*", "(h|m).*[qv]", "")),
        ),
        "exclude_modules": st.one_of(
            st.none(),
            st.lists(st.sampled_from(("q", "0.q", "h.1.q"))),
            st.sampled_from((".*v", "h.*")),
        ),
        "layers_to_transform": st.one_of(
            st.none(), st.integers(0, 2), st.lists(st.integers(0, 2))
        ),
        "layers_pattern": st.sampled_from((None, "", [], "h", ["x", "h"])),
    }
)
PLACES = ("q", "h.0.q", "m.h.0.q", "m.h.1.v", "h.1.q", "m.x.2.h.0.q", "m.1.q")


@given(CHOICES)
@settings(max_examples=300)
def test_the_same_layers_are_meant_as_in_peft(choice: dict) -> None:
    model = nn.Module()
    for place in PLACES:
        *path, last = place.split(".")
        parent = model
        for part in path:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent._modules[part]
        parent.add_module(last, nn.Linear(2, 2))
    names = [n for n, _ in model.named_modules() if n]
    config = SimpleNamespace(**choice, modules_to_save=None)
    expected = [n for n in names if check_target_module_exists(config, n) if n]
    # PEFT marks what is excluded by an object that counts as true.
    expected = [
        n
        for n in expected
        if isinstance(check_target_module_exists(config, n), bool | re.Match)
    ]
    try:
        found = list(files._selected(model, choice))
    except AdapterError as error:
        if "goes with a list" in str(error):
            assert isinstance(choice["target_modules"], str)
        else:
            assert not expected
    else:
        assert found == expected


@given(
    st.dictionaries(
        st.sampled_from(
            ("q", "^q", "h.0.q", "^h.0.q", "0.q", r".*\.0\..*", "q|v", "x")
        ),
        st.integers(1, 9),
    )
)
@settings(max_examples=100)
def test_the_same_exception_counts_as_in_peft(pattern: dict) -> None:
    config = {"r": 77, "rank_pattern": pattern}
    ours = files._ByName(config, "r", "rank_pattern")
    for name in PLACES:
        key = get_pattern_key(pattern.keys(), name)
        assert ours.of(name) == pattern.get(key, 77)


def test_peft_itself_reads_another_scale_than_it_wrote(
    tmp_path: Path,
) -> None:
    """It sorts the patterns, of which the first one counts; we follow."""
    model = small_model("llama")
    peft_model = theirs(
        model,
        r=2,
        target_modules=["q_proj"],
        alpha_pattern={"self_attn.q_proj": 4, "q_proj": 16},
    )
    peft_model.save_pretrained(tmp_path)
    read = peft.PeftModel.from_pretrained(copy.deepcopy(model), tmp_path)
    name = "model.layers.0.self_attn.q_proj"
    wrote, reads = (
        m.base_model.model.get_submodule(name).scaling["default"]
        for m in (peft_model, read)
    )
    assert (wrote, reads) == (2, 8)
    assert load(model, tmp_path)[name].scale == 8
    save(model, tmp_path)
    assert config_of(tmp_path)["lora_alpha"] == 16


# Copies of the model's own weights


def test_an_embedding_by_its_usual_name_is_written_whole(
    tmp_path: Path,
) -> None:
    """So an adapter of megabytes becomes a file of gigabytes."""
    model = small_model("llama")
    for targets, copied in (("embed_tokens", 1), ("model.embed_tokens", 0)):
        folder = tmp_path / targets
        theirs(model, r=2, target_modules=[targets]).save_pretrained(folder)
        numbers = numbers_of(folder)
        assert len(numbers) == 2 + copied
        own = copy.deepcopy(model)
        load(own, folder)
        save(own, folder)
        assert len(numbers_of(folder)) == 2
    theirs(model, r=2, target_modules=["embed_tokens"]).save_pretrained(folder)
    model.model.embed_tokens.weight.data[3, 3] += 1
    with unchanged(model), pytest.raises(AdapterError, match="other numbers"):
        load(model, folder)


def test_a_grown_embedding_is_written_whole(tmp_path: Path) -> None:
    small_model("llama").save_pretrained(tmp_path / "base")
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base")
    model.resize_token_embeddings(40)
    theirs(model, r=2, target_modules=["q_proj"]).save_pretrained(
        tmp_path / "adapter"
    )
    assert f"{PREFIX}lm_head.weight" in numbers_of(tmp_path / "adapter")
    load(model, tmp_path / "adapter")
    model = small_model("llama")
    message = r"lm_head.*shape \(40, 16\), need \(32, 16\)"
    with unchanged(model), pytest.raises(AdapterError, match=message):
        load(model, tmp_path / "adapter")


# What the format cannot say


def disable(model: nn.Module) -> None:
    next(iter(layers(model).values())).enabled = False


def rescale(model: nn.Module) -> None:
    next(iter(layers(model).values())).scale *= 2


def spoil(model: nn.Module) -> None:
    next(iter(layers(model).values())).B.data[0, 0] = float("inf")


def thaw(model: nn.Module) -> None:
    model.head.requires_grad_(True)


def own_kind(model: nn.Module) -> None:
    class Mine(type(model.a).__mro__[1]):
        kinds = staticmethod(LoRALinear.kinds)
        matrix = shaped = update = lambda self, x: x

    model.c = Mine(nn.Linear(4, 4), 2, 1.0)
    model.c.base.requires_grad_(False)


def twice(model: nn.Module) -> None:
    model.other = model.a


class Various(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.fused = nn.Linear(4, 8)
        self.words = nn.Embedding(9, 4)
        self.grouped = nn.Conv2d(4, 4, 3, groups=2)
        self.wide = nn.Conv2d(4, 4, 3, dilation=2)
        self.mirror = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.attention = nn.MultiheadAttention(4, 2)
        self.head = nn.Linear(4, 2)


@pytest.mark.parametrize(
    ("names", "more", "spoiled", "message"),
    [
        ("fused", {"parts": (True, False)}, None, "fused: .* a LoRAFused, bu"),
        ("a", {}, own_kind, "c: PEFT's format has no place for a Mine"),
        ("grouped", {}, None, "grouped: beside such a convolution .*groups=1"),
        ("wide", {}, None, "wide: beside such a convolution .*dilation=1"),
        ("mirror", {}, None, "mirror: .* padding_mode='zeros'"),
        ("out_proj", {}, None, r"attention\.out_proj: attention reads its"),
        ("a", {}, disable, "a: it is disabled: enable it"),
        ("a", {}, rescale, r"a: its scale is 4.0, .* need alpha/r = 2.0"),
        ("a", {}, spoil, "a: need factors of finite numbers"),
        ("a", {}, thaw, r"head\.weight: it learns too"),
        ("a", {}, twice, "a: it is used under several names"),
        (("a", "b"), {"dropout": 0.5}, None, "in their dropout, 0.5 and 0.0"),
        (
            ("a", "b"),
            {"scaling": "alpha/sqrt(r)"},
            None,
            r"in their scaling, 'alpha/sqrt\(r\)' and 'alpha/r'",
        ),
        ((), {}, None, "has no adapters: need inject first"),
    ],
)
def test_what_cannot_be_said_is_not_written(
    names: str | tuple[str, ...],
    more: dict[str, Any],
    spoiled: Callable[[nn.Module], None] | None,
    message: str,
    tmp_path: Path,
) -> None:
    model = Various()
    for i, name in enumerate([names] if isinstance(names, str) else names):
        inject(model, 2, 4.0, name, **({} if i else more))
    if spoiled:
        spoiled(model)
    with unchanged(model), pytest.raises(AdapterError, match=message):
        save(model, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_layer_alone_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="need a module around it"):
        save(LoRALinear(nn.Linear(4, 4), 2, 4.0), tmp_path)
    with pytest.raises(AdapterError, match="finite numbers"):
        save(
            nn.Sequential(LoRALinear(nn.Linear(4, 4, device="meta"), 2, 4.0)),
            tmp_path,
        )
    assert not list(tmp_path.iterdir())


def test_a_folder_is_written_over_and_nothing_else_left(
    tmp_path: Path,
) -> None:
    model = Various()
    layer = inject(model, 2, 4.0, ("a", "words"))["a"]
    folder = tmp_path / "new" / "folder"
    save(model, str(folder))
    layer.A.data += 1
    (folder / "README.md").write_text("Mine.")
    save(model, folder)
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["README.md", CONFIG, NUMBERS]
    assert torch.equal(numbers_of(folder)[f"{PREFIX}a.lora_A.weight"], layer.A)
    with pytest.raises(AdapterError, match="need a folder, this is a file"):
        save(model, folder / CONFIG)


def test_factors_that_are_one_tensor_are_written_twice(tmp_path: Path) -> None:
    model = Various()
    found = inject(model, 2, 4.0, ("a", "b"))
    found["a"].A = found["b"].A
    save(model, tmp_path)
    assert len(numbers_of(tmp_path)) == 4


# What is refused


class Small(nn.Module):
    """One layer of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.conv = nn.Conv2d(2, 3, 2)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"q": nn.Linear(4, 3), "c": Conv1D(3, 4)})
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(4)


def written() -> tuple[bytes, dict[str, Any], dict[str, Tensor]]:
    """Return what a folder for `Small` holds."""
    model = Small()
    inject(
        model,
        {"0.q": 1, re.compile(".*"): 2},
        4.0,
        ("q", "c", "words", "conv"),
    )
    train_all(dict(model.named_parameters()))
    with tempfile.TemporaryDirectory() as folder:
        save(model, folder)
        numbers = (Path(folder) / NUMBERS).read_bytes()
        return numbers, config_of(Path(folder)), numbers_of(Path(folder))


torch.manual_seed(1)
BYTES, CONFIGURATION, TENSORS = written()
Q = f"{PREFIX}blocks.1.q.lora_A.weight"
WORDS = f"{PREFIX}words.lora_embedding_B"


def put(folder: Path, config: object = None, numbers: object = None) -> None:
    """Write a folder, with something in the place of what is right."""
    config = CONFIGURATION if config is None else config
    if not isinstance(config, bytes):
        config = json.dumps(config).encode()
    numbers = BYTES if numbers is None else numbers
    if not isinstance(numbers, bytes):
        numbers = safetensors.torch.save(numbers, {"format": "pt"})
    (folder / CONFIG).write_bytes(config)
    (folder / NUMBERS).write_bytes(numbers)


def refused(
    folder: Path, message: str, model: nn.Module | None = None
) -> None:
    model = Small().eval() if model is None else model
    state = torch.get_rng_state()
    with unchanged(model), pytest.raises(AdapterError, match=message) as error:
        load(model, folder)
    assert torch.equal(torch.get_rng_state(), state)
    said = str(error.value)
    assert len(said) < 400
    assert "\n" not in said


def header(change: Callable[[str], str]) -> bytes:
    length = int.from_bytes(BYTES[:8], "little")
    text = change(BYTES[8 : 8 + length].decode()).encode()
    return struct.pack("<Q", len(text)) + text + BYTES[8 + length :]


def repeated(text: str) -> str:
    """Say the first tensor twice, the second time in another format."""
    entry = json.loads(text)[Q]
    again = json.dumps({Q: {**entry, "dtype": "I32"}})[1:]
    return text.rstrip()[:-1] + "," + again


def poisoned(folder: Path) -> bytes:
    """Return a pickle that would make a file."""

    class Bomb:
        def __reduce__(self) -> tuple:
            return (os.mkdir, (str(folder / "exploded"),))

    return pickle.dumps(Bomb())


def test_the_folder_itself_is_good(tmp_path: Path) -> None:
    put(tmp_path)
    model = Small()
    found = load(model, tmp_path)
    assert {n: m.r for n, m in found.items()} == {
        "words": 2,
        "conv": 2,
        "blocks.0.q": 1,
        "blocks.0.c": 2,
        "blocks.1.q": 2,
        "blocks.1.c": 2,
    }
    assert torch.equal(found["blocks.1.q"].A, TENSORS[Q])
    assert torch.equal(found["words"].B, TENSORS[WORDS])
    refused(tmp_path, "words: it has an adapter already", model)
    merge(model)
    load(model, tmp_path)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (b"", f"^{NUMBERS}: need numbers as safetensors writes them"),
        (BYTES[:7], "header too small"),
        (BYTES[:100], "but"),
        (BYTES[:-1], "but"),
        (BYTES + b"\0", "but"),
        (pickle.dumps(TENSORS), "need numbers as safetensors"),
        (struct.pack("<Q", 2**63) + b"{}", "header too large"),
        (header(lambda t: t.replace("F32", "F64", 1)), "but"),
        (
            header(lambda t: t.replace("F32", "I32", 1)),
            "dtype I32, need one",
        ),
        (
            header(lambda t: t.replace("F32", "U32", 1)),
            "dtype U32, need one",
        ),
        (header(repeated), "need JSON, but .* stands there twice"),
        (header(lambda t: t.replace("[2,4]", "[4,2]", 1)), r"shape \(4, 2\)"),
        ({}, "and 9 more is missing"),
        (
            {k: v for k, v in TENSORS.items() if k != Q},
            "lora_A.*missing",
        ),
        ({**TENSORS, "a": torch.ones(2)}, "'a' belongs to no layer in target"),
        (
            {**TENSORS, f"{PREFIX}norm.weight": torch.full((4,), 2.0)},
            "'base_model.model.norm.weight' has other numbers",
        ),
        (
            {**TENSORS, Q.replace("lora_A", "lora_magnitude_vector"): Q},
            None,
        ),
        (
            {**TENSORS, Q.replace("q.lora_A", "q.lora_B.bias"): Q},
            None,
        ),
        ({**TENSORS, Q: torch.ones(3, 4)}, r"shape \(3, 4\), need \(2, 4\)"),
        ({**TENSORS, Q: torch.ones(2, 4, 1)}, r"need \(2, 4\)"),
        ({**TENSORS, Q: torch.ones(0, 4)}, r"\(0, 4\), need \(2, 4\)"),
        ({**TENSORS, Q: torch.ones(1, 4)}, r"\(1, 4\), need \(2, 4\)"),
        (
            {**TENSORS, Q: torch.ones(2, 4).long()},
            "dtype I64, need one",
        ),
        ({**TENSORS, Q: torch.ones(2, 4) > 0}, "dtype BOOL"),
        (
            {**TENSORS, Q: torch.ones(2, 4).to(torch.float8_e4m3fn)},
            "dtype F8_E4M3",
        ),
        ({**TENSORS, Q: torch.ones(2, 4).cfloat()}, "dtype C64"),
        ({**TENSORS, Q: torch.ones(2, 4).double()}, "float64, need what"),
        (
            {**TENSORS, Q: torch.full((2, 4), torch.nan)},
            "q: need factors of",
        ),
        (
            {**TENSORS, WORDS: -torch.inf * torch.ones(4, 2)},
            "words: need f",
        ),
    ],
    # Workers have to agree on names, and pickled bytes differ.
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_other_numbers_are_refused(
    numbers: Any, message: str | None, tmp_path: Path
) -> None:
    if message is None:
        numbers = {
            k: torch.ones(3) if isinstance(v, str) else v
            for k, v in numbers.items()
        }
        message = "belongs to no layer in target"
    put(tmp_path, numbers=numbers)
    refused(tmp_path, message)


def with_(**settings: object) -> dict[str, object]:
    return {**CONFIGURATION, **settings}


def without(key: str) -> dict[str, object]:
    return {k: v for k, v in CONFIGURATION.items() if k != key}


EVIL = "(a+)+$", "(q|q)*x", "(.*)*.*.*.*x", "(?:" * 500
CONFIGS: list[tuple[object, str]] = [
    (b"", f"^{CONFIG}: need JSON"),
    (b"\xff\xfe{}", "need JSON, but .*decode"),
    (b"[1, 2]", r"need an object, got \[1, 2\]"),
    (b"null", "need an object, got None"),
    (b'"' + b"a" * 999 + b'"', "need an object, got 'aaaa"),
    (b"{" * 9, "need JSON"),
    (b'{"a":' * 100_000, "need JSON"),
    (b'{"r": ' + b"9" * 5000 + b"}", "need JSON"),
    (b" " * (2**22 + 1), "need at most 4194304 bytes"),
    (
        json.dumps(CONFIGURATION)[:-1].encode() + b', "r": 3}',
        "'r' stands there twice",
    ),
    ({}, "need peft_type, r, lora_alpha, target_modules"),
    (without("lora_alpha"), "need lora_alpha"),
    (with_(peft_type="ADALORA"), "'peft_type' is 'ADALORA', need 'LORA'"),
    (with_(peft_type=["LORA"]), "need 'LORA'"),
    *[
        (with_(r=r), f"'r' is {shown}, need a whole number from 1")
        for r, shown in (
            (0, "0"),
            (-3, "-3"),
            (True, "True"),
            (2.0, "2.0"),
            ("2", "'2'"),
            (None, "None"),
            ([2], r"\[2\]"),
        )
    ],
    (with_(r=3), r"blocks.0.c: need 1 <= r <= 3|shape .*need"),
    (with_(r=10**9), "need 1 <= r <= 4, got 1000000000"),
    (with_(r=1), r"shape \(2, 7\), need \(1, 7\)"),
    (with_(rank_pattern={"q": 2}), r"0.q.*\(1, 4\), need \(2, 4\)"),
    (with_(rank_pattern={"q": "2"}), "'rank_pattern' is .* whole numbers"),
    (with_(rank_pattern=[2]), "need whole numbers"),
    (with_(rank_pattern={str(i): 2 for i in range(10_001)}), "whole numbers"),
    *[
        (with_(lora_alpha=alpha), "need a positive number")
        for alpha in (0, -1, True, "4", None, 10**400, float("nan"))
    ],
    (with_(lora_alpha=float("inf")), "need a positive number"),
    (with_(alpha_pattern={"q": -1.0}), "need positive numbers"),
    (with_(alpha_pattern={"(q": 1.0}), r"alpha_pattern: the pattern has '\(q"),
    (with_(alpha_pattern={"a)|(q": 1.0}), "alpha_pattern: the pattern has"),
    *[(with_(target_modules=evil), "target_modules") for evil in EVIL],
    (with_(target_modules=None), "need a list of names, or a pattern"),
    (with_(target_modules=[1, 2]), "need a list of names"),
    (with_(target_modules={"q": 1}), "need a list of names"),
    (with_(target_modules=[]), "names no layer of this model"),
    (with_(target_modules=["nothing", "../q"]), "names no layer of this"),
    (with_(target_modules="../../etc/passwd"), "names no layer of this"),
    (with_(target_modules=["q", "norm"]), "norm: .* no adapter for a Layer"),
    (with_(target_modules="blocks.*"), "blocks: .*no adapter for a ModuleLis"),
    (with_(target_modules=["q"]), "belongs to no layer in target_modules"),
    (with_(target_modules="all-linear"), "belongs to no layer in target_mo"),
    (with_(exclude_modules=["q"]), "belongs to no layer"),
    (with_(exclude_modules=7), "'exclude_modules' is 7, need"),
    (with_(layers_to_transform=[0]), "belongs to no layer|names no layer"),
    (with_(layers_to_transform="0"), "need a list of whole numbers"),
    (with_(layers_pattern="(h"), "need names without dots"),
    (with_(layers_pattern=5), "need names without dots"),
    (
        with_(layers_to_transform=[0], target_modules=".*q"),
        "layers_to_transform goes with a list of names",
    ),
    (with_(lora_dropout=1.0), "need a number from 0 to below 1"),
    (with_(lora_dropout="0"), "need a number from 0 to below 1"),
    (with_(use_rslora=1), "need true or false"),
    (with_(fan_in_fan_out="yes"), "need true or false"),
    (with_(bias="all"), "'bias' is 'all', need 'none'"),
    (with_(bias="lora_only"), "'bias' is 'lora_only', need 'none'"),
    *[
        (with_(init_lora_weights=start), "need a start that leaves the weig")
        for start in ("pissa", "pissa_niter_4", "olora", "corda", "loftq", 3)
    ],
    *[
        (with_(**{key: value}), f"'{key}' is .*, which is not supported")
        for key, value in {
            "use_dora": True,
            "modules_to_save": ["norm"],
            "loftq_config": {"loftq_bits": 4},
            "trainable_token_indices": [0],
            "target_parameters": ["w"],
            "layer_replication": [[0, 1]],
            "lora_bias": True,
            "use_qalora": True,
            "alora_invocation_tokens": [1],
            "ensure_weight_tying": True,
            "something_new": 0.1,
        }.items()
    ],
]


@pytest.mark.parametrize(("config", "message"), CONFIGS)
def test_other_configurations_are_refused(
    config: object, message: str, tmp_path: Path
) -> None:
    put(tmp_path, config)
    refused(tmp_path, message)


def test_a_pattern_is_not_left_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorabook.patterns.STEPS", 50)
    model = nn.ModuleDict({"a" * 90: nn.Linear(4, 3)})
    put(tmp_path, with_(target_modules="((a+b?)+c?)+d"))
    refused(tmp_path, "takes too many steps", model)
    monkeypatch.setattr("lorabook.patterns.STEPS", 150)
    put(tmp_path, with_(target_modules="a*", rank_pattern={"((a|a)*)*b": 2}))
    refused(tmp_path, "takes too many steps", model)


def test_no_setting_that_is_off_is_refused(tmp_path: Path) -> None:
    off = {
        key: None
        for key in peft.LoraConfig().to_dict()
        if key not in CONFIGURATION
    }
    put(tmp_path, with_(**off, something_new=False, and_another={}))
    load(Small(), tmp_path)


@pytest.mark.parametrize("path", ["/etc/passwd", "../..", "a\0b", 7])
def test_no_path_in_the_configuration_is_followed(
    path: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    put(
        tmp_path,
        with_(
            base_model_name_or_path=path,
            revision=path,
            auto_mapping=path,
            megatron_core=path,
        ),
    )
    real = Path.open

    def watched(self: Path, *args: Any, **kwargs: Any) -> Any:
        opened.append(self)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", watched)
    load(Small(), tmp_path)
    assert {p.parent for p in opened} == {tmp_path}


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    put(tmp_path, numbers=poisoned(tmp_path))
    refused(tmp_path, "need numbers as safetensors")
    (tmp_path / NUMBERS).rename(tmp_path / "adapter_model.bin")
    refused(tmp_path, "need a file .*; adapter_model.bin can run any code")
    (tmp_path / CONFIG).write_bytes(poisoned(tmp_path))
    refused(tmp_path, "need JSON")
    assert not (tmp_path / "exploded").exists()
    # The bomb is one.
    pickle.loads(poisoned(tmp_path))
    assert (tmp_path / "exploded").exists()


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, f"need a file {CONFIG} in it$")
    refused(tmp_path / "nothing", f"nothing: need a file {CONFIG} in it$")
    put(tmp_path)
    refused(tmp_path / CONFIG, f"need a file {CONFIG} in it$")
    (tmp_path / NUMBERS).unlink()
    (tmp_path / NUMBERS).mkdir()
    refused(tmp_path, f"need a file {NUMBERS} in it$")


def test_links_stay_inside(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    put(outside)
    put(folder)
    (folder / NUMBERS).rename(folder / "numbers")
    (folder / NUMBERS).symlink_to(folder / "numbers")
    load(Small(), folder)
    for name in (CONFIG, NUMBERS):
        (folder / name).unlink()
        (folder / name).symlink_to(outside / name)
        refused(folder, f"^{name}: it is a link out of the folder")
        (folder / name).unlink()
        put(folder)
    (folder / NUMBERS).unlink()
    os.mkfifo(folder / NUMBERS)
    refused(folder, f"need a file {NUMBERS} in it$")


class Tied(Small):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 7)
        self.head.weight = self.words.weight


class Doubled(Small):
    def __init__(self) -> None:
        super().__init__()
        self.other = self.words


class Wide(Small):
    def __init__(self) -> None:
        super().__init__()
        self.blocks[1]["q"] = nn.Linear(5, 3)


class Grouped(Small):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 2, groups=2)


class Hooked(Small):
    def __init__(self) -> None:
        super().__init__()
        self.blocks[1]["q"].register_forward_hook(print)


class Narrow(Small):
    def __init__(self) -> None:
        super().__init__()
        self.blocks[1]["q"] = nn.Linear(4, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Tied, "words: its weight is tied to that of head"),
        (Doubled, "words: it is used under several names"),
        (Wide, r"shape \(2, 4\), need \(2, 5\)"),
        (Grouped, "conv: beside such a convolution"),
        (Hooked, r"blocks\.1\.q: the Linear has hooks"),
        (Narrow, r"blocks\.1\.q: need 1 <= r <= 1, got 2"),
        (lambda: nn.Linear(4, 3), "names no layer of this model"),
        (lambda: nn.ModuleDict({"q": nn.Linear(4, 3)}), "is missing"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    make: Callable[[], nn.Module], message: str, tmp_path: Path
) -> None:
    put(tmp_path)
    refused(tmp_path, message, make())


def test_an_empty_model_is_refused(tmp_path: Path) -> None:
    put(tmp_path)
    with torch.device("meta"):
        model = Small()
    with pytest.raises(AdapterError, match="words: it is empty"):
        load(model, tmp_path)
    assert not layers(model)


# Whatever is done to a folder


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 12),
    st.floats(allow_nan=True),
    st.sampled_from(("q", ".*", "[qc]|words|conv", "all-linear", "pissa")),
    st.text(max_size=4),
    st.lists(st.sampled_from(("q", "c", "words", "conv", "0.q", "norm"))),
    st.dictionaries(
        st.sampled_from(("q", "^blocks.0.q", "0", ".*", "blocks", "(", "")),
        st.integers(0, 5),
        max_size=2,
    ),
)
KEYS = st.sampled_from(
    (*CONFIGURATION, "layers_to_transform", "layers_pattern", "use_dora", "x")
)
SHAPES = st.lists(st.integers(0, 4), max_size=4)
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@st.composite
def flipped(draw: st.DrawFn, content: bytes) -> bytes:
    """Change some bytes, or their number."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        i = draw(st.integers(0, len(changed) - 1))
        changed[i] = draw(st.integers(0, 255))
    end = draw(st.sampled_from((None, None, None, -1, -40, 5, 1)))
    return bytes(changed[:end]) + draw(st.sampled_from((b"", b"", b"\0\0")))


@st.composite
def rewritten(draw: st.DrawFn) -> bytes:
    """Change what the header says of some tensor."""
    length = int.from_bytes(BYTES[:8], "little")
    said = json.loads(BYTES[8 : 8 + length])
    key = draw(st.sampled_from(sorted(TENSORS)))
    entry = said.pop(key)
    field = draw(st.sampled_from((*entry, "name", "none", "same")))
    if field == "name":
        key = draw(st.sampled_from((*TENSORS, key[:-1], "../a")))
    elif field == "dtype":
        entry[field] = draw(st.sampled_from(("F16", "BF16", "I32", "F64")))
    elif field in entry:
        entry[field] = draw(st.lists(st.integers(-1, 90), max_size=3))
    if field != "none":
        said[key] = entry
    text = json.dumps(said).encode()
    length_said = len(text) + draw(st.sampled_from((0, 0, 0, -1, 9)))
    return struct.pack("<Q", length_said) + text + BYTES[8 + length :]


@st.composite
def replaced(draw: st.DrawFn) -> dict[str, Tensor]:
    """Put other tensors in the place of some."""
    numbers = dict(TENSORS)
    for _ in range(draw(st.integers(1, 2))):
        key = draw(st.sampled_from((*TENSORS, f"{PREFIX}norm.weight", "x")))
        shape = list(numbers.get(key, torch.ones(4)).shape)
        if draw(st.integers(0, 3)) == 0:
            shape = draw(SHAPES)
        dtype = draw(st.sampled_from(DTYPES))
        fill = draw(st.sampled_from((0.0, 1.0, -0.5, 2.0, 3.0, torch.nan)))
        numbers[key] = torch.full(shape, fill, dtype=dtype)
    if draw(st.integers(0, 5)) == 0:
        del numbers[draw(st.sampled_from(sorted(numbers)))]
    return numbers


@st.composite
def reconfigured(draw: st.DrawFn) -> dict[str, Any]:
    config = dict(CONFIGURATION)
    for _ in range(draw(st.integers(1, 2))):
        key = draw(KEYS)
        if draw(st.integers(0, 9)):
            config[key] = draw(VALUES)
        else:
            config.pop(key, None)
    return config


FOLDERS = st.one_of(
    st.tuples(st.none(), flipped(BYTES)),
    st.tuples(st.none(), rewritten()),
    st.tuples(st.none(), replaced()),
    st.tuples(flipped(json.dumps(CONFIGURATION).encode()), st.none()),
    st.tuples(reconfigured(), st.none()),
    st.tuples(reconfigured(), replaced()),
)


def assert_as_peft_reads(
    found: dict[str, LoRALayer], folder: Path, names: list[str]
) -> None:
    """Assert that PEFT's rules give these layers these numbers."""
    config = {"exclude_modules": None, "use_rslora": False} | config_of(folder)
    numbers = numbers_of(folder)
    rules = SimpleNamespace(**config)
    if config["target_modules"] != "all-linear":
        meant = {n for n in names if check_target_module_exists(rules, n)}
        assert found.keys() <= meant
    for name, layer in found.items():
        patterns = (
            config.get(f"{p}_pattern") or {} for p in ("rank", "alpha")
        )
        r, alpha = (
            pattern.get(get_pattern_key(pattern.keys(), name), config[default])
            for pattern, default in zip(
                patterns, ("r", "lora_alpha"), strict=True
            )
        )
        root = r**0.5 if config["use_rslora"] else r
        assert layer.r == r
        assert layer.scale == alpha / root
        sides = [k for k in numbers if k.startswith(f"{PREFIX}{name}.lora_")]
        assert len(sides) == 2
        for key, factor in zip(sorted(sides), (layer.A, layer.B), strict=True):
            assert torch.equal(factor, numbers[key].flatten(1).float())
    used = [f"{PREFIX}{name}.lora_" for name in found]
    others = [k for k in numbers if not k.startswith(tuple(used))]
    assert all(k.removeprefix(PREFIX) in ("norm.weight",) for k in others)


@pytest.mark.slow
def test_whatever_a_folder_holds_it_is_right_or_refused(
    tmp_path: Path,
) -> None:
    outcomes: Counter[str] = Counter()
    names = [n for n, _ in Small().named_modules() if n]

    @given(FOLDERS)
    @settings(max_examples=600)
    def run(folder: tuple[object, object]) -> None:
        put(tmp_path, *folder)
        model = Small()
        before = snapshot(model)
        try:
            found = load(model, tmp_path)
        except AdapterError as error:
            said = str(error)
        else:
            outcomes["accepted"] += 1
            assert_as_peft_reads(found, tmp_path, names)
            return
        outcomes["refused"] += 1
        assert snapshot(model) == before
        assert "\n" not in said

    run()
    # Neither half of it is idle.
    assert min(outcomes["refused"], outcomes["accepted"]) > 20, outcomes


# loralib


def merged_linear(**more: Any) -> nn.Module:
    return loralib.MergedLinear(
        6, 12, r=2, lora_alpha=8, merge_weights=False, **more
    )


LORALIB: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "linear": (
        lambda: loralib.Linear(6, 5, r=2, lora_alpha=8),
        lambda: nn.Linear(6, 5),
    ),
    "linear_transposed": (
        lambda: loralib.Linear(6, 5, r=3, lora_alpha=8, fan_in_fan_out=True),
        lambda: Conv1D(5, 6),
    ),
    "embedding": (
        lambda: loralib.Embedding(9, 5, r=2, lora_alpha=8),
        lambda: nn.Embedding(9, 5),
    ),
    "conv": (
        lambda: loralib.Conv2d(4, 6, 1, r=2, lora_alpha=8),
        lambda: nn.Conv2d(4, 6, 1),
    ),
    "merged": (
        lambda: merged_linear(enable_lora=[True, False, True]),
        lambda: nn.Linear(6, 12),
    ),
    "merged_transposed": (
        lambda: merged_linear(
            enable_lora=[True, False, True], fan_in_fan_out=True
        ),
        lambda: Conv1D(12, 6),
    ),
}


@pytest.mark.parametrize("name", LORALIB)
@pytest.mark.parametrize("around", [True, False])
def test_layers_of_loralib_compute_the_same_here(
    name: str, around: bool
) -> None:
    make, plain = LORALIB[name]
    other, model = nn.Sequential(make()), nn.Sequential(plain())
    if around:
        other.append(loralib.Linear(5, 4, r=1, lora_alpha=8))
        model.append(nn.Linear(5, 4))
    loralib.mark_only_lora_as_trainable(other)
    train_all(dict(other.named_parameters()))
    with torch.no_grad():
        for layer, theirs_ in zip(model, other, strict=True):
            theirs_ = getattr(theirs_, "conv", theirs_)
            layer.weight.copy_(theirs_.weight)
            if getattr(theirs_, "bias", None) is not None:
                layer.bias.copy_(theirs_.bias)
    state = loralib.lora_state_dict(other)
    found = from_loralib(model, state, 8, parts=(True, False, True))
    assert list(found) == [str(i) for i in range(len(model))]
    x = {
        "embedding": torch.randint(9, (2, 3)),
        "conv": torch.randn(2, 4, 3, 3),
    }.get(name, torch.randn(2, 6))
    y, expected = model[0](x), other[0](x)
    assert_close(y, expected)
    if name in ("linear", "embedding"):
        # The others form ΔW, or transpose W0, and round elsewhere.
        assert torch.equal(y, expected)
    assert (y - found["0"].base(x)).norm() > 0.1 * y.norm()


def states() -> dict[str, Tensor]:
    return {"0.lora_A": torch.ones(2, 6), "0.lora_B": torch.ones(4, 2)}


@pytest.mark.parametrize(
    ("plain", "state", "settings", "message"),
    [
        (nn.Linear(6, 4), {}, {}, "nothing in the checkpoint"),
        (nn.Linear(6, 4), {"0.lora_A": states()["0.lora_A"]}, {}, "0.lora_B'"),
        (
            nn.Linear(6, 4),
            {**states(), "0.bias": torch.ones(4)},
            {},
            "'0.bias' is no lora_A or lora_B",
        ),
        (
            nn.Linear(6, 4),
            {k.replace("0", "1"): v for k, v in states().items()},
            {},
            "'1' in the checkpoint names no layer",
        ),
        (
            nn.Linear(5, 4),
            states(),
            {},
            r"0: .*\(2, 6\) and \(4, 2\), need",
        ),
        (nn.LayerNorm(4), states(), {}, "0: .*no adapter for a LayerNorm"),
        (nn.Linear(6, 4), states(), {"alpha": 0}, "0: need a finite alpha"),
        (nn.Linear(6, 8), states(), {}, "and parts for a MergedLinear"),
        (
            nn.Linear(6, 8),
            states(),
            {"parts": (True, True)},
            r"need \(4, 6\) and \(8, 2\)",
        ),
        (
            nn.Linear(6, 4),
            {**states(), "0.lora_A": torch.ones(6)},
            {},
            "matri",
        ),
        (
            nn.Linear(6, 4),
            {**states(), "0.lora_A": torch.full((2, 6), torch.nan)},
            {},
            "0: need factors of finite numbers",
        ),
        (
            nn.Linear(6, 4),
            {**states(), "0.lora_A": torch.ones(2, 6).long()},
            {},
            "int64, need what",
        ),
        (
            nn.Conv2d(4, 6, 3),
            loralib.lora_state_dict(
                nn.Sequential(loralib.Conv2d(4, 6, 3, r=2))
            ),
            {},
            "a kernel of 1 × 1 for a convolution",
        ),
    ],
)
def test_other_checkpoints_of_loralib_are_refused(
    plain: nn.Module,
    state: dict[str, Tensor],
    settings: dict[str, Any],
    message: str,
) -> None:
    model = nn.Sequential(plain)
    with unchanged(model), pytest.raises(AdapterError, match=message):
        from_loralib(model, state, **{"alpha": 4.0, **settings})


def test_a_layer_of_two_names_is_meant_by_the_first() -> None:
    model = nn.ModuleDict({"0": nn.Linear(6, 4)})
    model["1"] = model["0"]
    state = {k.replace("0", "1"): v for k, v in states().items()}
    with unchanged(model), pytest.raises(AdapterError, match="first name"):
        from_loralib(model, state, 4.0)
