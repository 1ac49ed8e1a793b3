"""Keys of the program itself: help, theme, looking again, suspending, leaving."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

from monitor.actions.registry import ACTIONS
from monitor.controllers.host import Acts, Host
from monitor.leaving import suspend
from monitor.palette import CHOICES
from monitor.settings import Settings


class Program(Host, Protocol):
    """The app, as these keys see it."""

    theme: str

    @property
    def settings(self) -> Settings:
        """The choices that are remembered."""

    @property
    def is_headless(self) -> bool:
        """Whether there is no terminal."""

    def exit(self) -> None:
        """Leave."""

    def action_command_palette(self) -> None:
        """Find an action by its words."""


class ProgramKeys:
    """What they do; `keep` remembers settings."""

    def __init__(self, host: Program, keep: Callable[[Settings], None]) -> None:
        self._host, self._keep = host, keep

    def acts(self) -> Acts:
        """By the names of the registry."""
        return {
            "refresh": self._host.refresh_runs,
            "theme": self._next_theme,
            "help": self._show_help,
            "command_palette": self._host.action_command_palette,
            "suspend": self._suspend,
            "quit": self._host.exit,
        }

    def _show_help(self) -> None:
        from monitor.screens.dialogs import HelpScreen

        self._host.open_dialog(HelpScreen(ACTIONS, self._host.deeds.note()))

    def _suspend(self) -> None:
        problem = suspend(self._host.is_headless)
        if problem:
            self._host.tell(problem, "warning")

    def _next_theme(self) -> None:
        host = self._host
        if host.theme not in CHOICES:
            host.tell(
                f"This terminal has no themes; it uses its own colours ({host.theme}).", "warning"
            )
            return
        host.theme = CHOICES[(CHOICES.index(host.theme) + 1) % len(CHOICES)]
        self._keep(dataclasses.replace(host.settings, theme=host.theme))
        host.tell(f"Theme: {host.theme}.", "success")
