"""Each operation counts what a formula says, or is refused by its name."""

import re
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from lorabook.measure import count_flops, step_flops
from lorabook.operations import FORMULAS, check

sizes = st.integers(1, 9)


def t(*shape: int) -> Tensor:
    """Return ones that want a gradient."""
    return torch.ones(*shape, requires_grad=True)


# Products of matrices and vectors


@settings(max_examples=20)
@given(sizes, sizes)
def test_a_matrix_times_a_vector(m: int, n: int) -> None:
    A, x, y = t(m, n), t(n), t(m)
    for work in (
        lambda: A @ x,
        lambda: y @ A,
        lambda: torch.mv(A, x),
        lambda: F.linear(x, A),
        lambda: F.linear(x, A, y),
        lambda: torch.addmv(y, A, x),
        lambda: torch.zeros(m).addmv_(A.detach(), x.detach()),
        lambda: torch.inner(A, x),
        lambda: torch.tensordot(A, x, 1),
        lambda: torch.mv(A, x, out=torch.empty(0)),
    ):
        with torch.no_grad():
            assert count_flops(work) == 2 * m * n


@settings(max_examples=20)
@given(sizes)
def test_a_vector_times_a_vector(n: int) -> None:
    x = torch.ones(n)
    for work in (
        lambda: x @ x,
        lambda: torch.dot(x, x),
        lambda: torch.vdot(x, x),
        lambda: torch.inner(x, x),
    ):
        assert count_flops(work) == 2 * n


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("right", [True, False])
def test_each_gradient_of_a_product_is_one_more(left, right) -> None:
    """Also that of the matrix, an outer product written entry by entry."""
    A, x = t(3, 4).requires_grad_(left), t(4).requires_grad_(right)
    if left or right:
        assert step_flops(lambda: A @ x) == (1 + left + right) * 2 * 12
    y = torch.ones(3)
    assert count_flops(torch.outer, y, x) == 2 * 12
    assert count_flops(torch.einsum, "i,j->ij", y, x) == 2 * 12
    assert count_flops(torch.addr, torch.zeros(3, 4), y, x) == 2 * 12
    assert count_flops(torch.kron, A, torch.ones(2, 2)) == 2 * 12 * 4
    # Scaling rows or columns is none.
    assert count_flops(lambda: A * x + y[:, None] * A + 2 * A) == 0


@settings(max_examples=20)
@given(sizes, sizes, sizes, sizes)
def test_batches_of_matrices(b: int, m: int, k: int, n: int) -> None:
    X, Y, Z = torch.ones(b, m, k), torch.ones(b, k, n), torch.ones(m, n)
    once = 2 * b * m * k * n
    for work in (
        lambda: X @ Y,
        lambda: torch.baddbmm(Z, X, Y),
        lambda: Z.expand(b, m, n).clone().baddbmm_(X, Y),
        lambda: torch.addbmm(Z, X, Y),
        lambda: Z.clone().addbmm_(X, Y),
        lambda: torch.func.vmap(torch.mm)(X, Y),
    ):
        assert count_flops(work) == once
    Q = torch.ones(m, k, dtype=torch.int8)
    if m > 16:
        assert count_flops(torch._int_mm, Q, Q.T) == 2 * m * k * m


@pytest.mark.parametrize(
    ("rule", "shapes", "multiplications"),
    [
        ("i,i->", ((5,), (5,)), 5),
        ("ij,j->i", ((4, 5), (5,)), 4 * 5),
        ("i,j->ij", ((4,), (5,)), 4 * 5),
        ("ij,ij->i", ((4, 5), (4, 5)), 4 * 5),
        ("bij,bjk->bik", ((3, 4, 5), (3, 5, 6)), 3 * 4 * 5 * 6),
        ("ij,jk,k->i", ((4, 5), (5, 6), (6,)), 4 * 5 * 6 + 4 * 6),
        ("ij,ij->ij", ((4, 5), (4, 5)), 0),  # entry by entry
    ],
)
def test_sums_by_einstein(rule: str, shapes, multiplications: int) -> None:
    """The last but one goes from left to right, PyTorch's own order."""
    found = count_flops(torch.einsum, rule, *(torch.ones(x) for x in shapes))
    if rule == "ij,jk,k->i":  # with opt_einsum the order is the better one
        assert found in (2 * multiplications, 2 * (5 * 6 + 4 * 5))
    else:
        assert found == 2 * multiplications


