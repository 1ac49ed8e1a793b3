"""Messages survive any cut, and what is no message is an error, not a crash."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.rewards.interface import Answer
from trainer.rewards.python.inside.wire import decode, encode
from trainer.rewards.python.program import end_of_answer, program_of
from trainer.sandbox.launcher.frames import Frames, pack, pack_files, unpack_files
from trainer.tasks.prompt import Prompt

FILES = st.dictionaries(st.text(max_size=8), st.binary(max_size=20), max_size=4)


@settings(max_examples=50, deadline=None)
@given(st.lists(FILES, max_size=4), st.integers(1, 40))
def test_messages_survive_any_cut(messages: list[dict[str, bytes]], size: int):
    sent = b""
    for files in messages:
        sizes, body = pack_files(files)
        sent += pack({"files": sizes}, body)
    frames = Frames()
    parts = [sent[at : at + size] for at in range(0, len(sent), size)]
    found = [message for part in parts for message in frames.feed(part)]
    assert [unpack_files(header["files"], body) for header, body in found] == messages


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60))
def test_what_is_no_message_is_a_value_error(data: bytes):
    with contextlib.suppress(ValueError):
        Frames().feed(data)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
    | st.binary() | st.complex_numbers(allow_nan=False) | st.fractions(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple)
    | st.dictionaries(st.text() | st.integers(), inner)
    | st.frozensets(st.integers() | st.text()),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(PLAIN)
def test_plain_data_passes_the_wire_unchanged(value: object):
    def refuse(kept: object) -> int:
        raise AssertionError(kept)

    back = decode(json.loads(json.dumps(encode(value, refuse))), refuse)
    assert back == value
    assert type(back) is type(value)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text()
    | st.sampled_from(["int", "list", "kept", "dict", "Decimal", "deque"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_what_an_answer_sends_is_data_or_an_ordinary_error(data: object):
    with contextlib.suppress(Exception):  # of any kind; the part of the tests has failed then
        decode(data, lambda number: number)


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("ab \n\t\"'#()[]{}\\:def")))
def test_any_text_has_an_end_or_none(text: str):
    end = end_of_answer(text)
    assert end is None or (0 < end < len(text) and text[end - 1] == "\n")
    program = program_of(Answer(Prompt("x", "def f(a):\n", "python", "def f(a)"), text))
    assert program.source.startswith("def f(a):\n")
