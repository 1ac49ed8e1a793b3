"""Rotary positions in a `config.json`: base and scaling, as transformers 4 and 5 keep them."""

from __future__ import annotations

from typing import Any

from shared.errors import UserError
from shared.text import one_line
from trainer.config.model import ModelConfig

Json = dict[str, Any]

#: Their names of the numbers of a scaling, by its type and by ours.
_NUMBERS = {
    "default": {},
    "linear": {"rope_factor": "factor"},
    "llama3": {
        "rope_factor": "factor",
        "rope_low_freq_factor": "low_freq_factor",
        "rope_high_freq_factor": "high_freq_factor",
        "rope_original_context": "original_max_position_embeddings",
    },
}
_ORIGINAL = "original_max_position_embeddings"


def rope_words(model: ModelConfig) -> Json:
    """The keys of `config.json`. Version 5 reads `rope_parameters`, version 4 the other two."""
    kind = "default" if model.rope_scaling == "none" else model.rope_scaling
    numbers = {theirs: getattr(model, ours) for ours, theirs in _NUMBERS[kind].items()}
    words: Json = {
        "rope_theta": model.rope_theta,
        "rope_parameters": {"rope_type": kind, "rope_theta": model.rope_theta, **numbers},
    }
    if numbers:
        words["rope_scaling"] = {"rope_type": kind, **numbers}
    return words


def rope_fields(config: Json, name: str) -> Json:
    """The fields of ModelConfig, from wherever the version of transformers keeps them.

    Raises UserError for a scaling that is not computed here, KeyError for a number that is missing.
    """
    # In the order of transformers 5, where both are there.
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(rope, dict) or any(isinstance(value, dict) for value in rope.values()):
        raise _refused(name, rope, "this program has one set of positions for all layers")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if not isinstance(kind, str) or kind not in _NUMBERS:
        raise _refused(name, kind, f"this program runs {', '.join(_NUMBERS)}")
    for share in (rope.get("partial_rotary_factor"), config.get("partial_rotary_factor")):
        if share not in (None, 1.0):
            raise _refused(name, f"partial_rotary_factor {share}", "this program rotates all of it")
    fields: Json = {
        "rope_theta": rope.get("rope_theta") or config.get("rope_theta", 10000.0),
        "rope_scaling": "none" if kind == "default" else kind,
    }
    for ours, theirs in _NUMBERS[kind].items():
        fields[ours] = _original_context(config, rope) if theirs == _ORIGINAL else rope[theirs]
    return fields


def _original_context(config: Json, rope: Json) -> Any:
    """The context before scaling, with transformers' precedence and default."""
    for words in (config, rope):
        if words.get(_ORIGINAL) is not None:
            return words[_ORIGINAL]
    return config["max_position_embeddings"]


def _refused(name: str, found: object, runs: str) -> UserError:
    return UserError(
        f"The config.json of {name} scales its rotary positions ({one_line(found, 80)}), which "
        f"would be computed wrongly here; {runs}."
    )