def test_an_addition_to_a_product_is_free() -> None:
    M, A, B = torch.ones(3, 5), torch.ones(3, 4), torch.ones(4, 5)
    assert count_flops(torch.addmm, M, A, B) == 2 * 3 * 4 * 5
    assert count_flops(lambda: M.clone().addmm_(A, B)) == 2 * 3 * 4 * 5


def trilinear(a, b, c, expands, summed, unroll) -> Tensor:
    """Do what PyTorch's kernel does, with operations that are counted."""
    for axis in range(4):
        a = a.unsqueeze(axis) if axis in expands[0] else a
        b = b.unsqueeze(axis) if axis in expands[1] else b
        c = c.unsqueeze(axis) if axis in expands[2] else c

    def pair(x: Tensor, y: Tensor, gone: set[int]) -> Tensor:
        letters = "abcd"
        terms = [
            "".join(c for i, c in enumerate(letters) if z.shape[i] > 1)
            for z in (x, y)
        ]
        kept = "".join(
            c
            for i, c in enumerate(letters)
            if i not in gone and max(x.shape[i], y.shape[i]) > 1
        )
        rule = f"{','.join(terms)}->{kept}"
        out = torch.einsum(rule, x.squeeze(), y.squeeze())
        for i, c in enumerate(letters):
            out = out.unsqueeze(i) if c not in kept else out
        return out

    total = 0
    count = max(x.shape[unroll] for x in (a, b, c))
    first = {i for i in summed if i in expands[2]} - {unroll}
    for k in range(count):
        cut = [
            x.narrow(unroll, k if x.shape[unroll] > 1 else 0, 1)
            for x in (a, b, c)
        ]
        part = pair(cut[0], cut[1], first)
        part = pair(part, cut[2], set(summed) - first - {unroll})
        total = total + part if unroll in summed else part
    return total


@pytest.mark.parametrize(
    ("shapes", "expands", "summed"),
    [
        # n, i; o, i, j; n, j: as the layer calls it, and for its gradients.
        (((7, 3), (5, 3, 4), (7, 4)), ((1, 3), (0,), (1, 2)), (2, 3)),
        (((7, 5), (5, 3, 4), (7, 4)), ((2, 3), (0,), (1, 2)), (1, 3)),
        (((7, 5), (5, 3, 4), (7, 3)), ((2, 3), (0,), (1, 3)), (1, 2)),
        (((7, 5), (7, 3), (7, 4)), ((2, 3), (1, 3), (1, 2)), (0,)),
    ],
)
def test_a_trilinear_product(shapes, expands, summed) -> None:
    tensors = [torch.ones(s) for s in shapes]
    found = count_flops(
        torch.ops.aten._trilinear, *tensors, *expands, summed, 1
    )
    expected = count_flops(lambda: trilinear(*tensors, expands, summed, 1))
    assert found == expected > 0


@settings(max_examples=20)
@given(sizes, sizes, sizes, sizes)
def test_a_bilinear_layer(n: int, i: int, j: int, o: int) -> None:
    layer = nn.Bilinear(i, j, o)
    found = count_flops(layer, torch.ones(n, i), torch.ones(n, j))
    assert found == 2 * n * o * j * (i + 1)


# Recurrent layers


@pytest.mark.parametrize(("kind", "gates"), [("RNN", 1), ("LSTM", 4)])
@pytest.mark.parametrize("packed", [False, True])
def test_a_recurrent_layer(kind: str, gates: int, packed: bool) -> None:
    T, N, k, h = 5, 3, 6, 7
    layer = getattr(nn, kind)(k, h)
    once = 2 * T * N * gates * h * (k + h)
    x = t(T, N, k)
    given = x
    if packed:
        given = nn.utils.rnn.pack_padded_sequence(x, [T] * N)
    assert count_flops(layer, given) == once

    def first(x):
        out = layer(x)[0]
        return out.data if packed else out

    # The first state is a constant, but its gradient is computed too.
    assert 2.7 * once <= step_flops(first, given) <= 3 * once


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")
def test_other_recurrent_layers() -> None:
    T, N, k, h = 5, 3, 6, 7
    x = torch.ones(T, N, k)
    gru = 2 * T * N * 3 * h * (k + h)
    assert count_flops(nn.GRU(k, h), x) == gru
    assert count_flops(nn.GRUCell(k, h), x[0]) == gru // T
    lstm = 2 * T * N * 4 * h
    both = lstm * (k + h) * 2
    second = lstm * (2 * h + h) * 2
    deep = nn.LSTM(k, h, num_layers=2, bidirectional=True)
    assert count_flops(deep, x) == both + second
    short = nn.LSTM(k, h, proj_size=2)
    assert count_flops(short, x) == (lstm * (k + 2) + 2 * T * N * h * 2)
    assert count_flops(nn.LSTMCell(k, h), x[0]) == lstm * (k + h) // T
    batch_first = nn.LSTM(k, h, batch_first=True)
    assert count_flops(batch_first, x.transpose(0, 1)) == lstm * (k + h)


