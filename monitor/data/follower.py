"""Following one run closely: its metrics, events, checkpoints, log and configuration."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from monitor.data.scanner import Signature, file_signature, tail_lines
from monitor.data.values import finite, whole
from monitor.data.views import EventView, RunDetail
from shared.catalogue import BEST, LATEST, CheckpointInfo, list_checkpoints
from shared.files import open_file
from shared.metrics_log import MetricsReader, parse_lines
from shared.run_directory import RunDirectory
from shared.tail import Tailer
from shared.text import format_bytes, one_line

SLICE = 1 << 20  # bytes of metrics parsed at a time, about 10 ms
MAX_EVENTS = 200
MAX_CONFIG = 64 << 10
MAX_LINES = 400
_LISTED = re.compile(r"step_\d{1,16}|final|latest|best")
_NEVER = object()

CheckpointsSignature = tuple[tuple[str, int], ...]


class RunFollower:
    """Reads what is new in one run, a slice at a time."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self._metrics = MetricsReader(run.metrics_path)
        self._events_tail = Tailer(run.events_path)
        self._events: deque[EventView] = deque(maxlen=MAX_EVENTS)
        self._checkpoints: tuple[CheckpointInfo, ...] = ()
        self._checkpoints_seen: object = _NEVER
        self._log_lines: tuple[str, ...] = ()
        self._log_seen: Signature | None = None
        self._config_lines: tuple[str, ...] = ()
        self._config_seen: Signature | None = None
        self._table_seen: tuple[object, int] | None = None
        self._more = True
        self._version = 0

    @property
    def more(self) -> bool:
        """Whether metrics are known to wait for the next `poll`."""
        return self._more

    def poll(self) -> bool:
        """Read one slice of everything; True when something changed."""
        changed = self._poll_metrics()
        changed |= self._poll_events()
        changed |= self._poll_checkpoints()
        changed |= self._poll_texts()
        return changed

    def _poll_metrics(self) -> bool:
        was_loading = self._more
        self._more = self._metrics.poll(SLICE)
        table = self._metrics.table
        seen = (table, table.version)
        if self._table_seen == seen:
            return was_loading != self._more
        self._table_seen = seen
        self._version += 1
        return True

    def _poll_events(self) -> bool:
        chunk = self._events_tail.read(SLICE)
        if chunk.restarted:
            self._events.clear()
        if chunk.lines:
            records, _ = parse_lines(chunk.lines)
            self._events.extend(event_view(r) for r in records[-MAX_EVENTS:])
        self._more |= chunk.more
        return bool(chunk.lines) or chunk.restarted

    def _poll_checkpoints(self) -> bool:
        seen = _checkpoints_signature(self.run.checkpoints)
        if seen == self._checkpoints_seen:
            return False
        self._checkpoints_seen = seen
        found = tuple(list_checkpoints(self.run.checkpoints))
        if not _is_complete(found, seen):
            self._checkpoints_seen = _NEVER  # perhaps it could not be read: look again
        changed = found != self._checkpoints
        self._checkpoints = found
        return changed

    def _poll_texts(self) -> bool:
        changed = False
        log = file_signature(self.run.log_path)
        if log != self._log_seen:
            lines = tail_lines(self.run.log_path)
            # Of a file that is not empty nothing came: perhaps it could not be read, so look again.
            self._log_seen = log if lines or not (log and log[1]) else None
            changed |= lines != self._log_lines
            self._log_lines = lines
        config = file_signature(self.run.config_path)
        if config != self._config_seen:
            lines = _text_lines(self.run.config_path)
            self._config_seen = config if lines or not (config and config[1]) else None
            changed |= lines != self._config_lines
            self._config_lines = lines
        return changed

    def detail(self) -> RunDetail:
        """All that is known now."""
        table = self._metrics.table
        keys = table.keys()
        # A run without a loss (a reward curve, say) still has something to draw.
        main = "loss" if "loss" in keys or not keys else keys[0]
        newest = {
            one_line(key, 60): number
            for key, value in list(table.last_record.items())[:200]
            if (number := finite(value)) is not None
        }
        return RunDetail(
            run_id=self.run.run_id,
            loss=table.series(main),
            val_loss=table.series("val_loss"),
            version=self._version,
            loading=self._share_read() if self._more else None,
            bad_lines=table.bad_lines,
            newest=newest,
            checkpoints=self._checkpoints,
            events=tuple(self._events),
            log_lines=self._log_lines,
            config_lines=self._config_lines,
        )

    def _share_read(self) -> float:
        try:
            size = self.run.metrics_path.stat().st_size
        except OSError:
            return 0.0
        return min(1.0, self._metrics.offset / size) if size else 0.0


