"""`run_state.json`: the only module that writes it."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from shared.files import read_json, write_json
from shared.json_text import Json, parse_nonfinite, split_nonfinite
from shared.run.directory import RunDirectory
from shared.run.numbers import step_changes
from shared.run.records import RunState

#: Steps that wait to be taken in, at most: a disk that hangs stops who usually does it.
MOST_WAITING = 256

_KNOWN = frozenset(field.name for field in dataclasses.fields(RunState))


class WriteJson(Protocol):
    """Replaces a JSON file atomically, like `shared.files.write_json`."""

    def __call__(self, path: Path, value: Mapping[str, Any], *, durable: bool) -> None:
        """Raises OSError when the file cannot be written."""


class StateFile:
    """The state of a run, in memory and on disk. For the holder of the run's lock.

    Unknown keys: a key in the file that this version does not know (a newer program wrote it)
    stays there. A field name in code that `RunState` does not have is a TypeError.

    A failed write (a full disk) raises OSError and leaves the old file in place. The change stays
    in memory: `dirty` is true, `problem` is the error, and the next `save` writes the change.

    All methods are thread-safe: an older state never overwrites a newer one.
    """

    def __init__(
        self,
        run: RunDirectory,
        *,
        check: Callable[[], None] | None = None,
        stamps: Callable[[], Mapping[str, Any]] | None = None,
        write: WriteJson = write_json,
    ) -> None:
        """Read the file, or start from the defaults if there is none.

        `check` runs before every write and raises OSError to prevent it. `stamps` returns fields
        to set at every write, such as `updated_at`.
        """
        value = read_json(run.state_path)
        #: Whether there was a readable state.
        self.found = value is not None
        self.problem: OSError | None = None
        self._dirty = False
        self._finished: deque[tuple[int, Mapping[str, Any], Mapping[str, Any]]] = deque()
        self._path = run.state_path
        self._check, self._stamps, self._write = check, stamps, write
        state = RunState(run_id=run.run_id) if value is None else RunState.from_json(value)
        self._unknown = _unknown_keys(value or {})
        # A plain dict: building a frozen state of 30 fields costs more than the rest of a step's
        # bookkeeping. `state` builds one on demand.
        self._fields = dict(vars(state))
        self._view = MappingProxyType(self._fields)
        self._guard = threading.Lock()
        self._writing = threading.Lock()

    @property
    def state(self) -> RunState:
        """The state as the next `save` would write it, without the stamps."""
        with self._guard:
            self._take_in()
            return RunState(**self._fields)

    @property
    def dirty(self) -> bool:
        """Whether the file lacks a change."""
        return self._dirty or bool(self._finished)

    @property
    def fields(self) -> Mapping[str, Any]:
        """The fields of the state by name. Cheaper than `state`.

        A view that follows every change; what finished steps change, when `fields` is asked for.
        """
        if self._finished:
            with self._guard:
                self._take_in()
        return self._view

    def finish_step(
        self, step: int, metrics: Mapping[str, Any], counters: Mapping[str, Any]
    ) -> None:
        """Change what the metrics of a finished step change, and the fields in `counters`.

        Both are kept until the state is asked for or written: a step that comes every few
        milliseconds should not find out what nobody sees.
        """
        self._finished.append((step, metrics, counters))
        if len(self._finished) >= MOST_WAITING:
            with self._guard:
                self._take_in()

    def _take_in(self) -> None:
        while self._finished:
            step, metrics, counters = self._finished.popleft()
            self._fields.update(step_changes(self._fields, step, metrics))
            self._fields.update(counters)
            self._dirty = True

    def set(self, **changes: Any) -> None:
        """Change fields in memory; `save` writes them. Raises TypeError for an unknown field."""
        if not changes.keys() <= self._fields.keys():
            unknown = sorted(changes.keys() - self._fields.keys())
            raise TypeError(f"RunState has no field {', '.join(unknown)}")
        with self._guard:
            self._take_in()
            self._fields.update(changes)
            self._dirty = True

    def save(self, *, durable: bool = True) -> None:
        """Write the file. `durable=False` skips fsync. Raises OSError."""
        with self._writing:  # from snapshot to rename
            with self._guard:
                self._take_in()
                if self._stamps is not None:
                    self._fields.update(self._stamps())
                state = RunState(**self._fields)
                self._dirty = False
            try:
                if self._check is not None:
                    self._check()
                self._write(self._path, self._with_unknown(state.to_json()), durable=durable)
            except OSError as error:
                self._dirty, self.problem = True, error
                raise
            self.problem = None

    def update(self, **changes: Any) -> None:
        """Change fields and write the file durably. Raises OSError or TypeError."""
        self.set(**changes)
        self.save()

    def _with_unknown(self, known: Json) -> Json:
        if not self._unknown:
            return known
        unknown = split_nonfinite(self._unknown)
        named = {**unknown.pop("nonfinite", {}), **known.get("nonfinite", {})}
        return {**known, **unknown, **({"nonfinite": named} if named else {})}


def _unknown_keys(value: Json) -> Json:
    """What this version does not know; numbers that are null and named non-finite are floats."""
    named = value.get("nonfinite")
    found = {key: item for key, item in value.items() if key not in _KNOWN}
    for key, name in named.items() if isinstance(named, dict) else ():
        if key in found and found[key] is None and isinstance(name, str):
            found[key] = parse_nonfinite(name)
    return found
