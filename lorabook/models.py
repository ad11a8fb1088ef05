"""The book's own language model, and the sizes of well-known ones."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional as F

from lorabook.data import assets_folder

VOCABULARY = 256  # bytes

Shape = tuple[int, int]


@dataclass(frozen=True)
class Architecture:
    """The sizes of a transformer that decide what it costs.

    Attributes
    ----------
    layers : int
        Number of blocks.
    width : int
        Length of the vector that each token is along the residual path.
    heads : int
        Attention heads of a block.
    vocabulary : int
        Number of different tokens.
    linears : mapping of str to (int, int)
        The linear maps of one block: for each name, (d_out, d_in).
    other : int
        Numbers that are in no such map: embeddings, norms, biases, the head.
    decoder : bool
        Whether it predicts a token at every place.
    """

    layers: int
    width: int
    heads: int
    vocabulary: int
    linears: Mapping[str, Shape]
    other: int
    decoder: bool = True

    @property
    def linear_parameters(self) -> int:
        """Numbers in the linear maps of all blocks."""
        return self.layers * sum(m * n for m, n in self.linears.values())

    @property
    def parameters(self) -> int:
        """All numbers of the model."""
        return self.linear_parameters + self.other


def _gpt2(
    d: int, layers: int, heads: int, context: int, vocabulary: int = 50257
) -> Architecture:
    """GPT-2 and GPT-3: biases everywhere, the head tied to the embedding.

    Their library implementations hold q, k and v in one matrix; the LoRA
    paper adapts them one by one.
    """
    block = 9 * d + 4 * d  # biases; two norms
    return Architecture(
        layers,
        d,
        heads,
        vocabulary,
        dict.fromkeys("qkvo", (d, d)) | {"up": (4 * d, d), "down": (d, 4 * d)},
        (vocabulary + context) * d + layers * block + 2 * d,
    )


def _roberta(d: int, layers: int, heads: int) -> Architecture:
    """RoBERTa with its pooler, without a head for a task."""
    # One more norm, on the embeddings; one type of token; the pooler.
    body = _gpt2(d, layers, heads, 514, 50265)
    return replace(body, other=body.other + d + d * d + d, decoder=False)


def _deberta_xxl() -> Architecture:
    """DeBERTa v2 XXL: relative positions, and one convolution."""
    d = 1536
    body = _gpt2(d, 48, 24, 512, 128100)
    convolution = 3 * d * d + d + 2 * d
    other = body.other + 2 * d + convolution
    return replace(body, other=other, decoder=False)


def _tiny_gpt() -> Architecture:
    """Return the sizes of `TinyGPT` as it is by default."""
    tied = _gpt2(128, 4, 4, 128, VOCABULARY)
    return replace(tied, other=tied.other + VOCABULARY * 128)


def _llama(
    d: int,
    layers: int,
    heads: int,
    kv: int,
    hidden: int,
    vocabulary: int,
    bias: int = 0,
) -> Architecture:
    """Llama and its kin: no biases but those given, a head of its own."""
    return Architecture(
        layers,
        d,
        heads,
        vocabulary,
        {
            "q": (d, d),
            "k": (kv, d),
            "v": (kv, d),
            "o": (d, d),
            "gate": (hidden, d),
            "up": (hidden, d),
            "down": (d, hidden),
        },
        2 * vocabulary * d + layers * (2 * d + bias) + d,
    )


ARCHITECTURES: dict[str, Architecture] = {
    "tiny-gpt": _tiny_gpt(),
    "gpt2": _gpt2(768, 12, 12, 1024),
    "gpt2-medium": _gpt2(1024, 24, 16, 1024),
    "gpt2-large": _gpt2(1280, 36, 20, 1024),
    "gpt2-xl": _gpt2(1600, 48, 25, 1024),
    "gpt3-175b": _gpt2(12288, 96, 96, 2048),
    "roberta-base": _roberta(768, 12, 12),
    "roberta-large": _roberta(1024, 24, 16),
    "deberta-v2-xxlarge": _deberta_xxl(),
    "llama-2-7b": _llama(4096, 32, 32, 4096, 11008, 32000),
    "llama-2-13b": _llama(5120, 40, 40, 5120, 13824, 32000),
    "llama-2-70b": _llama(8192, 80, 64, 1024, 28672, 32000),
    "llama-3-8b": _llama(4096, 32, 32, 1024, 14336, 128256),
    "llama-3-70b": _llama(8192, 80, 64, 1024, 28672, 128256),
    "mistral-7b": _llama(4096, 32, 32, 1024, 14336, 32000),
    "qwen2.5-7b": _llama(3584, 28, 28, 512, 18944, 152064, 3584 + 2 * 512),
}


class Attention(nn.Module):
    """Causal self-attention, with a linear layer for each of its four maps.

    Separate layers for query, key, value and output, because LoRA chooses
    among them.

    Parameters
    ----------
    d : int
        Width, divisible by `heads`.
    heads : int
        Number of heads.
    """

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        if d % heads:
            raise ValueError(f"need heads that divide {d}, got {heads}")
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(d, d) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., T, d) to (..., T, d)."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(-2, -3)
            for layer in (self.q, self.k, self.v)
        )  # (..., heads, T, d / heads)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.o(y.transpose(-2, -3).flatten(-2))
        return out


class Block(nn.Module):
    """Attention and a perceptron, each beside a residual path.

    Layer normalisation comes first in each branch, as in GPT-2 (Radford et
    al. 2019).

    Parameters
    ----------
    d, heads : int
        As in `Attention`; the perceptron is four times as wide.
    """

    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attention = Attention(d, heads)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., T, d) to (..., T, d)."""
        x = x + self.attention(self.norm1(x))
        y: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return y


