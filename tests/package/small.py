"""What is to stay as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from lorabook.layers import LoRALayer


def snapshot(model: nn.Module) -> list[object]:
    """Everything in a model: identities, flags, modes, hooks and bits."""
    found: list[object] = []
    for name, module in model.named_modules(remove_duplicate=False):
        tensors = {
            **module._parameters,
            **module._buffers,
            **{k: v for k, v in vars(module).items() if isinstance(v, Tensor)},
        }
        found += [
            (name, id(module), module.training, type(module)),
            [(key, id(child)) for key, child in module._modules.items()],
            [
                (key, list(value.items()))
                for key, value in vars(module).items()
                if key.endswith("hooks")
            ],
            [
                (key, id(t), t.requires_grad, t.detach().numpy().tobytes())
                for key, t in tensors.items()
                if t is not None
            ],
            {
                key: id(value)
                for key, value in vars(module).items()
                if key not in vars(nn.Module())
            },
        ]
        if isinstance(module, LoRALayer):
            found += [module.enabled, module.scale]
    return found


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    before = snapshot(model)
    yield
    assert snapshot(model) == before
