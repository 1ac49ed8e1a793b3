"""What a host says of its folder, checked: nothing in it can lead out of the copy."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.remote.agent import is_plain_path
from shared.text import one_line

_GROWING = frozenset({".jsonl", ".log", ".csv", ".tsv", ".wandb"})
_WHOLE = frozenset({".json", ".yaml", ".yml", ".txt", ".db", ".db-wal", ".sqlite", ""})
NEEDED = frozenset({"run_state.json", "manifest.json", "trainer_state.json"})
SMALL, MOST = 256 << 10, 16 << 20  # bytes fetched whole: of any such file, of a needed one
_METRICS = "metrics.jsonl"
_MAX_SIZE = 1 << 50  # bytes of a file that a listing may claim


@dataclass(frozen=True)
class Remote:
    """An entry of the host's listing; times in ns."""

    kind: str
    size: int
    mtime: int
    inode: int
    target: str


def name_of(path: str) -> str:
    """Its last part; of tens of thousands of paths a `Path` would take too long."""
    return path[path.rfind("/") + 1 :]


def how(path: str, size: int) -> str:
    """How a file is copied: `growing`, `whole`, or as a `hole`."""
    name = name_of(path)
    dot = name.rfind(".")
    suffix = name[dot:] if 0 < dot < len(name) - 1 else ""
    if suffix in _GROWING or "tfevents" in name:
        return "growing"
    if name in NEEDED:
        return "whole" if size <= MOST else "hole"
    return "whole" if suffix in _WHOLE and size <= SMALL else "hole"


def is_metrics(path: str) -> bool:
    """Whether it is the metrics log of a run, of which a sketch can be drawn."""
    return name_of(path) == _METRICS


def entry_of(value: list[Any]) -> Remote | None:
    """A line of the listing; None for one that is not fit to be made here."""
    if len(value) != 6 or not is_plain_path(value[0]) or value[1] not in ("d", "f", "l"):
        return None
    path, kind, size, mtime, inode, target = value
    if not all(isinstance(n, int) for n in (size, mtime, inode)) or not 0 <= size <= _MAX_SIZE:
        return None
    if any(part.startswith(".") for part in path.split("/")):
        return None  # what is hidden is ours
    try:
        os.fsencode(path)
        os.fsencode(str(target))
    except UnicodeEncodeError:
        return None
    if kind == "l" and (not is_plain_path(target) or "/" in target):
        return None
    return Remote(kind, size, mtime, inode, target if kind == "l" else "")


def below(paths: Iterable[str], gone: frozenset[str]) -> list[str]:
    """Those of `paths` that are `gone` or in a folder that is, the deepest first."""
    found = [path for path in paths if path in gone or any(up in gone for up in _above(path))]
    return sorted(found, reverse=True)


def _above(path: str) -> Iterable[str]:
    at = path.rfind("/")
    while at > 0:
        yield path[:at]
        at = path.rfind("/", 0, at)


def health_of(value: object) -> tuple[str, bool, str, str] | None:
    """Status, whether it is alive, reason and alarm, as the host judges."""
    if not isinstance(value, list) or len(value) != 4 or not isinstance(value[1], bool):
        return None
    status, alive, reason, alarm = value
    return one_line(status, 20), alive, one_line(reason, 500), one_line(alarm, 500)
