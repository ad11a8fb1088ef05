"""The formulas against models that are built, and against the papers."""

import subprocess
import sys
from dataclasses import fields, replace
from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from lorabook import cost
from lorabook.architectures import ARCHITECTURES, Architecture
from lorabook.layers import LoRALinear
from lorabook.measure import count_flops, parameter_count, saved_bytes
from lorabook.models import TinyGPT

QV, QKVO = ("q", "v"), ("q", "k", "v", "o")


# Parameters -----------------------------------------------------------------


def adapted(model: nn.Module, targets: tuple[str, ...], r: int) -> nn.Module:
    """Freeze a model, and put adapters on the maps of these names."""
    model.requires_grad_(False)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if name in targets and isinstance(child, nn.Linear):
                setattr(parent, name, LoRALinear(child, r, 1.0))
    return model


@pytest.mark.parametrize(
    "targets", [QV, QKVO, ("up", "down"), (*QKVO, "up", "down"), ("down",)]
)
@pytest.mark.parametrize("r", [1, 5, 16])
def test_adapters_of_a_model_that_is_built(targets, r) -> None:
    model = adapted(TinyGPT(), targets, r)
    expected = parameter_count(model, trainable_only=True)
    assert cost.adapter_parameters("tiny-gpt", r, targets) == expected


# Hu et al. 2022, tables 2, 4, 5 and 15: where arithmetic agrees.
PAPER = [
    ("roberta-base", 8, "qv", 294_912, 0.3),
    ("roberta-large", 8, "qv", 786_432, 0.8),
    ("deberta-v2-xxlarge", 16, "qv", 4_718_592, 4.7),
    ("gpt3-175b", 1, "qv", 4_718_592, 4.7),
    ("gpt3-175b", 8, "qv", 37_748_736, 37.7),
    ("gpt3-175b", 4, "attention", 37_748_736, 37.7),
    ("gpt3-175b", 2, "attention", 18_874_368, 18.8),
    ("gpt3-175b", 8, "q", 18_874_368, 18.8),
]


@pytest.mark.parametrize(("model", "r", "targets", "count", "printed"), PAPER)
def test_the_papers_tables(model, r, targets, count, printed) -> None:
    found = cost.adapter_parameters(model, r, targets)
    assert found == count
    assert abs(found / 1e6 - printed) < 0.1  # one is cut off, not rounded


def test_the_papers_gpt2_rows_do_not_agree() -> None:
    """It prints 0.35 M and 0.77 M; its own formula says otherwise."""
    assert cost.adapter_parameters("gpt2-medium", 4, "qv") == 393_216
    assert cost.adapter_parameters("gpt2-large", 4, "qv") == 737_280


def test_published_adapters() -> None:
    count = cost.adapter_parameters
    assert count("llama-2-7b", 8, "qv") == 4_194_304
    assert count("llama-3-8b", 16, "all-linear") == 41_943_040
    # PEFT adapts GPT-2's q, k and v as one map: by chance the same number.
    assert count("gpt2-medium", 4, "qv") == 24 * 4 * (1024 + 3 * 1024)


def test_groups_of_targets() -> None:
    names = cost.target_names
    assert names("llama-3-8b", "mlp") == ("gate", "up", "down")
    assert names("gpt2", "mlp") == ("up", "down")
    assert names("gpt2", "v,q") == QV
    assert names("gpt2", "qv, o_proj") == (*QV, "o")
    assert names("Llama-3-8B", "mlp,gate") == ("gate", "up", "down")
    for model in ARCHITECTURES:
        maps = tuple(ARCHITECTURES[model].linears)
        assert names(model, "all-linear") == maps


