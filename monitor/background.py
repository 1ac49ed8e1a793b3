"""Work that may wait for a disk, a trainer or a network."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from textual.message import Message

from shared.errors import UserError

Result = TypeVar("Result")


async def in_thread(work: Callable[[], Result], name: str) -> Result:
    """The result of `work`, done in a daemon thread; what it raises is raised here.

    `asyncio.to_thread`, and so Textual's thread workers, would keep the program from ending until
    the work is done: quitting must not wait for a checkpoint that is read from a slow disk.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(act: Callable[[], None]) -> None:
        if not done.done():  # the waiting worker was not cancelled
            act()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            failure = error
            act: Callable[[], None] = lambda: done.set_exception(failure)  # noqa: E731
        else:
            act = lambda: done.set_result(result)  # noqa: E731
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(settle, act)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done


class ActDone(Message):
    """An act has ended: `text` says what became true, or why it did not."""

    def __init__(self, text: str, *, ok: bool) -> None:
        super().__init__()
        self.text, self.ok = text, ok


async def run_act(
    work: Callable[[], str], post: Callable[[Message], object], gone: threading.Event
) -> None:
    """Do `work` in a thread and post its outcome, unless `gone` is set by then."""
    try:
        text, ok = await in_thread(work, "act"), True
    except (UserError, OSError) as error:
        text, ok = str(error), False
    if text and not gone.is_set():
        post(ActDone(text, ok=ok))
