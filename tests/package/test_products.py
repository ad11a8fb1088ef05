"""The cheaper order of products: never more work, and never other results."""

import itertools
from collections.abc import Callable
from typing import Any

import loralib
import peft
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close
from transformers.pytorch_utils import Conv1D

from lorabook import products
from lorabook.adapters import adapt
from lorabook.layers import LoRALayer, LoRALinear
from lorabook.measure import count_flops, saved_bytes

F64 = torch.float64
# Rows, outputs, inputs: on either side of N > k and of N > d.
SHAPES = [
    (N, d, k, r)
    for N in (4, 32, 200)
    for d, k in ((16, 16), (64, 16), (16, 64))
    for r in (1, 3, 16)
]
SMALL = [(4, 6, 5), (9, 6, 5), (5, 4, 6), (5, 6, 4), (7, 6, 6), (6, 6, 6)]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def trained(
    d: int, k: int, r: int = 2, dtype: torch.dtype = F64, **settings: object
) -> LoRALinear:
    layer = LoRALinear(nn.Linear(k, d).to(dtype), r, 3.0, **settings)
    nn.init.normal_(layer.B)
    return layer


def plain(layer: LoRALinear, x: Tensor) -> Tensor:
    """Compute by autograd alone."""
    return LoRALayer.forward(layer, x)


def results(
    forward: Callable[[Tensor], Tensor], layer: LoRALinear, x: Tensor
) -> list[Tensor | None]:
    x = x.detach().requires_grad_(x.requires_grad)
    layer.zero_grad()
    y = forward(x)
    generator = torch.Generator().manual_seed(1)
    y_bar = torch.randn(y.shape, generator=generator, dtype=F64).to(y.dtype)
    y.backward(y_bar)
    return [y.detach(), x.grad, layer.A.grad, layer.B.grad]


@pytest.mark.parametrize(("N", "d", "k"), SMALL)
@pytest.mark.parametrize("wanted", [True, False])
def test_all_results_are_those_of_autograd(
    N: int, d: int, k: int, wanted: bool
) -> None:
    layer = trained(d, k)
    for shape in ((N, k), (1, N, k), (N, 1, 1, k)):
        x = torch.randn(shape, dtype=F64).requires_grad_(wanted)
        found = results(layer, layer, x)
        assert_close(found, results(lambda x: plain(layer, x), layer, x))
        with torch.no_grad():
            assert_close(layer(x), plain(layer, x))


@pytest.mark.parametrize(("N", "d", "k"), SMALL)
@pytest.mark.parametrize("bias", [True, False])
def test_first_and_second_derivatives_are_those_of_differences(
    N: int, d: int, k: int, bias: bool
) -> None:
    layer = trained(d, k)
    if not bias:
        layer.base.bias = None
    x = torch.randn(N, k, dtype=F64, requires_grad=True)

    def f(x: Tensor, A: Tensor, B: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"A": A, "B": B}, (x,))

    assert torch.autograd.gradcheck(f, (x, layer.A, layer.B))
    assert torch.autograd.gradgradcheck(f, (x, layer.A, layer.B))


@pytest.mark.parametrize(("N", "d", "k", "r"), SHAPES)
def test_the_operations_are_those_of_the_rule(
    N: int, d: int, k: int, r: int
) -> None:
    layer = trained(d, k, r, torch.float32)
    x = torch.randn(N, k)
    wanted = x.clone().requires_grad_()
    large, thin = 2 * N * d * k, 2 * N * r * (d + k)
    forward, back = (2 * r * m * max(N - n, 0) for m, n in ((d, k), (k, d)))

    full = 2 * large + 3 * thin
    assert count_flops(step, layer, wanted) == full - forward - back
    assert (
        count_flops(step, layer, x) == full - large - 2 * N * r * k - forward
    )
    with torch.no_grad():
        assert count_flops(layer, x) == large + min(thin, 2 * d * k * r)


@pytest.mark.parametrize(("d", "k"), [(64, 16), (16, 64)])
def test_without_gradients_it_pays_before_either_side_is_reached(
    d: int, k: int
) -> None:
    """It saves 2 N r (d + k) at once, so from N = d k / (d + k) = 12.8 on."""
    r = 3
    layer = trained(d, k, r, torch.float32)
    with torch.no_grad():
        for N, thin in ((12, 2 * 12 * r * (d + k)), (13, 2 * d * k * r)):
            x = torch.randn(N, k)
            assert count_flops(layer, x) == 2 * N * d * k + thin


