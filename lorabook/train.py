"""One training loop, and the losses that the chapters minimise with it."""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F
from tqdm import tqdm


def train(
    loss: Callable[[], Tensor],
    parameters: Iterable[nn.Parameter],
    steps: int,
    lr: float,
    *,
    optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
    decay: bool = True,
    warmup: int = 0,
    clip: float | None = None,
    resume: Path | None = None,
    every: int = 100,
) -> Tensor:
    """Minimise a loss, and return its value at every step.

    A run of more than two seconds shows a progress bar, except where the
    book is built.

    Parameters
    ----------
    loss : callable
        Called once a step; returns the loss as a scalar with a gradient. It
        draws its own batch, see `batch_loss`.
    parameters : iterable of nn.Parameter
        What may change. Frozen parameters are left out.
    steps : int
        Steps of the optimiser; with 0, nothing changes.
    lr : float
        Learning rate of the first step, positive.
    optimizer : callable
        Called with the parameters and ``lr=lr``; Adam by default (Kingma and
        Ba 2015). For a plain gradient step: ``torch.optim.SGD``.
    decay : bool
        Let the learning rate fall on a straight line: step t of T, counted
        from 0, uses ``lr * (1 - t / T)``. Otherwise it stays constant.
    warmup : int
        Over the first `warmup` steps, the learning rate also rises on a
        straight line: step t uses the share ``(t + 1) / warmup`` of it.
    clip : float, optional
        Scale gradients down to this norm, taken over all of them together,
        where it is larger.
    resume : Path, optional
        File (safetensors) to which the run is saved every `every` steps, and
        from which it goes on if the file exists: a run that was cut off then
        ends as if it had not been. It holds the state of PyTorch's global
        random generator, so draw batches from that one. It is deleted at the
        end.
    every : int
        See `resume`.

    Returns
    -------
    Tensor, shape (steps,), float64
        The loss before each step.

    Raises
    ------
    TypeError
        If the loss is not a tensor.
    ValueError
        If a setting is out of range, if every parameter is frozen, if the
        loss is not one real number or does not depend on any of the
        parameters, or if `resume` is not the file of such a run.
    FloatingPointError
        If the loss or a gradient is not finite, before it can reach the
        parameters; or if, at the end, the parameters or the state of the
        optimiser are not.
    """
    if steps < 0:
        raise ValueError(f"need steps >= 0, got {steps}")
    if not 0 < lr < math.inf:
        raise ValueError(f"need a finite lr > 0, got {lr}")
    trainable = [p for p in parameters if p.requires_grad]
    if not trainable:
        raise ValueError("nothing to train: no parameter requires a gradient")
    if warmup < 0 or every < 1 or (clip is not None and not clip > 0):
        raise ValueError(
            "need warmup >= 0, every >= 1 and clip > 0, "
            f"got {warmup}, {every} and {clip}"
        )
    rule = optimizer(trainable, lr=lr)
    history = torch.empty(steps, dtype=torch.float64)
    start = 0
    if resume is not None and resume.exists():
        start = _load(resume, trainable, rule, history)
    for t in tqdm(
        range(start, steps),
        desc="training",
        initial=start,
        total=steps,
        delay=2,
        leave=False,
        disable="LORABOOK_SITE" in os.environ,
    ):
        if resume is not None and t > start and t % every == 0:
            _save(resume, trainable, rule, history[:t])
        value = _checked(loss())
        history[t] = value.detach().reshape(())
        if not bool(torch.isfinite(history[t])):
            raise FloatingPointError(
                f"the loss is {history[t].item()} at step {t}: "
                f"try a learning rate below {lr:g}"
            )
        rule.zero_grad()
        if value.requires_grad:
            value.backward()  # type: ignore[no-untyped-call]
        _check_gradients(trainable, t)
        if clip is not None:
            norm = nn.utils.clip_grad_norm_(trainable, clip)
            # Of finite gradients, the sum of squares can still overflow; all
            # are then scaled to zero.
            if not bool(torch.isfinite(norm)):
                rule.zero_grad()
                raise FloatingPointError(
                    f"the norm of the gradient overflows at step {t}: "
                    "it cannot be clipped"
                )
        share = min(1.0, (t + 1) / warmup) if warmup else 1.0
        for group in rule.param_groups:
            group["lr"] = lr * share * ((1 - t / steps) if decay else 1)
        rule.step()
    # Of a parameter the next loss would have told, but for the last step.
    # A moment that overflows tells nobody: Adam then divides by infinity.
    left = [*trainable, *(x for s in rule.state.values() for x in s.values())]
    if not all(bool(torch.isfinite(torch.as_tensor(x)).all()) for x in left):
        raise FloatingPointError(
            f"after step {steps - 1} the parameters, or what the optimizer "
            f"keeps of them, are not finite: try a learning rate below {lr:g}"
        )
    if resume is not None:
        resume.unlink(missing_ok=True)
    return history


