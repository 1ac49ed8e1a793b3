"""PEFT's adapter_config.json: plain LoRA is read, everything else refused by its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UserError
from trainer.checkpoint.peft_format import PREFIX, adapter_config, with_adapters
from trainer.config.model import ModelConfig
from trainer.model.dimensions import complete
from trainer.model.shapes import trained_shapes

SMALL = {"vocab_size": 61, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_seq_len": 32}
BASE = ModelConfig(**SMALL)


def names(model: ModelConfig) -> list[str]:
    return [PREFIX + name for name in trained_shapes(model)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lora_alpha": 2.5, "lora_dropout": 0.1, "lora_targets": ["q_proj", "mlp.down_proj"]},
        {"flavour": "gpt2"},
        {"flavour": "gpt2", "lora_targets": ["attn.c_proj"]},
    ],
)
def test_what_is_written_is_read_back(changes: dict[str, Any]) -> None:
    model = ModelConfig(**SMALL, lora_r=4, **changes)
    config = adapter_config(model, Path("/base"))
    base = ModelConfig(**SMALL, flavour=model.flavour)
    read = with_adapters(base, config, names(model), "there")
    assert complete(read) == complete(model)
    assert config["fan_in_fan_out"] == (model.flavour == "gpt2")
    if changes.get("lora_targets") == ["attn.c_proj"]:  # mlp.c_proj has none
        assert config["target_modules"] == ["attn.c_proj"]


ADAPTED = ModelConfig(**SMALL, lora_r=4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"use_rslora": True}, "use_rslora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 2}}, "alpha_pattern"),
        ({"bias": "all"}, "bias"),
        ({"lora_bias": True}, "lora_bias"),
        ({"peft_type": "LOHA"}, "peft_type"),
        ({"task_type": "SEQ_CLS"}, "task_type"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"something_new": {"a": 1}}, "something_new"),
        ({"r": "many"}, "r is 'many'"),
        ({"r": 0}, "has r '0'"),
        ({"r": -1}, "r is -1"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"lora_alpha": 0}, "lora_alpha is 0"),
    ],
)
def test_other_kinds_are_refused_by_their_key(change: dict[str, Any], told: str) -> None:
    config = adapter_config(ADAPTED, Path("/base")) | change
    with pytest.raises(UserError) as error:
        with_adapters(BASE, config, names(ADAPTED), "there")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (["base_model.model.lm_head.lora_A.weight"], "lm_head.lora_A.weight"),
        ([*names(ADAPTED), "base_model.model.model.embed_tokens.lora_embedding_A"], "embedding_A"),
        (names(ADAPTED)[:14], "are not in the same layers of all 2 blocks"),
        ([], "are not in the same layers"),
        ([name.replace("layers.1", "layers.9") for name in names(ADAPTED)], "of all 2 blocks"),
    ],
)
def test_adapters_elsewhere_are_refused(found: list[str], told: str) -> None:
    with pytest.raises(UserError) as error:
        with_adapters(BASE, adapter_config(ADAPTED, Path("/base")), found, "there")
    assert told in str(error.value)


def test_a_base_of_the_hub_is_named_as_others_know_it() -> None:
    cached = Path("/hub/models--me--tiny/snapshots") / ("a" * 40)
    config = adapter_config(ADAPTED, cached)
    assert (config["base_model_name_or_path"], config["revision"]) == ("me/tiny", "a" * 40)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(adapter_config(ADAPTED, Path()))), JSON)
def test_any_value_is_read_or_refused(key: str, value: Any) -> None:
    config = adapter_config(ADAPTED, Path("/base")) | {key: value}
    try:
        with_adapters(BASE, config, names(ADAPTED), "there")
    except UserError as error:
        assert str(error).isprintable()
