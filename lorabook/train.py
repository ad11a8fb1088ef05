"""One training loop, and what the chapters' classifiers need around it."""

import math
import os
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm


def train(
    loss: Callable[[], Tensor],
    parameters: Iterable[nn.Parameter],
    steps: int,
    lr: float,
    *,
    optimizer: type[torch.optim.Optimizer] = torch.optim.Adam,
    decay: bool = True,
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
    optimizer : type
        Made with the parameters and ``lr=lr``; Adam by default (Kingma and
        Ba 2015). For a plain gradient step: ``torch.optim.SGD``.
    decay : bool
        Let the learning rate fall on a straight line: step t of T, counted
        from 0, uses ``lr * (1 - t / T)``. Otherwise it stays constant.

    Returns
    -------
    Tensor, shape (steps,), float64
        The loss before each step.

    Raises
    ------
    ValueError
        If `steps` or `lr` is out of range, or if every parameter is frozen.
    FloatingPointError
        If the loss is not finite, before it can reach the parameters.
    """
    if steps < 0:
        raise ValueError(f"need steps >= 0, got {steps}")
    if not 0 < lr < math.inf:
        raise ValueError(f"need a finite lr > 0, got {lr}")
    trainable = [p for p in parameters if p.requires_grad]
    if not trainable:
        raise ValueError("nothing to train: no parameter requires a gradient")
    # Optimisers share no signature beyond this; mypy knows only the base.
    rule = optimizer(trainable, lr=lr)  # type: ignore[call-arg]
    history = torch.empty(steps, dtype=torch.float64)
    for t in tqdm(
        range(steps),
        desc="training",
        delay=2,
        leave=False,
        disable="LORABOOK_SITE" in os.environ,
    ):
        value = loss()
        history[t] = value.detach()
        if not bool(torch.isfinite(history[t])):
            raise FloatingPointError(
                f"the loss is {history[t].item()} at step {t}: "
                f"try a learning rate below {lr:g}"
            )
        rule.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        if decay:
            for group in rule.param_groups:
                group["lr"] = lr * (1 - t / steps)
        rule.step()
    return history


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
    """
    return float((model(X).argmax(dim=-1) == y).double().mean())
