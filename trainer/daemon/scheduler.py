"""Which queued runs to start now, and on which GPU. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

#: In place of the number of a GPU: the run has all of them, one for each of its ranks.
EVERY_GPU = -1

_NUMBERED = re.compile(r"cuda:(\d{1,3})")


@dataclass(frozen=True)
class Limits:
    """The number of concurrent runs, in total and on each GPU."""

    max_runs: int
    per_gpu: int = 1


@dataclass(frozen=True)
class Gpu:
    """A GPU of the daemon: `index` among those it sees; `used` is its used memory in bytes."""

    index: int
    used: int = 0


@dataclass(frozen=True)
class Waiting:
    """A queued run: its `train.device`, and since when it waits (Unix seconds).

    `ranks` processes train it together, each on a GPU. Of the runs of its `group`, at most
    `group_limit` train at the same time.
    """

    run_id: str
    device: str
    since: float = 0.0
    group: str = ""
    group_limit: int | None = None
    ranks: int = 1

    def is_held_back(self, in_groups: Mapping[str, int]) -> bool:
        """Whether as many of its group train already as may."""
        if not self.group or self.group_limit is None:
            return False
        return in_groups.get(self.group, 0) >= self.group_limit


@dataclass(frozen=True)
class Placement:
    """A run to start now; `gpu` is None if it needs none or names its own, or `EVERY_GPU`."""

    run_id: str
    gpu: int | None


def in_order(queue: Collection[Waiting]) -> list[Waiting]:
    """Oldest first."""
    return sorted(queue, key=lambda w: (w.since, w.run_id))


def schedule(
    queue: Collection[Waiting],
    taken: Mapping[str, int | None],
    gpus: Collection[Gpu],
    limits: Limits,
    in_groups: Mapping[str, int] = MappingProxyType({}),
) -> list[Placement]:
    """What to start of `queue` beside the runs in `taken` (their GPUs by run id).

    `in_groups` says how many runs of each group train already.

    The oldest run goes first. A run without room does not block the runs behind it. A run that asks
    for a missing GPU does not wait: its trainer will report that.
    """
    room = limits.max_runs - len(taken)
    load = {gpu.index: 0 for gpu in gpus}
    for index in taken.values():
        _take(load, index, limits.per_gpu)
    used = {gpu.index: gpu.used for gpu in gpus}
    training = dict(in_groups)
    placements: list[Placement] = []
    for waiting in in_order(queue):
        if room <= 0:
            break
        if waiting.is_held_back(training):
            continue
        if waiting.ranks > 1:
            fits, gpu = _place_ranks(waiting, load)
        else:
            fits, gpu = _place(waiting.device, load, used, limits.per_gpu)
        if not fits:
            continue
        _take(load, gpu, limits.per_gpu)
        training[waiting.group] = training.get(waiting.group, 0) + 1
        placements.append(Placement(waiting.run_id, gpu))
        room -= 1
    return placements


def _take(load: dict[int, int], gpu: int | None, per_gpu: int) -> None:
    """Count one more run on a GPU; on all, as many as each may have."""
    if gpu == EVERY_GPU:
        load.update((index, count + per_gpu) for index, count in load.items())
    elif gpu in load:
        load[gpu] += 1


def _place_ranks(waiting: Waiting, load: Mapping[int, int]) -> tuple[bool, int | None]:
    """Whether a run of several ranks fits: they share no GPU with other runs.

    One that wants more GPUs than there are does not wait: its trainer will report that.
    """
    if waiting.device == "cpu" or not load:
        return True, None
    return waiting.ranks > len(load) or not any(load.values()), EVERY_GPU


def _place(
    device: str, load: Mapping[int, int], used: Mapping[int, int], per_gpu: int
) -> tuple[bool, int | None]:
    """Whether a run that asks for `device` fits, and on which GPU."""
    numbered = _NUMBERED.fullmatch(device)
    if numbered:
        index = int(numbered.group(1))
        if index not in load:
            return True, None
        return load[index] < per_gpu, index
    if device not in ("auto", "cuda") or not load:
        return True, None
    free = [index for index, count in load.items() if count < per_gpu]
    if not free:
        return False, None
    return True, min(free, key=lambda index: (load[index], used[index], index))
