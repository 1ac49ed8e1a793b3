"""What llama.cpp calls the way a tokenizer splits text, from the tokenizer's serialized form."""

from __future__ import annotations

from typing import Any

from trainer.data.byte_level import DIGITS_PATTERN, GPT2_PATTERN, LLAMA3_PATTERN, QWEN2_PATTERN

_NAME_OF_PATTERN = {GPT2_PATTERN: "gpt-2", QWEN2_PATTERN: "qwen2", LLAMA3_PATTERN: "llama-bpe"}

#: Options of BPE that llama.cpp does not have.
_OTHER_BPE = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")


def name_of_split(state: dict[str, Any]) -> str | None:
    """The name of a byte-level BPE's split (`tokenizer.ggml.pre`); None if llama.cpp has none.

    `state` is the content of `tokenizer.json`.
    """
    model = state["model"]
    if any(model.get(option) for option in _OTHER_BPE):
        return None
    name = _known_split(steps_of(state["pre_tokenizer"]))
    if model.get("ignore_merges"):
        # llama.cpp looks up whole words before it merges only for Llama 3's split.
        return name if name == "llama-bpe" else None
    return "smaug-bpe" if name == "llama-bpe" else name  # the same pattern, but it always merges


def _known_split(steps: list[dict[str, Any]]) -> str | None:
    """A byte-level step that splits by itself, or one that does not, after a pattern that does."""
    if not steps or steps[-1]["type"] != "ByteLevel" or steps[-1].get("add_prefix_space"):
        return None
    splits = steps[-1].get("use_regex", True)
    if len(steps) == 1:
        return "gpt-2" if splits else None
    first = steps[0]
    plain = first["type"] == "Split" and first["behavior"] == "Isolated" and not first["invert"]
    if len(steps) > 2:
        return None
    if splits:
        alone = plain and first["pattern"].get("Regex") == DIGITS_PATTERN
        digits = first["type"] == "Digits" and first["individual_digits"]
        return "smollm" if alone or digits else None
    if not plain:
        return None
    return _NAME_OF_PATTERN.get(first["pattern"].get("Regex"))


def steps_of(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a part of a serialized tokenizer, whether a sequence or a single one."""
    if part is None:
        return []
    if part["type"] == "Sequence":
        kinds = ("pretokenizers", "decoders", "processors")
        return next((part[kind] for kind in kinds if kind in part), [])
    return [part]
