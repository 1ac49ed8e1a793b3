"""Shapes read from the modules without memory, and the comparison of two models."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from shared.errors import UserError
from trainer.config.model import ModelConfig
from trainer.config.resolve import load_source, preset_names, resolve
from trainer.model.differences import differences
from trainer.model.language_model import LanguageModel
from trainer.model.shapes import count_parameters, meta_model, parameter_shapes

SMALL = {"vocab_size": 97, "hidden_size": 48, "num_layers": 3, "num_heads": 4, "max_seq_len": 40}

#: For every field of ModelConfig another value than its default in `SMALL`.
OTHER: dict[str, object] = {
    "vocab_size": 98,
    "hidden_size": 64,
    "intermediate_size": 72,
    "num_layers": 4,
    "num_heads": 8,
    "num_kv_heads": 2,
    "head_dim": 20,
    "max_seq_len": 41,
    "rope_theta": 50_000.0,
    "rope_scaling": "llama3",
    "rope_factor": 4.0,
    "rope_low_freq_factor": 2.0,
    "rope_high_freq_factor": 8.0,
    "rope_original_context": 64,
    "attention_bias": "qkv",
    "norm_eps": 1e-5,
    "tie_embeddings": False,
    "qk_norm": True,
    "hyper_streams": 2,
    "hyper_dynamic": True,
    "ternary": True,
    "ternary_from": 0.5,
    "ternary_group": 16,
    "ternary_activations": False,
    "mtp_heads": 1,
    "mtp_kind": "block",
    "parts": {"some_part": {}},
    "lora_r": 4,
    "lora_alpha": 3.0,
    "lora_targets": ["self_attn.q_proj"],
}
#: What has to be on for a setting of a part to matter.
NEEDED: dict[str, dict[str, object]] = {
    "rope_factor": {"rope_scaling": "linear"},
    "rope_low_freq_factor": {"rope_scaling": "llama3"},
    "rope_high_freq_factor": {"rope_scaling": "llama3"},
    "rope_original_context": {"rope_scaling": "llama3"},
    "hyper_dynamic": {"hyper_streams": 2},
    "ternary_from": {"ternary": True},
    "ternary_group": {"ternary": True},
    "ternary_activations": {"ternary": True},
    "mtp_kind": {"mtp_heads": 1},
    "lora_alpha": {"lora_r": 2},
    "lora_targets": {"lora_r": 2},
}


def test_the_shapes_are_those_of_the_state_dict(shape: ModelConfig) -> None:
    model = LanguageModel(shape)
    real = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if shape.tie_embeddings:
        del real["lm_head.weight"]
    assert list(parameter_shapes(shape).items()) == list(real.items())
    assert count_parameters(shape) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("layers", [1, 2, 3, 24])
def test_parameters_are_counted_without_building_the_layers(layers: int) -> None:
    for name in ("tiny-cpu", "gpt2-small"):
        model = resolve(load_source(name)[0], {"model.num_layers": layers}).model
        listed = sum(math.prod(shape) for shape in parameter_shapes(model).values())
        assert count_parameters(model) == listed
    deep = resolve({"model.num_layers": 10**12, "model.vocab_size": 9}).model
    assert count_parameters(deep) > 10**15


@pytest.mark.parametrize("name", preset_names())
def test_no_preset_needs_memory_for_its_shapes(name: str) -> None:
    """Rotary tables included, and however long the context is."""
    model = resolve(load_source(name)[0]).model.model_copy(update={"max_seq_len": 1 << 20})
    built = meta_model(model)
    tensors = [*built.parameters(), *built.buffers()]
    assert all(tensor.device.type == "meta" for tensor in tensors)


def test_shapes_do_not_load_the_compiler() -> None:
    """Some operations on the meta device do, which takes seconds at every start."""
    code = (
        "import sys\n"
        "from trainer.config.resolve import load_source, resolve\n"
        "from trainer.model.shapes import parameter_shapes\n"
        "for name in ('large-7b', 'gpt2-small'):\n"
        "    model = resolve(load_source(name)[0]).model\n"
        "    parameter_shapes(model)\n"
        "parameter_shapes(model.model_copy(update={'lora_r': 4}))\n"
        "print([name for name in ('sympy', 'torch._dynamo') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_size_beyond_64_bits_is_refused() -> None:
    vast = ModelConfig(vocab_size=10**12, hidden_size=10**12, num_heads=1)
    with pytest.raises(UserError, match="The model custom is too large"):
        count_parameters(vast)


def test_building_for_shapes_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    meta_model(ModelConfig(**SMALL))
    assert torch.equal(torch.get_rng_state(), before)


# The comparison


def test_every_field_of_the_configuration_is_compared() -> None:
    """Fields that need not be are listed here, so that a new one has to be thought about."""
    others = {"name", "flavour", "dropout", "mtp_weight", "lora_dropout", "lora_base"}
    assert set(OTHER) | others == set(ModelConfig.model_fields)


@pytest.mark.parametrize("key", OTHER)
def test_a_difference_names_the_key_and_both_values(key: str) -> None:
    one = ModelConfig.model_validate(SMALL | NEEDED.get(key, {}))
    other = one.model_copy(update={key: OTHER[key]})
    # The width decides about two more where they are left open.
    found = {d.key: (d.one, d.other) for d in differences(one, other)}
    assert found[f"model.{key}"][1] == OTHER[key]
    assert found[f"model.{key}"][0] != OTHER[key]


def test_another_flavour_is_a_difference() -> None:
    one = ModelConfig(**SMALL)
    (found, *_) = differences(one, one.model_copy(update={"flavour": "gpt2"}))
    assert (found.key, found.one, found.other) == ("model.flavour", "llama", "gpt2")


def test_sizes_left_open_are_compared_as_what_they_are() -> None:
    one = ModelConfig(**SMALL)
    written = {"intermediate_size": 128, "num_kv_heads": 4, "head_dim": 12}
    assert differences(one, one.model_copy(update=written)) == []


@pytest.mark.parametrize("key", NEEDED)
def test_settings_of_a_part_that_is_off_are_no_difference(key: str) -> None:
    one = ModelConfig(**SMALL)
    assert differences(one, one.model_copy(update={key: OTHER[key]})) == []


def test_what_does_not_change_the_function_is_no_difference() -> None:
    one = ModelConfig(**SMALL, flavour="gpt2")
    unused = {"name": "other", "dropout": 0.5, "rope_theta": 50_000.0}
    assert differences(one, one.model_copy(update=unused)) == []