def _checked(value: Tensor) -> Tensor:
    """Return a loss, if it is one."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"the loss must be a tensor, got {type(value).__name__}"
        )
    if value.numel() != 1 or not value.is_floating_point():
        raise ValueError(
            "the loss must be one real number, got "
            f"{value.dtype} of shape {tuple(value.shape)}"
        )
    return value


def _check_gradients(parameters: list[nn.Parameter], step: int) -> None:
    """Refuse gradients with which nothing would be learned, or worse."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        raise ValueError(
            f"the loss of step {step} does not depend on any of the parameters"
        )
    wrong = sum(not bool(torch.isfinite(g).all()) for g in gradients)
    if wrong:
        for p in parameters:
            p.grad = None
        raise FloatingPointError(
            f"the gradient of {wrong} of {len(gradients)} parameters is not "
            f"finite at step {step}, though the loss is"
        )


def _save(
    path: Path,
    parameters: list[nn.Parameter],
    rule: torch.optim.Optimizer,
    history: Tensor,
) -> None:
    """Write the state of a run; a file is never left half written."""
    tensors = {"history": history, "random": torch.get_rng_state()}
    for i, p in enumerate(parameters):
        tensors[f"parameter.{i}"] = p.detach()
        for key, value in rule.state[p].items():
            tensors[f"optimizer.{i}.{key}"] = torch.as_tensor(value)
    part = path.with_name(path.name + ".part")
    # Copied, because safetensors refuses views and shared storages.
    copies = {k: v.clone().contiguous() for k, v in tensors.items()}
    save_file(copies, part, metadata={"optimizer": _described(rule)})
    part.replace(path)


def _described(rule: torch.optim.Optimizer) -> str:
    """Return an optimiser's kind and settings, as a run's file names them."""
    return f"{type(rule).__name__} {sorted(rule.defaults.items())}"


def _load(
    path: Path,
    parameters: list[nn.Parameter],
    rule: torch.optim.Optimizer,
    history: Tensor,
) -> int:
    """Restore the state of a run; return the step at which it goes on."""
    try:
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            optimizer = (file.metadata() or {}).get("optimizer")
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    stored = [tensors.get(f"parameter.{i}") for i in range(len(parameters))]
    past = tensors.get("history")
    if (
        past is None
        or optimizer != _described(rule)
        or len(past) > len(history)
        or "random" not in tensors
        or any(
            t is None or t.shape != p.shape or t.dtype != p.dtype
            for t, p in zip(stored, parameters, strict=True)
        )
        or f"parameter.{len(parameters)}" in tensors
    ):
        raise ValueError(
            f"{path} is of another run: delete it, or name another file"
        )
    history[: len(past)] = past
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".", 2)
            state.setdefault(int(number), {})[key] = value
    groups = rule.state_dict()["param_groups"]
    rule.load_state_dict({"state": state, "param_groups": groups})
    with torch.no_grad():
        for i, p in enumerate(parameters):
            p.copy_(tensors[f"parameter.{i}"])
    torch.set_rng_state(tensors["random"])
    return len(past)


