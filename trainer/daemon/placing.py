"""Choosing GPUs for runs that are about to start."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

from shared.ownership.health import observe
from shared.run.directory import RunDirectory
from shared.run.records import ACTIVE_STATUSES, RunState
from trainer.daemon.configuration import setting
from trainer.daemon.gpus import VISIBLE, GpuDevice
from trainer.daemon.scan import Seen
from trainer.daemon.scheduler import EVERY_GPU, Gpu, Limits, Waiting, schedule

_NO_LIMITS = Limits(10**9, 10**9)


def asked_device(run: RunDirectory) -> str:
    """The `train.device` of a run's configuration."""
    device = setting(run, "train", "device")
    return device if isinstance(device, str) else "auto"


def asked_ranks(run: RunDirectory) -> int:
    """How many processes a run's configuration asks for."""
    ranks = setting(run, "distributed", "nproc_per_node")
    return ranks if type(ranks) is int and ranks > 0 else 1


def since(state: RunState) -> float:
    """Since when a queued run waits, in Unix seconds."""
    return state.updated_at or state.started_at or 0.0


def waiting_of(run: RunDirectory, state: RunState) -> Waiting:
    """What a queued run waits for."""
    limit = state.group_limit
    return Waiting(
        run.run_id,
        asked_device(run),
        since(state),
        state.group,
        None if limit is None else max(1, limit),
        asked_ranks(run),
    )


def in_groups(
    names: Collection[str], seen: Iterable[Seen], cared: Collection[str]
) -> dict[str, int]:
    """How many runs of each of these groups train: those under care, and those of other hosts."""
    counts: dict[str, int] = {}
    for one in seen if any(names) else ():
        run, state = one.run, one.state
        if state.group not in names:
            continue
        if run.run_id in cared or (state.status in ACTIVE_STATUSES and observe(run, state).alive):
            counts[state.group] = counts.get(state.group, 0) + 1
    return counts


class Placing:
    """The GPUs of a daemon. `taken` are the GPUs of the runs under care, by run id."""

    def __init__(self, limits: Limits, gpus: Callable[[], Collection[GpuDevice]]) -> None:
        self._limits = limits
        self._gpus = gpus

    def place(
        self,
        waiting: Collection[Waiting],
        taken: Mapping[str, int | None],
        in_groups: Mapping[str, int],
    ) -> dict[str, int | None]:
        """The runs that can start now, with their GPUs; see `schedule`."""
        return _place(waiting, taken, self._gpus(), self._limits, in_groups)

    def for_start(
        self, run: RunDirectory, gpu: int | None, taken: Mapping[str, int | None]
    ) -> tuple[int | None, dict[str, str]]:
        """The GPU of a run that is about to start, and the environment that selects it.

        `gpu` is the one that it had before, or that was chosen for it.
        """
        device = asked_device(run)
        visible = list(self._gpus())
        if gpu is None or gpu >= len(visible):
            waiting = Waiting(run.run_id, device, ranks=asked_ranks(run))
            chosen = _place([waiting], taken, visible, _NO_LIMITS, {})
            gpu = chosen.get(run.run_id)
        # `cuda:N` selects its own GPU among those that the daemon sees.
        if gpu is None or gpu == EVERY_GPU or device not in ("auto", "cuda"):
            return gpu, {}
        return gpu, {VISIBLE: visible[gpu].visible}


def _place(
    waiting: Collection[Waiting],
    taken: Mapping[str, int | None],
    gpus: Collection[GpuDevice],
    limits: Limits,
    in_groups: Mapping[str, int],
) -> dict[str, int | None]:
    devices = [Gpu(index, gpu.used) for index, gpu in enumerate(gpus)]
    return {p.run_id: p.gpu for p in schedule(waiting, taken, devices, limits, in_groups)}
