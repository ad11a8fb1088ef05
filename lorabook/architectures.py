"""The sizes of well-known transformers, without PyTorch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
        Attention heads of a block, for the queries.
    vocabulary : int
        Number of different tokens.
    linears : mapping of str to (int, int)
        The linear maps of one block: for each name, (d_out, d_in). The heads
        need not share out the width: their size follows from ``"q"``.
    other : int
        Numbers that are in no such map: embeddings, norms, biases, the head.
    decoder : bool
        Whether it predicts a token at every place.
    fused : tuple of tuple of str
        Maps that the library's code holds as one, such as GPT-2's q, k, v.
    tied : bool
        Whether the head is the embedding.
    norm : str
        ``"rms"`` as Llama has it, ``"gemma"`` or ``"layer"``.
    norms : int
        Norms of a block.
    parallel : bool
        Whether attention and MLP read the same place of the residual path.
    head_norms : bool
        Whether queries and keys are normalised, head by head.
    activation : str
        ``"fused"``, one kernel that keeps its input; ``"gelu_new"``, the
        formula that GPT-2's code writes out.
    dropout : bool
        Whether the model itself drops out what enters the residual path.
    positions : int or None
        Longest sequence, if positions are learned.
    """

    layers: int
    width: int
    heads: int
    vocabulary: int
    linears: Mapping[str, Shape]
    other: int
    decoder: bool = True
    fused: tuple[tuple[str, ...], ...] = ()
    tied: bool = False
    norm: str = "rms"
    norms: int = 2
    parallel: bool = False
    head_norms: bool = False
    activation: str = "fused"
    dropout: bool = False
    positions: int | None = None

    @property
    def linear_parameters(self) -> int:
        """Numbers in the linear maps of all blocks."""
        return self.layers * sum(m * n for m, n in self.linears.values())

    @property
    def head_parameters(self) -> int:
        """Numbers in the map from the residual path to the vocabulary."""
        return self.vocabulary * self.width if self.decoder else 0

    @property
    def parameters(self) -> int:
        """All numbers of the model."""
        return self.linear_parameters + self.other


def _gpt2(
    d: int,
    layers: int,
    heads: int,
    context: int,
    vocabulary: int = 50257,
    hidden: int | None = None,
) -> Architecture:
    """GPT-2 and GPT-3: biases everywhere, the head tied to the embedding."""
    hidden = hidden or 4 * d
    block = 5 * d + hidden + 4 * d  # biases; two norms
    return Architecture(
        layers,
        d,
        heads,
        vocabulary,
        dict.fromkeys("qkvo", (d, d))
        | {"up": (hidden, d), "down": (d, hidden)},
        (vocabulary + context) * d + layers * block + 2 * d,
        fused=(("q", "k", "v"),),
        tied=True,
        norm="layer",
        activation="gelu_new",
        dropout=True,
        positions=context,
    )


def _gpt3() -> Architecture:
    """GPT-3, whose q, k and v the LoRA paper adapts one by one."""
    return replace(_gpt2(12288, 96, 96, 2048), fused=(), dropout=False)


def _roberta(d: int, layers: int, heads: int) -> Architecture:
    """RoBERTa with its pooler, without a head for a task."""
    # One more norm, on the embeddings; one type of token; the pooler.
    body = _gpt2(d, layers, heads, 514, 50265)
    return replace(
        body,
        other=body.other + d + d * d + d,
        decoder=False,
        fused=(),
        tied=False,
        activation="fused",
        positions=512,  # two of the 514 are reserved
    )


def _deberta_xxl() -> Architecture:
    """DeBERTa v2 XXL: relative positions, and one convolution."""
    d = 1536
    body = _gpt2(d, 48, 24, 512, 128100)
    convolution = 3 * d * d + d + 2 * d
    return replace(
        body,
        other=body.other + 2 * d + convolution,
        decoder=False,
        fused=(),
        tied=False,
        activation="fused",
        positions=None,
    )


def _tiny_gpt() -> Architecture:
    """Return the sizes of `TinyGPT` as it is by default."""
    body = _gpt2(128, 4, 4, 128, VOCABULARY)
    return replace(
        body,
        other=body.other + VOCABULARY * 128,
        fused=(),
        tied=False,
        activation="fused",
        dropout=False,
    )


