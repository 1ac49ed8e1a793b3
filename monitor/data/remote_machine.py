"""The machine that the runs are on, where that is another host: its own figures, or none."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from monitor.data.machine import Clock, MachineView, Watched
from shared.errors import RunError
from shared.remote.values import decode
from shared.remote.watching import Host, RemoteRuns
from shared.text import one_line

_EVERY = 2.0  # seconds between two questions, at least


class RemoteMachine:
    """The host of the run that is looked at, else of the only host there is."""

    def __init__(self, runs: RemoteRuns, clock: Clock = time.monotonic) -> None:
        self._runs = runs
        nothing: MachineView | None = None
        self._watched = {
            id(host): Watched(partial(_ask, host), nothing, clock, every=_EVERY)
            for host in runs.hosts
        }

    def view(self) -> MachineView:
        """The last figures; why there are none. Returns at once."""
        host = self._runs.looked_at
        if host is None:
            return MachineView(unknown="known of one host at a time: select a run of it")
        if not host.has_figures:
            return MachineView(host.name, unknown="not known: no train-monitor there that tells")
        found = self._watched[id(host)].get()
        return found or MachineView(host.name, unknown="not known at the moment")

    def wait(self, timeout: float = 2.0) -> MachineView:
        """As `view`, but waits up to `timeout` seconds for an answer that is due."""
        self.view()
        if (host := self._runs.looked_at) is not None:
            self._watched[id(host)].wait(timeout)
        return self.view()


def _ask(host: Host) -> MachineView | None:
    link = host.link
    if link is None:
        return None
    try:
        told = link.request({"op": "machine"})[0]
        view = decode(MachineView, {**told, "unknown": ""})
    except RunError:
        return None
    gpus = tuple(replace(gpu, name=one_line(gpu.name, 80)) for gpu in view.gpus)
    return replace(view, host=one_line(view.host or host.name, 80), gpus=gpus)
