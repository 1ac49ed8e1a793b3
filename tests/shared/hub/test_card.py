"""The card tells what the files say, and nothing in the files is markup."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from shared.checkpoints.evaluation import Evaluation as DataEvaluation
from shared.checkpoints.evaluation import Measured, Speed
from shared.checkpoints.suites import Figure, SuiteResult
from shared.hub.card import CardContext, is_ours, was_edited, write_card
from shared.hub.settings import UploadSettings
from shared.hub.source import Evaluation, Facts, find_source, read_facts
from shared.hub.weights import Weights, read_weights
from shared.run.directory import RunDirectory
from shared.run.records import RunState
from trainer.checkpoint.hf_format import hf_config
from trainer.config.model import ModelConfig

EVIL = [
    "[click](javascript:alert(1))",
    "<script>alert(1)</script>",
    "![x](http://evil/x.png)",
    "a\n---\nlicense: mit\n---\n# owned",
    "`` ` ``",
    "| x | y |",
    "$$\\href{javascript:1}{x}$$",
    "\x1b[31mred\x1b[0m\u202e",
    "- item\n# head",
    "*b* _i_ ~~s~~ https://evil.example",
    "<!-- made by train-monitor, sha256 " + "0" * 64 + " -->",
    "{{ jinja }} {% raw %}",
    ": yaml\n- [",
]


@pytest.fixture(scope="module")
def facts(trained: RunDirectory) -> Facts:
    return read_facts(find_source(trained))


def card_of(facts: Facts, **changes: Any) -> str:
    context = CardContext("ada/tiny", UploadSettings(**changes), Weights(1000, "F32"))
    return write_card(facts, context)


def metadata(card: str) -> dict[str, Any]:
    value = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(value, dict)
    return value


def spoilt(facts: Facts, text: str) -> Facts:
    """Every text that comes from a file is `text`."""
    return replace(
        facts,
        name=text,
        architecture=dict.fromkeys(facts.architecture, text),
        settings={
            section: dict.fromkeys(part, text) if isinstance(part, dict) else text
            for section, part in facts.settings.items()
        },
        progress={**facts.progress, "data": {"tokens": 5, "tokenizer": text, "seq_len": text}},
        state=replace(RunState(), run_name=text, device=text, git_commit=text, run_id=text),
        stated={"final loss": text},
        evaluations=(evaluation(text, sha256=text),),
        speeds=(Speed(1e3, 50.0, 128, 64, text, text, 1.0),),
        suites=(suite_result(text, judge=text, settings={text: text}, notes=(text,)),),
    )


def suite_result(name: str, **changes: Any) -> SuiteResult:
    figures = {"compile_rate": Figure(0.5, 0.25, 0.75, 12), name: Figure(2.5)}
    result = SuiteResult(name, "rustc 1.95.0", "cd" * 32, 12, 24, {"samples": 2}, figures, 1.0, 9.0)
    return replace(result, **changes)


def evaluation(data: str, **changes: Any) -> DataEvaluation:
    total = Measured(data, "ab" * 32, 2.5, 1.25, 1000, 2500)
    others = {k: v for k, v in changes.items() if k != "sha256"}
    return replace(
        DataEvaluation(
            total=replace(total, sha256=changes.get("sha256", total.sha256)),
            kind="text",
            split="",
            seq_len=64,
            stride=32,
            max_tokens=None,
            dtype="fp32",
            time=1.0,
            seconds=1.0,
            command="trainer eval --checkpoint /home/ada/secret",
            git_commit=None,
            version="1",
            machine="cpu",
        ),
        **others,
    )


def tokens_of(card: str) -> list[Any]:
    """Every block and inline element of the card's text, as a renderer sees it."""
    body = card.partition("\n---\n")[2]
    found: list[Any] = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body):
        found += [token, *(token.children or ())]
    return found


def shape_of(card: str) -> list[str]:
    return [token.type for token in tokens_of(card) if token.type not in ("text", "softbreak")]


