"""What the screen and `--json` are given: frozen, and safe to show.

Every string here has gone through `shared.text`, so no widget has to remember it. The exceptions
are `run_id` and `path`, which are keys and addresses and are never shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from monitor.data.machine import MachineView
from monitor.data.outline import Outline
from monitor.data.pyramid import Pyramid
from shared.checkpoints.catalogue import CheckpointInfo
from shared.foreign.interface import Found
from shared.run.metrics_rows import Series
from shared.run.records import PhaseTransition

#: Statuses that `R` can resume.
RESUMABLE = frozenset({"crashed", "failed", "cancelled", "preempted"})


SweptValue = float | str | None


@dataclass(frozen=True)
class RunView:
    """One run in the list. Times are Unix seconds."""

    run_id: str
    path: Path
    label: str
    name: str
    status: str
    reason: str
    alive: bool
    step: int = 0
    max_steps: int | None = None
    loss: float | None = None
    best_loss: float | None = None
    best_step: int | None = None
    best_metric: str = ""
    val_loss: float | None = None
    phase: str = ""
    transitions: tuple[PhaseTransition, ...] = ()
    eta_seconds: float | None = None
    tokens_per_second: float | None = None
    tokens_total: int = 0
    total_forward: int = 0
    total_backward: int = 0
    started_at: float | None = None
    updated_at: float | None = None
    ended_at: float | None = None
    #: Seconds in which a trainer worked on it; None if unknown.
    trained_seconds: float | None = None
    host: str = ""
    pid: int = 0
    attempt: int = 0
    device: str = ""
    git_commit: str = ""
    model: tuple[tuple[str, str], ...] = ()
    exit_code: int | None = None
    last_log_lines: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    note_text: str = ""
    archived: bool = False
    #: The newest training losses, evenly spaced over the run, for a sparkline; NaN is kept.
    sparkline: tuple[float, ...] = ()
    alarm: str = ""
    supervised: bool = False
    micro_batch: int | None = None
    #: The sweep that it is a run of, what is swept with its values, and all of that but the seed.
    group: str = ""
    swept: tuple[tuple[str, SweptValue], ...] = ()
    setting: str = ""
    #: In a pipeline, whose name is its `group`: the stage that it is of, or `pipeline`.
    stage: str = ""
    #: Its setting is the best of the group.
    is_best: bool = False
    #: Another program's: all that is known of it is what its metrics tell.
    stateless: bool = False
    #: Another tool's, in a format of its own: it can be watched, and nothing else.
    foreign: Found | None = None
    #: For the table of runs: what was read of another tool's run.
    outline: Outline | None = field(default=None, repr=False)

    @property
    def fraction(self) -> float | None:
        """The share of the steps done, 0 to 1; None where the goal is unknown."""
        if not self.max_steps or self.max_steps < 0:
            return None
        return min(1.0, max(0.0, self.step / self.max_steps))

    @property
    def note(self) -> str:
        """What to know first: why it does not run, or its alarm."""
        return self.reason or self.alarm


@dataclass(frozen=True)
class EventView:
    """One event as a line."""

    time: float | None
    step: int | None
    kind: str
    text: str


@dataclass(frozen=True)
class SampleView:
    """A text the model wrote at `step`; it may have several lines."""

    step: int | None
    time: float | None
    text: str


@dataclass(frozen=True)
class AnswerView:
    """An answer to a task, of an iteration of reinforcement learning, and what it is worth.

    `given` characters of `completion` were part of what the model was shown. `reward` is the sum of
    `parts`. Whether it parses, compiles and passes its tests: None if that was not looked at.
    `messages` are those of the compiler; they and the texts may have several lines.
    """

    iteration: int
    prompt_id: str = ""
    prompt: str = ""
    completion: str = ""
    given: int = 0
    reward: float | None = None
    parts: tuple[tuple[str, float], ...] = ()
    parsed: bool | None = None
    compiled: bool | None = None
    tested: bool | None = None
    messages: tuple[str, ...] = ()
    tokens: int | None = None
    truncated: bool = False


@dataclass(frozen=True)
class StageView:
    """A stage of a pipeline: what became of it, in seconds of work, and a sentence about that."""

    name: str
    status: str
    seconds: float | None
    text: str


@dataclass(frozen=True)
class RunDetail:
    """The selected run in full. `loading` is the share of the metrics read, None at their end.

    `version` changes with the series; two details of equal version have equal series.
    """

    run_id: str
    loss: Series
    val_loss: Series
    #: Every numeric metric of the file by its key, `loss` and `val_loss` first, and as `time` the
    #: Unix seconds of each step.
    series: Mapping[str, Series] = field(default_factory=dict)
    #: The extremes of every long series but `time`, of all resolutions.
    pyramids: Mapping[str, Pyramid] = field(default_factory=dict)
    #: The series are a skim: evenly spaced records, to be replaced by all of them.
    approximate: bool = False
    version: int = 0
    loading: float | None = None
    bad_lines: int = 0
    #: What of the series is of an attempt that was given up: the steps after the newest record.
    #: A resume goes back to a checkpoint, and what the attempt before made beyond it is no longer
    #: part of the model until the new one has come as far. No figure takes its values.
    abandoned: Mapping[str, Series] = field(default_factory=dict)
    #: The step after which all is of an attempt that was given up; None: nowhere.
    given_up_after: int | None = None
    #: How the file was read, if not as plain lines with a `step`: the key, the encoding.
    read_as: str = ""
    #: A sentence on the lines that are not shown, with their number, the reason and their keys.
    unread: str = ""
    #: The phases by the records.
    transitions: tuple[PhaseTransition, ...] = ()
    #: Unix seconds at which the run was paused or started again: nobody trained around them.
    halts: tuple[float, ...] = ()
    #: The numbers of the last record.
    newest: Mapping[str, float] = field(default_factory=dict)
    checkpoints: tuple[CheckpointInfo, ...] = ()
    events: tuple[EventView, ...] = ()
    log_lines: tuple[str, ...] = ()
    config_lines: tuple[str, ...] = ()
    #: The configuration by dotted keys, in the order of the file.
    config: Mapping[str, str] = field(default_factory=dict)
    #: The newest samples, the last one last.
    samples: tuple[SampleView, ...] = ()
    #: Answers to tasks, those of the newest iteration first.
    answers: tuple[AnswerView, ...] = ()
    #: Of the run of a pipeline, its stages in their order.
    stages: tuple[StageView, ...] = ()
    #: How a checkpoint did on suites of tasks, a line for each, by its name.
    suites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Why a checkpoint may not be pruned, by its name.
    protected: Mapping[str, str] = field(default_factory=dict)
    #: Where a checkpoint was uploaded to, by its name.
    uploads: Mapping[str, str] = field(default_factory=dict)

    @property
    def why_empty(self) -> str:
        """Why there is no curve, in a sentence."""
        return self.unread and f"No metrics can be shown: {self.unread}."

    @property
    def newest_step(self) -> int | None:
        """The step of the last record; None if unknown, as in a skim."""
        step = self.newest.get("step")
        return None if step is None else int(step)


@dataclass(frozen=True)
class Snapshot:
    """All there is to show at `taken_at`. `problem` says why the runs cannot be read, if so.

    `notice` is a sentence on what beside them was not searched for runs.
    """

    runs_dir: str
    taken_at: float
    runs: tuple[RunView, ...] = ()
    detail: RunDetail | None = None
    #: The details of all followed runs by id: the selected one and those marked for an overlay.
    details: Mapping[str, RunDetail] = field(default_factory=dict)
    machine: MachineView | None = None
    problem: str = ""
    notice: str = ""
    #: Whether a daemon watches the runs directory.
    watched: bool = False

    def run(self, run_id: str | None) -> RunView | None:
        """The run of that id, or None."""
        return next((r for r in self.runs if r.run_id == run_id), None)
