from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.documents import Piece
from trainer.data.inputs import find_inputs
from trainer.data.prepare import PrepareSettings, prepare
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokens import open_tokens
from trainer.tasks.clean_text import without_tasks
from trainer.tasks.decontamination import (
    GRAM,
    SHORTEST,
    Contamination,
    Document,
    check_documents,
    documents_of,
    words_of,
)
from trainer.tasks.generator.making import make_splits
from trainer.tasks.prompt import Prompt

WORDS = [f"{first}{second}" for first in "bdfgk" for second in ("ada", "eno", "ilu", "opa", "uri")]


def _task(name: str, text: str, tests: str | None = None) -> Prompt:
    return Prompt(name, text, "rust", tests=tests)


def _documents(*texts: Iterable[str]) -> Iterator[tuple[Document, Piece]]:
    for number, pieces in enumerate(texts, 1):
        listed = list(pieces)
        for place, text in enumerate(listed):
            whole = (place == 0, place == len(listed) - 1)
            yield Document("file", number), Piece(text, len(text), *whole)


def _check(tasks: list[Prompt], *texts: Iterable[str], block: int = 1 << 16) -> Contamination:
    return check_documents({"evaluation": tasks}, _documents(*texts), block=block)


def _sentence(seed: int, count: int = 40) -> list[str]:
    chosen = random.Random(seed)
    return [chosen.choice(WORDS) for _ in range(count)]


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 1000),
    start=st.integers(0, 27),
    length=st.integers(1, 40),
    before=st.integers(0, 30),
    cut=st.integers(0, 60),
    block=st.integers(1, 50),
)
def test_thirteen_words_in_a_row_are_found_wherever_they_lie(
    *, seed: int, start: int, length: int, before: int, cut: int, block: int
) -> None:
    words = _sentence(seed)
    stolen = words[start : start + length]
    text = [
        *_sentence(seed + 5000, before),
        *[word.upper() for word in stolen],
        *_sentence(9999, 20),
    ]
    pieces = [", ".join(text[:cut]), " " + ";\n".join(text[cut:])]
    found = _check([_task("t", " ".join(words))], ["nothing"], pieces, ["more"], block=block)
    expected = {tuple(words[i : i + GRAM]) for i in range(len(words) - GRAM + 1)}
    there = [word.lower() for word in text]
    grams = {tuple(there[i : i + GRAM]) for i in range(len(there) - GRAM + 1)}
    assert bool(found.evaluations[0].found) == bool(expected & grams)
    assert list(found.hits) == [Document("file", 2)] * bool(expected & grams)
    assert found.documents == 3 and found.words == len(text) + 2
    for hit in found.evaluations[0].found.values():
        assert tuple(hit.words.split()) in expected & grams


def test_words_of_two_documents_make_no_gram() -> None:
    words = _sentence(1)
    found = _check([_task("t", " ".join(words))], [" ".join(words[:12])], [" ".join(words[12:24])])
    assert not found.hits


def test_a_short_task_is_looked_for_as_a_whole_and_a_shorter_one_not_at_all() -> None:
    words = _sentence(2)
    short, shorter = " ".join(words[:SHORTEST]), " ".join(words[: SHORTEST - 1])
    found = _check([_task("short", short), _task("shorter", shorter)], [" ".join(words)])
    (evaluation,) = found.evaluations
    assert set(evaluation.found) == {"short"} and evaluation.short == 1 and evaluation.share == 1.0


def test_what_many_tasks_share_is_their_frame() -> None:
    frame = " ".join(_sentence(3, 20))
    tasks = [_task(str(i), f"{frame} {' '.join(_sentence(100 + i, 20))}") for i in range(40)]
    assert not _check(tasks, [frame]).hits
    own = " ".join(_sentence(107, 20))
    assert set(_check(tasks, [own]).evaluations[0].found) == {"7"}
    assert _check(tasks[:5], [frame]).hits, "few tasks have no frame"


def test_numbers_and_letters_alone_are_no_evidence() -> None:
    numbers = " ".join(map(str, range(30))) + " a b c d e f g"
    assert not _check([_task("t", numbers)], [numbers]).hits


def test_tests_and_solutions_are_looked_for_too() -> None:
    solution, tests = " ".join(_sentence(4, 15)), " ".join(_sentence(5, 15))
    task = Prompt("t", "short", "rust", tests=tests, reference=solution)
    assert _check([task], [solution]).hits and _check([task], [tests]).hits


def test_each_evaluation_is_told_by_itself() -> None:
    shared = " ".join(_sentence(6, 20))
    evaluations = {"a": [_task("1", shared)], "b": [_task("1", shared), _task("2", "other")]}
    found = check_documents(evaluations, _documents([shared]))
    assert [sorted(part.found) for part in found.evaluations] == [["1"], ["1"]]


def test_files_are_read_by_record(tmp_path: Path) -> None:
    stolen = " ".join(_sentence(7, 20))
    lines = ["first", "", f"so {stolen}", "last"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": x}) + "\n" for x in lines))
    (tmp_path / "b.txt").write_text(stolen)
    found = check_documents(
        {"e": [_task("t", stolen)]}, documents_of(find_inputs([str(tmp_path)]).files)
    )
    places = [(Path(hit.path).name, hit.number) for hit in found.hits]
    assert places == [("a.jsonl", 2), ("b.txt", 1)]


def test_preparing_leaves_out_the_documents_with_tasks(tmp_path: Path) -> None:
    stolen = " ".join(_sentence(8, 20))
    texts = ["one document", "", f"two {stolen} end", "three", stolen]
    source = tmp_path / "text.jsonl"
    source.write_text("".join(json.dumps({"text": x}) + "\n" for x in texts))
    asked = PrepareSettings(
        [str(source)], str(tmp_path / "data"), val_split=0, kind="char", charset="bytes"
    )
    clean, found = without_tasks(asked, {"e": [_task("t", stolen)]})
    assert [hit.number for hit in found.hits] == [2, 4]
    prepared = prepare(clean)
    tokenizer = Tokenizer.load(prepared.tokenizer_directory)
    text = tokenizer.decode(open_tokens(prepared.train).tokens.tolist())
    assert prepared.train_sidecar.num_documents == 2
    assert "one document" in text and "three" in text and stolen not in text
    assert any("2 documents left out" in note for note in prepared.notes)


@pytest.mark.parametrize("seed", [0, 1])
def test_generated_tasks_hold_nothing_out_that_is_trained_on(seed: int) -> None:
    train, held = make_splits("rust", ("train", "held-out"), 300, seed)
    assert (len(train.tasks), len(held.tasks)) == (300, 300)
    texts = [[task.prompt + (task.reference or "")] for task in train.tasks]
    assert not _check(held.tasks, *texts).hits
    grams = {
        tuple(words[i : i + GRAM])
        for words in map(words_of, (text for (text,) in texts))
        for i in range(len(words) - GRAM + 1)
    }
    for task in held.tasks:
        words = words_of(task.prompt + (task.reference or ""))
        assert not any(tuple(words[i : i + GRAM]) in grams for i in range(len(words) - GRAM + 1))
