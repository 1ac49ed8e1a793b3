from __future__ import annotations

import itertools

import pytest

from trainer.config.resolve import load_source, preset_names, resolve
from trainer.config.schema import Config

#: Counted by hand from the guides' tables, without extra heads.
PARAMETERS = {
    "100m": "101.6M",
    "500m": "500.5M",
    "1b": "1017.7M",
    "1m": "1.16M",
    "4m": "4.26M",
    "12m": "12.19M",
    "tiny-cpu": "3.67M",
    "d20": "17.98M",
    "d20-e3-full": "282.5M",
    "nano-125m": "127.09M",
    "nano-1b": "1114.9M",
    "medium-3b": "1629.8M",
    "large-7b": "6195M",
    "gpt2-small": "124.44M",
    "minigpt": "25.583616M",
}


#: The preset's parts, as the guide has them, and the parameters of its extra heads.
PARTS = {
    "d20": ({"ternary", "hyper_connections"}, "0.0M"),
    "nano-125m": ({"ternary", "hyper_connections"}, "0.0M"),
    "nano-1b": ({"ternary", "hyper_connections"}, "0.0M"),
    "medium-3b": ({"ternary", "hyper_connections", "mtp"}, "308.9M"),
    "large-7b": ({"ternary", "hyper_connections", "mtp"}, "2097.7M"),
    "d20-e3-full": ({"ternary", "hyper_connections", "mtp"}, "115.9M"),
    "tiny-cpu": (set(), "0.0M"),
}


def of_preset(name: str) -> Config:
    return resolve(load_source(name)[0])


def test_the_presets_have_the_parameters_of_the_guides() -> None:
    from trainer.model.shapes import count_parameters

    plain = {"mtp_heads": 0}
    counts = {
        name: count_parameters(of_preset(name).model.model_copy(update=plain))
        for name in preset_names()
    }
    for name, told in PARAMETERS.items():
        digits = len(told.rstrip("M").partition(".")[2])
        assert f"{counts[name] / 1e6:.{digits}f}M" == told, name
    assert counts["minigpt"] == 25_583_616
    assert set(PARAMETERS) < set(counts)


@pytest.mark.parametrize("name", PARTS)
def test_the_guides_presets_switch_their_parts_on(name: str) -> None:
    from trainer.model.parts.registry import active_parts
    from trainer.model.shapes import count_parameters

    config, (parts, heads) = of_preset(name), PARTS[name]
    assert {part.name for part in active_parts(config.model)} == parts
    without = count_parameters(config.model.model_copy(update={"mtp_heads": 0}))
    assert f"{(count_parameters(config.model) - without) / 1e6:.1f}M" == heads
    assert config.train.collider is (name in ("large-7b", "d20-e3-full"))
    assert config.model.hyper_streams == {"medium-3b": 4, "large-7b": 4, "tiny-cpu": 0}.get(name, 2)
    assert not (config.model.ternary and config.optim.weight_decay)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_sound_configuration_that_says_how_long(name: str) -> None:
    config = of_preset(name)
    assert config.name == config.model.name == name
    assert config.train.max_steps is not None
    assert config.optim.warmup_steps < config.train.max_steps
    assert config.model.vocab_size is not None


def test_underscores_in_a_preset_name_are_accepted() -> None:
    assert load_source("nano_125m") == load_source("nano-125m")
    assert load_source("d20_e3_full") == load_source("d20-e3-full")


def test_the_shapes_of_the_guides_models() -> None:
    tiny, nano = of_preset("tiny-cpu").model, of_preset("nano-1b").model
    assert (tiny.hidden_size, tiny.num_layers, tiny.num_heads, tiny.max_seq_len) == (256, 4, 4, 256)
    assert (nano.hidden_size, nano.num_layers, nano.num_heads) == (2048, 20, 16)
    large = of_preset("large-7b").model
    assert (large.num_heads, large.num_kv_heads) == (32, 8)
    assert of_preset("tiny-cpu").seq_len == 128  # half the context
    assert of_preset("minigpt").seq_len == 512


@pytest.mark.parametrize("ladder", [("1m", "4m", "12m"), ("100m", "500m", "1b")])
def test_a_ladder_grows(ladder: tuple[str, ...]) -> None:
    from trainer.growth.plan import plan_growth
    from trainer.growth.sizes import sizes_of

    models = [of_preset(name).model for name in ladder]
    for one, other in itertools.pairwise(models):
        assert plan_growth(one, sizes_of(other)).preserves
