"""The columns of the table of runs, and what stands in them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from monitor.data.outline import Outline
from monitor.data.outliner import Outlines
from monitor.data.views import RunView
from shared.charts.labels import number
from shared.run.foreign import text_number
from shared.text import format_count, format_duration, format_time

#: Where a column has its values from: the run itself, its configuration, the last, the least or the
#: greatest value of a metric.
KINDS = ("run", "config", "last", "min", "max")
METRICS = ("last", "min", "max")
MAX_COLUMNS = 40
_DIFFERING = 6  # settings that a table without chosen columns shows
_LONGEST = 24  # characters of a setting that is worth a column unasked
_APPROXIMATE = "≈"

Value = float | str | None


@dataclass(frozen=True)
class Column:
    """One of `KINDS`, and its key there."""

    kind: str
    key: str

    @classmethod
    def parse(cls, spec: str) -> Column | None:
        """The column that `KIND:KEY` names; None for another text."""
        kind, colon, key = spec.partition(":")
        if not (colon and key and kind in KINDS) or (kind == "run" and key not in _OF_RUNS):
            return None
        return cls(kind, key)

    @property
    def spec(self) -> str:
        """The column as settings name it: `config:optim.learning_rate`, `min:val_loss`."""
        return f"{self.kind}:{self.key}"

    @property
    def words(self) -> str:
        """The column in a list of all of them."""
        if self.kind == "run":
            return _OF_RUNS[self.key].words
        if self.kind == "config":
            return self.key
        return f"{_METRIC_WORDS[self.kind]} {self.key}"

    @property
    def goes_down(self) -> bool:
        """Whether a first sorting by it begins with the greatest value."""
        return self.kind == "max" or (self.kind == "run" and _OF_RUNS[self.key].goes_down)


_METRIC_WORDS = {"last": "last", "min": "lowest", "max": "highest"}


@dataclass(frozen=True)
class _OfRun:
    """What is known of a run without a look at its files: its value, and how it is shown."""

    words: str
    value: Callable[[RunView], Value]
    shown: Callable[[float], str] = number
    goes_down: bool = False


def _steps(value: float) -> str:
    return f"{value:,.0f}"


def _day(value: float) -> str:
    return format_time(value, "%Y-%m-%d %H:%M")


def _share(value: float) -> str:
    return f"{value:.0%}"


def _parameters(run: RunView) -> Value:
    return text_number(dict(run.model).get("parameters", ""))


_OF_RUNS: Mapping[str, _OfRun] = {
    "status": _OfRun("status", lambda run: run.status),
    "step": _OfRun("step", lambda run: float(run.step), _steps, goes_down=True),
    "steps": _OfRun("planned steps", lambda run: run.max_steps, _steps, goes_down=True),
    "progress": _OfRun("progress", lambda run: run.fraction, _share, goes_down=True),
    "loss": _OfRun("loss", lambda run: run.loss),
    "best": _OfRun("best loss", lambda run: run.best_loss),
    "best_step": _OfRun("step of the best loss", lambda run: run.best_step, _steps),
    "left": _OfRun("time left", lambda run: run.eta_seconds, format_duration),
    "trained": _OfRun("time trained", lambda run: run.trained_seconds, format_duration,
                      goes_down=True),
    "started": _OfRun("started", lambda run: run.started_at, _day, goes_down=True),
    "ended": _OfRun("ended", lambda run: run.ended_at, _day, goes_down=True),
    "phase": _OfRun("phase", lambda run: run.phase or None),
    "attempt": _OfRun("attempt", lambda run: run.attempt or None, _steps, goes_down=True),
    "tokens": _OfRun("tokens", lambda run: run.tokens_total or None, format_count, goes_down=True),
    "speed": _OfRun("tokens per second", lambda run: run.tokens_per_second, format_count,
                    goes_down=True),
    "parameters": _OfRun("parameters", _parameters, format_count, goes_down=True),
    "val": _OfRun("validation loss", lambda run: run.val_loss),
    "name": _OfRun("name", lambda run: run.name),
    "group": _OfRun("sweep", lambda run: run.group or None),
    "host": _OfRun("host", lambda run: run.host or None),
    "device": _OfRun("device", lambda run: run.device or None),
    "commit": _OfRun("commit", lambda run: run.git_commit[:12] or None),
    "reason": _OfRun("reason", lambda run: run.note or None),
    "note": _OfRun("note", lambda run: run.note_text.replace("\n", " ") or None),
}  # fmt: skip

FIRST = tuple(Column("run", key) for key in ("status", "step", "loss", "best"))
NOTHING = Outline()


@dataclass(frozen=True)
class Cell:
    """`value` is what is sorted by, a number where the text is one; None: there is none."""

    value: Value
    text: str
    approximate: bool = False

    @property
    def is_number(self) -> bool:
        """Whether it belongs at the right of its column."""
        return isinstance(self.value, float)


def cell(column: Column, run: RunView, outline: Outline) -> Cell:
    """What stands in a column of a run's row."""
    if column.kind == "run":
        of_run = _OF_RUNS[column.key]
        value = of_run.value(run)
        if isinstance(value, str):
            return Cell(value, value)
        return Cell(None, "") if value is None else Cell(float(value), of_run.shown(value))
    if column.kind == "config":
        text = outline.config.get(column.key)
        if text is None:
            return Cell(None, "")
        numeric = text_number(text)
        return Cell(text if numeric is None else numeric, text)
    extent = outline.metrics.get(column.key)
    if extent is None:
        return Cell(None, "")
    if column.kind == "last":
        return Cell(extent.last, number(extent.last))
    value = extent.least if column.kind == "min" else extent.greatest
    if value is None:  # nothing but NaN and inf
        return Cell(extent.last, number(extent.last))
    mark = _APPROXIMATE if outline.approximate else ""
    return Cell(value, mark + number(value), outline.approximate)


