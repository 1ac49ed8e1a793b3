"""Runs of one group, such as a sweep: what is swept, and which are the best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from monitor.data.views import RunView, SweptValue
from shared.json_text import encode_json, is_number
from shared.library.groups import Member, rank, results_of, reward_of
from shared.text import one_line

MAX_GROUP = 60  # characters
_MAX_KEYS = 12
_MAX_VALUE = 60


def swept_of(swept: Mapping[str, Any]) -> tuple[tuple[str, SweptValue], ...]:
    """What is swept, safe to show."""
    return tuple(
        (one_line(key, _MAX_VALUE), _value(value)) for key, value in list(swept.items())[:_MAX_KEYS]
    )


def _value(value: Any) -> SweptValue:
    if value is None or is_number(value):
        return value  # type: ignore[no-any-return]
    text = value if isinstance(value, str) else encode_json(value).decode("utf-8", "replace")
    return one_line(text, _MAX_VALUE)


def swept_keys(runs: Iterable[RunView]) -> tuple[str, ...]:
    """The keys that are swept in the groups of these runs."""
    return tuple(dict.fromkeys(key for run in runs for key, _ in run.swept))


def best_runs(runs: Iterable[RunView]) -> frozenset[str]:
    """The ids of the runs whose setting is the best of their group.

    A group in which there is nothing to compare has none.
    """
    groups: dict[str, list[Member]] = {}
    for run in runs:
        if run.group:
            completed = run.status == "completed"
            reward = reward_of(run.best_metric, run.best_loss)
            member = Member(run.run_id, run.setting, run.val_loss, run.loss, completed, reward)
            groups.setdefault(run.group, []).append(member)
    return frozenset(
        result.run_id
        for members in groups.values()
        for metric, found in [results_of(members)]
        for ranked in rank(found, metric)
        if ranked.best
        for result in ranked.results
    )