def step(layer: nn.Module, x: Tensor) -> None:
    layer(x).sum().backward()


def with_peft(layer: LoRALinear) -> nn.Module:
    config = peft.LoraConfig(
        r=layer.r, lora_alpha=layer.alpha, target_modules=["0"]
    )
    base = nn.Sequential(nn.Linear(layer.in_features, layer.out_features))
    return peft.get_peft_model(base, config).base_model.model[0]


def with_loralib(layer: LoRALinear) -> nn.Module:
    theirs = loralib.Linear(
        layer.in_features, layer.out_features, r=layer.r, merge_weights=False
    )
    loralib.mark_only_lora_as_trainable(theirs)
    return theirs


@pytest.mark.parametrize("library", [with_peft, with_loralib])
@pytest.mark.parametrize(("N", "d", "k", "r"), SHAPES)
def test_no_more_work_and_memory_than_the_libraries(
    library: Callable[[LoRALinear], nn.Module], N: int, d: int, k: int, r: int
) -> None:
    ours = trained(d, k, r, torch.float32)
    theirs = library(ours)
    for wanted in (True, False):
        x = torch.randn(2, N // 2, k, requires_grad=wanted)
        flops, kept = [], []
        for layer in (ours, theirs):
            flops.append(count_flops(step, layer, x))
            kept.append(saved_bytes(layer, x))
        assert flops[0] <= flops[1]
        assert kept[0] <= kept[1]
        assert (kept[0] < kept[1]) == (k < N)
        if k < N or (d < N and wanted):
            assert flops[0] < flops[1]
        with torch.no_grad():
            assert count_flops(ours, x) <= count_flops(theirs, x)


def test_a_vector_goes_through_the_factors() -> None:
    layer = trained(64, 48, 4, torch.float32)
    assert count_flops(layer, torch.randn(10, 48)) == 2 * 10 * (
        64 * 48 + 4 * (64 + 48)
    )
    x = torch.randn(1, dtype=F64)
    assert_close(trained(1, 1, 1)(x).shape, (1,))


# Where it would not be the same


def taken(layer: LoRALinear, x: Tensor) -> bool:
    return products.pays(layer, x)


MANY = torch.randn(30, 5, dtype=F64)


def test_many_rows_take_it() -> None:
    """The tests below would prove nothing otherwise."""
    assert taken(trained(6, 5), MANY)
    assert not taken(trained(6, 5), MANY[:5])


def test_with_dropout_the_branches_see_different_inputs() -> None:
    layer = trained(6, 5, dropout=0.5)
    assert not taken(layer, MANY)
    layer.eval()
    assert taken(layer, MANY)
    calm = layer(MANY)
    layer.train()
    assert not torch.allclose(layer(MANY), calm)


def test_the_mode_of_dropout_itself_decides() -> None:
    """Awake in a model in eval mode, it shows how the outputs scatter."""
    layer = trained(6, 5, dropout=0.5).eval()
    calm = layer(MANY)
    layer.dropout.train()
    assert not taken(layer, MANY)
    assert not torch.allclose(layer(MANY), calm)
    layer.train().dropout.eval()
    assert taken(layer, MANY)
    assert_close(layer(MANY), calm)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_16_bits_the_sum_would_round_the_update_away(
    dtype: torch.dtype,
) -> None:
    layer = trained(6, 5, dtype=dtype)
    assert not taken(layer, MANY.to(dtype))
    assert not taken(layer.to(dtype), MANY.to(dtype))
    with torch.no_grad():
        layer.B.mul_(1e-5)
        layer.base.weight.fill_(1)
        layer.base.bias.zero_()
    x = MANY - MANY.mean(dim=1, keepdim=True)  # the base writes zero
    y = layer(x.to(dtype)).double()
    exact = x @ (layer.scale * layer.B.double() @ layer.A.double()).T
    left = (y - layer.base(x.to(dtype))).norm()
    assert left > 0.1 * exact.norm()


def test_under_autocast_too() -> None:
    layer = trained(6, 5, dtype=torch.float32)
    assert taken(layer, MANY.float())
    with torch.autocast("cpu", torch.bfloat16):
        assert not taken(layer, MANY.float())


def test_mixed_dtypes_fail_as_the_base_does() -> None:
    layer = trained(6, 5, dtype=torch.float32)
    assert not taken(layer, MANY)
    with pytest.raises(RuntimeError, match="dtype"):
        layer(MANY)


@pytest.mark.parametrize("name", ["base.weight", "base.bias"])
def test_a_base_that_learns_gets_its_gradient(name: str) -> None:
    layer = trained(6, 5)
    layer.get_parameter(name).requires_grad_(True)
    assert not taken(layer, MANY)
    layer(MANY).square().sum().backward()
    assert layer.get_parameter(name).grad.all()
    assert layer.A.grad.all()


def test_a_frozen_a_keeps_r_numbers_a_row_only() -> None:
    layer = trained(64, 32, 4, torch.float32)
    layer.A.requires_grad_(False)
    x = torch.randn(100, 32, requires_grad=True)
    assert saved_bytes(layer, x) == 4 * 100 * 4
    layer(x).sum().backward()
    assert layer.A.grad is None
    assert layer.B.grad.any()


@pytest.mark.parametrize(
    "register",
    [
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
    ],
)
@pytest.mark.parametrize("part", ["base", "dropout"])
def test_hooks_on_the_parts_are_still_called(register: str, part: str) -> None:
    layer = trained(6, 5)
    calls = []
    handle = getattr(getattr(layer, part), register)(
        lambda *args: calls.append(1)
    )
    x = MANY.clone().requires_grad_()
    layer(x).sum().backward()
    assert calls == [1]
    handle.remove()
    assert taken(layer, MANY)


def test_a_replaced_forward_is_still_called() -> None:
    """As libraries do that fetch the weights when they are needed."""
    layer = trained(6, 5)
    calls = []

    def forward(x: Tensor) -> Tensor:
        calls.append(1)
        return nn.Linear.forward(layer.base, x)

    layer.base.forward = forward
    layer(MANY)
    assert calls == [1]


def test_a_weight_that_is_derived_is_derived_once() -> None:
    base = nn.utils.parametrizations.spectral_norm(nn.Linear(5, 6)).double()
    layer = LoRALinear(base, 2, 3.0)
    assert not taken(layer, MANY)
    layer.eval()
    assert_close(layer(MANY), layer.base(MANY))


def test_inputs_that_lie_otherwise() -> None:
    layer = trained(6, 5, dtype=torch.float32)
    x = torch.randn(5, 30).T
    assert not taken(layer, x)
    assert_close(layer(x), layer(x.contiguous()))
    rows = [torch.randn(n, 5) for n in (3, 40)]
    nested = torch.nested.nested_tensor(rows, layout=torch.jagged)
    assert not taken(layer, nested)
    for y, row in zip(layer(nested).unbind(), rows, strict=True):
        assert_close(y, layer(row))
    assert layer(torch.randn(0, 5)).shape == (0, 6)


def test_ragged_inputs_in_sixteen_bits_teach_what_their_rows_teach() -> None:
    layer = LoRALinear(nn.Linear(5, 6).bfloat16(), 2, 3.0)
    nn.init.normal_(layer.B)
    rows = [torch.randn(n, 5).bfloat16() for n in (3, 40)]
    nested = torch.nested.nested_tensor(rows, layout=torch.jagged)

    def gradients(outputs: list[Tensor]) -> list[Tensor]:
        layer.zero_grad()
        sum(y.float().square().sum() for y in outputs).backward()
        return [layer.A.grad.clone(), layer.B.grad.clone()]

    found = gradients(list(layer(nested).unbind()))
    for got, right in zip(
        found, gradients([layer(row) for row in rows]), strict=True
    ):
        assert_close(got, right, rtol=1e-2, atol=1e-2)


# Where PyTorch traces or transforms


@pytest.mark.slow
def test_compiled_it_is_the_same_in_one_graph() -> None:
    layer = trained(6, 5)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    x = MANY.clone().requires_grad_()
    expected = results(layer, layer, x)
    assert_close(results(compiled, layer, x), expected)
    with torch.no_grad():
        assert_close(compiled(MANY), layer(MANY))


# PyTorch's own code uses what PyTorch has deprecated.
old = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@old
def test_functions_of_torch_func_work() -> None:
    layer = trained(6, 5)
    params = {"A": layer.A.detach(), "B": layer.B.detach()}

    def loss(params: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, params, (x,)).square().sum()

    layer(MANY).square().sum().backward()
    found = torch.func.grad(loss)(params, MANY)
    assert_close(found["A"], layer.A.grad)
    assert_close(found["B"], layer.B.grad)
    stacked = torch.stack([MANY, 2 * MANY])
    each = torch.vmap(torch.func.grad(loss), (None, 0))(params, stacked)
    assert_close(each["B"][0], layer.B.grad)
    hessian = torch.func.hessian(loss)(params, MANY)
    assert hessian["A"]["B"].any()


@old
def test_forward_derivatives_work() -> None:
    layer = trained(6, 5)
    tangent = torch.randn_like(MANY)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(MANY, tangent)
        y = torch.autograd.forward_ad.unpack_dual(layer(dual))
    assert_close(y.tangent, tangent @ layer.weight.T)


@old
def test_a_traced_layer_keeps_learning_the_same() -> None:
    layer = trained(6, 5)
    traced = torch.jit.trace(layer, MANY)
    for x in (MANY, MANY[:3]):
        assert_close(traced(x), layer(x))


def test_every_shape_lies_on_a_side() -> None:
    sides = {(k < N, d < N) for N, d, k, _ in SHAPES}
    assert sides == set(itertools.product([True, False], repeat=2))
    assert len(SHAPES) == 27


# 16 bits beside 32


WIDE = {
    "linear": lambda: nn.Linear(48, 64),
    "conv1d": lambda: Conv1D(64, 48),
    "fused": lambda: nn.Linear(48, 64),
}


def wide(name: str, dtype: torch.dtype, **more: Any) -> LoRALayer:
    base = WIDE[name]().to(dtype)
    parts = (True, False) if name == "fused" else None
    layer = adapt(base, 4, 3.0, parts=parts, **more)
    nn.init.normal_(layer.B)
    return layer


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("shape", [(5, 9, 48), (7, 48), (48,)])
def test_the_input_is_kept_in_16_bits(
    name: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And each bit of what comes out is as if autograd had kept 32."""
    layer = wide(name, dtype)
    x = torch.randn(shape).to(dtype).requires_grad_()
    found = []
    for does in (products.widens, lambda *_: False):
        monkeypatch.setattr(products, "widens", does)
        kept = saved_bytes(layer, x)
        y = layer(x)
        wanted = (x, layer.A, layer.B)
        grads = torch.autograd.grad(y.float().square().sum(), wanted)
        found.append((kept, y, *grads))
    ours, autograds = found
    rows = x.numel() // 48
    assert ours[0] == 2 * rows * 48 + 4 * rows * 4
    assert autograds[0] == 4 * rows * 48 + 4 * rows * 4
    for a, b in zip(ours[1:], autograds[1:], strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
        assert b.any()


@pytest.mark.parametrize("name", WIDE)
def test_what_is_frozen_gets_no_gradient(name: str) -> None:
    layer = wide(name, torch.bfloat16)
    x = torch.randn(7, 48, dtype=torch.bfloat16)
    layer(x).float().sum().backward()
    assert layer.A.grad.any()
    layer.A.requires_grad_(False).grad = None
    x.requires_grad_()
    layer(x).float().sum().backward()
    assert layer.A.grad is None
    assert x.grad.any()


def test_second_derivatives_go_through_it() -> None:
    """Of a penalty on the gradient, against autograd with the copy."""
    layer = wide("linear", torch.bfloat16)
    x = torch.randn(3, 48, dtype=torch.bfloat16, requires_grad=True)
    found = []
    for product in (products.widened, lambda x, A: F.linear(x.to(A), A)):
        z = product(x, layer.A).square().sum()
        (x_bar,) = torch.autograd.grad(z, x, create_graph=True)
        loss = x_bar.float().square().sum()
        found.append(torch.autograd.grad(loss, (x, layer.A)))
    for a, b in zip(*found, strict=True):
        assert_close(a, b)
        assert b.any()


def test_it_is_left_out_where_it_would_not_be_the_same() -> None:
    half = torch.randn(7, 48, dtype=torch.bfloat16)
    layer = wide("linear", torch.bfloat16)
    assert products.widens(layer, half)
    assert not products.widens(layer, half.float())
    assert not products.widens(layer.to(torch.bfloat16), half)
    layer = wide("linear", torch.bfloat16, dropout=0.5)
    assert not products.widens(layer, half)
    layer.eval()
    assert products.widens(layer, half)
    with torch.autocast("cpu", torch.bfloat16):
        assert not products.widens(layer, half)
    layer.dropout.register_forward_hook(lambda *_: None)
    assert not products.widens(layer, half)
    layer = wide("linear", torch.bfloat16)
    y = torch.func.vmap(lambda x: layer(x))(half)
    assert_close(y, layer(half), atol=0.02, rtol=0.02)
