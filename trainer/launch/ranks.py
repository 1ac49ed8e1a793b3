"""Several processes that train together, started by torchrun: this process stands for them all.

It passes signals on and ends with the trainer's exit code. It loads no torch.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from shared.control.idle_run import IdleRun
from shared.errors import ExitCode, RunError, UserError
from shared.ownership.process import identify
from shared.run.directory import RunDirectory
from shared.run.log import last_log_lines
from shared.run.records import ACTIVE_STATUSES, RunState
from shared.text import one_line
from trainer.config.resolve import assignment, flatten, to_plain
from trainer.config.schema import Config
from trainer.distributed.cores import usable_cores
from trainer.launch.checks import check_plain, ranks_of
from trainer.launch.claim import check_writable
from trainer.launch.create import create
from trainer.launch.rank_process import FOLDER, read_ranks, write_launcher
from trainer.launch.request import LaunchRequest

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
_LOOK = 0.1  # seconds between looks at the ranks
_ORPHANS = 60.0  # seconds for ranks to end that torchrun has left behind
_SECOND_SIGNAL = 1.0  # seconds: what comes sooner was sent with the first one
MAX_NODES = 1 << 14
#: Of torch's C++: its stack traces where a rank is gone say less than we do.
_QUIET = {"TORCH_CPP_LOG_LEVEL": "ERROR"}


@dataclass(frozen=True)
class Nodes:
    """The machines that train together. `rank` and `endpoint` are torchrun's."""

    count: int = 1
    rank: int | None = None
    endpoint: str | None = None
    job: str | None = None

    def check(self) -> None:
        """Raise UserError for what torchrun could not use."""
        if not 1 <= self.count <= MAX_NODES:
            raise UserError(f"--nnodes is {self.count}; it must be between 1 and {MAX_NODES}.")
        if self.rank is not None and not 0 <= self.rank < self.count:
            raise UserError(
                f"--node-rank is {self.rank}; with --nnodes {self.count} it must be between 0 and "
                f"{self.count - 1}."
            )
        if self.count > 1 and not self.endpoint:
            raise UserError(
                f"--nnodes {self.count} needs --rdzv-endpoint HOST:PORT, the same on every "
                "machine: where they find each other, usually the first machine."
            )
        if self.count == 1 and self.endpoint:
            raise UserError(
                f"--rdzv-endpoint {one_line(self.endpoint, 60)} is for several machines; give "
                "--nnodes too."
            )

    @property
    def arguments(self) -> list[str]:
        """Options of torchrun."""
        if self.count == 1:
            return ["--standalone"]
        backend = "c10d" if self.rank is None else "static"
        found = [f"--nnodes={self.count}", f"--rdzv-backend={backend}"]
        found += [f"--rdzv-endpoint={self.endpoint}", f"--rdzv-id={self.job or 'trainer'}"]
        return found if self.rank is None else [*found, f"--node-rank={self.rank}"]


ONE_NODE = Nodes()


def wants_ranks(config: Config, nodes: Nodes = ONE_NODE) -> bool:
    """Whether several processes are to train."""
    return config.distributed.nproc_per_node * nodes.count > 1


def train_with_ranks(
    request: LaunchRequest,
    runs_dir: Path,
    arguments: Sequence[str],
    *,
    nodes: Nodes = ONE_NODE,
    supervised: bool = False,
) -> int:
    """Start the ranks of this machine and wait for them; returns the trainer's exit code.

    `arguments` are those of this command, which is given to every machine alike.
    """
    check_ranks_of(request, nodes)
    if nodes.count > 1:  # one rank of all creates the run
        return run_ranks(request.config, nodes, arguments)
    options = ["--supervised"] if supervised else []
    if request.run is not None:
        run, options = request.run, [*options, *as_options(request)]
    else:
        check_writable(runs_dir)
        run = create(request.new_config(), runs_dir)
    before = (run.read_state() or RunState()).attempt
    code = run_ranks(request.config, nodes, ["resume", str(run.path), *options])
    if code == ExitCode.FAILURE:
        _record_lost(run, before)
    elif code == ExitCode.USAGE and request.run is None:
        _remove_unbegun(run)
    return code


def check_ranks_of(request: LaunchRequest, nodes: Nodes = ONE_NODE) -> None:
    """What can be said of a training with ranks without torch. Raises UserError."""
    nodes.check()
    check_plain(request, ranks_of(request.config, nodes.count))


def as_options(request: LaunchRequest) -> list[str]:
    """The checkpoint and the configuration of a continued run as options of `resume`."""
    options = ["--from", str(request.checkpoint)] if request.checkpoint else []
    for key, value in flatten(to_plain(request.config)).items():
        options += ["--set", assignment(key, value)]
    return options


