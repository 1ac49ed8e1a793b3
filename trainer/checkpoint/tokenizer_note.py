"""Where transformers reads a model's tokenizer otherwise than it is."""

from __future__ import annotations

import unicodedata

from trainer.config.model import ModelConfig
from trainer.data.tokenizer import Tokenizer

#: Characters that NFC composes, replaces and leaves alone.
_SAMPLE = "  Ae\u0301\u212b\u2460\ufb01\r\n"


def note_on_tokenizer(model: ModelConfig, tokenizer: Tokenizer) -> str | None:
    """A sentence if `AutoTokenizer` makes other tokens of text than `tokenizer` does.

    For Qwen2ForCausalLM transformers 5 takes the vocabulary and merges of any tokenizer, but
    normalizes and splits as Qwen2's.
    """
    if model.flavour == "gpt2" or model.qk_norm or model.attention_bias != "qkv":
        return None
    normalized = unicodedata.normalize("NFC", _SAMPLE)
    if tokenizer.pre == "qwen2" and tokenizer.normalized(_SAMPLE) == normalized:
        return None
    return (
        "AutoTokenizer of transformers 5 normalizes and splits text as Qwen2's tokenizer for a "
        "Qwen2ForCausalLM, and this tokenizer does not: load it with PreTrainedTokenizerFast."
    )
