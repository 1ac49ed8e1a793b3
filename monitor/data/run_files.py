"""Following what a run has beside its metrics: events, checkpoints, log, configuration."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path

from monitor.data.answers import AnswersFollower
from monitor.data.stages import StagesFollower
from monitor.data.suites import suites_of
from monitor.data.tails import Signature, file_signature, tail_lines
from monitor.data.values import finite, whole
from monitor.data.views import AnswerView, EventView, SampleView, StageView
from shared.checkpoints.catalogue import BEST, FINAL, LATEST, CheckpointInfo, list_checkpoints
from shared.files import open_file
from shared.json_text import Json
from shared.run.config import flat_config
from shared.run.directory import RunDirectory
from shared.run.event_text import event_text
from shared.run.record_lines import parse_lines
from shared.run.tail import Tailer
from shared.text import many_lines, one_line

MAX_EVENTS = 200
MAX_SAMPLES = 20
MAX_HALTS = 5_000
MAX_CONFIG = 64 << 10
MAX_LINES = 400
_SLICE = 512 << 10  # bytes of events read at a time
_LOG_LINES = 200
_MAX_SAMPLE = 4000  # characters
_LISTED = re.compile(r"(?:step_|checkpoint-)\d{1,16}|final|latest|best")
_NEVER = object()

CheckpointsSignature = tuple[tuple[str, int], ...]


class RunFiles:
    """What is in them, renewed by `poll`. All texts are safe to show."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self.events: deque[EventView] = deque(maxlen=MAX_EVENTS)
        self.samples: deque[SampleView] = deque(maxlen=MAX_SAMPLES)
        #: Unix seconds at which the run was paused or started again.
        self.halts: deque[float] = deque(maxlen=MAX_HALTS)
        #: Where a checkpoint was uploaded to, by its name.
        self.uploads: dict[str, str] = {}
        self.checkpoints: tuple[CheckpointInfo, ...] = ()
        self.log_lines: tuple[str, ...] = ()
        self.config_lines: tuple[str, ...] = ()
        self.config: Mapping[str, str] = {}
        #: Whether the next `poll` has more events to read.
        self.more = True
        self._tail = Tailer(run.events_path)
        self._answers = AnswersFollower(run.samples)
        self._stages = StagesFollower(run.path / "pipeline.json")
        #: How a checkpoint did on suites of tasks, by its name.
        self.suites: dict[str, tuple[str, ...]] = {}
        self._checkpoints_seen: object = _NEVER
        self._log_seen: Signature | None = None
        self._config_seen: Signature | None = None

    def poll(self) -> bool:
        """Read what is new; True when something changed."""
        changed = self._poll_events() | self._poll_checkpoints() | self._poll_texts()
        return changed | self._answers.poll() | self._stages.poll()

    @property
    def stages(self) -> tuple[StageView, ...]:
        """Of the run of a pipeline, its stages."""
        return self._stages.stages

    @property
    def answers(self) -> tuple[AnswerView, ...]:
        """Answers to tasks in the newest files of samples, the newest iteration first."""
        return self._answers.answers

    def _poll_events(self) -> bool:
        chunk = self._tail.read(_SLICE)
        if chunk.restarted:
            self.events.clear()
            self.samples.clear()
            self.halts.clear()
            self.uploads = {}
        if chunk.lines:
            records, _ = parse_lines(chunk.lines)
            self.events.extend(event_view(r) for r in records[-MAX_EVENTS:])
            for record in records:
                self._take_event(record)
        self.more = chunk.more
        return bool(chunk.lines) or chunk.restarted

    def _take_event(self, record: Json) -> None:
        kind = record.get("event")
        if kind == "started" or (kind == "status" and record.get("status") == "paused"):
            if (moment := finite(record.get("time"))) is not None:
                self.halts.append(moment)
        elif kind == "sample":
            text = many_lines(str(record.get("text", ""))[:_MAX_SAMPLE])
            step, moment = whole(record.get("step")), finite(record.get("time"))
            self.samples.append(SampleView(step, moment, text))
        elif kind == "uploaded" and isinstance(record.get("name"), str):
            where = one_line(record.get("url") or record.get("repo") or "the Hub", 400)
            self.uploads = {**self.uploads, one_line(record["name"], 120): where}

    def _poll_checkpoints(self) -> bool:
        seen = _checkpoints_signature(self._run.checkpoints)
        if seen == self._checkpoints_seen:
            return False
        self._checkpoints_seen = seen
        found = tuple(list_checkpoints(self._run.checkpoints))
        if not _is_complete(found, seen):
            self._checkpoints_seen = _NEVER  # it may have been unreadable: try again
        suites = suites_of(found)
        changed = (found, suites) != (self.checkpoints, self.suites)
        self.checkpoints, self.suites = found, suites
        return changed

    def _poll_texts(self) -> bool:
        changed = False
        log = file_signature(self._run.log_path)
        if log != self._log_seen:
            lines = tail_lines(self._run.log_path, _LOG_LINES)
            # A file that is not empty gave nothing: it may have been unreadable, so try again.
            self._log_seen = log if lines or not (log and log[1]) else None
            changed |= lines != self.log_lines
            self.log_lines = lines
        config = file_signature(self._run.config_path)
        if config != self._config_seen:
            text = _read_text(self._run.config_path)
            self._config_seen = config if text or not (config and config[1]) else None
            lines = _text_lines(text)
            if lines != self.config_lines:
                self.config_lines, self.config, changed = lines, flat_config(text), True
        return changed


def event_view(record: Json) -> EventView:
    """An event as one readable line."""
    return EventView(
        time=finite(record.get("time")),
        step=whole(record.get("step")),
        kind=one_line(record.get("event", ""), 40).replace("_", " "),
        text=event_text(record),
    )


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
