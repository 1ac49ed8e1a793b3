"""Ranks of a training: forks of a process that has torch loaded, with torchrun's environment."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from shared.run.directory import RunDirectory, discover_runs
from tests.faults.forking import ForkServer, fork_server
from tests.trainer.loop.conftest import TINY, Trained, as_flags, text_data

__all__ = ["text_data"]


def rank_environments(size: int) -> list[dict[str, str]]:
    """What torchrun tells each of `size` ranks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        {
            "RANK": str(rank),
            "WORLD_SIZE": str(size),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        for rank in range(size)
    ]


@dataclass(frozen=True)
class Started:
    """Ranks that train: their processes in order, and the consoles of each."""

    server: ForkServer
    pids: list[int]
    consoles: list[Path]

    def codes(self) -> list[int]:
        """The exit codes, once all have ended."""
        return [self.server.wait(pid) for pid in self.pids]

    def said(self, rank: int) -> str:
        """The console of a rank."""
        return self.consoles[rank].read_text()


@dataclass
class Ranks:
    """Starts trainings of any number of ranks in one runs directory."""

    server: ForkServer
    where: Path
    data: Path
    count: int = 0

    @property
    def runs_dir(self) -> Path:
        return self.where / "runs"

    def start(self, size: int, *arguments: str, hooks: str = "") -> Started:
        """Start `trainer ARGUMENTS` on `size` ranks; one is a process alone."""
        self.count += 1
        consoles = [self.where / f"console_{self.count}_{rank}" for rank in range(size)]
        environments = rank_environments(size) if size > 1 else [{}]
        pids = [
            self.server.start(*arguments, output=str(console), environment=variables, hooks=hooks)
            for console, variables in zip(consoles, environments, strict=True)
        ]
        return Started(self.server, pids, consoles)

    def arguments(self, name: str, **changes: object) -> list[str]:
        """`train` with the settings of the tiny model."""
        changes = {k.replace("__", "."): v for k, v in changes.items()}
        settings = {**TINY, "distributed.timeout": 60.0, **changes}
        place = ["--runs-dir", str(self.runs_dir), "--data-path", str(self.data)]
        return ["train", "--name", name, *place, *as_flags(settings)]

    def train(self, size: int, name: str, *, hooks: str = "", **changes: object) -> Trained:
        """Train a new run on `size` ranks to its end, which must be the same on all."""
        started = self.start(size, *self.arguments(name, **changes), hooks=hooks)
        return self._ended(started, self.found, name)

    def resume(self, size: int, run: RunDirectory, *flags: str, hooks: str = "") -> Trained:
        """Resume a run on `size` ranks."""
        started = self.start(size, "resume", str(run.path), *flags, hooks=hooks)
        return self._ended(started, lambda _: run, "")

    def _ended(self, started: Started, find, name: str) -> Trained:  # type: ignore[no-untyped-def]
        codes = started.codes()
        said = [started.said(rank) for rank in range(len(codes))]
        assert len(set(codes)) == 1, (codes, said)
        run = find(name)
        assert run is not None, (codes, said)
        return Trained(run, codes[0])

    def found(self, name: str) -> RunDirectory | None:
        """The newest run of that name, if there is one."""
        runs = discover_runs(self.runs_dir) if self.runs_dir.is_dir() else []
        return next((run for run in reversed(runs) if run.run_id.startswith(name + "_")), None)

    def find(self, name: str) -> RunDirectory:
        """The newest run of that name."""
        run = self.found(name)
        assert run is not None, name
        return run


def losses(trained: Trained) -> np.ndarray:
    """The loss and the gradient norm of every step, (2, steps)."""
    return np.array([trained.metrics.series(key).values for key in ("loss", "gradient_norm")])


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory, text_data: Path) -> Iterator[Ranks]:
    """What starts ranks."""
    with fork_server() as server:
        yield Ranks(server, tmp_path_factory.mktemp("ranks"), text_data)