def _llama(
    d: int,
    layers: int,
    heads: int,
    kv: int,
    hidden: int,
    vocabulary: int,
    *,
    head: int | None = None,
    tied: bool = False,
    bias: int = 0,
    norms: int = 2,
    head_norms: bool = False,
) -> Architecture:
    """Llama and its kin; `kv` counts heads, `bias` numbers of a block."""
    head = head or d // heads
    return Architecture(
        layers,
        d,
        heads,
        vocabulary,
        {
            "q": (heads * head, d),
            "k": (kv * head, d),
            "v": (kv * head, d),
            "o": (d, heads * head),
            "gate": (hidden, d),
            "up": (hidden, d),
            "down": (d, hidden),
        },
        (1 if tied else 2) * vocabulary * d
        + layers * (norms * d + bias + (2 * head if head_norms else 0))
        + d,
        tied=tied,
        norms=norms,
        head_norms=head_norms,
    )


ARCHITECTURES: dict[str, Architecture] = {
    "tiny-gpt": _tiny_gpt(),
    "gpt2": _gpt2(768, 12, 12, 1024),
    "gpt2-medium": _gpt2(1024, 24, 16, 1024),
    "gpt2-large": _gpt2(1280, 36, 20, 1024),
    "gpt2-xl": _gpt2(1600, 48, 25, 1024),
    "gpt3-175b": _gpt3(),
    "roberta-base": _roberta(768, 12, 12),
    "roberta-large": _roberta(1024, 24, 16),
    "deberta-v2-xxlarge": _deberta_xxl(),
    "smollm2-135m": _llama(576, 30, 9, 3, 1536, 49152, tied=True),
    "llama-2-7b": _llama(4096, 32, 32, 32, 11008, 32000),
    "llama-2-13b": _llama(5120, 40, 40, 40, 13824, 32000),
    "llama-2-70b": _llama(8192, 80, 64, 8, 28672, 32000),
    "llama-3-8b": _llama(4096, 32, 32, 8, 14336, 128256),
    "llama-3-70b": _llama(8192, 80, 64, 8, 28672, 128256),
    "mistral-7b": _llama(4096, 32, 32, 8, 14336, 32000),
    "qwen2.5-7b": _llama(3584, 28, 28, 4, 18944, 152064, bias=3584 + 2 * 512),
}


# Configurations of Hugging Face ---------------------------------------------

# What a configuration may leave out, as transformers fills it in: the heads
# for keys and values (None: as many as for queries), the size of a head
# (None: the width shared out), and whether the head is the embedding.
_LLAMA_KIN: dict[str, tuple[int | None, int | None, bool]] = {
    "llama": (None, None, False),
    "mistral": (8, None, False),
    "qwen2": (32, None, False),
    "qwen3": (32, 128, False),
    "gemma": (16, 256, True),
    "gemma2": (4, 256, True),
    "phi3": (None, None, False),
}
# Where attention may have biases.
_BIASED = frozenset({"llama", "qwen3", "gemma", "gemma2"})
FAMILIES = (*_LLAMA_KIN, "gpt2", "gpt_neox")
# Functions that PyTorch has as one kernel, which keeps its input.
_FUSED = ("silu", "swish", "gelu", "gelu_pytorch_tanh")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def from_config(config: str | Path | Mapping[str, Any]) -> Architecture:
    """Return the sizes that a configuration of Hugging Face describes.

    Parameters
    ----------
    config : path or mapping
        A ``config.json``, or what it contains. ``model_type`` is one of
        `FAMILIES`; what is left out has the value that the library gives it.

    Raises
    ------
    ValueError
        If there is no such file, if it describes no model of these families,
        or one with a mixture of experts, or if a size is missing or
        impossible. One sentence says which.
    """
    found = config if isinstance(config, Mapping) else _read(Path(config))
    for key in _EXPERTS:
        if found.get(key):
            raise ValueError(
                f"a mixture of experts is not counted: {key} is {found[key]}"
            )
    family = found.get("model_type")
    if family not in FAMILIES:
        raise ValueError(
            f"model_type is {family!r}; known are {', '.join(FAMILIES)}"
        )
    if family == "gpt2":
        return _from_gpt2(found)
    if family == "gpt_neox":
        return _from_neox(found)
    return _from_llama(family, found)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text("utf8"))
    except OSError as error:
        raise ValueError(
            f"cannot read {path}: {error.strerror or error}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no JSON object")
    return found