# Bytes ----------------------------------------------------------------------


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_quantised_weights(model: str) -> None:
    sizes = ARCHITECTURES[model]
    rest = 2 * sizes.other
    nf4 = cost.weight_bytes(model, "nf4") - rest
    # Dettmers et al. 2023: 4 bits and 0.127 for the scales.
    bits = 8 * nf4 / sizes.linear_parameters
    assert bits == pytest.approx(4.127, abs=1e-3)
    int8 = cost.weight_bytes(model, "int8") - rest
    assert 1 < int8 / sizes.linear_parameters < 1.05
    fp32 = cost.weight_bytes(model, "fp32")
    assert fp32 == 2 * cost.weight_bytes(model, "bf16")
    assert fp32 == 4 * sizes.parameters


def test_bytes_of_full_fine_tuning() -> None:
    """8 bytes a parameter in one format of 2, 16 in one of 4 (Adam)."""
    sizes = ARCHITECTURES["llama-2-7b"]
    n = sizes.parameters
    for trained, activations, each, copies in (
        ("bf16", "bf16", 8, 0),
        ("fp32", "fp32", 16, 0),
        ("fp32", "bf16", 16, 2 * sizes.linear_parameters),
    ):
        memory = cost.training_memory(
            "llama-2-7b", trained=trained, activations=activations
        )
        held = memory.total - memory.activations - memory.peak
        assert held == each * n + copies
        assert memory.adapter == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("adamw", torch.optim.AdamW),
        ("sgd", torch.optim.SGD),
        ("sgd-momentum", partial(torch.optim.SGD, momentum=0.9)),
    ],
)
def test_what_pytorchs_optimizers_remember(name, rule, dtype) -> None:
    weight = nn.Parameter(torch.randn(64, 32, dtype=dtype))
    optimizer = rule([weight], lr=0.1)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    found = sum(
        x.nbytes
        for state in optimizer.state.values()
        for x in state.values()
        if x is not None and x.dim()  # not the counter of steps
    )
    numbers, each = cost.OPTIMIZERS[name]
    assert found == numbers * 64 * 32 * (each or dtype.itemsize)


def test_autocast_holds_a_copy_of_each_linear_weight() -> None:
    layer, x = nn.Linear(64, 32, bias=False), torch.randn(8, 64)
    with torch.autocast("cpu", torch.bfloat16):
        kept = saved_bytes(layer, x.bfloat16(), exclude=[layer.weight])
    # The input for the weight's gradient; the weight for nobody here.
    assert kept == 2 * 8 * 64
    x.requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        kept = saved_bytes(layer, x.bfloat16(), exclude=[layer.weight])
    assert kept == 2 * 8 * 64 + 2 * 64 * 32


