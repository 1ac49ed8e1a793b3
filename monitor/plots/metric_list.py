"""Which charts there are, in which order: the main metric, a filter, groups by prefix."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from operator import itemgetter

from monitor.data.main_metric import STAGES, beside, loss_key, main_key
from monitor.search import search

#: What a group is named by: the first part of `train/loss` or `layers.0.norm`…
_PREFIX = re.compile(r"[^/.]+[/.](?=.)")
_MEMBERS = 2  # …of at least so many metrics;
#: or the stage in `eval_runtime`, of at least so many: two such names are no reason for a heading.
_STAGE = re.compile(rf"(?:train|training|{STAGES})_(?=.)", re.I)
_STAGED = 3


@dataclass(frozen=True)
class MetricGroup:
    """Charts of one prefix, such as `train/`; those without one are under "". Folded: not shown."""

    name: str
    keys: tuple[str, ...]
    folded: bool = False


@dataclass(frozen=True)
class Stop:
    """A place of the cursor: the chart of `key`, or the heading of a folded group it is in."""

    key: str
    group: str
    folded: bool = False


@dataclass(frozen=True)
class MetricList:
    """The charts of some runs.

    `beside` names the metrics drawn in the chart of another one. Of the charts of `all_keys` those
    in `groups` match the filter; `problem` says what is wrong with it.
    """

    main: str = ""
    beside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: tuple[MetricGroup, ...] = ()
    all_keys: tuple[str, ...] = ()
    problem: str = ""

    @property
    def total(self) -> int:
        """The number of all charts."""
        return len(self.all_keys)

    @cached_property
    def keys(self) -> list[str]:
        """Every chart that matches the filter, in folded groups too."""
        return [key for group in self.groups for key in group.keys]

    @cached_property
    def stops(self) -> list[Stop]:
        """Where the cursor can be."""
        found: list[Stop] = []
        for group in self.groups:
            keys = group.keys[:1] if group.folded else group.keys
            found += [Stop(key, group.name, group.folded) for key in keys]
        return found

    @property
    def is_grouped(self) -> bool:
        """Whether any group has a heading."""
        return any(group.name for group in self.groups)

    def group_of(self, key: str) -> str:
        """The name of the group that holds a chart; "" if it is in none."""
        return next((group.name for group in self.groups if key in group.keys), "")

    def chart_of(self, key: str) -> str:
        """The chart in which a metric is drawn."""
        return next((chart for chart, others in self.beside.items() if key in others), key)

    def stop_of(self, key: str) -> int:
        """The index of the stop for a chart; 0 if there is none."""
        group = self.group_of(key)
        places = enumerate(self.stops)
        return next((i for i, s in places if s.key == key or (s.folded and s.group == group)), 0)

    def folded_at(self, key: str) -> str:
        """The folded group in which a chart is; "" if it is in none."""
        name = self.group_of(key)
        return name if any(group.name == name and group.folded for group in self.groups) else ""


def metric_list(
    keys: Sequence[str],
    *,
    chosen: str = "",
    query: str = "",
    folded: Collection[str] = (),
    together: bool = True,
) -> MetricList:
    """The charts of the metrics `keys`, the main one first: `chosen`, where there is such a one.

    `together`: the evaluations of the main metric, and of the loss, are in its chart. While
    there is a `query` no group is folded: it would hide what was searched for.
    """
    return _metric_list(tuple(keys), chosen, query, frozenset(folded), together)


@lru_cache(32)  # every look at the charts asks for it, and there may be hundreds of metrics
def _metric_list(
    keys: tuple[str, ...], chosen: str, query: str, folded: frozenset[str], together: bool
) -> MetricList:
    main = chosen if chosen in keys else main_key(keys)
    leading = [key for key in dict.fromkeys((main, loss_key(keys) or "")) if key in keys]
    with_them = {key: found for key in leading if (found := beside(key, keys))}
    first = [main] if main in keys else []
    if together:
        taken = {other for found in with_them.values() for other in found} - set(first)
    else:
        taken = set()
        first += with_them.get(main, ())
        with_them = {}
    charts = [key for key in dict.fromkeys([*first, *keys]) if key not in taken]
    # A metric beside another one is found by its own name too.
    names = [(key, name) for key in charts for name in (key, *with_them.get(key, ()))]
    kept, problem = search(query).those_of(names, itemgetter(1))
    groups = _grouped(
        list(dict.fromkeys(key for key, _ in kept)), charts, set(first), () if query else folded
    )
    return MetricList(main, with_them, groups, tuple(charts), problem)


def _grouped(
    keys: Sequence[str], charts: Sequence[str], first: Collection[str], folded: Collection[str]
) -> tuple[MetricGroup, ...]:
    """`keys` by prefix, those without one first; a filter makes no group of another."""
    prefixes = _prefixes([key for key in charts if key not in first])
    found: dict[str, list[str]] = {"": []}
    for key in keys:
        found.setdefault(prefixes.get(key, ""), []).append(key)
    return tuple(
        MetricGroup(name, tuple(members), bool(name) and name in folded)
        for name, members in found.items()
        if members
    )


def _prefixes(keys: Sequence[str]) -> dict[str, str]:
    """The group of every key that is in one."""
    prefixes: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for key in keys:
        match = _PREFIX.match(key) or _STAGE.match(key)
        if match is not None:
            prefixes[key] = match.group()
            sizes[match.group()] = sizes.get(match.group(), 0) + 1
    return {
        key: name
        for key, name in prefixes.items()
        if sizes[name] >= (_STAGED if name.endswith("_") else _MEMBERS)
    }