@pytest.mark.parametrize("text", EVIL)
def test_hostile_text_is_text(facts: Facts, text: str) -> None:
    plain, evil = card_of(spoilt(facts, "plain")), card_of(spoilt(facts, text))
    assert shape_of(evil) == shape_of(plain), "a value became markup"
    assert metadata(evil).keys() == metadata(plain).keys()
    assert not was_edited(evil)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", evil)
    ModelCard(evil)


@given(st.text(min_size=1, max_size=80))
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_text_is_text(facts: Facts, text: str) -> None:
    evil = card_of(spoilt(facts, f"x{text}x"))
    assert shape_of(evil) == shape_of(card_of(spoilt(facts, "plain")))
    assert ModelCard(evil).data.to_dict() == metadata(evil)


def test_it_tells_what_the_records_say(facts: Facts) -> None:
    card = card_of(facts, license="mit")
    for piece in (
        "`LlamaForCausalLM`",
        "| optimizer steps | 12 |",
        "| training tokens there |",
        "| peak learning rate | `0.0006` |",
        "| device | `cpu (1 thread), fp32` |",
        "![The losses over the steps](loss_curve.png)",
        "Measured at step 12 on 2 fixed batches",
        "Its context is 64 tokens.",
        "tokens per parameter",
    ):
        assert piece in card, piece
    assert "No license is stated" not in card
    assert "/tmp" not in card and "data.path" not in card


@pytest.mark.parametrize(
    "shape",
    [{}, {"attention_bias": "qkv"}, {"attention_bias": "all"}, {"qk_norm": True}],
    ids=str,
)
def test_every_class_that_is_written_is_named(facts: Facts, shape: dict[str, Any]) -> None:
    config = hf_config(ModelConfig.model_validate({"vocab_size": 9} | shape), 0, 0)
    card = card_of(replace(facts, architecture=config))
    assert f"| class | `{config['architectures'][0]}` |" in card


def test_an_older_checkpoint_says_that_it_is_not_the_best(trained: RunDirectory) -> None:
    facts = read_facts(find_source(trained, "4"))
    assert facts.evaluation is not None and facts.evaluation.step == 4
    assert int(facts.curve.loss.steps.max()) == 4
    card = card_of(facts)
    assert "at step 12; this is another checkpoint" in card
    assert "planned for 12 steps; this is earlier" in card


def test_what_is_not_known_is_left_out(facts: Facts) -> None:
    bare = Facts("step_1", 0, {}, {}, {}, None, RunState(), facts.curve, None, None)
    card = card_of(bare)
    assert "No data was held out for validation" in card
    assert "None" not in card and "nan" not in card
    assert "model-index" not in metadata(card)
    assert "license" not in metadata(card)


def test_the_newest_result_of_a_suite_is_told_with_its_interval(facts: Facts) -> None:
    newer = suite_result("tasks", time=2.0, notes=("The tests of the tasks were not run.",))
    older = suite_result("tasks", figures={"compile_rate": Figure(0.125)})
    card = card_of(replace(facts, suites=(older, newer)))
    assert "On the tasks of `tasks` (12 tasks, 24 answers, judged by `rustc 1.95.0`" in card
    assert "50.0 % (25.0 to 75.0)" in card and "12.5 %" not in card
    assert "`The tests of the tasks were not run.`" in card
    assert "samples 2" in card
    found = [
        (result["dataset"]["name"], metric["type"], metric["value"])
        for result in metadata(card)["model-index"][0]["results"]
        for metric in result["metrics"]
    ]
    assert ("tasks", "compile_rate", 0.5) in found


