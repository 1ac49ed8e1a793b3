"""What the events of TensorBoard's files say: scalars, settings, restarts."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from shared.json_text import Json
from shared.run.foreign import MAX_STEP, OURS
from shared.run.metrics_columns import TIME
from shared.run.metrics_facts import Facts
from shared.run.metrics_log import MetricsTable
from shared.run.metrics_rows import Columns, Ints
from shared.run.numbers import shortest
from shared.text import one_line, plural

_MOST_TAGS = 10_000
_MOST_KINDS = 100  # that are named where they are not drawn
#: numpy's types of tensor_content, by TensorFlow's number.
_TYPES: Mapping[int, str] = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "u1",
    5: "<i2",
    6: "i1",
    9: "<i8",
    19: "<f2",
}
_LISTS: Mapping[int, str] = {
    1: "float_val",
    2: "double_val",
    3: "int_val",
    4: "int_val",
    5: "int_val",
    6: "int_val",
    9: "int64_val",
}
_HALF, _BFLOAT16 = 19, 14
_START = 1  # of a session: the program began, or began again
_SESSIONS: Mapping[int, str] = {1: "completed", 2: "failed", 3: "running"}
_NOT_DRAWN = {"image": "image", "histo": "histogram", "audio": "sound", "tensor": "tensor"}
_PLUGINS = {
    "images": "image",
    "histograms": "histogram",
    "audio": "sound",
    "text": "text",
    "pr_curves": "PR curve",
    "mesh": "mesh",
}


class Scalars:
    """What the events say, collected by tag until `flushed`."""

    def __init__(self) -> None:
        self.config: dict[str, str] = {}
        self.status = ""
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self._not_drawn: Counter[str] = Counter()
        self._kinds: dict[str, str] = {}
        self._steps: dict[str, list[int]] = {}
        self._values: dict[str, list[float]] = {}
        self._times: dict[int, float] = {}
        self._last: dict[str, int] = {}
        self._front = self._highest = -1
        self._newest: dict[str, Any] = {}
        self._refused: Counter[str] = Counter()
        #: The table's points from this step on are void.
        self._void_from: int | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what is not drawn."""
        return tuple(
            f"{plural(count, kind)} {'is' if count == 1 else 'are'} not drawn"
            for kind, count in self._not_drawn.items()
        )

    def take(self, event: Any) -> None:
        """Take in one event."""
        if not event.HasField("summary"):
            if event.HasField("session_log") and event.session_log.status == _START:
                self._restart(event.step)
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

    def _restart(self, step: int) -> None:
        """The program begins again at `step`: TensorBoard drops what it had logged from there on,
        and so do we.
        """
        if not 0 <= step <= self._highest:
            return
        for tag, steps in self._steps.items():
            kept = [at for at, own in enumerate(steps) if own < step]
            self._steps[tag] = [steps[at] for at in kept]
            self._values[tag] = [self._values[tag][at] for at in kept]
        self._times = {at: time for at, time in self._times.items() if at < step}
        self._last = {tag: min(last, step - 1) for tag, last in self._last.items()}
        self._newest = {}
        self._front, self._highest = min(self._front, step - 1), step - 1
        self._void_from = step if self._void_from is None else min(step, self._void_from)

    def _other(self, value: Any, kind: str | None, tag: str) -> float | None:
        """The number in a tensor; everything else is only noted."""
        plugin = value.metadata.plugin_data.plugin_name
        if plugin and len(self._kinds) < _MOST_TAGS:
            self._kinds[tag] = plugin  # only the first event of a tag has it
        plugin = self._kinds.get(tag, "")
        if plugin == "hparams":
            self._settings(value.metadata.plugin_data.content)
            return None
        if kind == "tensor" and plugin in ("", "scalars"):
            number = _number(value.tensor)
            if number is not None:
                return number
        shown = _PLUGINS.get(plugin) or _NOT_DRAWN.get(kind or "")
        if shown == "tensor" and plugin not in ("", "scalars"):
            shown = f"{one_line(plugin, 30)} value"
        if shown and (shown in self._not_drawn or len(self._not_drawn) < _MOST_KINDS):
            self._not_drawn[shown] += 1
        return None

    def _settings(self, content: bytes) -> None:
        from shared.foreign.event_proto import message

        try:
            told = message("HParams").FromString(content)
        except Exception:  # protobuf's DecodeError, which older versions have elsewhere
            return
        for setting in told.session_start_info.hparams[:_MOST_TAGS]:
            kind = setting.value.WhichOneof("kind")
            if kind:
                held = getattr(setting.value, kind)
                self.config[setting.key] = _text(held)
        if told.session_start_info.start_time_secs:
            self.started_at = told.session_start_info.start_time_secs
        if told.HasField("session_end_info"):
            self.status = _SESSIONS.get(told.session_end_info.status, "")
            self.ended_at = told.session_end_info.end_time_secs or None

    def flushed(self, table: MetricsTable) -> MetricsTable:
        """`table` with what was collected appended; another one where points of it are void."""
        if self._void_from is not None:
            table = _before(table, self._void_from)
            self._void_from = None
        columns: list[Columns] = [
            (_ints(steps), np.zeros(len(steps), np.int32), {tag: np.array(self._values[tag])})
            for tag, steps in self._steps.items()
            if steps
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
            last_record=self._last_record(),
        )
        for reason, count in self._refused.items():
            facts.refuse_many(reason, count)
        table.join(columns, facts)
        self._steps, self._values, self._times = {}, {}, {}
        self._refused.clear()
        return table

    def _last_record(self) -> Json:
        if self._front < 0:
            return {}
        return {"step": self._front, "time": self._times.get(self._front), **self._newest}


def _before(table: MetricsTable, end: int) -> MetricsTable:
    """The points of `table` before the step `end`."""
    kept = MetricsTable()
    columns: list[Columns] = []
    for steps, attempts, values in table.columns():
        chosen = steps < end
        if chosen.any():
            some = {key: column[chosen] for key, column in values.items()}
            columns.append((steps[chosen], attempts[chosen], some))
    facts = table.facts
    front, highest = min(facts.front, end - 1), min(facts.highest, end - 1)
    kept.join(columns, dataclasses.replace(facts, front=front, highest=highest))
    return kept


def _ints(steps: list[int]) -> Ints:
    return np.fromiter(steps, np.int64, len(steps))


def _text(setting: object) -> str:
    if isinstance(setting, bool):
        return "true" if setting else "false"
    return shortest(setting) if isinstance(setting, float) else str(setting)


def _number(tensor: Any) -> float | None:
    """The value of a tensor of rank 0, or with one element."""
    for dim in tensor.tensor_shape.dim:
        if dim.size != 1:
            return None
    kind, content = tensor.dtype, tensor.tensor_content
    if content:
        if kind == _BFLOAT16:
            return _bfloat16(int.from_bytes(content, "little")) if len(content) == 2 else None
        dtype = _TYPES.get(kind)
        if dtype is None or len(content) != np.dtype(dtype).itemsize:
            return None
        return float(np.frombuffer(content, dtype)[0])
    if kind in (_HALF, _BFLOAT16) and len(tensor.half_val):
        bits = tensor.half_val[0] & 0xFFFF
        if kind == _BFLOAT16:
            return _bfloat16(bits)
        return float(np.array([bits], np.uint16).view(np.float16)[0])
    values = getattr(tensor, _LISTS.get(kind, ""), None) if kind in _LISTS else None
    return float(values[0]) if values else None


def _bfloat16(bits: int) -> float:
    """The upper half of a 32-bit float."""
    return float(np.array([bits << 16], np.uint32).view(np.float32)[0])