def test_three_numbers_for_each_word() -> None:
    """What the loss of all tokens allocates, forward and backward."""
    sizes: list[int] = []

    class Outputs(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for t in out if isinstance(out, tuple) else (out,):
                if t.shape == (8, 50) and not func.is_view:
                    sizes.append(t.nbytes)
            return out

    logits = torch.randn(8, 50, requires_grad=True)
    with Outputs():
        F.cross_entropy(logits, torch.arange(8)).backward()
    small = Architecture(1, 4, 1, 50, {}, 0)
    # The last is what becomes of the gradient in the leaf.
    assert sum(sizes[:3]) == cost.loss_bytes(small, 2, 4)
    assert cost.loss_bytes("roberta-base", 2, 4) == 0


def test_bytes_of_lora() -> None:
    count = cost.adapter_parameters("llama-3-8b", 16, "qv")
    memory = cost.training_memory(
        "llama-3-8b", 16, "qv", base="nf4", trained="bf16", optimizer="sgd"
    )
    assert memory.weights == cost.weight_bytes("llama-3-8b", "nf4")
    assert memory.adapter == memory.gradients == 2 * count
    assert memory.optimizer == 0
    assert memory.total == (
        memory.weights + 2 * (2 * count) + memory.activations + memory.peak
    )


# What the forward pass saves ------------------------------------------------


def loss_of(model: nn.Module, text: torch.Tensor):
    def run():
        logits = model(text[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), text[:, 1:].flatten())

    return run


@pytest.mark.parametrize("T", [16, 128])
@pytest.mark.parametrize(
    "targets",
    [None, QV, ("o",), QKVO, ("up",), ("down",), (*QKVO, "up", "down")],
)
def test_activations_of_a_model_that_is_built(targets, T) -> None:
    r = 4
    model = TinyGPT()
    if targets is not None:
        # Without a gradient before the first block, nothing would be saved
        # there that a deeper block saves: as after an embedding that trains.
        adapted(model, targets, r)
        model.position.requires_grad_(True)
    text = torch.randint(256, (3, T + 1))
    found = saved_bytes(loss_of(model, text), exclude=[text])
    formula = cost.activation_bytes(
        "tiny-gpt",
        3,
        T,
        None if targets is None else r,
        targets or "all-linear",
        activations="fp32",
    )
    # With more tokens than inputs, this layer makes x Aᵀ anew.
    formula -= sum(
        4 * 3 * T * r
        for layer in model.modules()
        if isinstance(layer, LoRALinear) and layer.in_features < 3 * T
    )
    # Of the loss, the logarithms of the probabilities are kept; it also keeps
    # its targets, and the embedding its indices.
    formula += cost.loss_bytes("tiny-gpt", 3, T) // 3
    assert 0 <= found - formula <= 3 * T * 8 + T * 8 + 64


class LlamaBlock(nn.Module):
    """A block as Llama has it, from PyTorch's own operations."""

    def __init__(self, d, heads, kv, hidden) -> None:
        super().__init__()
        self.heads, self.groups = heads, kv * heads // d
        for name, (m, n) in {
            "q": (d, d),
            "k": (kv, d),
            "v": (kv, d),
            "o": (d, d),
            "gate": (hidden, d),
            "up": (hidden, d),
            "down": (d, hidden),
        }.items():
            setattr(self, name, nn.Linear(n, m, bias=False))
        self.norm1, self.norm2 = nn.RMSNorm(d), nn.RMSNorm(d)

    def forward(self, x):
        n = self.norm1(x)
        q = self.q(n).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = (
            layer(n).unflatten(-1, (self.groups, -1)).transpose(1, 2)
            for layer in (self.k, self.v)
        )
        y = F.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=self.heads != self.groups
        )
        x = x + self.o(y.transpose(1, 2).flatten(-2))
        n = self.norm2(x)
        return x + self.down(F.silu(self.gate(n)) * self.up(n))


@pytest.mark.parametrize(
    "targets",
    [None, QV, ("o",), QKVO, ("gate",), ("down",), (*QKVO, "gate", "up")],
)
def test_activations_of_a_llama_block(targets) -> None:
    d, heads, hidden, r = 32, 4, 88, 3
    block = LlamaBlock(d, heads, d, hidden)
    names = {n: tuple(p.weight.shape) for n, p in block.named_children()}
    sizes = Architecture(
        1, d, heads, 7, {k: v for k, v in names.items() if len(v) == 2}, 0
    )
    if targets is not None:
        adapted(block, targets, r)
    # On a CPU an RMSNorm is no single kernel: for its own weight's sake it
    # would keep its output too, which the fused one computes again.
    for norm in (block.norm1, block.norm2):
        norm.requires_grad_(False)
    x = torch.randn(2, 10, d, requires_grad=True) * 1
    found = saved_bytes(block, x)
    formula = cost.activation_bytes(
        sizes,
        2,
        10,
        None if targets is None else r,
        targets or "all-linear",
        activations="fp32",
    )
    # The end of a model: its norm, and what the head reads.
    end = 20 * (4 * d + 4 + (4 * d if targets is None else 0))
    assert found == formula - end


