"""The answers of reinforcement learning, read from files that anybody may have written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.data import answers as limits
from monitor.data.answers import AnswersFollower
from monitor.data.follower import RunFollower
from shared.run.directory import RunDirectory
from shared.text import many_lines

ANSWER: dict[str, Any] = {
    "prompt_id": "slices/1",
    "prompt": "fn one() -> i64 {\n",
    "given": "    1",
    "completion": "    1\n}\n",
    "reward": 0.45,
    "parts": {"parse": 0.1, "compile": 0.3, "tests": 0.0, "style": 0.05},
    "parsed": True,
    "compiled": True,
    "tested": False,
    "messages": ["error: expected `;`\n --> 1:5"],
    "tokens": 7,
    "truncated": True,
}
HOSTILE = "\x1b]0;title\x07\x9b31m[red]\u202e\x00\udc80\r\tx"


def write(folder: Path, iteration: int, *answers: object) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"rl-iter-{iteration}.jsonl"
    path.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    return path


def read(folder: Path) -> AnswersFollower:
    follower = AnswersFollower(folder)
    follower.poll()
    return follower


def test_the_newest_iterations_come_first_and_are_followed(tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    follower = AnswersFollower(samples)
    assert not follower.poll()
    for iteration in (9, 10, 100):
        write(samples, iteration, ANSWER)
        os.utime(samples, ns=(iteration, iteration))
        assert follower.poll()
    assert [answer.iteration for answer in follower.answers] == [100, 10, 9]
    assert not follower.poll()
    write(samples, 100, {**ANSWER, "reward": 1.0}, ANSWER)
    assert follower.poll()
    first = follower.answers[0]
    assert (first.reward, first.given, first.tested, first.truncated) == (1.0, 5, False, True)
    assert dict(first.parts) == ANSWER["parts"]
    assert first.messages == tuple(ANSWER["messages"])
    for path in samples.iterdir():
        path.unlink()
    samples.rmdir()
    assert follower.poll()
    assert follower.answers == ()


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.just(HOSTILE),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.lists(
        st.dictionaries(st.sampled_from(sorted(ANSWER)), JUNK, max_size=6) | st.just(ANSWER),
        max_size=4,
    ),
    junk=st.binary(max_size=30),
    cut=st.integers(0, 3_000),
)
def test_whatever_is_in_the_file_the_texts_are_safe_and_short(
    tmp_path: Path, records: list[dict[str, Any]], junk: bytes, cut: int
) -> None:
    samples = tmp_path / "samples"
    path = write(samples, 1, *records)
    data = path.read_bytes()
    whole = read(samples).answers
    path.write_bytes(data[:cut])
    begun = read(samples).answers
    assert repr(whole[: len(begun)]) == repr(begun), "a torn file has the first of its answers"
    path.write_bytes(data[:cut] + junk)
    for answer in read(samples).answers + whole:
        texts = [answer.prompt, answer.completion, answer.prompt_id, *answer.messages]
        for text in [*texts, *(name for name, _ in answer.parts)]:
            assert text == many_lines(text).replace("\r", "").replace("\t", "")
            assert len(text) <= limits.MAX_TEXT
        assert answer.given <= limits.MAX_TEXT


def test_what_is_large_is_cut(tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    long = {**ANSWER, "completion": "x" * 100_000, "messages": ["m" * 9_000] * 50}
    write(samples, 1, *[long] * 50)
    found = read(samples).answers
    assert 0 < len(found) <= limits.MAX_ANSWERS
    assert len(found[0].completion) == limits.MAX_TEXT
    assert len(found[0].messages) == limits.MAX_MESSAGES
    assert max(map(len, found[0].messages)) <= limits.MAX_MESSAGE


def test_a_pipe_in_its_place_is_passed_over(tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    write(samples, 1, ANSWER)
    os.mkfifo(samples / "rl-iter-2.jsonl")
    (samples / "rl-iter-3.jsonl").mkdir()
    assert [answer.iteration for answer in read(samples).answers] == [1]


@pytest.mark.parametrize("text", [HOSTILE])
def test_the_follower_of_a_run_has_them(tmp_path: Path, text: str) -> None:
    write(tmp_path / "samples", 4, {**ANSWER, "prompt_id": text, "completion": text})
    follower = RunFollower(RunDirectory(tmp_path))
    while follower.more:
        follower.poll()
    (answer,) = follower.detail().answers
    assert answer.iteration == 4
    assert "\x1b" not in answer.completion + answer.prompt_id
