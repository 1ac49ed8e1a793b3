"""A short training under torch's profiler, in this process."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from shared.errors import ExitCode
from shared.output_file import write_output
from shared.text import plural
from trainer.config.resolve import flatten, resolve, to_plain
from trainer.config.schema import Config
from trainer.distributed.peaks import peak_flops, utilization
from trainer.launch.checks import check
from trainer.launch.create import create
from trainer.launch.here import open_session, open_writer
from trainer.launch.request import LaunchRequest
from trainer.loop.hooks import Hooks, Stage
from trainer.profiling.profile import Profile, operator_shares, stage_shares
from trainer.profiling.stages import StageTimer
from trainer.profiling.trace import summarize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import torch

    from trainer.loop.session import Session
    from trainer.loop.training import Training

#: Steps that the profiler makes before it records: its start takes time.
_SETTLING = 1


@dataclass(frozen=True)
class Length:
    """Steps of a profile: to warm up (compile, allocate, first kernels), and to measure. These are
    made twice, without the profiler and with it."""

    warmup: int = 3
    steps: int = 10

    @property
    def total(self) -> int:
        """All steps."""
        return self.warmup + 2 * self.steps + _SETTLING


class _EnoughError(Exception):
    """Ends a training that has been profiled."""


def quiet(config: Config, length: Length) -> Config:
    """The configuration without evaluations, samples, checkpoints and early ends."""
    never = 10**9
    changes: dict[str, Any] = {
        # Shares of all steps keep their meaning. The last one is not made: it would be saved.
        "train.max_steps": max(length.total + 1, config.train.max_steps or 0),
        "train.epochs": None,
        "train.max_hours": None,
        "train.patience": None,
        "eval.interval": never,
        "eval.sample_interval": 0,
        "checkpoint.interval": never,
        "checkpoint.dir": None,
        "hub.upload": False,
    }
    return resolve(flatten(to_plain(config)), changes)


def profile_training(
    config: Config,
    runs_dir: Path,
    length: Length,
    *,
    trace: Path | None = None,
    force: bool = False,
    operators: int = 15,
    tell: Callable[[str], None] = lambda doing: None,
) -> Profile:
    """Train a few steps in a new run below `runs_dir` and measure them.

    `trace` receives the profiler's trace, for Perfetto; `force` replaces a file that is there.
    `operators` is how many are told one by one. `tell` receives what is being done. Raises
    UserError for what would make a training fail.
    """
    from trainer.loop.training import Training

    request = LaunchRequest(quiet(config, length))
    checked = check(request)
    run = create(request.config, runs_dir)
    writer = open_writer(checked, run, None, None, supervised=False)
    with writer, tempfile.TemporaryDirectory(prefix="trainer-profile-") as folder:
        session = open_session(checked, run, writer)
        measured = Measurement(session, length, Path(folder) / "trace.json", tell)
        hooks = Hooks(before_step=measured.before_step, enter=measured.timer.enter)
        try:
            with contextlib.suppress(_EnoughError):
                Training(session, writer, hooks=hooks).run()
        finally:
            measured.close()
        writer.finish("completed", ExitCode.OK, f"profiled {plural(length.steps, 'step')}")
        profile = measured.profile(operators)
        if trace is not None:
            write_output(trace, _pieces(measured.trace), force=force)
    return profile


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            yield piece


@dataclass
class Measurement:
    """Counts the steps of a training, and measures those that it is to measure."""

    session: Session
    length: Length
    trace: Path
    tell: Callable[[str], None]
    timer: StageTimer = field(default_factory=StageTimer)
    host: Mapping[Stage, float] = field(default_factory=dict)
    _profiler: torch.profiler.profile | None = None
    _made: int = 0

    def before_step(self, _training: Training) -> None:
        """Between two steps. Raises _EnoughError after the last one to measure."""
        made, length = self._made, self.length
        self._made += 1
        if made == 0 and length.warmup:
            self.tell(f"warming up: {plural(length.warmup, 'step')}")
        if made == length.warmup:
            self._synchronize()
            self.tell(f"timing {plural(length.steps, 'step')}")
            self.timer.restart()
        if made == length.warmup + length.steps:
            self._synchronize()
            self.host = self.timer.seconds()
            self.tell(f"profiling {plural(length.steps, 'step')}")
            self._start()
        elif made == length.warmup + length.steps + _SETTLING:
            self._synchronize()  # kernels of a step that is not recorded must not be in the trace
            self._profiler_step()
            self.timer.marked = True
            self.timer.enter("other")
        elif made == length.total:
            self._synchronize()
            self._stop()
            raise _EnoughError
        elif self._profiler is not None:
            self._profiler_step()

    def _synchronize(self) -> None:
        import torch

        device = self.session.compute.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        elif device.type == "mps":
            torch.mps.synchronize()

    def _start(self) -> None:
        from torch.profiler import ProfilerActivity, profile, schedule

        activities = [ProfilerActivity.CPU]
        if self.session.compute.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profiler = profile(
            activities=activities,
            schedule=schedule(wait=0, warmup=_SETTLING, active=self.length.steps, repeat=1),
        )
        self._profiler.start()

    def _profiler_step(self) -> None:
        assert self._profiler is not None
        self.timer.end_span()  # it must lie within the profiler's own span of the step
        self._profiler.step()
        self.timer.enter("other")

    def _stop(self) -> None:
        assert self._profiler is not None
        self.timer.marked = False
        self.timer.end_span()
        profiler, self._profiler = self._profiler, None
        profiler.stop()
        profiler.export_chrome_trace(str(self.trace))

    def close(self) -> None:
        """Stop the profiler, if the training ended before the measurement did."""
        if self._profiler is not None:
            self.timer.end_span()
            self._profiler.stop()

    def profile(self, operators: int) -> Profile:
        """What was measured."""
        from trainer.loop.hardware import peak_memory
        from trainer.model.shapes import describe

        session, steps = self.session, self.length.steps
        summary = summarize(orjson.loads(self.trace.read_bytes())["traceEvents"])
        seconds = sum(self.host.values()) / steps
        config, rate = session.config, session.config.tokens_per_step / seconds
        busy = summary.busy
        return Profile(
            model=describe(config),
            device=session.compute.describe(),
            attention=str(session.plan.attention),
            steps=steps,
            tokens_per_step=config.tokens_per_step,
            step_ms=1000 * seconds,
            profiled_step_ms=1000 * summary.window / steps,
            tokens_per_second=rate,
            mfu=utilization(rate, session.learner.flops_per_token, peak_flops(session.compute)),
            device_busy=None if busy is None else busy / summary.window,
            peak_memory_bytes=peak_memory(session.compute.device),
            stages=stage_shares(self.host, summary, steps),
            operators=operator_shares(summary, steps, operators),
        )
