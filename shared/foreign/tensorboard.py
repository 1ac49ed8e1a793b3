"""TensorBoard's event files: every scalar of them, with their checksums verified.

A file is records of `length, CRC of the length, data, CRC of the data`; the CRCs are Castagnoli's,
masked. Data are `Event` messages. Several writers may log into one folder; the folder is the run.
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shared.foreign.interface import Claim, Folder, ForeignFacts, Format, Found, Reader
from shared.foreign.records import share_of
from shared.run.foreign import MAX_STEP, OURS
from shared.run.metrics_columns import TIME
from shared.run.metrics_facts import Facts
from shared.run.metrics_log import MetricsTable
from shared.run.tail import ByteTail
from shared.text import one_line, plural

_NAME = re.compile(r"tfevents")
_STAMP = re.compile(r"tfevents\.(\d{1,20})")
_SLICE = 256 << 10  # bytes read at a time, some milliseconds
_MOST = 64 << 20  # bytes of a record that is believed
_HEAD = struct.Struct("<QI")
_HEADER = 12
_FOOTER = 4
_SEARCH = 1 << 20  # bytes searched for the next record after a damaged one
_MASK = 0xA282EAD8
_MOST_TAGS = 10_000
#: numpy's types of tensor_content, by TensorFlow's number.
_TYPES: Mapping[int, str] = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}
_LISTS: Mapping[int, str] = {1: "float_val", 2: "double_val", 3: "int_val", 9: "int64_val"}
_HALF = 19
_SESSIONS: Mapping[int, str] = {1: "completed", 2: "failed", 3: "running"}
_NOT_DRAWN = {"image": "image", "histo": "histogram", "audio": "sound"}
_PLUGINS = {
    "images": "image",
    "histograms": "histogram",
    "audio": "sound",
    "text": "text",
    "pr_curves": "PR curve",
    "mesh": "mesh",
}


class TensorBoard:
    """Each folder with event files is a run, sub-folders are runs of their own."""

    name = "TensorBoard"

    def find(self, folder: Folder) -> Claim:
        """See `Format.find`."""
        names = frozenset(name for name in folder.files if _NAME.search(name))
        if not names:
            return Claim()
        return Claim((Found(folder.path, self.name, name=folder.path.name),), names)

    def recognises(self, path: Path) -> Iterable[Found]:
        """See `Format.recognises`."""
        return [Found(path, self.name)] if _NAME.search(path.name) else []

    def open(self, found: Found) -> Reader:
        """See `Format.open`."""
        return EventReader(found.path)

    def written_at(self, found: Found) -> float:
        """See `Format.written_at`."""
        times = [_time_of(path) for path in event_files(found.path)]
        if not any(times):
            raise FileNotFoundError(2, "its event files are gone", str(found.path))
        return max(times)


def _time_of(path: Path) -> float:
    """0 for one that is gone, or a link to nowhere: the others are read all the same."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def event_files(path: Path) -> list[Path]:
    """The event files of a folder, by the time in their names, or the one file. Raises OSError."""
    if not path.is_dir():
        path.stat()
        return [path]
    names = [name for name in os.listdir(path) if _NAME.search(name)]  # noqa: PTH208
    if not names:
        raise FileNotFoundError(2, "its event files are gone", str(path))
    return [path / name for name in sorted(names, key=lambda name: (_stamp(name), name))]


def _stamp(name: str) -> int:
    found = _STAMP.search(name)
    return int(found[1]) if found else 0


