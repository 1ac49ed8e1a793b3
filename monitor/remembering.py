"""Settings that change while the app runs are saved in the background."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from textual.message import Message

from monitor.background import in_thread
from monitor.settings import Settings, SettingsFile


class NotSaved(Message):
    """The settings could not be saved."""

    def __init__(self, problem: str) -> None:
        super().__init__()
        self.problem = problem


class Remembering:
    """Keeps `file` up to date. `start` runs a coroutine as a worker, `post` sends a message."""

    def __init__(
        self,
        file: SettingsFile,
        start: Callable[[Coroutine[None, None, None]], object],
        post: Callable[[Message], object],
    ) -> None:
        self._file, self._start, self._post = file, start, post

    @property
    def settings(self) -> Settings:
        """The current settings."""
        return self._file.settings

    @property
    def problem(self) -> str:
        """What was wrong with the file when it was read."""
        return self._file.problem

    def keep(self, settings: Settings) -> None:
        """Save `settings` for the next session, without waiting for the disk."""
        if settings != self._file.settings:
            self._file.settings = settings
            self._start(self._save())

    async def _save(self) -> None:
        problem = await in_thread(self._file.save, "settings")
        if problem:
            self._post(NotSaved(problem))