def test_the_formula_of_recurrent_layers_on_a_gpu() -> None:
    """Two layers, both ways, by the shapes that cuDNN would be given."""
    aten, T, N, k, h = torch.ops.aten, 5, 3, 6, 7
    layer = nn.LSTM(k, h, num_layers=2, bidirectional=True)
    expected = count_flops(layer, torch.ones(T, N, k))
    weights = [w.shape for w in layer.parameters()]
    rest = (4, None, (4, N, h), (4, N, h), 2)
    for x in ((T, N, k), (T * N, k)):  # the second is packed
        once = FORMULAS[aten._cudnn_rnn](x, weights, *rest)
        assert once == expected
        twice = FORMULAS[aten._cudnn_rnn_backward](x, weights, *rest)
        assert twice == 2 * expected


# Attention


def attention(q, k, v, **options) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, **options)


@pytest.mark.parametrize("options", [{}, {"is_causal": True}])
def test_attention_counts_its_two_products(options) -> None:
    B, H, T, S, d, e = 2, 4, 6, 8, 16, 16
    q, k, v = t(B, H, T, d), t(B, H, S, d), t(B, H, S, e)
    once = 2 * B * H * T * S
    assert count_flops(lambda: attention(q, k, v, **options)) == (
        once * (d + e)
    )
    # The scores are computed again, then four gradients.
    assert step_flops(lambda: attention(q, k, v, **options)) == once * (
        (d + e) + (3 * d + 2 * e)
    )


def test_attention_written_out_has_the_same_products() -> None:
    q, k, v = t(2, 4, 6, 16), t(2, 4, 8, 16), t(2, 4, 8, 12)
    fused = count_flops(attention, q, k, v)
    written = count_flops(lambda: (q @ k.transpose(-1, -2)).softmax(-1) @ v)
    assert fused == written
    # Dropout is not fused: PyTorch writes it out itself.
    assert count_flops(lambda: attention(q, k, v, dropout_p=0.5)) == fused


def test_attention_with_few_key_heads() -> None:
    q, k = t(2, 4, 6, 16), t(2, 2, 8, 16)
    found = count_flops(lambda: attention(q, k, k, enable_gqa=True))
    assert found == 2 * (2 * 4 * 6 * 8 * 16) * 2


@pytest.mark.parametrize("grad", [True, False])
def test_the_fast_path_of_an_encoder_hides_nothing(grad: bool) -> None:
    d, hidden, B, T = 16, 32, 2, 5
    layer = nn.TransformerEncoderLayer(d, 2, hidden, batch_first=True).eval()
    expected = 2 * B * T * (4 * d * d + 2 * d * hidden + 2 * T * d)
    was = torch.backends.mha.get_fastpath_enabled()
    with torch.set_grad_enabled(grad):
        assert count_flops(layer, torch.ones(B, T, d)) == expected
        x = torch.ones(B, T, d)
        maps = 2 * B * T * (4 * d * d + 2 * T * d)
        heads = nn.MultiheadAttention(d, 2, batch_first=True).eval()
        assert count_flops(heads, x, x, x) == maps
    assert torch.backends.mha.get_fastpath_enabled() == was


@pytest.mark.parametrize("fast", [True, False])
def test_the_fast_path_is_afterwards_as_before(fast: bool) -> None:
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        count_flops(torch.matmul, t(2, 2), t(2, 2))
        assert torch.backends.mha.get_fastpath_enabled() == fast
        with pytest.raises(ZeroDivisionError):
            count_flops(lambda: 1 / 0)
        assert torch.backends.mha.get_fastpath_enabled() == fast
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


# Convolutions


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_convolution(n: int, groups: int, transposed: bool) -> None:
    kind = f"Conv{'Transpose' if transposed else ''}{n}d"
    settings = {"stride": 2, "padding": 1, "groups": groups}
    layer = getattr(nn, kind)(8, 4, 3, **settings)
    x = t(2, 8, *[7] * n)
    # Each entry of the weight meets each place of the smaller side.
    places = 2 * prod((x if transposed else layer(x)).shape[2:])
    once = 2 * layer.weight.numel() * places
    assert count_flops(layer, x) == once
    assert step_flops(layer, x) == 3 * once
    assert step_flops(layer, x.detach()) == 2 * once
    layer.weight.requires_grad_(False)
    assert step_flops(layer, x) == 2 * once


