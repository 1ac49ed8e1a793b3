"""Hugging Face's Trainer: the `log_history` of `trainer_state.json`.

It is written with each checkpoint and at the end, so it is not live.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shared.errors import UserError
from shared.files import load_json, open_file, read_bytes
from shared.foreign.files_below import seen_at
from shared.foreign.interface import Claim, Folder, ForeignFacts, Format, Found
from shared.json_text import is_number
from shared.run.foreign import read_step
from shared.run.metrics_log import MetricsTable
from shared.run.record_lines import parse_line

_STATE = "trainer_state.json"
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,15})")
_LIMIT = 256 << 20  # bytes
_HEAD = 64 << 10  # in which its keys begin, being sorted
#: Fields of the state that say how the run was set up.
_SETTINGS = (
    "max_steps",
    "num_train_epochs",
    "train_batch_size",
    "logging_steps",
    "eval_steps",
    "save_steps",
)
_NOT_LIVE = "trainer_state.json is written with each checkpoint: newer steps are not in it yet"


class TrainerState:
    """An output folder is a run: the newest state in it, or in its checkpoints, has it all."""

    name = "Hugging Face"

    def find(self, folder: Folder) -> Claim:
        """See `Format.find`."""
        checkpoints = frozenset(n for n in folder.folders if _CHECKPOINT.fullmatch(n))
        names = checkpoints | (folder.files & {_STATE})
        # A checkpoint's folder is there before the state in it.
        watched = tuple((folder.path / name, seen_at(folder.path / name)) for name in checkpoints)
        newest = _newest(folder.path, names)
        if newest is None or not _is_state(newest):
            return Claim(watched=watched if newest is None else ())
        return Claim((Found(folder.path, self.name, name=folder.path.name),), names)

    def recognises(self, path: Path) -> Iterable[Found]:
        """See `Format.recognises`."""
        if path.suffix != ".json" or not _is_state(path):
            return []
        return [Found(path, self.name, name=path.parent.name)]

    def open(self, found: Found) -> StateReader:
        """See `Format.open`."""
        return StateReader(found.path)

    def written_at(self, found: Found) -> float:
        """See `Format.written_at`."""
        newest = _state_of(found.path)
        return (newest or found.path).stat().st_mtime


def _is_state(path: Path) -> bool:
    """Whether it is the Trainer's: other programs have files of that name."""
    try:
        with open_file(path) as file:
            return b'"log_history"' in file.read(_HEAD)
    except OSError:
        return False


def _state_of(path: Path) -> Path | None:
    """The newest state of an output folder, or the file itself."""
    if not path.is_dir():
        return path
    names = [_STATE, *(p.name for p in path.iterdir() if _CHECKPOINT.fullmatch(p.name))]
    return _newest(path, names)


def _newest(folder: Path, names: Iterable[str]) -> Path | None:
    """The state that was written last: at the end of training beside the checkpoints."""
    found: list[tuple[float, int, Path]] = []
    for name in names:
        checkpoint = _CHECKPOINT.fullmatch(name)
        path = folder / name / _STATE if checkpoint else folder / name
        try:
            written = path.stat().st_mtime
        except OSError:
            continue
        found.append((written, int(checkpoint[1]) if checkpoint else -1, path))
    return max(found)[2] if found else None


def _loaded(state: Path) -> Mapping[str, Any]:
    """Its content. Python's `json` writes NaN and infinities as bare words. Raises OSError or
    UserError.
    """
    try:
        return load_json(state, _LIMIT)
    except UserError:
        value = parse_line(read_bytes(state, _LIMIT))
        if value is None:
            raise
        return value


class StateReader:
    """Reads the whole state again when it is another one; see `Reader`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.table = MetricsTable()
        self.facts = ForeignFacts(live=False, notes=(_NOT_LIVE,))
        self._seen: tuple[Path, int, int] | None = None

    @property
    def share_read(self) -> float:
        """See `Reader.share_read`."""
        return 1.0

    def poll(self) -> bool:
        """See `Reader.poll`."""
        try:
            state = _state_of(self._path)
            if state is None:
                raise FileNotFoundError(2, f"{_STATE} is gone")
            stat = state.stat()
            seen = (state, stat.st_mtime_ns, stat.st_size)
            if seen == self._seen:
                return False
            value = _loaded(state)
        except OSError as error:
            self.facts.problem = f"{_STATE} cannot be read: {error.strerror}"
            return False
        except UserError as error:
            self.facts.problem = str(error).rstrip(".")
            return False
        self._seen = seen
        self.facts.problem = ""
        self._take(value)
        return False

    def _take(self, value: Mapping[str, Any]) -> None:
        table = MetricsTable()
        history = value.get("log_history")
        records = [r for r in history if isinstance(r, dict)] if isinstance(history, list) else []
        table.add_records(records)
        self.table = table
        self.facts.config = {key: str(value[key]) for key in _SETTINGS if is_number(value.get(key))}
        best = value.get("best_model_checkpoint")
        if isinstance(best, str):
            self.facts.config = {**self.facts.config, "best_model_checkpoint": best}
        step, last = read_step(value.get("global_step"))[0], read_step(value.get("max_steps"))[0]
        ended = step is not None and last is not None and 0 < last <= step
        self.facts.status = "completed" if ended else ""
        if isinstance(value.get("trial_name"), str):
            self.facts.name = value["trial_name"]

    def close(self) -> None:
        """See `Reader.close`."""


def make_format() -> Format:
    """The format."""
    return TrainerState()