def _is_complete(found: Iterable[CheckpointInfo], seen: CheckpointsSignature | None) -> bool:
    """Whether everything is in `found`, and whole, that was seen in the folder."""
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


def _text_lines(path: Path) -> tuple[str, ...]:
    try:
        with open_file(path) as file:
            text = file.read(MAX_CONFIG).decode("utf-8", "replace")
    except OSError:
        return ()
    return tuple(one_line(x.expandtabs(4), 300) for x in text.splitlines()[:MAX_LINES])


def event_view(record: dict[str, Any]) -> EventView:
    """An event as one readable line."""
    kind = one_line(record.get("event", ""), 40)
    return EventView(
        time=finite(record.get("time")),
        step=whole(record.get("step")),
        kind=kind.replace("_", " "),
        text=one_line(_event_text(kind, record), 400),
    )


def _event_text(kind: str, record: dict[str, Any]) -> str:
    get = record.get
    loss, size = finite(get("val_loss")), finite(get("bytes"))
    measured = f"val loss {loss:.4g}" if loss is not None else ""
    match kind:
        case "started":
            before = get("previous_status")
            return f"attempt {get('attempt', 1)}" + (f", was {before}" if before else "")
        case "status":
            reason = f": {get('reason')}" if get("reason") else ""
            return f"{get('previous', '')} → {get('status', '')}{reason}"
        case "phase":
            return f"{get('previous') or 'start'} → {get('phase', '')}"
        case "checkpoint_saved":
            parts = [str(get("name", "")), format_bytes(size) if size is not None else "", measured]
            return ", ".join(part for part in parts if part)
        case "evaluated":
            return measured
        case "answer":
            return f"{get('action', '')}: {get('message', '')}"
        case "nonfinite":
            return f"loss {_value(record, 'loss')}, gradient norm {_value(record, 'gradient_norm')}"
        case "spike":
            skipped = ", the update was skipped" if get("skipped") else ""
            zscore = finite(get("zscore"))
            deviation = "" if zscore is None else f", {zscore:.1f} deviations above the mean"
            return f"loss {_value(record, 'loss')}{deviation}{skipped}"
        case "new_best":
            return f"{get('metric', 'loss')} {_value(record, 'value')}"
        case "out_of_memory" if not get("message"):
            return f"micro-batch {get('micro_batch')}, tried again with {get('retry_with')}"
        case "rolled_back" if not get("message"):
            return f"from step {get('from_step')} to {get('to_step')}, {get('checkpoint')}"
        case "checkpoint_removed":
            taken = format_bytes(size) if size is not None else None
            told = (get("name"), get("reason"), taken)
            return ", ".join(str(part) for part in told if part)
        case "checkpoint_compressed":
            before, after = finite(get("bytes_before")), finite(get("bytes_after"))
            sizes = [format_bytes(x) for x in (before, after) if x is not None]
            return f"{get('name', '')}: {' → '.join(sizes)}"
        case _:
            for key in ("message", "text", "name", "reason"):
                if isinstance(get(key), str):
                    return str(get(key))
            hidden = ("time", "event", "step", "attempt", "nonfinite")
            return ", ".join(f"{k} {v}" for k, v in list(record.items())[:12] if k not in hidden)


def _value(record: dict[str, Any], key: str) -> str:
    """A number of an event; one that is not finite by its name."""
    value, named = finite(record.get(key)), record.get("nonfinite")
    if value is not None:
        return f"{value:.4g}"
    return str(named.get(key, "?")) if isinstance(named, dict) else "?"