# What is refused


A = torch.eye(3)


@pytest.mark.parametrize(
    ("work", "name"),
    [
        (lambda: torch.fft.rfft(A), "_fft_r2c"),
        (lambda: torch.cdist(t(40, 3), t(40, 3)), "_euclidean_dist"),
        (lambda: torch.cdist(A, A, p=1.0), "_cdist_forward"),
        (
            lambda: F.affine_grid(t(1, 2, 3), (1, 1, 4, 4), False),
            "affine_grid",
        ),
        (lambda: torch.matrix_exp(A), "linalg_matrix_exp"),
        (lambda: torch.sparse.mm(A.to_sparse(), A), "_sparse_addmm"),
        (lambda: torch.ops.aten._foreach_mm([A], [A]), "_foreach_mm"),
        (lambda: torch.conv_tbc(t(4, 2, 3), t(1, 3, 5), t(5)), "conv_tbc"),
    ],
)
def test_an_unknown_product_is_refused_by_name(work, name: str) -> None:
    for lapack in (False, True):
        with pytest.raises(ValueError, match=rf"{name}\S* are not counted$"):
            count_flops(work, products_only=lapack)


def test_a_refusal_comes_from_a_backward_pass_too() -> None:
    M = torch.eye(4).add(torch.ones(4, 4)).requires_grad_()
    out = torch.matrix_exp(M).sum()
    with pytest.raises(ValueError, match=r"matrix_exp are not counted$"):
        count_flops(out.backward)


A4 = torch.eye(4)
FACTORISATIONS = {
    "svd": torch.linalg.svd,
    "svdvals": torch.linalg.svdvals,
    "qr": torch.linalg.qr,
    "eigh": torch.linalg.eigh,
    "eig": torch.linalg.eig,
    "inv": torch.linalg.inv,
    "cholesky": torch.linalg.cholesky,
    "lu": torch.linalg.lu,
    "det": torch.linalg.det,
    "slogdet": torch.linalg.slogdet,
    "solve": lambda M: torch.linalg.solve(M, M),
    "lstsq": lambda M: torch.linalg.lstsq(M, M),
    "solve_triangular": lambda M: torch.linalg.solve_triangular(
        M, M, upper=True
    ),
    "norm": lambda M: torch.linalg.matrix_norm(M, 2),
    "ldl": torch.linalg.ldl_factor,
    "cholesky_inverse": torch.cholesky_inverse,
    "geqrf": lambda M: torch.geqrf(M),
}


@pytest.mark.parametrize("name", FACTORISATIONS)
def test_a_factorisation_is_left_out_on_request_only(name: str) -> None:
    work = FACTORISATIONS[name]
    with pytest.raises(ValueError, match="products_only=True to leave out"):
        count_flops(work, A4)
    assert count_flops(lambda: (work(A4), A4 @ A4), products_only=True) == 128


@pytest.mark.parametrize(
    "work",
    [
        lambda: A.to_sparse() @ A[0],
        lambda: A.to_sparse() @ A,
        lambda: torch.mv(A.to_sparse_coo(), A[0]),
        # In whatever place it stands.
        lambda: torch.addmm(A, A.to_sparse(), A),
    ],
)
def test_only_dense_tensors_are_counted(work) -> None:
    with pytest.raises(ValueError, match=r"dense tensors only|not counted"):
        count_flops(work)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_products_are_refused(dtype: torch.dtype) -> None:
    M = A.to(dtype)
    for work in (lambda: M @ M, lambda: M @ M[0], lambda: torch.vdot(*M[:2])):
        with pytest.raises(
            ValueError, match=f"real numbers only, got {dtype}"
        ):
            count_flops(work)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_entries_may_be_complex_or_ragged() -> None:
    """Only what multiplies and adds has to be known."""
    M = A.cfloat()
    assert count_flops(lambda: M * M[0] + (2 * M).exp()) == 0
    with pytest.raises(ValueError, match="real numbers only"):
        count_flops(torch.outer, M[0], M[0])
    rows = [torch.ones(2, 3), torch.ones(4, 3)]
    for layout in (torch.strided, torch.jagged):
        ragged = torch.nested.nested_tensor(rows, layout=layout)
        assert count_flops(lambda x=ragged: x * x + 2 * x) == 0
    assert count_flops(lambda: A.to_sparse() * 2) == 0