def _size(
    config: Mapping[str, Any], key: str, default: int | None = None
) -> int:
    """Return a size of a configuration, at least 1."""
    value = config.get(key)
    value = default if value is None else value
    if value is None:
        raise ValueError(f"the configuration has no {key}")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key} must be a positive integer, got {value!r}")
    return value


def _activation(name: str) -> str:
    if name == "gelu_new":
        return name
    if name not in _FUSED:
        raise ValueError(
            f"the activation function {name!r} is not known; known are "
            f"{', '.join(_FUSED)}, gelu_new"
        )
    return "fused"


def _shared(d: int, heads: int) -> int:
    """Return the size of a head, where the heads share out the width."""
    if d % heads:
        raise ValueError(f"{heads} heads cannot share out a width of {d}")
    return d // heads


def _from_llama(family: str, config: Mapping[str, Any]) -> Architecture:
    kv_default, head_default, tied_default = _LLAMA_KIN[family]
    d, heads = (
        _size(config, "hidden_size"),
        _size(config, "num_attention_heads"),
    )
    hidden = _size(config, "intermediate_size")
    if "num_key_value_heads" in config:  # null: as many as for queries
        kv_default = None
    kv = _size(config, "num_key_value_heads", kv_default or heads)
    if heads % kv:
        raise ValueError(
            f"{kv} heads for keys and values cannot serve {heads} heads"
        )
    if config.get("head_dim") is None and head_default is None:
        head = _shared(d, heads)
    else:
        head = _size(config, "head_dim", head_default)
    # The library's models of the other families do not look at these.
    biased = family in _BIASED and config.get("attention_bias")
    bias = 0
    if family == "qwen2" or biased:
        bias += (heads + 2 * kv) * head
    if biased:
        bias += d
    if family == "llama" and config.get("mlp_bias"):
        bias += 2 * hidden + d
    tied = config.get("tie_word_embeddings")
    second = family == "gemma2"
    sizes = _llama(
        d,
        _size(config, "num_hidden_layers"),
        heads,
        kv,
        hidden,
        _size(config, "vocab_size"),
        head=head,
        tied=tied_default if tied is None else bool(tied),
        bias=bias,
        norms=4 if second else 2,
        head_norms=family == "qwen3",
    )
    word = config.get("hidden_activation" if second else "hidden_act")
    return replace(
        sizes,
        norm="gemma" if second or family == "gemma" else "rms",
        activation=_activation(word or "silu"),
        fused=(("q", "k", "v"), ("gate", "up")) if family == "phi3" else (),
        dropout=family == "phi3" and bool(config.get("resid_pdrop")),
    )


def _from_gpt2(config: Mapping[str, Any]) -> Architecture:
    if config.get("add_cross_attention"):
        raise ValueError("cross-attention is not counted")
    d, heads = _size(config, "n_embd"), _size(config, "n_head")
    _shared(d, heads)
    inner = config.get("n_inner")
    sizes = _gpt2(
        d,
        _size(config, "n_layer"),
        heads,
        _size(config, "n_positions"),
        _size(config, "vocab_size"),
        None if inner is None else _size(config, "n_inner"),
    )
    if config.get("tie_word_embeddings") is False:
        sizes = replace(
            sizes, tied=False, other=sizes.other + sizes.head_parameters
        )
    return replace(
        sizes,
        activation=_activation(config.get("activation_function", "gelu_new")),
        dropout=bool(config.get("resid_pdrop", 0.1)),
    )


def _from_neox(config: Mapping[str, Any]) -> Architecture:
    d, heads = (
        _size(config, "hidden_size"),
        _size(config, "num_attention_heads"),
    )
    _shared(d, heads)
    layers = _size(config, "num_hidden_layers")
    hidden = _size(config, "intermediate_size")
    vocabulary = _size(config, "vocab_size")
    tied = bool(config.get("tie_word_embeddings", False))
    bias = 4 * d if config.get("attention_bias", True) else 0
    block = 4 * d + bias + hidden + d
    return Architecture(
        layers,
        d,
        heads,
        vocabulary,
        dict.fromkeys("qkvo", (d, d))
        | {"up": (hidden, d), "down": (d, hidden)},
        (1 if tied else 2) * vocabulary * d + layers * block + 2 * d,
        fused=(("q", "k", "v"),),
        tied=tied,
        norm="layer",
        parallel=bool(config.get("use_parallel_residual", True)),
        activation=_activation(config.get("hidden_act", "gelu")),
        dropout=bool(config.get("hidden_dropout")),
    )