def batch_loss(
    model: nn.Module,
    X: Tensor,
    y: Tensor,
    batch: int = 64,
    generator: torch.Generator | None = None,
) -> Callable[[], Tensor]:
    """Return a function that draws a batch and returns its cross-entropy.

    Parameters
    ----------
    model : nn.Module
        Maps inputs to logits, (batch, ...) to (batch, classes).
    X : Tensor, shape (N, ...)
        Inputs.
    y : Tensor, shape (N,), int64
        Their classes.
    batch : int
        Examples of a batch, drawn with replacement.
    generator : torch.Generator, optional
        Source of the draws; the global one by default.

    Returns
    -------
    callable
        Without arguments; the mean over the batch, in nats.

    Raises
    ------
    ValueError
        If `X` and `y` differ in length or are empty, or if `batch` < 1.
    """
    if len(X) != len(y) or not len(X):
        raise ValueError(
            f"need as many labels as inputs, got {len(X)} and {len(y)}"
        )
    if batch < 1:
        raise ValueError(f"need batch >= 1, got {batch}")

    def loss() -> Tensor:
        drawn = torch.randint(len(X), (batch,), generator=generator)
        return F.cross_entropy(model(X[drawn]), y[drawn])

    return loss


def text_loss(
    model: nn.Module, text: Tensor, batch: int = 8, context: int = 128
) -> Callable[[], Tensor]:
    """Return a function that draws pieces of a text and predicts each byte.

    Parameters
    ----------
    model : nn.Module
        Maps bytes (batch, T) to the logits of each next byte
        (batch, T, 256).
    text : Tensor, shape (n,), uint8
        More than `context` bytes.
    batch : int
        Pieces at a time. Where they begin is drawn with replacement, from
        PyTorch's global generator.
    context : int
        Bytes of a piece that are predicted.

    Returns
    -------
    callable
        Without arguments; the mean cross-entropy of a byte, in nats.

    Raises
    ------
    ValueError
        If the text is too short, or if `batch` or `context` < 1.
    """
    if batch < 1 or not 1 <= context < len(text):
        raise ValueError(
            f"need batch >= 1 and 1 <= context < {len(text)}, the bytes of "
            f"the text; got {batch} and {context}"
        )
    offsets = torch.arange(context + 1)

    def loss() -> Tensor:
        starts = torch.randint(len(text) - context, (batch, 1))
        drawn = text[starts + offsets].long()  # (batch, context + 1)
        logits = model(drawn[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), drawn[:, 1:].flatten())

    return loss


@torch.no_grad()
def accuracy(model: nn.Module, X: Tensor, y: Tensor) -> float:
    """Return the share of inputs whose largest logit is the right one.

    Parameters
    ----------
    model : nn.Module
        Maps inputs to logits. Used as it is: call ``model.eval()`` first if
        it has dropout.
    X : Tensor, shape (N, ...)
        Inputs.
    y : Tensor, shape (N,), int64
        Their classes.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ValueError
        If there are no inputs, or not one class for each.
    FloatingPointError
        If a logit is not a number, and so no largest one.
    """
    logits = model(X)
    if not y.numel() or logits.shape[:-1] != y.shape:
        raise ValueError(
            "need a class for each of some inputs, got "
            f"{tuple(y.shape)} for logits {tuple(logits.shape)}"
        )
    if bool(torch.isnan(logits).any()):
        raise FloatingPointError("some logits are not numbers")
    return float((logits.argmax(dim=-1) == y).double().mean())


