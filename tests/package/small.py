"""What is to stay as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import transformers
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


def byte_llama() -> transformers.LlamaForCausalLM:
    """Return a model with a token for each byte."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=256,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        tie_word_embeddings=True,
    )
    return transformers.LlamaForCausalLM(config).eval()


class Bytes:
    """Stand in for a tokenizer: a token is a byte, and 0 ends a turn."""

    eos_token_id = 0

    def __call__(self, text: str) -> dict:
        return {"input_ids": list(text.encode())}

    def apply_chat_template(self, chat: list, **_: object) -> str:
        said = "".join(f"<{x['role']}>{x['content']}" for x in chat)
        return said + "<assistant>"

    def pad(self, rows: dict, padding_side: str, return_tensors: str) -> Row:
        assert (padding_side, return_tensors) == ("left", "pt")
        T = max(map(len, rows["input_ids"]))
        return Row(
            input_ids=torch.tensor(
                [[0] * (T - len(x)) + x for x in rows["input_ids"]]
            ),
            attention_mask=torch.tensor(
                [[0] * (T - len(x)) + [1] * len(x) for x in rows["input_ids"]]
            ),
        )

    def batch_decode(self, ids: torch.Tensor, **_: object) -> list[str]:
        rows = ids.tolist()
        return [bytes(x for x in row if x).decode("latin1") for row in rows]


class Row(dict):
    """What a tokenizer returns."""

    def to(self, _: object) -> Row:
        return self