def _record_lost(run: RunDirectory, before: int) -> None:
    """Record the end of an attempt whose writing rank could not: it was killed."""
    with contextlib.suppress(OSError, UserError), IdleRun(run) as record:
        state = record.state
        if state.attempt <= before or state.status not in ACTIVE_STATUSES:
            return
        reason = (
            f"Rank 0 ({one_line(state.host)}, process {state.pid}) died at step "
            f"{state.current_step} without a word"
        )
        lines = last_log_lines(run) or ()
        record.event(
            "rank_failed",
            rank=0,
            host=state.host,
            pid=state.pid,
            message=reason,
            last_log_lines=lines[-5:],
        )
        record.end("failed", int(ExitCode.FAILURE), reason)
        print(f"trainer: {reason}", file=sys.stderr)


def _remove_unbegun(run: RunDirectory) -> None:
    """Remove a run whose training was refused before it began."""
    state = run.read_state()
    if state is not None and state.attempt == 0 and state.status == "queued":
        shutil.rmtree(run.path, ignore_errors=True)


def run_ranks(config: Config, nodes: Nodes, arguments: Sequence[str]) -> int:
    """Run `trainer ARGUMENTS` as the ranks of this machine; returns its exit code."""
    section = config.distributed
    command = [
        *(sys.executable, "-m", "torch.distributed.run"),
        *nodes.arguments,
        f"--nproc-per-node={section.nproc_per_node}",
        f"--max-restarts={section.max_restarts}",
        *("-m", "trainer"),
        *arguments,
    ]
    with tempfile.TemporaryDirectory(prefix="trainer-ranks-") as place, _Signals() as signals:
        folder = Path(place)
        write_launcher(folder)
        defaults = {**_threads(section.nproc_per_node), **_QUIET}
        environment = {**defaults, **os.environ, FOLDER: place}
        try:
            # In a session of its own: signals of the terminal come through this process only.
            with _usr1_ignored():
                torchrun = subprocess.Popen(command, env=environment, start_new_session=True)
        except OSError as error:
            raise RunError(f"Cannot start torchrun: {error.strerror}.") from error
        code = signals.passed_on(torchrun, folder)
        return _exit_code(code, list(read_ranks(folder).values()))


@contextlib.contextmanager
def _usr1_ignored() -> Iterator[None]:
    """What is started here ignores SIGUSR1, which would end torchrun.

    Slurm may send it to all processes of a job; the ranks heed it again.
    """
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def _threads(ranks: int) -> Mapping[str, str]:
    """Each rank its share of the usable cores: torchrun gives one otherwise."""
    return {"OMP_NUM_THREADS": str(max(1, usable_cores() // ranks))}


def _exit_code(torchrun: int, ranks: Sequence[int | None]) -> int:
    """The trainer's exit code, where torchrun ended with `torchrun` and its ranks with `ranks`."""
    told = [code for code in ranks if code is not None]
    if torchrun == 0:
        return told[0] if told else int(ExitCode.OK)
    # Saved by all, although torchrun was in a hurry.
    saved = told and all(code == ExitCode.REQUEUE for code in ranks)
    return int(ExitCode.REQUEUE if saved else ExitCode.FAILURE)


class _Signals:
    """While entered, signals go to the ranks; the second one ends everything at once."""

    def __init__(self) -> None:
        self._received: signal.Signals | None = None
        self._at = 0.0
        self._again = False

    def __enter__(self) -> _Signals:
        self._cleanup = contextlib.ExitStack()
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before = signal.signal(number, self._handle)
                self._cleanup.callback(signal.signal, number, before)
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._received is None:
            self._received, self._at = signal.Signals(number), time.monotonic()
        elif time.monotonic() - self._at > _SECOND_SIGNAL:
            self._again = True

    def passed_on(self, torchrun: subprocess.Popen[bytes], folder: Path) -> int:
        """Wait for torchrun, and pass on what comes meanwhile; returns its exit code."""
        told: set[int] = set()
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return torchrun.wait(_LOOK)
                if self._again:
                    message = b"\n[WARN] second signal: ending all ranks at once\n"
                    os.write(2, message)
                    return 128 + int(self._received or 0)
                if self._received is not None:
                    for pid in self._living(folder):
                        if pid not in told:
                            told.add(pid)
                            _send(pid, self._received)
        finally:
            if torchrun.poll() is None:  # a second signal, or an error here
                torchrun.kill()
                torchrun.wait()
            else:  # they end by themselves, also where torchrun was killed
                deadline = time.monotonic() + _ORPHANS
                while any(self._living(folder)) and time.monotonic() < deadline:
                    time.sleep(_LOOK)
            for pid in self._living(folder):
                _send(pid, signal.SIGKILL)

    @staticmethod
    def _living(folder: Path) -> Iterator[int]:
        ranks = read_ranks(folder).items()
        return (pid for pid, code in ranks if code is None and _is_there(pid))


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _is_there(pid: int) -> bool:
    return identify(pid).is_alive()
