"""The one list of keys. Bindings, footer and help are made from it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Action:
    """`keys` (Textual names) call `action_<name>` of the app.

    `shown` is the key as people write it, `label` the word in the footer, empty to leave it out.
    """

    name: str
    keys: tuple[str, ...]
    shown: str
    label: str
    help: str
    group: str


ACTIONS: tuple[Action, ...] = (
    Action("next_run", ("j", "down"), "j ↓", "", "select the next run", "Look"),
    Action("previous_run", ("k", "up"), "k ↑", "", "select the previous run", "Look"),
    Action("first_run", ("g", "home"), "g Home", "", "select the first run", "Look"),
    Action("last_run", ("G", "end"), "G End", "", "select the last run", "Look"),
    Action("details", ("d",), "d", "details", "show or hide the details of the run", "Look"),
    Action("details_up", ("pageup",), "PgUp", "", "scroll the details up", "Look"),
    Action("details_down", ("pagedown",), "PgDn", "", "scroll the details down", "Look"),
    Action("refresh", ("r",), "r", "refresh", "read everything again now", "Look"),
    Action("pause", ("p",), "p", "pause", "pause the run, or let it go on", "Steer"),
    Action("checkpoint", ("c",), "c", "save", "save a checkpoint now", "Steer"),
    Action("stop", ("s",), "s", "stop", "save and stop the run (asks first)", "Steer"),
    Action("resume", ("R",), "R", "resume", "start a crashed or stopped run again", "Steer"),
    Action("help", ("question_mark",), "?", "help", "show or hide this page", "Leave"),
    Action("quit", ("q", "ctrl+c"), "q", "quit", "leave; training goes on", "Leave"),
)
