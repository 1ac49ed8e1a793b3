from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from trainer.config.resolve import (
    assignment,
    flatten,
    known_keys,
    load_source,
    parse_assignment,
    parse_settings,
    resolve,
    to_plain,
    to_yaml,
)
from trainer.config.schema import Config


def message_of(**layer: Any) -> str:
    with pytest.raises(UserError) as caught:
        resolve({key.replace("__", "."): value for key, value in layer.items()})
    return str(caught.value)


# Order


def test_flags_win_over_the_file_and_the_file_over_the_preset() -> None:
    preset = {"train.batch_size": 1, "optim.warmup_steps": 1, "log.interval": 1}
    file = {"train.batch_size": 2, "optim.warmup_steps": 2}
    flags = {"train.batch_size": 3}
    config = resolve(preset, file, flags)
    assert config.train.batch_size == 3
    assert config.optim.warmup_steps == 2
    assert config.log.interval == 1


def test_a_flag_of_none_puts_back_the_default() -> None:
    assert resolve({"train.max_steps": 7}, {"train.max_steps": None}).train.max_steps is None


# What is refused


def test_an_unknown_key_is_refused_with_the_nearest() -> None:
    assert message_of(optim__lerning_rate=1) == (
        "The configuration is wrong: unknown key optim.lerning_rate "
        "(did you mean optim.learning_rate?)."
    )
    assert "(did you mean model" in message_of(modle__vocab_size=3)


def test_an_unknown_section_and_an_unknown_inner_key_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("trian:\n  max_steps: 3\n")
    with pytest.raises(UserError, match=r"unknown keys: trian \(did you mean train\?\)"):
        load_source(str(file))
    file.write_text("train:\n  max_step: 3\n")
    with pytest.raises(UserError, match=r"train\.max_step \(did you mean train\.max_steps\?\)"):
        resolve(load_source(str(file))[0])


def test_all_problems_are_told_at_once() -> None:
    message = message_of(
        nonsense=1, train__batch_size=-1, optim__learning_rate="fast", model__flavour="bert"
    )
    assert message.startswith("The configuration has 4 problems:")
    for part in (
        "unknown key nonsense",
        "train.batch_size is -1, but must be greater than or equal to 1",
        "optim.learning_rate is 'fast', but must be a valid number",
        "model.flavour is 'bert', but must be 'llama' or 'gpt2'",
    ):
        assert f"\n  - {part}" in message


def test_all_impossible_combinations_are_told_at_once() -> None:
    message = message_of(
        model__hidden_size=100,
        model__num_heads=6,
        model__num_kv_heads=4,
        model__max_seq_len=8,
        train__seq_len=9,
        optim__min_lr=1,
        train__device="gpu",
        data__dataset="synthetic",
        data__path="x",
    )
    for part in (
        "model.hidden_size 100 is not divisible by model.num_heads 6",
        "model.num_heads 6 is not a multiple of model.num_kv_heads 4",
        "train.seq_len 9 is longer than model.max_seq_len 8",
        "optim.min_lr 1 is above optim.learning_rate 0.0006",
        "train.device 'gpu' is not auto, cpu, cuda, cuda:N or mps",
        "data.path is given, but data.dataset is synthetic",
    ):
        assert part in message


def test_shapes_that_no_program_computes_are_told() -> None:
    for wrong, told in (
        (
            {"model__qk_norm": True, "model__attention_bias": "qkv"},
            "does not go with model.qk_norm",
        ),
        ({"model__attention_bias": True}, "is true, but must be 'none', 'qkv' or 'all'"),
        ({"model__rope_factor": 4}, "rope_factor 4 needs model.rope_scaling linear or llama3"),
        (
            {"model__rope_scaling": "llama3", "model__rope_high_freq_factor": 1},
            "model.rope_low_freq_factor 1 must be below model.rope_high_freq_factor 1",
        ),
    ):
        assert told in message_of(**wrong)


