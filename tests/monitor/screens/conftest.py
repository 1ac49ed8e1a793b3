"""Dialogs over the real app, whose keys are counted if they come through."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.screen import ModalScreen

from monitor.app import MonitorApp
from shared.run.directory import RunDirectory
from tests.monitor.actions.making import checkpointed_run
from tests.monitor.support import screen_text, still_app
from tests.shared.hub.conftest import hub  # noqa: F401  (a fixture)
from tests.waiting import SECONDS

SIZES = [(80, 24), (120, 40)]


class Driver:
    """An open dialog, driven by keys and clicks; `answers` is what it was closed with."""

    def __init__(self, app: MonitorApp, pilot: Pilot[None], dialog: ModalScreen[Any]) -> None:
        self.app, self.pilot, self.dialog = app, pilot, dialog
        self.answers: list[Any] = []
        self.leaked: list[str] = []
        self.copied: list[str] = []

    @property
    def text(self) -> str:
        return screen_text(self.app)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)

    async def type(self, text: str) -> None:
        await self.pilot.press(*text)

    async def click(self, what: str) -> None:
        deadline = time.monotonic() + SECONDS
        while not await self.pilot.click(what):
            assert time.monotonic() < deadline, f"{what} is not on the screen"
            await self.pilot.pause()

    async def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"never became true:\n{self.text}"
            await self.pilot.pause()
            await asyncio.sleep(0.005)

    async def shows(self, words: str) -> None:
        await self.until(lambda: words in " ".join(self.text.split()))

    async def answered(self) -> Any:
        await self.until(lambda: self.answers)
        return self.answers[-1]


Open = Callable[..., contextlib.AbstractAsyncContextManager[Driver]]


@pytest.fixture
def opened() -> Open:
    """`async with opened(dialog) as on:` shows it at 80x24 in night, or as it is said."""

    @contextlib.asynccontextmanager
    async def open_(
        dialog: ModalScreen[Any], size: tuple[int, int] = (80, 24), theme: str = "night"
    ) -> AsyncIterator[Driver]:
        app = still_app(theme=theme)
        async with app.run_test(size=size) as pilot:
            on = Driver(app, pilot, dialog)
            app.acts = {name: partial(on.leaked.append, name) for name in app.acts}
            app.copy_to_clipboard = on.copied.append  # type: ignore[method-assign]
            app.open_dialog(dialog, on.answers.append)
            await on.until(lambda: dialog.is_mounted)
            yield on
            assert not on.leaked, "a key went through the dialog"

    return open_


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """An ended run with checkpoints."""
    return checkpointed_run(tmp_path / "runs")
