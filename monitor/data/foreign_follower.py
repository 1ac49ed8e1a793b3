"""What a follower reads of a run that another tool has written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from monitor.data.skim import Skim
from monitor.data.views import AnswerView, EventView, SampleView, StageView
from shared.checkpoints.catalogue import CheckpointInfo
from shared.foreign.interface import Reader
from shared.run.metrics_log import MetricsTable
from shared.text import one_line

_OVERHEAD = 1.2  # of the pyramids over the bare numbers
_MOST_CONFIG = 400  # lines


@dataclass(frozen=True)
class ForeignForm:
    """How the files are written, and what is the matter with them."""

    name: str
    problem: str


class ForeignMetrics:
    """The metrics; see `MetricsFollower`, whose place it takes."""

    skim: Skim | None = None

    def __init__(self, reader: Reader, format_name: str) -> None:
        self._reader, self._format = reader, format_name
        self.exact = True
        self.loading = True
        self.came_through = False
        self.version = 0
        self._seen: tuple[object, int, str] | None = None

    @property
    def table(self) -> MetricsTable:
        """What was read so far."""
        return self._reader.table

    @property
    def form(self) -> ForeignForm:
        """The format, and its problem."""
        return ForeignForm(self._format, one_line(self._reader.facts.problem, 500))

    @property
    def more(self) -> bool:
        """Whether the next `poll` has something to read."""
        return self.loading

    @property
    def share_read(self) -> float:
        """The share that was read."""
        return self._reader.share_read

    @property
    def nbytes(self) -> int:
        """Bytes of memory that its series and their pyramids take."""
        return int(_OVERHEAD * self.table.nbytes)

    @property
    def expected_nbytes(self) -> int:
        """The same: there is no skim of it."""
        return self.nbytes

    def poll(self) -> bool:
        """Read one slice; True when something changed."""
        was_loading = self.loading
        self.loading = self._reader.poll()
        if was_loading and not self.loading:
            self.came_through = True
        seen = (self.table, self.table.version, self._reader.facts.problem)
        if seen == self._seen:
            return was_loading != self.loading
        self._seen = seen
        self.version += 1
        return True

    def release(self) -> None:
        """Release the memory of long series until they are drawn again."""
        self.table.release()

    def close(self) -> None:
        """Let go of its files."""
        self._reader.close()


@dataclass
class ForeignFiles:
    """What it has beside its metrics: a configuration and notes; see `RunFiles`."""

    reader: Reader
    events: tuple[EventView, ...] = ()
    samples: tuple[SampleView, ...] = ()
    answers: tuple[AnswerView, ...] = ()
    stages: tuple[StageView, ...] = ()
    suites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    halts: tuple[float, ...] = ()
    uploads: Mapping[str, str] = field(default_factory=dict)
    checkpoints: tuple[CheckpointInfo, ...] = ()
    log_lines: tuple[str, ...] = ()
    config_lines: tuple[str, ...] = ()
    config: Mapping[str, str] = field(default_factory=dict)
    more: bool = False

    def poll(self) -> bool:
        """Take over what the reader has found; True when that is new."""
        facts = self.reader.facts
        config = {one_line(k, 120): one_line(v, 300) for k, v in facts.config.items()}
        notes = tuple(
            EventView(time=None, step=None, kind="note", text=one_line(note, 500))
            for note in facts.notes
        )
        if (config, notes) == (self.config, self.events):
            return False
        self.config, self.events = config, notes
        self.config_lines = tuple(f"{key}: {value}" for key, value in config.items())[:_MOST_CONFIG]
        return True
