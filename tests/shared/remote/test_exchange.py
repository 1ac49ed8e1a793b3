"""Many requests at once over two pipes, and what becomes of them when the link is cut anywhere."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.remote.exchange import Exchange
from shared.remote.protocol import encode_frame, read_frame
from tests.waiting import until


@pytest.fixture
def pipes():
    """The ends of an exchange, and of the host: (source, sink, host's source, host's sink)."""
    source, host_sink = os.pipe()
    host_source, sink = os.pipe()
    ends = [source, sink, host_source, host_sink]
    yield ends
    for fd in ends:
        os.close(fd)


def test_requests_are_sent_before_their_answers_come_and_answered_in_order(pipes):
    source, sink, host_source, host_sink = pipes
    exchange = Exchange(source, sink, b"", lambda error: None)
    asked = [exchange.ask({"n": n}) for n in range(3)]
    with os.fdopen(os.dup(host_source), "rb") as told:
        for n in range(3):
            assert read_frame(told.read)[0] == {"n": n}
    for n in range(3):
        os.write(host_sink, encode_frame({"is": n}, b"x" * n))
    for n, pending in enumerate(asked):
        exchange.wait(pending)
        assert pending.answer == ({"is": n}, b"x" * n)
    exchange.close()


def test_waiting_ends_when_something_else_is_to_be_done(pipes):
    source, sink, *_ = pipes
    exchange = Exchange(source, sink, b"", lambda error: None)
    moved = threading.Event()
    pending = exchange.ask({})
    threading.Timer(0.01, lambda: (moved.set(), exchange.nudge())).start()
    exchange.wait(pending, moved.is_set)
    assert not pending.done
    exchange.close()
    assert isinstance(pending.error, EOFError)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_link_that_is_cut_anywhere_ends_every_wait(data):
    frames = [encode_frame({"n": n}, b"%d" % n * 50) for n in range(3)]
    sent = b"".join(frames)
    cut = data.draw(st.integers(0, len(sent)))
    source, host_sink = os.pipe()
    host_source, sink = os.pipe()
    broken: list[Exception] = []
    exchange = Exchange(source, sink, b"", broken.append)
    asked = [exchange.ask({"n": n}) for n in range(3)]
    os.write(host_sink, sent[:cut])
    os.close(host_sink)
    whole = sum(cut >= sum(map(len, frames[: n + 1])) for n in range(3))
    for n, pending in enumerate(asked):
        exchange.wait(pending)
        assert (pending.error is None) == (n < whole)
    until(lambda: broken)
    exchange.close()
    assert exchange.ask({}).error is not None
    for fd in (source, sink, host_source):
        os.close(fd)


def test_an_answer_to_nothing_is_no_answer(pipes):
    source, sink, *_ = pipes
    broken: list[Exception] = []
    exchange = Exchange(source, sink, encode_frame({}), broken.append)
    until(lambda: broken)
    assert "not asked" in str(broken[0])
    exchange.close()


def test_a_host_that_is_silent_is_given_up(pipes):
    source, sink, *_ = pipes
    exchange = Exchange(source, sink, b"", lambda error: None)
    pending = exchange.ask({}, timeout=0.01)
    exchange.wait(pending)
    assert isinstance(pending.error, TimeoutError)
    exchange.close()
