"""A trained model on a suite in a tiny language: answers, files of them, figures."""

from __future__ import annotations

import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from shared.checkpoints.suites import SuiteResult, add_suites, read_suites
from shared.errors import RunError, UserError
from tests.trainer.evaluate.conftest import CPU
from tests.trainer.evaluate.suites.conftest import Letters
from trainer.checkpoint.opening import OpenedModel
from trainer.evaluate.suites.answering import Asking
from trainer.evaluate.suites.evaluation import SuiteEvaluation
from trainer.evaluate.suites.judged import AnswersFile, Judged, Replace
from trainer.evaluate.suites.pass_at_k import mean_pass_at_k
from trainer.evaluate.suites.suite import Suite
from trainer.generate.decoding import generate
from trainer.generate.sampling import Sampling
from trainer.tasks.prompt import Prompt

SAMPLED = Asking(samples=5, sampling=Sampling(1.0, 0), max_new_tokens=12, seed=3)
GREEDY = Asking(samples=1, sampling=Sampling(0.0, 0), max_new_tokens=12)


def evaluated(
    opened: OpenedModel,
    suite: Suite,
    language: Letters,
    asking: Asking = SAMPLED,
    path: Path | None = None,
    *,
    replaced: Replace = "never",
) -> SuiteEvaluation:
    evaluation = SuiteEvaluation(opened, suite, language, asking)
    evaluation.answer(AnswersFile(path, evaluation.about, replace=replaced) if path else None)
    return evaluation


def by_place(answers: list[Judged]) -> dict[tuple[str, int], Judged]:
    return {(answer.task, answer.sample): answer for answer in answers}


def test_greedy_answers_are_those_of_generate(
    opened: OpenedModel, suite: Suite, letters: Letters
) -> None:
    found = by_place(evaluated(opened, suite, letters, GREEDY).judged)
    for prompt in suite.prompts:
        ids = opened.tokenizer.encode_prompt(prompt.prompt)
        tokens = list(generate(opened.model, ids, 12, GREEDY.sampling, stop_ids=opened.end_ids))
        text = opened.tokenizer.decode(tokens, skip_special=True)
        end = letters.stops(text)
        assert found[prompt.id, 0].completion == text[:end]


def test_an_answer_depends_on_its_task_and_number_alone(
    opened: OpenedModel, suite: Suite, letters: Letters
) -> None:
    whole = by_place(evaluated(opened, suite, letters).judged)
    few = evaluated(opened, suite.first(2), letters, replace(SAMPLED, samples=2)).judged
    assert len(whole) == 30 and len(few) == 4
    assert by_place(few).items() <= whole.items()
    assert len({answer.completion for answer in whole.values()}) > 5


def test_figures_are_counted_from_the_answers(
    opened: OpenedModel, suite: Suite, letters: Letters
) -> None:
    evaluation = evaluated(opened, suite, letters)
    answers = evaluation.judged
    result = evaluation.result(CPU)
    figures = result.figures
    with_tests = [a for a in answers if a.task in ("p0", "p1", "p2", "p3")]
    assert figures["compile_rate"].value == sum(a.compiled for a in answers) / 30
    assert figures["compile_rate"].count == 30
    assert figures["test_rate"].value == sum(a.tested is True for a in with_tests) / 20
    counts = [(5, sum(a.tested is True for a in with_tests if a.task == f"p{n}")) for n in range(4)]
    assert figures["pass@5"].value == pytest.approx(mean_pass_at_k(counts, 5))
    assert figures["pass@1"].value == pytest.approx(figures["test_rate"].value)
    assert "pass@10" not in figures and "iterators" not in figures
    assert figures["compile@5"].count == 6
    for figure in figures.values():
        assert figure.low is not None and figure.high is not None
        assert figure.low <= figure.value <= figure.high
    assert (result.tasks, result.answers, result.judge) == (6, 30, "letters 1.0")
    assert result.settings["temperature"] == 1.0 and result.settings["asked"] == "text"


def test_references_are_scored_as_text_is(
    opened: OpenedModel, suite: Suite, letters: Letters
) -> None:
    figures = evaluated(opened, suite, letters, GREEDY).result(CPU).figures
    nats = 0.0
    for prompt in suite.prompts:
        before = opened.tokenizer.encode_prompt(prompt.prompt)
        after = opened.tokenizer.encode("):\n")
        logits = opened.model(__import__("torch").tensor([before + after]))[0].double()
        logprobs = logits[len(before) - 1 : -1].log_softmax(-1)
        nats -= sum(logprobs[n, token].item() for n, token in enumerate(after))
    assert figures["bits_per_byte"].value == pytest.approx(nats / math.log(2) / 18, abs=1e-4)
    assert figures["perplexity"].value == pytest.approx(math.exp(nats / 18), abs=1e-3)
    assert figures["bits_per_byte"].count == 18