class TinyGPT(nn.Module):
    """A language model over bytes.

    Parameters
    ----------
    d : int
        Width.
    layers : int
        Number of blocks.
    heads : int
        Attention heads of each.
    context : int
        Longest input, in bytes.
    """

    def __init__(
        self, d: int = 128, layers: int = 4, heads: int = 4, context: int = 128
    ) -> None:
        super().__init__()
        self.context = context
        self.embed = nn.Embedding(VOCABULARY, d)
        self.position = nn.Embedding(context, d)
        self.blocks = nn.ModuleList(Block(d, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, VOCABULARY, bias=False)
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                # What adds to the residual path starts smaller, as in GPT-2:
                # 2 L terms together then have the variance of one.
                adds = name.endswith((".o", ".down"))
                std = 0.02 / (2 * layers) ** 0.5 if adds else 0.02
                nn.init.normal_(module.weight, std=std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, text: Tensor) -> Tensor:
        """Return the logits of each next byte.

        Parameters
        ----------
        text : Tensor, shape (..., T), int64
            Bytes; T is at most `context`.

        Returns
        -------
        Tensor, shape (..., T, 256)

        Raises
        ------
        ValueError
            If the text is longer than `context`.
        """
        T = text.shape[-1]
        if self.context < T:
            raise ValueError(f"need at most {self.context} bytes, got {T}")
        place = torch.arange(T, device=text.device)
        x = self.embed(text) + self.position(place)  # (..., T, d)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def load_tiny_gpt() -> TinyGPT:
    """Return the model that was pre-trained for the book.

    It was trained on the English corpus (`lorabook.data.corpus`) by
    ``experiments/pretrain_tiny_gpt.py``; ``tiny_gpt.json`` beside the
    checkpoint says how, and how well it does.

    Returns
    -------
    TinyGPT
        float32, in training mode as a new model is.

    Raises
    ------
    RuntimeError
        If the file is not the one that its description names.
    """
    file = assets_folder() / "checkpoints" / "tiny_gpt.safetensors"
    content = file.read_bytes()
    about = json.loads(file.with_suffix(".json").read_text("utf8"))
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise RuntimeError(f"{file.name} is not what {file.stem}.json names")
    model = TinyGPT()
    model.load_state_dict({k: v.float() for k, v in load(content).items()})
    return model


def bits_per_byte(
    model: nn.Module, text: Tensor, context: int = 128, batch: int = 32
) -> float:
    """Return the cross-entropy of a text, in bits for each byte.

    The text is cut into windows of `context` bytes, which are predicted
    from their own beginning only; a rest that fills no window is left out.

    Parameters
    ----------
    model : nn.Module
        Maps bytes (batch, T) to logits (batch, T, 256). Used as it is.
    text : Tensor, shape (n,), uint8
        More than `context` bytes.
    context : int
        Length of a window.
    batch : int
        Windows at a time; it changes the memory, not the result.

    Returns
    -------
    float
        log2(256) = 8 is as bad as guessing.

    Raises
    ------
    ValueError
        If the text does not fill a window.
    """
    windows = (len(text) - 1) // context
    if windows < 1:
        raise ValueError(
            f"need more than {context} bytes of text, got {len(text)}"
        )
    n = windows * context
    x = text[:n].long().view(windows, context)
    y = text[1 : n + 1].long().view(windows, context)
    total = 0.0
    with torch.no_grad():
        for i in range(0, windows, batch):
            logits = model(x[i : i + batch])
            total += F.cross_entropy(
                logits.flatten(0, 1).double(),
                y[i : i + batch].flatten(),
                reduction="sum",
            ).item()
    return total / n / math.log(2)