class EventReader:
    """Follows the event files of a folder, one after the other and then all of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.facts = ForeignFacts()
        self._start_over()

    def _start_over(self) -> None:
        self.table = MetricsTable()
        self._files: dict[Path, _EventFile] = {}
        self._scalars = _Scalars()

    @property
    def share_read(self) -> float:
        """See `Reader.share_read`."""
        return share_of(sum(file.offset for file in self._files.values()), self._files)

    def poll(self) -> bool:
        """See `Reader.poll`."""
        try:
            paths = event_files(self._path)
        except OSError as error:
            self.facts.problem = f"it cannot be read: {error.strerror}"
            return False
        for path in paths:
            self._files.setdefault(path, _EventFile(path))
        for file in [self._files[path] for path in paths]:
            more = self._read(file)
            if more is None:
                self._start_over()
                return True
            if more:
                return True
        return False

    def _read(self, file: _EventFile) -> bool | None:
        """Read on in one file; None when it is another file now."""
        events = list(file.events())
        if file.restarted:
            return None
        for event in events:
            self._scalars.take(event)
        if events:
            self._scalars.flush(self.table)
        self._tell()
        return file.more

    def _tell(self) -> None:
        problems = [file.problem for file in self._files.values() if file.problem]
        self.facts.problem = "; ".join(problems[:3])
        scalars = self._scalars
        self.facts.config = scalars.config
        self.facts.status, self.facts.ended_at = scalars.status, scalars.ended_at
        self.facts.started_at = scalars.started_at
        self.facts.notes = tuple(
            f"{plural(count, kind)} {'is' if count == 1 else 'are'} not drawn"
            for kind, count in scalars.not_drawn.items()
        )

    def close(self) -> None:
        """See `Reader.close`."""


class _EventFile:
    """The events of one file, as far as it is whole."""

    def __init__(self, path: Path) -> None:
        from shared.foreign.event_proto import message

        self._event = message("Event")
        self._path = path
        self._bytes = ByteTail(path)
        self._left = b""
        self._damaged = 0
        self._lost = False  # in the middle of damage that is counted
        self.more = False
        self.restarted = False
        self.problem = ""

    @property
    def offset(self) -> int:
        """Bytes read so far."""
        return self._bytes.offset

    def events(self) -> Iterator[Any]:
        """The next events of a slice of the file."""
        piece = self._bytes.read(_SLICE)
        self.restarted, self.more = piece.restarted, piece.more
        if piece.restarted or not piece.data:
            return
        data = self._left + piece.data if self._left else piece.data
        position = 0
        for start, end, position in self._records(data):  # noqa: B007
            try:
                yield self._event.FromString(data[start:end])
            except Exception:  # protobuf's DecodeError, which older versions have elsewhere
                self._refuse()
        self._left = data[self._next :]

    def _records(self, data: bytes) -> Iterator[tuple[int, int, int]]:
        """Where the data of each whole record is."""
        from crc32c import crc32c

        position, size = 0, len(data)
        while size - position >= _HEADER:
            length, told = _HEAD.unpack_from(data, position)
            if length > _MOST or told != _masked(crc32c(data[position : position + 8])):
                found = self._next_record(data, position + 1)
                self._refuse()
                if found is None:
                    # Not found yet: go on with what may be the beginning of a record.
                    self._lost = True
                    position = max(position + 1, size - _HEADER + 1)
                    break
                position = found
                continue
            start = position + _HEADER
            end = start + length
            if end + _FOOTER > size:
                break
            (crc,) = struct.unpack_from("<I", data, end)
            position = end + _FOOTER
            self._lost = False
            if crc == _masked(crc32c(data[start:end])):
                yield start, end, position
            else:
                self._refuse()
        self._next = position

    def _next_record(self, data: bytes, start: int) -> int | None:
        """The next place whose length has the right CRC."""
        from crc32c import crc32c

        last = min(len(data) - _HEADER, start + _SEARCH)
        for position in range(start, last + 1):
            length, told = _HEAD.unpack_from(data, position)
            if length <= _MOST and told == _masked(crc32c(data[position : position + 8])):
                return position
        return None

    def _refuse(self) -> None:
        if self._lost:
            return
        self._damaged += 1
        name = one_line(self._path.name, 80)
        self.problem = f"{name}: {plural(self._damaged, 'damaged record')} left out"


def _masked(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + _MASK) & 0xFFFFFFFF


class _Scalars:
    """What the events say, collected by tag until `flush`."""

    def __init__(self) -> None:
        self.config: dict[str, str] = {}
        self.status = ""
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.not_drawn: Counter[str] = Counter()
        self._kinds: dict[str, str] = {}
        self._steps: dict[str, list[int]] = {}
        self._values: dict[str, list[float]] = {}
        self._times: dict[int, float] = {}
        self._last: dict[str, int] = {}
        self._front = self._highest = -1
        self._newest: dict[str, Any] = {}
        self._refused: Counter[str] = Counter()

    def take(self, event: Any) -> None:
        """Take in one event."""
        if not event.HasField("summary"):
            return
        step, counted = event.step, 0
        for value in event.summary.value:
            kind = value.WhichOneof("kind")
            tag = value.tag
            if kind == "simple_value":
                number: float | None = value.simple_value
            else:
                number = self._other(value, kind, tag)
            if number is None:
                continue
            if not 0 <= step <= MAX_STEP:
                self._refused["have a negative step" if step < 0 else "have a huge step"] += 1
                continue
            steps = self._steps.get(tag)
            if steps is None:
                if len(self._last) >= _MOST_TAGS and tag not in self._last:
                    continue
                steps = self._steps[tag] = []
                self._values[tag] = []
            steps.append(step)
            self._values[tag].append(number)
            if step >= self._front or step < self._last.get(tag, -1):
                if step != self._front:
                    self._newest = {}
                self._front = step
                self._newest[tag] = number
            self._last[tag] = step
            counted += 1
        if counted:
            self._highest = max(self._highest, step)
            self._times[step] = event.wall_time

    def _other(self, value: Any, kind: str | None, tag: str) -> float | None:
        """The number in a tensor; everything else is only noted."""
        plugin = value.metadata.plugin_data.plugin_name
        if plugin:
            self._kinds[tag] = plugin  # only the first event of a tag has it
        plugin = self._kinds.get(tag, "")
        if plugin == "hparams":
            self._settings(value.metadata.plugin_data.content)
            return None
        if kind == "tensor" and plugin in ("", "scalars"):
            return _number(value.tensor)
        shown = _NOT_DRAWN.get(kind or "") or _PLUGINS.get(plugin)
        if shown:
            self.not_drawn[shown] += 1
        return None

    def _settings(self, content: bytes) -> None:
        from shared.foreign.event_proto import message

        try:
            told = message("HParams").FromString(content)
        except Exception:  # see `_EventFile.events`
            return
        for setting in told.session_start_info.hparams[:_MOST_TAGS]:
            kind = setting.value.WhichOneof("kind")
            if kind:
                held = getattr(setting.value, kind)
                self.config[setting.key] = f"{held:g}" if kind == "number_value" else str(held)
        if told.session_start_info.start_time_secs:
            self.started_at = told.session_start_info.start_time_secs
        if told.HasField("session_end_info"):
            self.status = _SESSIONS.get(told.session_end_info.status, "")
            self.ended_at = told.session_end_info.end_time_secs or None

    def flush(self, table: MetricsTable) -> None:
        """Append what was collected."""
        columns = [
            (_ints(steps), np.zeros(len(steps), np.int32), {tag: np.array(self._values[tag])})
            for tag, steps in self._steps.items()
        ]
        times = self._times
        if times:
            clock = {TIME: np.fromiter(times.values(), np.float64, len(times))}
            columns.append((_ints(list(times)), np.zeros(len(times), np.int32), clock))
        facts = Facts(
            records=sum(len(steps) for steps in self._steps.values()),
            tier=OURS,
            attempt=0,
            front=self._front,
            highest=self._highest,
            last_record={"step": self._front, "time": times.get(self._front), **self._newest},
        )
        for reason, count in self._refused.items():
            facts.refuse_many(reason, count)
        table.join(columns, facts)
        self._steps, self._values, self._times = {}, {}, {}
        self._refused.clear()


def _ints(steps: list[int]) -> Any:
    return np.fromiter(steps, np.int64, len(steps))


def _number(tensor: Any) -> float | None:
    """The value of a tensor of rank 0, or with one element."""
    for dim in tensor.tensor_shape.dim:
        if dim.size != 1:
            return None
    kind, content = tensor.dtype, tensor.tensor_content
    if content:
        dtype = _TYPES.get(kind)
        if dtype is None or len(content) != np.dtype(dtype).itemsize:
            return None
        return float(np.frombuffer(content, dtype)[0])
    if kind == _HALF and len(tensor.half_val):
        return float(np.array([tensor.half_val[0] & 0xFFFF], np.uint16).view(np.float16)[0])
    values = getattr(tensor, _LISTS.get(kind, ""), None) if kind in _LISTS else None
    return float(values[0]) if values else None


def make_format() -> Format:
    """The format."""
    return TensorBoard()