def titles(columns: Sequence[Column]) -> list[str]:
    """A heading for each: the end of a dotted key, as much of it as tells it from the others."""
    found = []
    for column in columns:
        if column.kind == "config":
            others = [c.key for c in columns if c.kind == "config" and c != column]
            found.append(_end_of(column.key, others))
        elif column.kind == "run":
            found.append(column.key.replace("_", " "))
        else:
            found.append(column.key if column.kind == "last" else f"{column.kind} {column.key}")
    return found


def _end_of(key: str, others: Sequence[str]) -> str:
    parts = key.split(".")
    for count in range(1, len(parts)):
        end = ".".join(parts[-count:])
        if not any(other == end or other.endswith(f".{end}") for other in others):
            return end
    return key


def offered(outlines: Outlines, swept: Sequence[str] = ()) -> list[Column]:
    """Every column there can be: what is `swept`, facts of the run, settings in the order of their
    files, metrics.
    """
    settings: dict[str, None] = {}
    metrics: dict[str, None] = {}
    for outline in outlines.values():
        settings |= dict.fromkeys(outline.config)
        metrics |= dict.fromkeys(outline.metrics)
    return [
        *(Column("config", key) for key in swept),
        *(Column("run", key) for key in _OF_RUNS),
        *(Column("config", key) for key in settings if key not in swept),
        *(Column(kind, key) for key in metrics for kind in METRICS),
    ]


class Choice:
    """The columns that are shown: those that are named; where none is, the usual ones, what is
    swept, and the settings in which the runs differ.
    """

    def __init__(self) -> None:
        self._usual: tuple[Column, ...] = FIRST
        self._judged = 0  # outlines that the usual columns were chosen by
        self._swept: tuple[str, ...] = ()
        self._known: tuple[tuple[str, ...], tuple[Column, ...]] = ((), ())

    def columns(
        self, specs: tuple[str, ...], outlines: Outlines, runs: int, swept: tuple[str, ...] = ()
    ) -> tuple[Column, ...]:
        """The columns for these outlines of so many `runs`, in which these keys are `swept`."""
        if specs != self._known[0]:
            named = [column for spec in specs if (column := Column.parse(spec)) is not None]
            self._known = specs, tuple(dict.fromkeys(named))[:MAX_COLUMNS]
        if self._known[1]:
            return self._known[1]
        # Not at each of thousands of outlines: it looks at all of them, and columns would jump.
        count = len(outlines)
        grown = count != self._judged and (count >= runs or count >= 4 * max(8, self._judged))
        if grown or swept != self._swept:
            self._judged, self._swept = count, swept
            first = [Column("config", key) for key in swept]
            others = [column for column in differing(outlines) if column not in first]
            room = max(0, _DIFFERING - len(first))
            self._usual = (*FIRST, *first, *others[:room])[:MAX_COLUMNS]
        return self._usual


def differing(outlines: Outlines) -> list[Column]:
    """The first settings that most runs have and in which they differ, paths and names apart."""
    known = [outline.config for outline in outlines.values() if outline.config]
    counts = Counter(key for config in known for key in config)
    found: list[Column] = []
    for key, count in counts.items():
        if 2 * count <= len(known) or _is_a_name(key):
            continue
        values = {config[key] for config in known if key in config}
        if len(values) > 1 and all(len(v) <= _LONGEST and "/" not in v for v in values):
            found.append(Column("config", key))
            if len(found) == _DIFFERING:
                break
    return found


def _is_a_name(key: str) -> bool:
    return key.rpartition(".")[2] in ("name", "path", "dir", "run_id", "run_name")


def order_of(found: Cell) -> tuple[bool, float, str]:
    """A key to sort by: numbers before text."""
    if isinstance(found.value, str):
        return True, 0.0, found.value.casefold()
    return False, found.value if found.value is not None else 0.0, ""


def is_missing(found: Cell) -> bool:
    """Whether it comes last in any order: nothing, NaN."""
    return found.value is None or (isinstance(found.value, float) and math.isnan(found.value))