@pytest.mark.parametrize("trained", ["bf16", "fp32"])
@pytest.mark.parametrize("targets", [QV, ("down",), (*QKVO, "gate", "up")])
def test_activations_of_a_block_that_peft_adapts(targets, trained) -> None:
    """Its factors are fp32 on a bf16 base, unless it is told otherwise."""
    d, heads, hidden, r = 32, 4, 88, 3
    block = LlamaBlock(d, heads, d, hidden).bfloat16()
    names = {n: tuple(p.weight.shape) for n, p in block.named_children()}
    sizes = Architecture(
        1, d, heads, 7, {k: v for k, v in names.items() if len(v) == 2}, 0
    )
    model = get_peft_model(
        block,
        LoraConfig(r=r, target_modules=list(targets)),
        autocast_adapter_dtype=trained == "fp32",
    )
    x = torch.randn(2, 10, d, dtype=torch.bfloat16, requires_grad=True) * 1
    found = saved_bytes(model, x)
    formula = cost.activation_bytes(sizes, 2, 10, r, targets, trained=trained)
    end = 20 * (2 * d + 4)
    # On a CPU an RMSNorm converts its input to fp32, and keeps that.
    norms = 20 * 2 * (4 - 2) * d
    assert found == formula - end + norms


def test_checkpointing_keeps_the_inputs_and_one_block() -> None:
    sizes = ARCHITECTURES["llama-3-8b"]
    whole = cost.activation_bytes(sizes, 1, 1)
    kept = cost.activation_bytes(sizes, 1, 1, checkpointing=True)
    end = 2 * 2 * sizes.width + 4
    block = (whole - end) // sizes.layers
    assert kept - end == sizes.layers * 2 * sizes.width
    again = block - 2 * sizes.width
    few_words = replace(sizes, vocabulary=1)
    for model, more in ((sizes, 12 * sizes.vocabulary), (few_words, again)):
        memory = cost.training_memory(model, sequence=1)
        assert (memory.activations, memory.peak) == (kept, more)
        memory = cost.training_memory(model, sequence=1, checkpointing=False)
        assert (memory.activations, memory.peak) == (
            whole,
            12 * model.vocabulary,
        )


# Operations -----------------------------------------------------------------


@pytest.mark.parametrize("targets", [QV, (*QKVO, "up", "down")])
def test_operations_of_a_model_that_is_built(targets) -> None:
    B, T, r, d = 2, 32, 4, 128
    text = torch.randint(256, (B, T + 1))

    def step(model):
        return lambda: loss_of(model, text)().backward()

    head = 2 * B * T * d * 256
    # Two products with the scores of each of four blocks, five backward; the
    # formula leaves them out.
    scores = 4 * 7 * 2 * B * T * T * d
    full = count_flops(step(TinyGPT()))
    assert full == B * T * cost.training_flops("tiny-gpt") + 3 * head + scores

    lora = adapted(TinyGPT(), targets, r)
    lora.position.requires_grad_(True)  # so the first block passes one on
    found = count_flops(step(lora))
    formula = B * T * cost.training_flops("tiny-gpt", r, targets)
    assert found == formula + 2 * head + scores


def test_two_thirds_of_the_operations() -> None:
    """The formula of Schulman et al. 2025 for a frozen N x N map."""
    N = 4096
    for r in (8, 256):
        square = Architecture(1, N, 32, 1, {"q": (N, N), "k": (N, N)}, 0)
        share = cost.training_flops(square, r, ("q", "k"))
        share /= cost.training_flops(square)
        assert share == pytest.approx((2 * N**2 + 6 * N * r) / (3 * N**2))
    assert share == pytest.approx(0.792, abs=1e-3)


def test_with_checkpointing_three_quarters() -> None:
    sizes = Architecture(2, 64, 4, 1, {"q": (64, 64)}, 0)
    again = [
        cost.training_flops(sizes, r, ("q",), checkpointing=True)
        for r in (1, None)
    ]
    # The forward products once more: of the weight, and of both factors.
    plain = [cost.training_flops(sizes, r, ("q",)) for r in (1, None)]
    adapters = cost.adapter_parameters(sizes, 1, ("q",))
    forward = 2 * sizes.linear_parameters
    assert again == [plain[0] + forward + 2 * adapters, plain[1] + forward]


