"""Work in the background: its outcome comes back, and nobody waits for it on the way out."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from textual.message import Message

from monitor.background import ActDone, in_thread, run_act
from shared.errors import RunError, UserError
from tests.waiting import SECONDS


async def test_a_result_comes_back_from_a_daemon_thread() -> None:
    def work() -> tuple[str, bool, bool]:
        thread = threading.current_thread()
        return thread.name, thread.daemon, thread is threading.main_thread()

    assert await in_thread(work, "look") == ("look", True, False)


async def test_an_error_is_raised_where_it_is_awaited() -> None:
    def work() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        await in_thread(work, "look")


async def test_work_that_nobody_waits_for_any_more_ends_quietly() -> None:
    loop = asyncio.get_running_loop()
    problems: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))
    go, over = threading.Event(), threading.Event()

    def work() -> None:
        go.wait(SECONDS)
        over.set()

    waiting = asyncio.ensure_future(in_thread(work, "look"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    await in_thread(lambda: over.wait(SECONDS), "look")
    await in_thread(lambda: None, "look")  # after it, so that its outcome has been delivered
    assert not problems


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, ("done", True)),
        (UserError("no such run"), ("no such run", False)),
        (RunError("it died"), ("it died", False)),
        (OSError("disk"), ("disk", False)),
    ],
)
async def test_an_act_tells_its_outcome(error: Exception | None, told: tuple[str, bool]) -> None:
    def work() -> str:
        if error is not None:
            raise error
        return "done"

    posted: list[Message] = []
    await run_act(work, posted.append, threading.Event())
    (message,) = posted
    assert isinstance(message, ActDone)
    assert (message.text, message.ok) == told


async def test_an_act_is_silent_without_words_and_after_leaving() -> None:
    posted: list[Message] = []
    gone = threading.Event()
    await run_act(lambda: "", posted.append, gone)
    gone.set()
    await run_act(lambda: "done", posted.append, gone)
    assert not posted