def test_gpt2_refuses_the_parts_it_does_not_have() -> None:
    message = message_of(
        model__flavour="gpt2",
        model__qk_norm=True,
        model__num_kv_heads=2,
        model__head_dim=16,
        model__attention_bias="all",
        model__rope_scaling="linear",
    )
    for part in (
        "model.qk_norm",
        "model.num_kv_heads 2",
        "model.head_dim 16",
        "model.attention_bias all",
        "model.rope_scaling linear",
    ):
        assert f"{part} is not available in the gpt2 flavour" in message


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("train.batch_size", "many", "'many'"),
        ("train.batch_size", 1.5, "1.5"),
        ("train.batch_size", True, "true"),
        ("train.batch_size", [1], "a list"),
        ("train.batch_size", {"a": 1}, "a mapping"),
        ("train.batch_size", 1 << 5000, "a huge number"),
        ("train.max_steps", 10**30, "1000000000000000000000000000000"),
        ("train.epochs", math.inf, "Infinity"),
        ("train.seed", -1, "-1"),
        ("train.seed", 2**63, str(2**63)),
        ("train.threads", 10**6, "1000000"),
        ("train.deterministic", "perhaps", "'perhaps'"),
        ("optim.learning_rate", math.nan, "NaN"),
        ("optim.learning_rate", math.inf, "Infinity"),
        ("optim.learning_rate", 0, "0"),
        ("optim.beta2", 1, "1"),
        ("model.dropout", -0.1, "-0.1"),
        ("model.max_seq_len", 2**40, str(2**40)),
        ("name", 5, "5"),
        ("data.path", "a\0b", "'ab'"),
        ("checkpoint.dir", "~nobody-of-that-name/x", "'~nobody-of-that-name/x'"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(key: str, value: Any, shown: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve({key: value})
    message = str(caught.value)
    assert message.startswith(f"The configuration is wrong: {key} ")
    assert shown in message
    assert "\n" not in message


# YAML


@pytest.mark.parametrize("text", ["6e-4", "6E-4", "6.0e-4", "0.0006", "+6e-4", "6_0e-5"])
def test_exponents_need_no_dot(text: str) -> None:
    config = resolve(parse_settings(f"optim:\n  learning_rate: {text}\n", "file"))
    assert config.optim.learning_rate == pytest.approx(6e-4)


def test_assignments_are_yaml_values() -> None:
    assert parse_assignment("optim.learning_rate=6e-4") == ("optim.learning_rate", 6e-4)
    assert parse_assignment("train.compile=false") == ("train.compile", False)
    assert parse_assignment("train.max_steps=null") == ("train.max_steps", None)
    assert parse_assignment("eval.sample_prompt=a=b") == ("eval.sample_prompt", "a=b")
    assert parse_assignment(" name = x ") == ("name", "x")


@pytest.mark.parametrize(
    "text", ["novalue", "", "x", "a=[1", "a={", "a=*b", "a=!!python/object:os.x {}", "a=2024-99-99"]
)
def test_what_is_no_assignment_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--set .*\.$"):
        parse_assignment(text)


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
HOSTILE: dict[str, bytes] = {
    "object tag": b"!!python/object/apply:os.system ['true']",
    "unknown tag": b"model: !secret x",
    "binary": b"name: !!binary gICA",
    "anchor bomb": BOMB.encode() + b"model: *a11\n",
    "merge bomb": b"a: &a {b: 1}\nmodel:\n  <<: [*a, *a]\n",
    "a list": b"- 1\n- 2\n",
    "a text": b"just words",
    "a number": b"5",
    "an open bracket": b"model: {",
    "tabs": b"model:\n\t\tname: x",
    "bytes": bytes(range(256)),
    "utf-16": "model: {}".encode("utf-16"),
    "a control character": b"name: \x01",
    "megabytes": b"a: 1\n" * 2_000_000,
    "nested lists": b"model: " + b"[" * 100_000,
    "an impossible date": b"name: 2024-99-99",
    "a number of 5000 digits": b"train: {seed: " + b"9" * 5000 + b"}",
    "a key that is a list": b"? [1, 2]\n: 3",
    "a section that is a list": b"model: [1, 2]",
    "a section that is empty": b"model:",
    "keys that are numbers": b"1: 2\n3.5: x\ntrue: y",
    "inner keys that are numbers": b"model: {1: 2}",
    "a value that is a mapping": b"model: {name: {a: b}}",
    "a set": b"model: {name: !!set {a, b}}",
    "a date": b"name: 2024-01-02",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    file = tmp_path / "hostile.yaml"
    file.write_bytes(HOSTILE[name])
    with pytest.raises(UserError) as caught:
        resolve(load_source(str(file))[0])
    message = str(caught.value)
    assert message.endswith(".")
    assert len(message) < 600
    assert "\n" not in message.partition("problems:")[0]
    assert message.isprintable() or "problems:" in message


@pytest.mark.parametrize("name", ["anchor bomb", "merge bomb"])
def test_aliases_are_refused_before_they_grow(name: str) -> None:
    with pytest.raises(UserError, match="aliases"):
        parse_settings(HOSTILE[name].decode(), "file")


@given(
    text=st.text(alphabet=st.sampled_from("ab:{}[]&*!|>-?#'\"%@`,. \n\t0123456789e"), max_size=60)
)
@settings(max_examples=300, deadline=None)
def test_no_text_makes_a_traceback(text: str) -> None:
    try:
        resolve(parse_settings(text, "file"))
    except UserError as error:
        assert str(error)


def test_an_empty_file_is_the_default_configuration() -> None:
    assert resolve(parse_settings("", "file")) == Config()
    assert resolve(parse_settings("# nothing\n", "file")) == Config()


def test_a_file_named_by_its_path_is_no_preset(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "tiny-cpu.yaml").write_text("log: {interval: 77}\n")
    monkeypatch.chdir(tmp_path)
    assert load_source("tiny-cpu.yaml") == ({"log.interval": 77}, False)
    assert load_source("tiny-cpu")[1] is True


# There and back

texts = st.text(max_size=20)
tricky = st.sampled_from(
    ["6e-4", "1e5", "yes", "null", "~", "1:30", "0x10", "*a", "&a", "!t", "a: b", "", " ", "\x85",
     "2024-01-02", "'", '"', "…\n...", "- x", "1_000", "\u2028", "\x7f", "-", "=", "<<"]
)  # fmt: skip
names = texts | tricky | st.text(st.characters(categories=["Cs", "Cc", "Zl"]), max_size=5)
path_texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
paths = (path_texts | tricky | st.sampled_from(["6e-4", "true", "a b/c: d", "/x/7"])).filter(
    lambda text: text and not text.startswith("~")
)
layers = st.fixed_dictionaries(
    {},
    optional={
        "name": names,
        "model.name": names,
        "model.vocab_size": st.none() | st.integers(1, 10**6),
        "model.rope_theta": st.floats(1e-3, 1e9),
        "model.norm_eps": st.floats(1e-12, 1e-3),
        "model.tie_embeddings": st.booleans(),
        "data.path": st.none() | paths,
        "data.tokenizer": st.none() | paths,
        "optim.learning_rate": st.floats(1e-12, 1, exclude_min=True),
        "optim.min_lr": st.none() | st.just(0.0) | st.floats(0, 1e-12),
        "optim.schedule": st.sampled_from(["cosine", "wsd", "constant"]),
        "optim.eps": st.floats(1e-300, 1e-3),
        "train.max_steps": st.none() | st.integers(1, 10**12),
        "train.epochs": st.none() | st.floats(1e-9, 1e6),
        "train.seed": st.integers(0, 2**63 - 1),
        "train.compile": st.none() | st.booleans(),
        "checkpoint.dir": st.none() | paths,
        "eval.sample_prompt": names,
    },
)


@given(layer=layers)
@settings(max_examples=300, deadline=None)
def test_a_configuration_comes_back_from_its_yaml(layer: dict[str, Any]) -> None:
    config = resolve(layer)
    assert resolve(parse_settings(to_yaml(config), "config.yaml")) == config


@given(layer=layers)
@settings(max_examples=200, deadline=None)
def test_a_configuration_comes_back_from_its_assignments(layer: dict[str, Any]) -> None:
    config = resolve(layer)
    settings = flatten(to_plain(config))
    assert set(settings) == set(known_keys()) - {"model.parts"}  # which is empty
    again = dict(parse_assignment(assignment(key, value)) for key, value in settings.items())
    assert resolve(again) == config


def test_a_value_of_several_kinds_is_one_problem() -> None:
    with pytest.raises(UserError) as error:
        resolve({"train.micro_batch": "some"})
    assert str(error.value) == (
        "The configuration is wrong: train.micro_batch is 'some', but must be 'auto' or a valid "
        "integer."
    )


def test_another_optimizer_discards_what_was_meant_for_the_one_before() -> None:
    preset = {"optim.learning_rate": 1e-3, "optim.beta2": 0.98, "optim.weight_decay": 0.3}
    same = resolve(preset, {"optim.name": "adamw"}).optim
    assert (same.learning_rate, same.beta2) == (1e-3, 0.98)
    other = resolve(preset, {"optim.name": "muon+lion"}).optim
    assert (other.learning_rate, other.beta2, other.weight_decay) == (0.02, 0.99, 0.3)
    table = {"optim.groups": [{"optimizer": "adamw"}]}
    assert resolve(table, {"optim.name": "lion"}).optim.groups is None
    assert resolve({"optim.name": "lion", **table}, preset).optim.groups is not None
    chosen = resolve(preset, {"optim.name": "lion", "optim.learning_rate": 3e-4}).optim
    assert chosen.learning_rate == 3e-4


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "optim.groups is a list, but List should have at least 1 item"),
        (7, "optim.groups is 7, but must be a valid list"),
        ([{}], "optim.groups.0.optimizer"),
        ([{"optimizer": "lion", "pattern": "("}], "must be a regular expression"),
        ([{"optimizer": "lion", "betas": [1.0]}], "optim.groups.0.betas.0 is 1.0, but must be"),
        ([{"optimizer": "lion", "rate": 1}], "optim.groups.0.rate"),
    ],
)
def test_a_wrong_table_of_groups_is_told(rows: object, words: str) -> None:
    with pytest.raises(UserError) as raised:
        resolve({"optim.groups": rows})
    assert words in str(raised.value)


def test_an_optimizer_has_one_name_with_and_without_the_one_for_the_rest() -> None:
    preset, _ = load_source("shakespeare-cpu")
    for name in ("muon", "muon+adamw"):
        assert resolve(preset, {"optim.name": name}).optim.learning_rate == 0.007
    assert resolve(preset, {"optim.name": "muon+lion"}).optim.learning_rate != 0.007


def test_the_rate_of_muon_follows_its_scale() -> None:
    scaled = {"optim.name": "muon", "optim.muon_scale": "match_rms_adamw"}
    assert resolve(scaled).optim.learning_rate == resolve().optim.learning_rate
    assert resolve({"optim.name": "muon"}).optim.learning_rate == 0.02
