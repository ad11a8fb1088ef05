"""The memory of a computation, followed tensor by tensor.

A formula says what training needs; here is what it is compared with. Every
operation passes by, and so does every storage that it takes or makes, until
nothing holds it any more. With PyTorch's fake tensors, which have a shape and
a storage but no numbers, this works for models that fit nowhere.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follow the storages of all tensors while the context is open.

    A storage counts once, however many views it has, from the operation that
    makes it until it is freed. One that is there already when an operation
    first takes it counts from the beginning. What a kernel allocates for
    itself is not seen, nor that an allocator rounds up. Where a weight is used
    twice, autograd may add its two gradients in place, but not in here: then
    the peak is too high by one of them.

    Attributes
    ----------
    live : int
        Bytes that are held now.
    peak : int
        The most that was held since the beginning or the last `restart`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def restart(self) -> None:
        """Forget the peak."""
        self.peak = self.live

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and count what it takes and makes."""
        kwargs = kwargs or {}
        # What it takes has been there all the time.
        self.peak += self._count((args, kwargs))
        out = func(*args, **kwargs)
        self._count(out)
        self.peak = max(self.peak, self.live)
        return out

    def _count(self, tree: Any) -> int:
        """Add the storages that are new, and return their bytes."""
        before = self.live
        for leaf in tree_leaves(tree):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                key, size = id(storage), storage.nbytes()
                if key not in self._seen:
                    self._seen.add(key)
                    self.live += size
                    weakref.finalize(storage, self._forget, key, size)
        return self.live - before

    def _forget(self, key: int, size: int) -> None:
        self._seen.remove(key)
        self.live -= size


def peak_bytes(fn: Callable[..., Any], *args: Any) -> int:
    """Return the most bytes of tensors that exist at once in ``fn(*args)``.

    Parameters
    ----------
    fn : callable
        Called once. What it uses counts, whether it was made inside or
        before: weights, gradients, what an optimiser remembers.
    *args
        Its arguments.

    Returns
    -------
    int
        Bytes; see `Tracker` for what they include.
    """
    tracker = Tracker()
    with tracker:
        fn(*args)
    return tracker.peak


@contextmanager
def weightless(model: nn.Module) -> Iterator[None]:
    """Let a model on the meta device train, without memory for its numbers.

    Within this context tensors have shapes and storages, but no numbers, and
    the weights of the model are such tensors. Build it on the meta device
    first, where that is quick.

    Parameters
    ----------
    model : nn.Module
        Changed in place, and of no use afterwards. Shared weights stay
        shared.
    """
    made: dict[int, Tensor] = {}

    def like(old: Tensor) -> Tensor:
        if id(old) not in made:
            new = torch.empty(old.shape, dtype=old.dtype, device="cpu")
            if isinstance(old, nn.Parameter):
                new = nn.Parameter(new, old.requires_grad)
            made[id(old)] = new
        return made[id(old)]

    with FakeTensorMode():
        for module in model.modules():
            held: list[dict[str, Any]] = [module._parameters, module._buffers]
            for tensors in held:
                for name, old in tensors.items():
                    if old is not None:
                        tensors[name] = like(old)
        yield