@torch.library.custom_op("lorabook_test::product", mutates_args=())
def product(x: Tensor) -> Tensor:
    """Multiply, out of sight."""
    return torch.mm(x, x)


def test_an_operation_of_others_is_refused() -> None:
    message = r"of lorabook_test::product are unknown"
    with pytest.raises(ValueError, match=message):
        count_flops(lambda: product(A))


def test_an_operation_of_others_counts_by_its_own_formula() -> None:
    packet = torch.ops.lorabook_test.product
    flop_registry[packet] = lambda x, **_: 7
    try:
        assert count_flops(lambda: product(A)) == 7
    finally:
        del flop_registry[packet]


@pytest.mark.filterwarnings("ignore")
def test_quantised_layers_are_refused() -> None:
    layer = torch.ao.quantization.quantize_dynamic(
        nn.Sequential(nn.Linear(3, 3)), {nn.Linear}
    )
    with pytest.raises(ValueError, match="quantized::linear_dynamic are unk"):
        count_flops(layer, A)


def test_no_operation_escapes_that_is_named_like_a_product() -> None:
    """A new PyTorch may bring some: look at each, then list it here."""
    looks = re.compile(
        r"mm|mv|dot|conv|linear|atten|rnn|lstm|gru|matmul|linalg|solve|svd"
        r"|qr|(?<!w)eig|euclid|cdist|pdist|gemm|fft|encoder|combination"
    )
    harmless = {
        "_convert_indices_from_coo_to_csr",
        "_convert_indices_from_csr_to_coo",
        "_convert_weight_to_int4pack",
        "_convert_weight_to_int4pack_for_cpu",
        "_cudnn_rnn_flatten_weight",
        "_cummax_helper",
        "_cummin_helper",
        "_foreach_lgamma",
        "_foreach_lgamma_",
        "_foreach_rsqrt",
        "_foreach_rsqrt_",
        "_foreach_sqrt",
        "_foreach_sqrt_",
        "_linalg_check_errors",
        "_nested_get_jagged_dummy",
        "_standard_gamma",
        "_standard_gamma_grad",
        "_thnn_fused_gru_cell",
        "_thnn_fused_gru_cell_backward",
        "_thnn_fused_lstm_cell",
        "_thnn_fused_lstm_cell_backward_impl",
        "_upsample_bilinear2d_aa",
        "_upsample_bilinear2d_aa_backward",
        "cummax",
        "cummin",
        "fft_fftfreq",
        "fft_rfftfreq",
        "hamming_window",
        "lgamma",
        "linalg__powsum",
        "linalg_cross",
        "linalg_vector_norm",
        "sqrt",
        "upsample_bilinear2d",
        "upsample_bilinear2d_backward",
        "upsample_linear1d",
        "upsample_linear1d_backward",
        "upsample_trilinear3d",
        "upsample_trilinear3d_backward",
    }
    known = FlopCounterMode(
        display=False, custom_mapping=FORMULAS
    ).flop_registry
    passed = set()
    for full in torch._C._dispatch_get_all_op_names():
        namespace, _, name = full.partition("::")
        name = name.partition(".")[0]
        packet = getattr(torch.ops.aten, name, None)
        if namespace != "aten" or packet is None or not looks.search(name):
            continue
        for overload in packet.overloads():
            operation = getattr(packet, overload)
            # What PyTorch takes apart is seen in its parts.
            if packet in known or decomposes(operation):
                continue
            try:
                check(operation, (), known, False)
            except ValueError:
                continue
            if torch.Tag.pointwise not in operation.tags:
                passed.add(name)
    assert passed <= harmless, sorted(passed - harmless)
    for name in harmless:  # nor is any of these refused
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads():
            check(getattr(packet, overload), (), known, False)


def decomposes(operation) -> bool:
    try:
        return operation._can_decompose()
    except RuntimeError:  # operators on Python's own numbers
        return True


@pytest.mark.parametrize("rule", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimisers_step_has_no_products(rule: type) -> None:
    """It notes a name for the profiler, which is no operation."""
    layer = nn.Linear(8, 8)
    optimiser = rule(layer.parameters(), lr=0.1)

    def step() -> None:
        layer(torch.ones(4, 8)).sum().backward()
        optimiser.step()

    assert count_flops(step) == 2 * (2 * 4 * 8 * 8)
