"""The training loop, against steps taken by hand."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lorabook.layers import LoRALinear
from lorabook.train import (
    accuracy,
    batch_loss,
    text_loss,
    train,
    train_many,
)


def quadratic(start):
    """Return a parameter, and a loss with its minimum at 3."""
    p = nn.Parameter(torch.tensor(float(start), dtype=torch.float64))
    return p, lambda: (p - 3) ** 2 / 2


def test_sgd_takes_the_steps_of_the_formula():
    p, loss = quadratic(0)
    history = train(loss, [p], 5, 0.1, optimizer=torch.optim.SGD, decay=False)
    x, expected = 0.0, []
    for _ in range(5):
        expected.append((x - 3) ** 2 / 2)
        x -= 0.1 * (x - 3)
    assert p.item() == pytest.approx(x)
    assert history.tolist() == pytest.approx(expected)


def test_the_learning_rate_falls_on_a_line():
    p, loss = quadratic(0)
    train(loss, [p], 4, 0.2, optimizer=torch.optim.SGD)
    x = 0.0
    for lr in (0.2, 0.15, 0.1, 0.05):
        x -= lr * (x - 3)
    assert p.item() == pytest.approx(x)


def test_no_steps_change_nothing():
    p, loss = quadratic(0)
    assert train(loss, [p], 0, 0.1).shape == (0,)
    assert p.item() == 0


def test_adam_is_the_default():
    p, loss = quadratic(0)
    train(loss, [p], 1, 0.25)
    # The first step of Adam is lr times the sign of the gradient.
    assert p.item() == pytest.approx(0.25)


def test_the_learning_rate_rises_at_first():
    p, loss = quadratic(0)
    train(loss, [p], 4, 0.2, optimizer=torch.optim.SGD, decay=False, warmup=2)
    x = 0.0
    for lr in (0.1, 0.2, 0.2, 0.2):
        x -= lr * (x - 3)
    assert p.item() == pytest.approx(x)


@pytest.mark.parametrize(("clip", "moved"), [(1.0, 0.1), (5.0, 0.3)])
def test_large_gradients_are_clipped(clip, moved):
    p, loss = quadratic(0)  # its gradient is -3
    train(loss, [p], 1, 0.1, optimizer=torch.optim.SGD, decay=False, clip=clip)
    assert p.item() == pytest.approx(moved, rel=1e-5)


def test_frozen_parameters_stay():
    p, _ = quadratic(0)
    q = nn.Parameter(torch.tensor(1.0), requires_grad=False)
    train(lambda: (p * q - 1) ** 2, [p, q], 3, 0.1)
    assert q.item() == 1
    assert p.item() != 0


def test_old_gradients_are_dropped():
    p, loss = quadratic(0)
    p.grad = torch.tensor(100.0, dtype=torch.float64)
    train(loss, [p], 1, 0.1, optimizer=torch.optim.SGD, decay=False)
    assert p.item() == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("steps", "lr", "words"),
    [
        (-1, 0.1, "steps >= 0, got -1"),
        (1, 0.0, "lr > 0, got 0"),
        (1, -1.0, "lr > 0, got -1"),
        (1, math.inf, "lr > 0, got inf"),
        (1, math.nan, "lr > 0, got nan"),
    ],
)
def test_settings_out_of_range_are_named(steps, lr, words):
    p, loss = quadratic(0)
    with pytest.raises(ValueError, match=words):
        train(loss, [p], steps, lr)


def test_nothing_to_train_is_an_error():
    with pytest.raises(ValueError, match="nothing to train"):
        train(
            lambda: torch.zeros(()),
            nn.Linear(2, 2).requires_grad_(False).parameters(),
            1,
            0.1,
        )


def test_a_loss_that_is_not_finite_stops_before_the_weights():
    p, _ = quadratic(1)
    with pytest.raises(FloatingPointError, match=r"inf at step 0: .* 0\.5"):
        train(lambda: p / 0, [p], 3, 0.5)
    assert p.item() == 1


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("at", [0, 2])
def test_a_gradient_that_is_not_finite_stops_before_the_weights(at, clip):
    """The root has an infinite slope at 0, times 0; its value is fine."""
    p, q = quadratic(1)[0], quadratic(4)[0]
    seen, calls = [], [0]

    def loss():
        seen[:] = [p.item(), q.item()]
        calls[0] += 1
        root = (0 * q).square().sum().sqrt() if calls[0] > at else 0
        return (p - 3) ** 2 + (q - 3) ** 2 + root

    message = rf"gradient of 1 of 2 parameters .* at step {at}, though"
    with pytest.raises(FloatingPointError, match=message):
        train(loss, [p, q], 5, 0.1, clip=clip)
    assert [p.item(), q.item()] == seen
    assert p.grad is q.grad is None


def test_an_adapter_with_a_norm_at_zero_is_told():
    """B starts at zero, where the norm of the update has no gradient."""
    layer = LoRALinear(nn.Linear(4, 3), 2, 1.0)
    x = torch.randn(5, 4)

    def loss():
        return layer(x).square().mean() + layer.delta_weight().norm().sqrt()

    with pytest.raises(FloatingPointError, match="at step 0"):
        train(loss, layer.parameters(), 3, 0.1)
    assert not layer.B.any()


def test_a_gradient_too_large_to_clip_is_not_scaled_to_nothing():
    p = nn.Parameter(torch.tensor([1.0, 1.0]))
    with pytest.raises(FloatingPointError, match="overflows at step 0"):
        train(lambda: (1e30 * p).sum(), [p], 3, 0.1, clip=1.0)
    assert p.tolist() == [1.0, 1.0]
    assert p.grad is None


@pytest.mark.parametrize(
    ("optimizer", "slope", "lr"),
    [
        # The last step; the square of the gradient, by which Adam divides.
        (torch.optim.SGD, 1e10, 1e30),
        (torch.optim.Adam, 1e22, 0.1),
    ],
)
def test_a_run_does_not_end_with_numbers_that_are_none(optimizer, slope, lr):
    p = nn.Parameter(torch.ones(2))
    with pytest.raises(FloatingPointError, match="after step 0 the param"):
        train(lambda: (slope * p).sum(), [p], 1, lr, optimizer=optimizer)


def test_a_loss_that_nothing_can_lower_is_refused():
    p, q = quadratic(1)[0], quadratic(2)[0]
    other = nn.Parameter(torch.ones(()))
    for loss in (
        lambda: torch.tensor(1.0),
        lambda: p.detach() ** 2,
        lambda: other**2,
        lambda: (other * q.detach()) ** 2,
    ):
        message = "loss of step 0 does not depend on any of the parameters"
        with pytest.raises(ValueError, match=message):
            train(loss, [p, q], 3, 0.1)
        assert (p.item(), q.item()) == (1, 2)
    # One that moves some of them is fine: a model may have unused parts.
    train(lambda: p**2, [p, q], 3, 0.1)
    assert q.item() == 2


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (1.5, TypeError, "must be a tensor, got float"),
        (None, TypeError, "got NoneType"),
        (torch.ones(2), ValueError, r"got torch.float32 of shape \(2,\)"),
        (torch.ones(()).long(), ValueError, "got torch.int64"),
        (torch.ones(()).cfloat(), ValueError, "one real number"),
    ],
)
def test_what_is_no_loss_is_refused(value, error, words):
    p, _ = quadratic(1)
    with pytest.raises(error, match=words):
        train(lambda: value, [p], 3, 0.1)
    assert p.item() == 1


def test_a_loss_may_have_a_side_of_one():
    p, _ = quadratic(1)
    history = train(lambda: p.reshape(1, 1) ** 2, [p], 2, 0.1)
    assert history.shape == (2,)


def test_a_batch_is_drawn_from_the_examples():
    torch.manual_seed(0)
    net = nn.Linear(3, 4)
    X, y = torch.randn(50, 3), torch.randint(4, (50,))
    g = torch.Generator().manual_seed(5)
    loss = batch_loss(net, X, y, batch=8, generator=g)
    found = [loss().item() for _ in range(2)]
    g.manual_seed(5)
    for value in found:
        i = torch.randint(50, (8,), generator=g)
        expected = F.cross_entropy(net(X[i]), y[i]).item()
        assert value == pytest.approx(expected)
    assert found[0] != found[1]


def test_text_loss_predicts_each_next_byte():
    """Every piece of the text can be drawn, and nothing past its end."""
    text = torch.arange(6, dtype=torch.uint8)
    drawn = []

    def model(x):
        drawn.extend(x.tolist())
        # Sure that the next byte is one more than this one.
        return 50 * nn.functional.one_hot(x + 1, 256).double()

    torch.manual_seed(0)
    loss = text_loss(model, text, batch=50, context=4)
    assert loss() < 1e-9
    assert sorted(set(map(tuple, drawn))) == [(0, 1, 2, 3), (1, 2, 3, 4)]


@pytest.mark.parametrize(("batch", "context"), [(0, 4), (1, 0), (1, 6)])
def test_text_loss_names_what_does_not_fit(batch, context):
    text = torch.arange(6, dtype=torch.uint8)
    with pytest.raises(ValueError, match="1 <= context < 6"):
        text_loss(nn.Identity(), text, batch, context)


def test_batch_loss_names_what_does_not_fit():
    X, y = torch.randn(5, 3), torch.zeros(4, dtype=torch.int64)
    net = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="got 5 and 4"):
        batch_loss(net, X, y)
    with pytest.raises(ValueError, match="got 0 and 0"):
        batch_loss(net, X[:0], y[:0])
    with pytest.raises(ValueError, match="batch >= 1, got 0"):
        batch_loss(net, X[:4], y, batch=0)


def test_a_classifier_learns():
    torch.manual_seed(0)
    X = torch.randn(200, 2)
    y = (X[:, 0] > X[:, 1]).long()
    net = nn.Linear(2, 2)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    history = train(batch_loss(net, X, y), net.parameters(), 100, 0.05)
    assert history.shape == (100,)
    assert history[0] == pytest.approx(math.log(2))
    assert history[-1] < 0.3
    assert accuracy(net, X, y) > 0.95


def test_accuracy_counts():
    logits = torch.tensor([[1.0, 0], [0, 1], [0, 1], [0, 1]])
    y = torch.tensor([0, 0, 1, 1])
    assert accuracy(nn.Identity(), logits, y) == 0.75


@pytest.mark.parametrize(
    ("X", "y"),
    [
        (torch.ones(0, 3), torch.ones(0).long()),  # the mean of nothing
        (torch.ones(4, 3), torch.ones(3).long()),
        (torch.ones(4, 3), torch.ones(1).long()),  # would be spread
        (torch.ones(4, 3), torch.ones(4, 1).long()),
    ],
)
def test_accuracy_needs_a_class_for_each_input(X, y):
    with pytest.raises(ValueError, match="need a class for each"):
        accuracy(nn.Identity(), X, y)


def test_accuracy_of_what_is_no_number_is_refused():
    logits = torch.tensor([[1.0, 0], [math.nan, 1]])
    with pytest.raises(FloatingPointError, match="not numbers"):
        accuracy(nn.Identity(), logits, torch.tensor([0, 0]))
    infinite = torch.tensor([[1.0, math.inf], [-math.inf, 1]])
    assert accuracy(nn.Identity(), infinite, torch.tensor([1, 1])) == 1


class CutOff(Exception):
    """What ends a run early, for the test."""


def classifier(seed=0, cut_at=None):
    """Return a small net and its loss, which fails at a given call."""
    torch.manual_seed(seed)
    X = torch.randn(60, 5)
    y = (X[:, 0] > 0).long()
    net = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    loss, calls = batch_loss(net, X, y, batch=8), [0]

    def cut():
        calls[0] += 1
        if calls[0] == cut_at:
            raise CutOff
        return loss()

    return net, cut


SETTINGS = {"steps": 20, "lr": 0.01, "warmup": 3, "every": 4}


@pytest.mark.parametrize(
    "optimizer", [torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD]
)
def test_a_run_that_was_cut_off_ends_the_same(tmp_path, optimizer):
    whole, loss = classifier()
    expected = train(loss, whole.parameters(), optimizer=optimizer, **SETTINGS)
    file = tmp_path / "run.safetensors"
    net, loss = classifier(cut_at=15)
    with pytest.raises(CutOff):
        train(
            loss,
            net.parameters(),
            optimizer=optimizer,
            resume=file,
            **SETTINGS,
        )
    assert file.exists()
    assert not file.with_name("run.safetensors.part").exists()
    net, loss = classifier()
    torch.manual_seed(99)  # must not matter: the file has the state
    nn.init.zeros_(net[0].weight)
    history = train(
        loss, net.parameters(), optimizer=optimizer, resume=file, **SETTINGS
    )
    assert torch.equal(history, expected)
    for p, q in zip(net.parameters(), whole.parameters(), strict=True):
        assert torch.equal(p, q)
    assert not file.exists()


def test_a_run_is_saved_however_its_numbers_lie(tmp_path):
    """Transposed, as a part of a tensor, and two in one storage."""
    both = torch.arange(12.0).reshape(3, 4)

    def start(cut_at=None):
        own = both.clone()
        parts = (own[:, :2], own[:, 2:], torch.ones(2, 3).T)
        parameters, calls = [nn.Parameter(part) for part in parts], [0]

        def loss():
            calls[0] += 1
            if calls[0] == cut_at:
                raise CutOff
            return sum(
                (i * p).square().sum() for i, p in enumerate(parameters, 1)
            )

        return parameters, loss

    settings = {"steps": 6, "lr": 0.1, "every": 2}
    expected, loss = start()
    train(loss, expected, **settings)
    file = tmp_path / "run.safetensors"
    parameters, loss = start(cut_at=5)
    with pytest.raises(CutOff):
        train(loss, parameters, resume=file, **settings)
    parameters, loss = start()
    train(loss, parameters, resume=file, **settings)
    for p, q in zip(parameters, expected, strict=True):
        assert torch.equal(p, q)
        assert p.stride() == q.stride()


def test_a_run_that_ends_in_no_numbers_can_go_on_from_its_file(tmp_path):
    """The last step is told after the loop, and may not cost the others."""
    file = tmp_path / "run.safetensors"
    slopes = [1.0, 2.0, 3.0, 1e10]

    def run():
        p, left = nn.Parameter(torch.ones(2)), slopes[-2:]
        if not file.exists():
            left = [*slopes]

        def loss():
            return (left.pop(0) * (p - p.detach())).sum()

        settings = {"optimizer": torch.optim.SGD, "decay": False}
        train(loss, [p], 4, 1e30, resume=file, every=2, **settings)
        return p, left

    with pytest.raises(FloatingPointError, match="after step 3 the param"):
        run()
    assert file.exists()
    slopes[-1] = 4.0
    p, left = run()
    assert not left
    assert p.tolist() == pytest.approx([-1e31] * 2)
    assert not file.exists()


def test_the_file_of_another_run_is_refused(tmp_path):
    file = tmp_path / "run.safetensors"
    net, loss = classifier(cut_at=15)
    with pytest.raises(CutOff):
        train(loss, net.parameters(), resume=file, **SETTINGS)
    double = copy.deepcopy(net).double()  # of the same shapes
    for other in (nn.Linear(5, 4), nn.Linear(3, 3), double):
        with pytest.raises(ValueError, match="of another run: delete it"):
            train(loss, other.parameters(), resume=file, **SETTINGS)
    few = {**SETTINGS, "steps": 5}
    with pytest.raises(ValueError, match="of another run"):
        train(loss, net.parameters(), resume=file, **few)
    before = net[0].weight.clone()
    for other in ({"optimizer": torch.optim.SGD}, {"lr": 0.02}):
        with pytest.raises(ValueError, match="of another run"):
            train(loss, net.parameters(), resume=file, **{**SETTINGS, **other})
    assert torch.equal(net[0].weight, before)
    file.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"run\.safetensors cannot be read"):
        train(loss, net.parameters(), resume=file, **SETTINGS)


@pytest.mark.parametrize(
    "setting",
    [{"warmup": -1}, {"every": 0}, {"clip": 0.0}, {"clip": math.nan}],
)
def test_other_settings_out_of_range_are_named(setting):
    p, loss = quadratic(0)
    with pytest.raises(ValueError, match="need warmup >= 0, every >= 1 and"):
        train(loss, [p], 1, 0.1, **setting)


def small_nets(count, adapted=False):
    """Return networks of one shape, and data and batches for them."""
    torch.manual_seed(0)
    nets = []
    for _ in range(count):
        first = nn.Linear(5, 7)
        layer = LoRALinear(first, 2, 4.0) if adapted else first
        net = nn.Sequential(layer, nn.ReLU(), nn.Linear(7, 3)).double()
        if adapted:
            net[2].requires_grad_(False)
        nets.append(net)
    X = torch.randn(40, 5, dtype=torch.float64)
    y = torch.randint(3, (40,))
    return nets, X, y, torch.randint(40, (count, 12, 8))


@pytest.mark.parametrize("adapted", [False, True])
def test_many_networks_end_where_each_would_alone(adapted):
    nets, X, y, batches = small_nets(3, adapted)
    before = [copy.deepcopy(net) for net in nets]
    alone = [copy.deepcopy(net) for net in nets]
    rates = torch.tensor([0.01, 0.003, 0.1])
    train_many(nets, X, y, batches, rates)
    for net, own, start, rows, lr in zip(
        nets, alone, before, batches, rates, strict=True
    ):
        drawn = iter(rows)

        def loss(own=own, drawn=drawn):
            i = next(drawn)
            return F.cross_entropy(own(X[i]), y[i])

        train(loss, own.parameters(), len(rows), lr.item())
        for p, q, was in zip(
            net.parameters(), own.parameters(), start.parameters(), strict=True
        ):
            torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-8)
            assert p.requires_grad == was.requires_grad
            assert torch.equal(p, was) == (not p.requires_grad)
            assert p.grad is None


def test_a_parameter_may_be_a_single_number():
    class Scaled(torch.nn.Linear):
        def __init__(self):
            super().__init__(5, 3, dtype=torch.float64)
            self.s = torch.nn.Parameter(torch.ones((), dtype=torch.float64))

        def forward(self, x):
            return self.s * super().forward(x)

    _, X, y, batches = small_nets(2)
    nets = [Scaled(), Scaled()]
    train_many(nets, X, y, batches[:, :1], torch.tensor([0.1, 0.2]))
    moved = torch.stack([(net.s - 1).abs().detach() for net in nets])
    # Adam's first step is as long as the rate.
    torch.testing.assert_close(moved, moved.new_tensor([0.1, 0.2]))


def test_one_factor_may_be_faster():
    nets, X, y, batches = small_nets(2, adapted=True)
    torch.nn.init.normal_(nets[0][0].B)
    nets[1].load_state_dict(nets[0].state_dict())
    batches[1] = batches[0]
    start = copy.deepcopy(nets[0])
    train_many(nets[:1], X, y, batches[:1, :1], 0.01)
    train_many(nets[1:], X, y, batches[1:, :1], 0.01, faster={"B": 16})
    moved = [
        [(net[0].get_parameter(n) - start[0].get_parameter(n)) for n in "AB"]
        for net in nets
    ]
    torch.testing.assert_close(moved[0][0], moved[1][0])
    torch.testing.assert_close(16 * moved[0][1], moved[1][1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nets": []}, "for 0 networks"),
        ({"batches": torch.zeros(2, 3, dtype=torch.long)}, "got \\(2, 3\\)"),
        (
            {"batches": torch.zeros(3, 1, 1, dtype=torch.long)},
            "for 2 networks",
        ),
        ({"rates": 0.0}, "finite rate > 0"),
        ({"rates": torch.tensor([0.1, math.nan])}, "finite rate > 0"),
        ({"rates": math.inf}, "finite rate > 0"),
        ({"rates": torch.tensor([0.1, math.inf])}, "finite rate > 0"),
        ({"rates": torch.ones(3)}, "each of 2 networks"),
    ],
)
def test_many_networks_refuse_what_does_not_fit(change, words):
    nets, X, y, batches = small_nets(2)
    given = {"nets": nets, "batches": batches, "rates": 0.1} | change
    with pytest.raises(ValueError, match=words):
        train_many(X=X, y=y, **given)
    for net in nets:
        net.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter requires a gradient"):
        train_many(nets, X, y, batches, 0.1)


def test_many_networks_refuse_what_would_not_learn():
    nets, X, y, batches = small_nets(2, adapted=True)
    with pytest.raises(ValueError, match=r"that trains is called 'b'"):
        train_many(nets, X, y, batches, 0.1, faster={"b": 16})
    nets[1][0].A.requires_grad_(False)
    with pytest.raises(ValueError, match="do not train the same parameters"):
        train_many(nets, X, y, batches, 0.1)


def test_many_networks_stay_as_they_were_where_one_fails():
    nets, X, y, batches = small_nets(3)
    before = [copy.deepcopy(net).state_dict() for net in nets]
    X[5] = math.nan
    batches[1, 4, 0] = 5
    batches[0], batches[2] = 0, 1
    rates = torch.tensor([0.1, 0.25, 0.1])
    message = r"network 1 is not finite at step \d+: .* below 0\.25$"
    with pytest.raises(FloatingPointError, match=message):
        train_many(nets, X, y, batches, rates)
    for net, was in zip(nets, before, strict=True):
        for name, value in net.state_dict().items():
            assert torch.equal(value, was[name])
