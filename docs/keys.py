"""Writes the table of keys in docs/monitor.md from the one list of actions.

python docs/keys.py
"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from monitor.actions.registry import ACTIONS

PAGE = Path(__file__).parent / "monitor.md"
HEADING = "## Keys\n\n"


def table() -> str:
    """Every key, in the groups of the help."""
    lines = ["| key | what it does |", "|---|---|"]
    for group, actions in groupby(ACTIONS, lambda action: action.group):
        lines.append(f"| **{group}** | |")
        lines += [f"| `{action.shown}` | {action.help} |" for action in actions]
    return "\n".join(lines) + "\n"


def page(old: str) -> str:
    """The page `old` with the present table, which is at its end."""
    return old.partition(HEADING)[0] + HEADING + table()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
