"""Which runs are listed, and in which order: filter, sort, group. No screen."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from monitor.data.views import RunView
from monitor.search import search
from monitor.settings import SORTS
from shared.run.numbers import REWARDS

#: The stage of a pipeline's own run.
PIPELINE = "pipeline"
#: Sort orders in which the runs of a pipeline stay together.
_IN_FAMILIES = frozenset({"activity", "newest", "name"})


@dataclass(frozen=True)
class ListOrder:
    """The order of the list. `query` is plain text or a /regular expression/."""

    sort: str = "activity"
    query: str = ""
    grouped: bool = False
    show_archived: bool = False

    def sorted_by_next(self) -> ListOrder:
        """The same with the next sort order."""
        following = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
        return dataclasses.replace(self, sort=following)


@dataclass(frozen=True)
class Group:
    """The heading of the runs of one sweep, or of one name."""

    name: str
    count: int


Row = RunView | Group


@dataclass(frozen=True)
class Listing:
    """The list: `rows` as shown, `runs` without headings, and how many are hidden."""

    rows: tuple[Row, ...] = ()
    runs: tuple[RunView, ...] = ()
    filtered: int = 0
    archived: int = 0
    problem: str = ""
    #: The ids of the runs that stand under that of their pipeline.
    stages: frozenset[str] = frozenset()

    @property
    def total(self) -> int:
        """The number of all runs."""
        return len(self.runs) + self.filtered + self.archived


def arrange(runs: Sequence[RunView], order: ListOrder) -> Listing:
    """The list of `runs`, which arrive active ones first, then the newest."""
    unarchived = [r for r in runs if order.show_archived or not r.archived]
    kept, problem = search(order.query).those_of(unarchived, _text_of)
    key = _KEYS[order.sort]
    if key is not None:
        kept.sort(key=key)
    stages: frozenset[str] = frozenset()
    if order.sort in _IN_FAMILIES:
        kept, stages = _in_families(kept)
    archived, filtered = len(runs) - len(unarchived), len(unarchived) - len(kept)
    if not order.grouped:
        return Listing(tuple(kept), tuple(kept), filtered, archived, problem, stages)
    groups: dict[str, list[RunView]] = {}
    for run in kept:
        groups.setdefault(run.group or run.name, []).append(run)
    rows: list[Row] = []
    for name, members in groups.items():
        rows += [Group(name, len(members)), *members]
    listed = tuple(r for members in groups.values() for r in members)
    return Listing(tuple(rows), listed, filtered, archived, problem, stages)


def _in_families(runs: Sequence[RunView]) -> tuple[list[RunView], frozenset[str]]:
    """The runs with those of each pipeline together, in the order of its stages, where the first
    of them was; and the ids of those that stand under the pipeline's own.
    """
    families: dict[str, list[RunView]] = {}
    for run in runs:
        if run.stage:
            families.setdefault(run.group, []).append(run)
    found: list[RunView] = []
    under: set[str] = set()
    for run in runs:
        members = families.pop(run.group, []) if run.stage else [run]
        heads = [member for member in members if member.stage == PIPELINE]
        rest = [member for member in members if member.stage != PIPELINE]
        rest.sort(key=lambda member: member.started_at or 0.0)
        found += [*heads, *rest]
        if len(heads) == 1:
            under.update(member.run_id for member in rest if member.stage)
    return found, frozenset(under)


def of_group(runs: Sequence[RunView], one: RunView) -> list[RunView]:
    """The listed runs of the sweep or name of `one`: the best setting first, then by their loss."""
    group = one.group or one.name
    members = [run for run in runs if (run.group or run.name) == group]
    members = [run for run in members if not run.archived or run is one]
    validated = any(run.val_loss is not None for run in members)

    def order(run: RunView) -> tuple[bool, tuple[bool, float]]:
        return not run.is_best, _least(run.val_loss if validated else run.loss)

    return sorted(members, key=order)


def neighbour(listing: Listing, all_runs: Sequence[RunView], selected: str | None, by: int) -> str:
    """The run `by` lines from the selected one, which may be hidden; empty if no run is listed.

    From a hidden run, the first step goes to the next listed run in the order of `all_runs`.
    """
    ids = [run.run_id for run in listing.runs]
    if not ids:
        return ""
    if selected in ids:
        return ids[min(max(0, ids.index(selected) + by), len(ids) - 1)]
    order = [run.run_id for run in all_runs]
    if selected not in order or abs(by) > len(order):
        return ids[0] if by < 0 or selected not in order else ids[-1]
    at = order.index(selected)
    listed = set(ids)
    beyond = order[at + 1 :] if by > 0 else order[:at][::-1]
    fallback = ids[-1] if by > 0 else ids[0]
    return next((run_id for run_id in beyond if run_id in listed), fallback)


def keep_selection(
    selected: str | None, before: tuple[RunView, ...], after: tuple[RunView, ...]
) -> str | None:
    """The run to be selected among `after`: the same one, wherever it is now.

    If it is gone, its nearest remaining neighbour in `before`; if none was selected, the first.
    """
    ids = [r.run_id for r in after]
    if selected in ids or not ids:
        return selected if selected in ids else None
    old = [r.run_id for r in before]
    if selected in old:
        index = old.index(selected)
        left = set(ids)
        for other in [*old[index + 1 :], *reversed(old[:index])]:
            if other in left:
                return other
    return ids[0]


# -- filter ------------------------------------------------------------------------------------


def _text_of(run: RunView) -> str:
    """The text a filter searches."""
    tags = " ".join(f"#{tag}" for tag in run.tags)
    parts = (
        run.label,
        run.name,
        run.group,
        run.run_id,
        run.status,
        tags,
        run.phase,
        run.host,
        run.note_text[:200],
    )
    return " \n".join(parts)[:800]


# -- sort --------------------------------------------------------------------------------------


def _least(value: float | None) -> tuple[bool, float]:
    """A key for ascending order; unknown, NaN and inf come last."""
    known = value is not None and math.isfinite(value)
    return not known, value if known and value is not None else 0.0


def _best(run: RunView) -> tuple[bool, bool, float]:
    """Losses first, the least of them first; then rewards, the highest first."""
    rewarded = run.best_metric in REWARDS
    value = None if run.best_loss is None else -run.best_loss if rewarded else run.best_loss
    unknown, least = _least(value)
    return unknown, rewarded, least


def natural(run: RunView) -> Any:
    """A key to sort runs by their label, numbers in it by their value."""
    return [int(x) if x.isdecimal() else x for x in re.split(r"(\d+)", run.label.casefold())]


_KEYS: dict[str, Callable[[RunView], Any] | None] = {
    "activity": None,  # in the order of arrival
    "newest": lambda run: -(run.started_at or 0.0),
    "name": natural,
    "progress": lambda run: -(run.fraction if run.fraction is not None else -1.0),
    "loss": lambda run: _least(run.loss),
    "best": _best,
}