def test_the_smallest_card_has_a_tenth_to_spare() -> None:
    fits = int(24 * 2**30 / 1.1)
    assert cost.smallest_card(fits) == 24
    assert cost.smallest_card(fits + 2) == 40
    assert cost.smallest_card(10**12) is None


# Mistakes, and the command line ---------------------------------------------

WRONG = [
    (dict(model="llama-4"), r"no model 'llama-4'; there are tiny-gpt, "),
    (dict(rank=0), "need 1 <= rank <= 1024, the smaller .* got 0"),
    (dict(rank=1025), "need 1 <= rank <= 1024, the smaller .* got 1025"),
    (dict(targets="q,x"), "no target 'x'; there are qv, attention, mlp"),
    (dict(targets=()), "no target is named"),
    (dict(base="int3"), "base must be one of fp32, bf16, int8, nf4, got"),
    (dict(trained="nf4"), "trained must be one of fp32, bf16, got 'nf4'"),
    (dict(optimizer="lion"), "optimizer must be one of adamw, adamw-8bit"),
    (dict(batch=0), "need batch >= 1 and sequence >= 1, got 0 and"),
    (dict(sequence=-1), "need batch >= 1 and sequence >= 1, got 1 and -1"),
]


@pytest.mark.parametrize(("setting", "words"), WRONG)
def test_mistakes_are_named(setting, words) -> None:
    good = dict(model="llama-3-8b", rank=8, targets="all-linear")
    with pytest.raises(ValueError, match=words):
        cost.training_memory(**{**good, **setting})


def test_the_command_prints_what_the_functions_return(capsys) -> None:
    command = (
        "--model llama-3-8b --rank 16 --targets all-linear "
        "--batch 2 --sequence 512 --no-checkpointing"
    )
    cost.main(command.split(" "))
    text = capsys.readouterr().out
    assert "8,030,261,248 parameters" in text
    assert "41,943,040 trained numbers" in text
    memory = cost.training_memory(
        "llama-3-8b", 16, batch=2, sequence=512, checkpointing=False
    )
    rows = {
        line.split()[0]: line.split()[1:] for line in text.splitlines() if line
    }
    for row in (*(x.name for x in fields(memory)), "total"):
        assert rows[row][2] == f"{getattr(memory, row) / 1e9:,.3f}"
    assert rows["card,"][3] == str(cost.smallest_card(memory.total))
    assert rows["weights"][3] == (
        f"{cost.weight_bytes('llama-3-8b', 'nf4') / 1e9:,.3f}"
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--model llama-4", "there is no model 'llama-4'; there are tiny-gpt"),
        ("--model gpt2 --rank 0", "need 1 <= rank <= 768, the smaller side"),
        ("--model gpt2 --targets q,,v", "there is no target ''; there are qv"),
        ("--model gpt2 --rank two", "argument --rank: invalid int value"),
        ("--model gpt2 --optimizer x", "optimizer must be one of adamw"),
        ("", "the following arguments are required: --model"),
    ],
)
def test_a_mistake_is_answered_with_one_sentence(arguments, sentence) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lorabook.cost", *arguments.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("again", [0, 1])
@pytest.mark.parametrize("model", ["gpt2", "llama-2-7b"])
def test_the_share_the_file_and_the_work_of_the_table(model, again) -> None:
    """Counted here: two strips a map, 4 bytes a number, PyTorch's products."""
    sizes, r = ARCHITECTURES[model], 8
    maps = sizes.linears.values()
    count = sizes.layers * sum(r * (m + n) for m, n in maps)
    whole = sizes.layers * sum(m * n for m, n in maps)
    # A frozen weight has two of three products, and each factor all three;
    # checkpointing does those of the forward pass again.
    work = (2 + again) * whole + (3 + again) * count
    work /= (3 + again) * whole
    text = cost.table(model, r, checkpointing=bool(again))
    assert f"  {100 * count / sizes.parameters:.3f}% of the model" in text
    assert f"as a file, {4 * count / 1e6:,.1f} MB in fp32, half" in text
    assert f"operations of a step: {100 * work:.1f}% of full" in text