def test_without_tests_their_figures_are_missing_and_it_is_said(
    opened: OpenedModel, suite: Suite
) -> None:
    result = evaluated(opened, suite, Letters(runs_tests=False), GREEDY).result(CPU)
    assert "test_rate" not in result.figures and "pass@1" not in result.figures
    assert "The tests of the tasks were not run." in result.notes


def test_a_task_that_fills_the_context_is_not_solved(
    opened: OpenedModel, suite: Suite, letters: Letters
) -> None:
    long = Prompt("long", "x = 1\n" * 40, "letters", tests="t")
    both = replace(suite, prompts=(*suite.prompts[:1], long))
    evaluation = evaluated(opened, both, letters, GREEDY)
    found = by_place(evaluation.judged)
    assert (found["long", 0].ending, found["long", 0].completion) == ("no room", "")
    assert "1 of the tasks fill the model's context" in " ".join(evaluation.result(CPU).notes)


def test_a_full_disk_costs_no_answers_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, about = tmp_path / "answers.jsonl", {"suite": "tiny"}
    one = Judged("p0", 0, "x", "end", 1, 1.0, {}, True, True, None)
    AnswersFile(path, about).add([one])
    with path.open("ab") as file:
        file.write(b'{"task": "p0", "sam')  # cut off when the disk became full

    def full(fd: int, _mode: str) -> None:
        os.close(fd)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(RunError, match="No space left"):
        patched.setattr(os, "fdopen", full)
        AnswersFile(path, about)
    store = AnswersFile(path, about)
    assert store.known == [one]
    store.add([replace(one, sample=1)])
    assert AnswersFile(path, about).known == [one, replace(one, sample=1)]


def test_what_was_interrupted_continues_and_asks_nothing_twice(
    opened: OpenedModel, suite: Suite, tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    whole = evaluated(opened, suite, Letters(), path=path)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 31
    path.write_bytes(b"".join(lines[:12]) + lines[12][:40])  # the last line is torn
    letters = Letters()
    continued = evaluated(opened, suite, letters, path=path)
    assert sum(letters.asked) == 30 - 11
    assert by_place(continued.judged) == by_place(whole.judged)
    assert continued.result(CPU).figures == whole.result(CPU).figures
    again = Letters()
    evaluated(opened, suite, again, path=path)
    assert again.asked == []
    assert json.loads(path.read_bytes().splitlines()[0])["suite"] == "little"


def test_a_file_of_other_answers_is_not_overwritten(
    opened: OpenedModel, suite: Suite, tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    evaluated(opened, suite, Letters(), GREEDY, path)
    before = path.read_bytes()
    with pytest.raises(UserError, match="holds other answers than those asked for"):
        evaluated(opened, suite, Letters(), SAMPLED, path)
    path.write_text("a diary\n")
    with pytest.raises(UserError, match="holds other answers"):
        evaluated(opened, suite, Letters(), GREEDY, path)
    assert path.read_text() == "a diary\n" and before


def test_a_file_of_other_answers_is_replaced_and_one_of_the_same_continued(
    opened: OpenedModel, suite: Suite, tmp_path: Path
) -> None:
    path = tmp_path / "answers.jsonl"
    evaluated(opened, suite, Letters(), GREEDY, path)
    first = Letters()
    evaluated(opened, suite, first, SAMPLED, path, replaced="others")
    lines = path.read_bytes().splitlines(keepends=True)
    assert sum(first.asked) == 30 and len(lines) == 31
    path.write_bytes(b"".join(lines[:21]))  # killed after twenty answers
    second, third = Letters(), Letters()
    evaluated(opened, suite, second, SAMPLED, path, replaced="others")
    assert sum(second.asked) == 10
    evaluated(opened, suite, third, SAMPLED, path, replaced="always")
    assert sum(third.asked) == 30


def test_the_first_answers_are_a_result_too(
    opened: OpenedModel, suite: Suite, letters: Letters
) -> None:
    evaluation = SuiteEvaluation(opened, suite, letters, SAMPLED)

    def interrupt(count: int) -> None:
        if count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluation.answer(progress=interrupt)
    assert evaluation.judged == []


def test_a_result_replaces_the_one_it_repeats(
    opened: OpenedModel, suite: Suite, letters: Letters, tmp_path: Path
) -> None:
    result: SuiteResult = evaluated(opened, suite, letters, GREEDY).result(CPU)
    other = replace(result, settings={**result.settings, "max_new_tokens": 7})
    add_suites(tmp_path, [result, other])
    add_suites(tmp_path, [replace(result, time=result.time + 1)])
    assert [r.time for r in read_suites(tmp_path)] == [result.time, result.time + 1]
    assert read_suites(tmp_path)[0] == other
