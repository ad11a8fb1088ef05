"""The sizes of well-known transformers, without PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
