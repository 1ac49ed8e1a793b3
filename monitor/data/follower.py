"""Following one run closely: its metrics, events, checkpoints, log and configuration."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from monitor.data.main_metric import main_key
from monitor.data.pyramid import DIRECT, Pyramid, Pyramids
from monitor.data.scanner import Signature, file_signature, tail_lines
from monitor.data.skim import Skim, skim
from monitor.data.values import finite, whole
from monitor.data.views import EventView, RunDetail, SampleView
from shared.checkpoints.catalogue import BEST, FINAL, LATEST, CheckpointInfo, list_checkpoints
from shared.control.daemons import watching
from shared.files import open_file
from shared.json_text import Json
from shared.run.config import flat_config
from shared.run.directory import RunDirectory
from shared.run.event_text import event_text
from shared.run.metrics_log import QUIET, TIME, MetricsReader, MetricsTable
from shared.run.metrics_rows import Series
from shared.run.record_lines import parse_lines
from shared.run.records import PhaseTransition
from shared.run.tail import Tailer
from shared.text import many_lines, one_line, plural

if TYPE_CHECKING:
    from monitor.data.bulk import Helper

SLICE = 512 << 10  # bytes of metrics parsed at a time, a few milliseconds
LONG = 256 << 20  # bytes of metrics from which another process helps to read them
SKIMMED = 1 << 20  # bytes beyond which a curve is skimmed before it is read
MAX_EVENTS = 200
MAX_SAMPLES = 20
MAX_HALTS = 5_000
MAX_CONFIG = 64 << 10
MAX_LINES = 400
_LOG_LINES = 200
_RELEASED_EACH = 64  # slices read between two times that memory is let go
_DAEMON_AGAIN = 5.0  # seconds between looks for a daemon
_SKIM_AGAIN = 5.0  # seconds between skims of a growing file
_OVERHEAD = 1.2  # of the pyramids over the bare numbers
_MAX_SAMPLE = 4000  # characters
_FIRST = ("loss", "val_loss")
_LISTED = re.compile(r"step_\d{1,16}|final|latest|best")
_MAX_STEP_KEYS = 4  # named
_NOTHING = (np.empty(0, np.int64), np.empty(0, np.float64))
_NEVER = object()

CheckpointsSignature = tuple[tuple[str, int], ...]


def start_helper(path: Path) -> Helper | None:
    """A process that reads the second half of a very long log; None on a single core."""
    if (os.cpu_count() or 1) < 2:
        return None
    from monitor.data.bulk import Helper

    return Helper(path)


class RunFollower:
    """Reads what is new in one run, a slice at a time.

    Of a long run it has evenly spaced records at once (`detail().approximate`), until `poll` has
    come to the end of its metrics for the first time. From `long` bytes on, what `helper` starts
    reads the second half of them. A series has a pyramid from `pyramids_from` values on: shorter
    ones, of which there may be hundreds, are drawn as quickly without one.
    """

    def __init__(
        self,
        run: RunDirectory,
        *,
        long: int = LONG,
        helper: Callable[[Path], Helper | None] = start_helper,
        quiet: float = QUIET,
        pyramids_from: int = DIRECT,
    ) -> None:
        self.run = run
        self._pyramids_from = pyramids_from
        self._long, self._start_helper = long, helper
        #: False: keep the skim, because there is no memory for more.
        self.exact = True
        self._metrics = MetricsReader(run.metrics_path, quiet=quiet)
        self._skim: Skim | None = None
        self._skimmed_for: MetricsTable | None = None
        self._skimmed_at = 0.0
        self._expected = 0
        self._pyramids = Pyramids()
        self._events_tail = Tailer(run.events_path)
        self._events: deque[EventView] = deque(maxlen=MAX_EVENTS)
        self._samples: deque[SampleView] = deque(maxlen=MAX_SAMPLES)
        self._halts: deque[float] = deque(maxlen=MAX_HALTS)
        self._uploads: dict[str, str] = {}
        self._checkpoints: tuple[CheckpointInfo, ...] = ()
        self._checkpoints_seen: object = _NEVER
        self._log_lines: tuple[str, ...] = ()
        self._log_seen: Signature | None = None
        self._config_lines: tuple[str, ...] = ()
        self._config: Mapping[str, str] = {}
        self._config_seen: Signature | None = None
        self._watched = False
        self._watched_at = -_DAEMON_AGAIN
        self._helper: Helper | None = None
        self._alone = False  # no helper can be started any more
        self._slices = 0
        self._builds_anew = False
        self._table_seen: tuple[object, int] | None = None
        self._more_metrics = True
        self._more_events = True
        self._version = 0
        self._detail: RunDetail | None = None
        #: Whether somebody has asked for the detail yet.
        self.seen = False

    @property
    def more(self) -> bool:
        """Whether the next `poll` has something to read."""
        return (self._more_metrics and self.exact) or self._more_events

    @property
    def complete(self) -> bool:
        """Whether the series hold the whole file rather than a skim."""
        return self._skim is None

    @property
    def nbytes(self) -> int:
        """Bytes of memory that its series and their pyramids take."""
        return int(_OVERHEAD * self._metrics.table.nbytes)

    @property
    def expected_nbytes(self) -> int:
        """About how many bytes of memory it will take once it has read everything."""
        return self.nbytes if self._skim is None else self._expected

    def poll(self) -> bool:
        """Read one slice of everything; True when something changed."""
        return self.poll_metrics() | self.poll_rest()

    def poll_metrics(self) -> bool:
        """Read one slice of the metrics; True when something changed."""
        if self._skimmed_for is None and self._begin():
            return True
        if not self.exact and self._skim is not None:
            return self._skim_again()
        if not self._alone and self._skim is not None:
            self._get_help()
        was_loading = self._more_metrics
        most = SLICE
        if self._helper is not None:
            most = min(SLICE, self._helper.start - self._metrics.offset)
            if most <= 0:
                return self._join(self._helper)
        more = self._metrics.poll(most)
        if self._helper is not None and not more and self._metrics.offset < self._helper.start:
            self.close()  # the file has become shorter than that
        self._more_metrics = more or self._helper is not None
        self._slices += 1
        if was_loading and (not self._more_metrics or self._slices % _RELEASED_EACH == 0):
            self.release()
        table = self._metrics.table
        if table is not self._skimmed_for:
            self.close()  # it has read another file
            if self._begin():
                return True  # that is long too
        seen = (table, table.version)
        if self._more_metrics and self._skim is not None:
            return self._changed(changed=self._table_seen != seen)
        if not self._more_metrics and self._skim is not None:
            self._skim, self._table_seen = None, None
            self._builds_anew = True
        if self._table_seen == seen:
            return self._changed(was_loading != self._more_metrics)
        self._table_seen = seen
        self._version += 1
        return self._changed(changed=True)

    def _begin(self) -> bool:
        """Skim a new file if it is long; True if that yielded something."""
        self._skimmed_for = self._metrics.table
        self._skim, self._alone = None, False
        return _size(self.run.metrics_path) > SKIMMED and self._take_skim()

    def _get_help(self) -> None:
        """Let a helper read the second half of a very long file."""
        self._alone = True
        if _size(self.run.metrics_path) >= self._long:
            with contextlib.suppress(OSError):
                self._helper = self._start_helper(self.run.metrics_path)

    def _join(self, helper: Helper) -> bool:
        """Take over the result of the helper once it is ready."""
        if not helper.is_done():
            return False
        parsed = helper.parsed()
        table = self._metrics.table
        if parsed is not None and self._metrics.skip_to(parsed.end, helper.fd):
            table.join(parsed.columns, parsed.facts)
        self.close()
        return self._changed(changed=True)

    def close(self) -> None:
        """End the helper."""
        helper, self._helper = self._helper, None
        if helper is not None:
            helper.close()

    def _skim_again(self) -> bool:
        """Refresh the skim of a growing file that stays approximate."""
        grown = _size(self.run.metrics_path) != (self._skim.size if self._skim else 0)
        if not grown or time.monotonic() - self._skimmed_at < _SKIM_AGAIN:
            return False
        return self._take_skim()

    def _take_skim(self) -> bool:
        self._skimmed_at = time.monotonic()
        found = skim(self.run.metrics_path)
        if not found.series:
            return False
        self._skim = found
        values = sum(len(series) for series in found.series.values()) + found.lines
        lines = found.size / _line_length(self.run.metrics_path, found.size)
        self._expected = int(_OVERHEAD * 8 * values / max(1, found.lines) * lines)
        self._version += 1
        return self._changed(changed=True)

    def release(self) -> None:
        """Release the memory of long series until they are drawn again."""
        self._metrics.table.release()

    def poll_rest(self) -> bool:
        """Read what is new beside the metrics; True when something changed."""
        changed = self._poll_events()
        changed |= self._poll_checkpoints()
        changed |= self._poll_texts()
        changed |= self._poll_daemons()
        return self._changed(changed)

    def _changed(self, changed: bool) -> bool:
        if changed:
            self._detail = None
        return changed

    def _poll_events(self) -> bool:
        chunk = self._events_tail.read(SLICE)
        if chunk.restarted:
            self._events.clear()
            self._samples.clear()
            self._halts.clear()
            self._uploads = {}
        if chunk.lines:
            records, _ = parse_lines(chunk.lines)
            self._events.extend(event_view(r) for r in records[-MAX_EVENTS:])
            for record in records:
                self._take_event(record)
        self._more_events = chunk.more
        return bool(chunk.lines) or chunk.restarted

    def _take_event(self, record: Json) -> None:
        kind = record.get("event")
        if kind == "started" or (kind == "status" and record.get("status") == "paused"):
            if (moment := finite(record.get("time"))) is not None:
                self._halts.append(moment)
        elif kind == "sample":
            text = many_lines(str(record.get("text", ""))[:_MAX_SAMPLE])
            step, moment = whole(record.get("step")), finite(record.get("time"))
            self._samples.append(SampleView(step, moment, text))
        elif kind == "uploaded" and isinstance(record.get("name"), str):
            where = one_line(record.get("url") or record.get("repo") or "the Hub", 400)
            self._uploads = {**self._uploads, one_line(record["name"], 120): where}

    def _poll_checkpoints(self) -> bool:
        seen = _checkpoints_signature(self.run.checkpoints)
        if seen == self._checkpoints_seen:
            return False
        self._checkpoints_seen = seen
        found = tuple(list_checkpoints(self.run.checkpoints))
        if not _is_complete(found, seen):
            self._checkpoints_seen = _NEVER  # it may have been unreadable: try again
        changed = found != self._checkpoints
        self._checkpoints = found
        return changed

    def _poll_texts(self) -> bool:
        changed = False
        log = file_signature(self.run.log_path)
        if log != self._log_seen:
            lines = tail_lines(self.run.log_path, _LOG_LINES)
            # A file that is not empty gave nothing: it may have been unreadable, so try again.
            self._log_seen = log if lines or not (log and log[1]) else None
            changed |= lines != self._log_lines
            self._log_lines = lines
        config = file_signature(self.run.config_path)
        if config != self._config_seen:
            text = _read_text(self.run.config_path)
            self._config_seen = config if text or not (config and config[1]) else None
            lines = _text_lines(text)
            if lines != self._config_lines:
                self._config_lines, self._config, changed = lines, flat_config(text), True
        return changed

    def _poll_daemons(self) -> bool:
        tick = time.monotonic()
        if tick - self._watched_at < _DAEMON_AGAIN:
            return False
        self._watched_at = tick
        before, self._watched = self._watched, bool(watching(self.run.path.parent))
        return before != self._watched

    def detail(self) -> RunDetail:
        """The current detail of the run; the same object while nothing changed."""
        self.seen = True
        if self._detail is None:
            self._detail = self._make_detail()
        return self._detail

    def _make_detail(self) -> RunDetail:
        table = self._metrics.table
        facts = table.facts
        found = _series(table) if self._skim is None else self._skim.series
        shown = _shown_series({key: found[key] for key in (*_FIRST, *found) if key in found})
        front = facts.given_up_after if self._skim is None else self._skim.given_up_after
        series, abandoned = _without_abandoned(shown, front)
        pyramids: dict[str, Pyramid] = {}
        for key, one in series.items():
            if key != TIME and len(one) >= self._pyramids_from:
                pyramids[key] = self._pyramids.of(one)
                if self._builds_anew:
                    self.release()  # every number of it was read
        self._builds_anew = False
        main = main_key(series)
        return RunDetail(
            run_id=self.run.run_id,
            loss=series.get(main) or Series(main, *_NOTHING),
            val_loss=series.get("val_loss") or Series("val_loss", *_NOTHING),
            series=series,
            abandoned=abandoned,
            given_up_after=front if abandoned else None,
            read_as=self._read_as(),
            unread=self._unread(),
            transitions=_transitions(facts.phases),
            halts=tuple(self._halts),
            pyramids=pyramids,
            approximate=self._skim is not None,
            version=self._version,
            loading=self._share_read() if self._more_metrics else None,
            bad_lines=table.bad_lines,
            newest=self._newest(series),
            checkpoints=self._checkpoints,
            events=tuple(self._events),
            log_lines=self._log_lines,
            config_lines=self._config_lines,
            config=self._config,
            samples=tuple(self._samples),
            protected=protected(self._checkpoints),
            uploads=self._uploads,
            watched=self._watched,
        )

    def _read_as(self) -> str:
        """How the file was read, where that is not a matter of course."""
        facts, form = self._metrics.table.facts, self._metrics.form
        parts = [form.name] if form.name else []
        if facts.step_keys:
            keys = ", ".join(one_line(key, 60) for key in facts.step_keys[:_MAX_STEP_KEYS])
            parts.append(f"steps from {keys}")
        if facts.rounded:
            parts.append(f"{plural(facts.rounded, 'step')} rounded down")
        return "; ".join(parts)

    def _unread(self) -> str:
        facts, problem = self._metrics.table.facts, self._metrics.form.problem
        return "; ".join(part for part in (problem, facts.told()) if part)

    def _newest(self, series: Mapping[str, Series]) -> dict[str, float]:
        """The numbers of the last record; for a skim the last value of each series."""
        if self._skim is not None:
            return {one_line(k, 60): float(s.values[-1]) for k, s in series.items() if len(s)}
        return {
            one_line(key, 60): number
            for key, value in list(self._metrics.table.last_record.items())[:200]
            if (number := finite(value)) is not None
        }

    def _share_read(self) -> float:
        size = _size(self.run.metrics_path)
        return min(1.0, self._metrics.offset / size) if size else 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _line_length(path: Path, size: int) -> float:
    """The typical length of a line in bytes, measured in the middle of the file."""
    try:
        with open_file(path) as file:
            file.seek(size // 2)
            piece = file.read(64 << 10)
    except OSError:
        piece = b""
    return max(1.0, len(piece) / (piece.count(b"\n") or 1))


def _series(table: MetricsTable) -> dict[str, Series]:
    found = {key: table.series(key) for key in table.keys()}  # noqa: SIM118  not a dict
    clock = table.series(TIME)
    return {**found, TIME: clock} if len(clock) else found


def _without_abandoned(
    series: Mapping[str, Series], front: int | None
) -> tuple[dict[str, Series], dict[str, Series]]:
    """The series up to step `front`, and what comes after it."""
    if front is None:
        return dict(series), {}
    kept: dict[str, Series] = {}
    rest: dict[str, Series] = {}
    for key, one in series.items():
        at = int(np.searchsorted(one.steps, front, "right"))
        if at:
            kept[key] = Series(key, one.steps[:at], one.values[:at])
        if at < len(one):
            rest[key] = Series(key, one.steps[at:], one.values[at:])
    return kept, rest


def _transitions(phases: Iterable[tuple[int, str]]) -> tuple[PhaseTransition, ...]:
    found: list[PhaseTransition] = []
    before = ""
    for step, name in phases:
        shown = one_line(name, 40)
        found.append(PhaseTransition(step, before, shown, 0.0))
        before = shown
    return tuple(found)


def _shown_series(series: Mapping[str, Series]) -> dict[str, Series]:
    """The same with keys that are safe to show; keys that become equal are numbered."""
    found: dict[str, Series] = {}
    for key, one in series.items():
        name = base = one_line(key, 80) or "?"
        number = 2
        while name in found:
            name, number = f"{base} ({number})", number + 1
        found[name] = one if name == key else Series(name, one.steps, one.values)
    return found


def protected(checkpoints: tuple[CheckpointInfo, ...]) -> dict[str, str]:
    """The checkpoints that pruning never removes, with the reason."""
    found: dict[str, str] = {}
    whole = [c.name for c in checkpoints if c.whole and c.name != FINAL]
    for info in checkpoints:
        reasons = [
            word
            for word, holds in (
                ("latest", info.is_latest),
                ("best", info.is_best),
                ("the newest", info.name in whole[-1:] and not info.is_latest),
                (FINAL, info.name == FINAL),
            )
            if holds
        ]
        if reasons:
            found[info.name] = ", ".join(reasons)
    return found


def _is_complete(found: Iterable[CheckpointInfo], seen: CheckpointsSignature | None) -> bool:
    """Whether `found` holds everything seen in the folder, complete."""
    shown = {c.name for c in found if c.whole}
    shown |= {LATEST for c in found if c.is_latest} | {BEST for c in found if c.is_best}
    return all(name in shown for name, _ in seen or () if _LISTED.fullmatch(name))


def _checkpoints_signature(folder: Path) -> CheckpointsSignature | None:
    """Changes when a checkpoint comes, goes, becomes whole or is pointed at.

    Manifests and links are renamed into place, so the folders' own times tell.
    """
    try:
        with os.scandir(folder) as entries:
            return tuple(
                sorted((e.name, e.stat(follow_symlinks=False).st_mtime_ns) for e in entries)
            )
    except OSError:
        return None


def _read_text(path: Path) -> str:
    try:
        with open_file(path) as file:
            return file.read(MAX_CONFIG).decode("utf-8", "replace")
    except OSError:
        return ""


def _text_lines(text: str) -> tuple[str, ...]:
    return tuple(one_line(x.expandtabs(4), 300) for x in text.splitlines()[:MAX_LINES])


def event_view(record: Json) -> EventView:
    """An event as one readable line."""
    return EventView(
        time=finite(record.get("time")),
        step=whole(record.get("step")),
        kind=one_line(record.get("event", ""), 40).replace("_", " "),
        text=event_text(record),
    )
