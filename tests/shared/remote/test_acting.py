"""Actions on another host: once, whatever becomes of the link; nothing but what is on the list."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import RunError, UserError
from shared.remote.acting import Wish, carry_out
from shared.remote.jobs import Act, Jobs
from shared.remote.journal import Journal
from shared.remote.protocol import encode_frame
from shared.text import one_line
from tests.shared.remote.linked import FakeHost
from tests.waiting import until

ANY = st.none() | st.booleans() | st.integers() | st.text(max_size=40) | st.lists(st.none())
HEADS = st.fixed_dictionaries(
    {"op": st.sampled_from(["act", "acted", "cancel", "machine"])},
    optional={
        "id": ANY | st.sampled_from(["0" * 32, "../" + "0" * 29, "A" * 32]),
        "act": ANY | st.sampled_from(["add", "__class__", "serve"]),
        "run": ANY,
        "arguments": ANY | st.dictionaries(st.text(max_size=3), ANY, max_size=2),
        "settle": ANY,
    },
)


class Counter:
    """An action that counts how often it was done."""

    def __init__(self) -> None:
        self.done = 0
        self.may_end = threading.Event()
        self.may_end.set()

    def add(self, call: Any) -> str:
        call.tell({"half": True})
        assert self.may_end.wait(60)
        self.done += 1
        return f"added to {call.run}"


@pytest.fixture
def counter():
    return Counter()


@pytest.fixture
def host(tmp_path, counter):
    return FakeHost(tmp_path, {"add": Act(counter.add), "look": Act(counter.add, changes=False)})


def test_an_action_is_done_and_its_result_comes_back(host, counter):
    assert carry_out(host, Wish("add", "a", {})) == "added to a"
    assert counter.done == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_link_that_drops_does_nothing_twice_and_hides_nothing(host, counter, when):
    host.link.drop = lambda head: when if head["op"] == "act" else ""
    wish = Wish("add", "a", {})
    if when == "before":
        with pytest.raises(RunError, match="nothing was done"):
            carry_out(host, wish, pause=host.reconnecting)
        # What was on its way all the time arrives too late.
        assert host.links[0]._server.answer(wish.head)[0] == {"state": "unknown"}
        assert counter.done == 0
    else:
        assert carry_out(host, wish, pause=host.reconnecting) == "added to a"
        assert counter.done == 1
    assert len(host.links) == 2


def test_an_action_goes_on_without_its_link_and_another_one_hears_of_it(host, counter):
    counter.may_end.clear()
    told: list[Any] = []
    host.link.drop = lambda head: "after" if head["op"] == "acted" else ""

    def pause(seconds: float) -> bool:
        if len(host.links) == 2:
            counter.may_end.set()
        return host.reconnecting(seconds)

    assert carry_out(host, Wish("add", "a", {}), pause=pause, tell=told.append) == "added to a"
    assert counter.done == 1
    assert {"half": True} in told


def test_a_look_is_taken_again_after_a_lost_link(host, counter):
    host.link.drop = lambda head: "before"
    assert carry_out(host, Wish("look", "a", {}, changes=False), pause=host.reconnecting)
    assert counter.done == 1


def test_an_action_whose_process_is_gone_is_told_so(host, tmp_path):
    wish = Wish("add", "a", {})
    entry = Journal(tmp_path).begin(wish.request_id, {"state": "running"})
    assert entry is not None
    assert host.server.answer(wish.head)[0]["state"] == "running"
    entry.close()  # as the end of its process does
    with pytest.raises(RunError, match="look at the run"):
        carry_out(host, wish)


def test_waiting_stops_when_nobody_waits(host, counter):
    counter.may_end.clear()
    assert carry_out(host, Wish("add", "a", {}), pause=lambda seconds: True) is None
    counter.may_end.set()
    host.server.finish()
    assert counter.done == 1


def test_what_a_host_cannot_do_is_said_before_anything_is_sent(host):
    with pytest.raises(UserError, match="cannot fly"):
        carry_out(host, Wish("fly", "a", {}))


def test_a_request_is_cancelled_by_another_program_too(tmp_path):
    def wait(call: Any) -> str:
        assert call.cancelled.wait(60)
        return "ended"

    one, other = (Jobs({"wait": Act(wait)}, Journal(tmp_path)) for _ in range(2))
    wish = Wish("wait", "a", {})
    assert one.begin(wish.head)["state"] == "running"
    assert Journal(tmp_path).running("wait", "a") is not None
    assert other.cancel({"id": wish.request_id}) == {}
    until(lambda: other.state({"id": wish.request_id}) == {"state": "done", "result": "ended"})


def test_a_wish_to_end_waits_until_the_host_knows_the_request(tmp_path):
    def wait(call: Any) -> str:
        assert call.cancelled.wait(60)
        return "ended"

    host, cancelled = FakeHost(tmp_path, {"wait": Act(wait)}), threading.Event()
    cancelled.set()  # before anything was sent
    assert carry_out(host, Wish("wait", "a", {}), cancelled=cancelled) == "ended"


@settings(max_examples=30, deadline=None)
@given(HEADS)
def test_any_request_gets_an_answer_and_makes_nothing_but_records(tmp_path_factory, head):
    top = tmp_path_factory.mktemp("top")
    (top / "runs").mkdir()
    host = FakeHost(top / "runs", {"add": Act(Counter().add)})
    answer, _ = host.server.answer(head)
    encode_frame(answer)
    assert [path.name for path in top.iterdir()] == ["runs"]
    assert all(path.name.startswith(".remote-") for path in (top / "runs").iterdir())


ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "state": ANY | st.sampled_from(["done", "refused", "lost", "unknown"]),
        "result": ANY,
        "problem": ANY,
        "code": ANY,
        "progress": ANY,
    },
)


@settings(max_examples=30, deadline=None)
@given(ANSWERS)
def test_a_hostile_answer_is_a_sentence_or_a_value(tmp_path_factory, answer):
    host = FakeHost(tmp_path_factory.mktemp("runs"), {"add": Act(Counter().add)})
    host.server.answer = lambda head: (answer, b"")
    try:
        carry_out(host, Wish("add", "a", {}), pause=lambda seconds: True)
    except UserError as error:
        assert one_line(error, 2_000) == str(error)


def test_a_journal_that_is_a_link_is_not_followed(host, tmp_path, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    Journal(tmp_path)._folder.symlink_to(other)
    with pytest.raises(UserError, match="cannot be written"):
        carry_out(host, Wish("add", "a", {}))
    assert not list(other.iterdir())
    assert json.dumps(host.server.hello())