def train_many(
    nets: Sequence[nn.Module],
    X: Tensor,
    y: Tensor,
    batches: Tensor,
    rates: Tensor | float,
    *,
    faster: Mapping[str, float] | None = None,
) -> None:
    """Train networks of one shape side by side, each at a rate of its own.

    Twenty small networks cost little more than one this way: their weights
    are stacked, and PyTorch's `vmap` runs them as one. The optimiser is Adam
    as in `train` (Kingma and Ba 2015, algorithm 1), and so is the decay of
    the rates.

    Parameters
    ----------
    nets : sequence of nn.Module
        Changed in place. They differ in their numbers alone: the same layers,
        shapes and frozen parameters. Each maps inputs to logits, and draws
        nothing at random.
    X : Tensor, shape (N, ...)
        Inputs.
    y : Tensor, shape (N,), int64
        Their classes.
    batches : Tensor, shape (networks, steps, batch), int64
        Which examples each network sees at each step.
    rates : Tensor, shape (networks,), or float
        Learning rate of each network's first step, positive.
    faster : mapping of str to float, optional
        Factor on the rate of parameters, by the last part of their names, as
        in ``{"B": 16}``.

    Raises
    ------
    ValueError
        If there are no networks, if `batches` or `rates` is not of their
        number, if a rate is not positive, if the networks do not train the
        same parameters, or none, or if `faster` names none of them.
    FloatingPointError
        If a gradient is not finite. No network is changed then.
    """
    count = len(nets)
    if not count or batches.ndim != 3 or len(batches) != count:
        raise ValueError(
            "need batches of shape (networks, steps, batch), got "
            f"{tuple(batches.shape)} for {count} networks"
        )
    rate = torch.as_tensor(rates, dtype=torch.float32)
    if rate.shape not in ((), (count,)) or not bool(
        ((rate > 0) & rate.isfinite()).all()
    ):
        raise ValueError(
            f"need one finite rate > 0, or one for each of {count} networks, "
            f"got {rates}"
        )
    rate = rate.expand(count)
    moves, *others = (
        {n for n, p in net.named_parameters() if p.requires_grad}
        for net in nets
    )
    if any(other != moves for other in others):
        raise ValueError("the networks do not train the same parameters")
    if not moves:
        raise ValueError("nothing to train: no parameter requires a gradient")
    lost = set(faster or {}) - {n.rpartition(".")[2] for n in moves}
    if lost:
        raise ValueError(f"no parameter that trains is called {min(lost)!r}")
    weights, buffers = stack_module_state(list(nets))
    # Only these are differentiated: for frozen weights nothing is computed.
    moving = {n: w.detach() for n, w in weights.items() if n in moves}
    frozen = {n: w.detach() for n, w in weights.items() if n not in moves}

    def loss(
        moving: dict[str, Tensor],
        frozen: dict[str, Tensor],
        buffers: dict[str, Tensor],
        drawn: Tensor,
    ) -> Tensor:
        state = moving | frozen | buffers
        return F.cross_entropy(
            functional_call(nets[0], state, (X[drawn],)), y[drawn]
        )

    gradients = vmap(grad(loss))
    moments = {n: w.new_zeros(2, *w.shape) for n, w in moving.items()}
    steps = batches.shape[1]
    for t in range(steps):
        found = gradients(moving, frozen, buffers, batches[:, t])
        # The new axis is for numbers, which have none but the networks'.
        fine = [
            g[:, None].isfinite().flatten(1).all(dim=1) for g in found.values()
        ]
        if not all(bool(x.all()) for x in fine):
            i = int(torch.stack(fine).all(dim=0).logical_not().nonzero()[0])
            raise FloatingPointError(
                f"the gradient of network {i} is not finite at step {t}: try "
                f"a learning rate below {rate[i].item():g}"
            )
        for n, g in found.items():
            m, v = moments[n]
            m.lerp_(g, 0.1)
            v.lerp_(g.square(), 0.001)
            step = m / (1 - 0.9 ** (t + 1))
            step /= (v / (1 - 0.999 ** (t + 1))).sqrt_().add_(1e-8)
            factor = (faster or {}).get(n.rpartition(".")[2], 1.0)
            now = rate * (factor * (1 - t / steps))
            moving[n] = moving[n] - now.view(-1, *[1] * (g.ndim - 1)) * step
    with torch.no_grad():
        for i, net in enumerate(nets):
            for n, p in net.named_parameters():
                if n in moving:
                    p.copy_(moving[n][i])
