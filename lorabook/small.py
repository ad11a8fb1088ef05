"""Models of the architectures that people use, in a few thousand numbers."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

NAMES = ("llama", "gpt2", "t5", "bert")


def small_model(name: str) -> Any:
    """Return a fresh model of an architecture, small enough to look at.

    Parameters
    ----------
    name : {"llama", "gpt2", "t5", "bert"}

    Returns
    -------
    transformers.PreTrainedModel
        Two blocks (of T5, one in each half) for 32 words, 16 wide, with
        random weights; in evaluation mode.

    Raises
    ------
    ValueError
        For another name.
    """
    import transformers  # it takes seconds

    transformers.logging.set_verbosity_error()
    small = dict(vocab_size=32, num_hidden_layers=2, num_attention_heads=2)
    model: Any
    match name:
        case "llama":
            model = transformers.LlamaForCausalLM(
                transformers.LlamaConfig(
                    **small,
                    hidden_size=16,
                    intermediate_size=24,
                    num_key_value_heads=1,
                )
            )
        case "gpt2":
            model = transformers.GPT2LMHeadModel(
                transformers.GPT2Config(
                    vocab_size=32, n_embd=16, n_layer=2, n_head=2
                )
            )
        case "t5":
            model = transformers.T5ForConditionalGeneration(
                transformers.T5Config(
                    vocab_size=32,
                    d_model=16,
                    d_kv=8,
                    d_ff=24,
                    num_layers=1,
                    num_heads=2,
                    decoder_start_token_id=0,
                )
            )
        case "bert":
            model = transformers.BertForMaskedLM(
                transformers.BertConfig(
                    **small, hidden_size=16, intermediate_size=24
                )
            )
        case _:
            raise ValueError(f"need one of {', '.join(NAMES)}, got {name!r}")
    return model.eval()


def logits_of(model: nn.Module, tokens: Tensor) -> Tensor:
    """Return what a language model of Hugging Face makes of a text.

    Parameters
    ----------
    model : nn.Module
        If it has an encoder and a decoder, both read the text.
    tokens : Tensor, shape (N, T)

    Returns
    -------
    Tensor, shape (N, T, words)
    """
    more = {"labels": tokens} if hasattr(model, "encoder") else {}
    logits: Tensor = model(input_ids=tokens, **more).logits
    return logits