def test_what_was_measured_since_is_a_data_set_of_its_own(facts: Facts) -> None:
    measured = (
        evaluation("novel.txt"),
        evaluation("val.bin", split="validation", max_tokens=1000, sha256="cd" * 32),
    )
    card = card_of(replace(facts, evaluations=measured))
    assert "On `novel.txt` (1,000 tokens, 2,500 bytes of text):" in card
    assert "| Perplexity (per token) | 12.1825 |" in card
    assert "windows of 64 tokens moved by 32" in card
    assert "On `val.bin`, held back from training" in card
    assert "secret" not in card
    (entry,) = metadata(card)["model-index"]
    sets = {(r["dataset"]["name"], r["dataset"].get("revision")) for r in entry["results"]}
    assert sets >= {("novel.txt", "ab" * 8), ("val.bin", "cd" * 8)}
    assert len(entry["results"]) == 3
    assert ModelCard(card).data.eval_results


def test_measured_text_is_enough_for_an_evaluation(facts: Facts) -> None:
    card = card_of(replace(facts, evaluation=None, evaluations=(evaluation("novel.txt"),)))
    assert "No data was held out" not in card
    assert len(metadata(card)["model-index"][0]["results"]) == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_none_is_no_result(facts: Facts, value: float) -> None:
    card = card_of(replace(facts, evaluation=Evaluation(3, value, value, 1.5)))
    (entry,) = metadata(card)["model-index"]
    assert [m["type"] for m in entry["results"][0]["metrics"]] == ["bits_per_byte"]


def test_synthetic_data_is_called_so(facts: Facts) -> None:
    card = card_of(replace(facts, settings={"data": {"dataset": "synthetic"}}))
    assert "this model has learned no language" in card


def test_figures_of_a_person_are_told_as_such(facts: Facts) -> None:
    card = card_of(replace(facts, stated={"final loss": "1.5"}), size="100m")
    assert "As stated by the person who uploaded it" in card
    assert "| final loss | `1.5` |" in card
    assert "100m" in metadata(card)["tags"]


def test_a_divergence_is_not_hidden(facts: Facts) -> None:
    facts = replace(facts, progress={**facts.progress, "rollbacks": 2, "skipped_samples": 640})
    assert "640 training sequences were skipped" in card_of(facts)


def test_an_edit_is_seen_wherever_it_is(facts: Facts) -> None:
    card = card_of(facts)
    assert is_ours(card) and not was_edited(card)
    assert not was_edited(card.replace("\n", "\r\n"))
    assert was_edited(card + "more\n")
    assert was_edited(card.replace("library_name", "license: mit\nlibrary_name"))
    assert was_edited("# somebody else's") and not is_ours("# somebody else's")


def test_a_checkpoint_that_is_all_junk_still_gets_a_card(tmp_path: Path) -> None:
    folder = tmp_path / "step_1"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": {"a": 1}, "dtype": []}))
    (folder / "trainer_state.json").write_text('{"data": [], "step": -3, "tokens_total": "x"}')
    (folder / "meta.json").write_text('{"config": [1]}')
    facts = read_facts(find_source(folder))
    assert "# tiny" in card_of(facts)


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00" * 8, b"\xff" * 16, b"\x02\x00\x00\x00\x00\x00\x00\x00{}", b"\x08" + b"\0" * 30],
)
def test_weights_that_are_none(tmp_path: Path, data: bytes) -> None:
    from shared.errors import RunError

    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"cannot be read as safetensors: .*; nothing was sent"):
        read_weights(path)


def test_a_model_that_transformers_refuses_is_not_said_to_be_loaded_with_it(facts: Facts) -> None:
    from trainer.model.parts.registry import PARTS

    own = [part.model_type for part in PARTS.values() if part.model_type]
    for kind in (*own, "trainer_parts"):
        card = card_of(replace(facts, architecture={**facts.architecture, "model_type": kind}))
        assert "AutoModel" not in card and metadata(card)["library_name"] == "train-monitor"
        assert "trainer generate --checkpoint tiny" in card
    assert "AutoModelForCausalLM" in card_of(facts)
    assert metadata(card_of(facts))["library_name"] == "transformers"
