"""The YAML that explains every key reads back as the same configuration."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from trainer.config.commented import commented_yaml
from trainer.config.resolve import (
    known_keys,
    load_source,
    parse_settings,
    preset_names,
    resolve,
)
from trainer.config.schema import SECTIONS, Config

INTEGERS = st.one_of(st.integers(0, 8), st.sampled_from([64, 128, 1000, 2**31]))
NUMBERS = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0, 1e-8, 6e-4, 1e6]), st.floats(0, 1, allow_subnormal=False)
)
WORDS = st.sampled_from(["auto", "llama", "gpt2", "cosine", "wsd", "bf16", "fp32", "cpu", "mps"])
VALUES = st.one_of(st.none(), st.booleans(), INTEGERS, NUMBERS, WORDS, st.text(max_size=30))

PRESETS = {name: load_source(name)[0] for name in preset_names()}


@st.composite
def configurations(draw: st.DrawFn) -> Config:
    """A preset with those of many random overrides that are valid."""
    config = resolve(known := PRESETS[draw(st.sampled_from(sorted(PRESETS)))])
    overrides = draw(st.dictionaries(st.sampled_from(known_keys()), VALUES, max_size=12))
    for key, value in overrides.items():
        try:
            config = resolve(changed := {**known, key: value})
        except UserError:
            continue
        known = changed
    return config


@settings(deadline=None)
@given(configurations())
def test_it_reads_back_the_same(config: Config) -> None:
    assert resolve(parse_settings(commented_yaml(config, ["heading"]), "it")) == config


def test_every_key_is_explained_on_the_line_above() -> None:
    lines = commented_yaml(Config()).splitlines()
    found: dict[str, Any] = {}
    section = ""
    for above, line in pairwise(lines):
        if line.endswith(":") and not line.startswith((" ", "#")):
            section = line.removesuffix(":") + "."
            assert above.startswith("# ")
        elif line.strip() and not line.strip().startswith("#"):
            key = (section if line.startswith("  ") else "") + line.strip().partition(":")[0]
            found[key] = (above.strip(), line.partition("  # ")[2])
    assert sorted(found) == sorted(known_keys())
    for key, (above, beside) in found.items():
        assert above.startswith("# "), key
        assert "; default: " in beside, key


def test_ranges_and_choices_are_named() -> None:
    text = commented_yaml(Config())
    assert "flavour: llama  # llama or gpt2; default: llama" in text
    assert "dropout: 0.0  # number >= 0 and < 1; default: 0.0" in text
    assert "micro_batch: null  # auto, integer >= 1 or null; default: null" in text
    assert "compile: null  # true, false or null; default: null" in text


def test_every_key_has_a_description_of_one_line() -> None:
    for section in (*SECTIONS.values(), Config):
        for key, field in section.model_fields.items():
            if key in SECTIONS:
                continue
            assert field.description, f"{section.__name__}.{key}"
            assert field.description.endswith("."), key
            assert len(field.description) <= 96, key
