"""`eval.json` of a checkpoint: what `trainer eval` has measured of it, by data set.

It comes after the manifest and is not in it: a checkpoint with it is as sound as without.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.files import read_json, write_json
from shared.json_text import Json, is_number, split_nonfinite
from shared.run.records import SCHEMA_VERSION
from shared.text import one_line

EVALUATION = "eval.json"
MAX_FILES = 1000  # of a data set whose own figures are kept
_PRIVATE = ("command",)  # holds paths of this machine
_SAME = ("sha256", "seq_len", "stride", "max_tokens", "dtype")  # measured again: the newer counts


@dataclass(frozen=True)
class Measured:
    """The loss on one file or data set.

    `loss` is in nats per token, over all `tokens` that were scored; `bits_per_byte` over the
    `bytes` of their text (UTF-8), None where that is not known. `sha256` is of the file's bytes.
    """

    data: str
    sha256: str
    loss: float
    bits_per_byte: float | None
    tokens: int
    bytes: int | None

    @property
    def perplexity(self) -> float:
        """exp(loss), per token; infinite where a float cannot hold it."""
        return math.exp(self.loss) if self.loss < 700 else math.inf

    def to_json(self) -> Json:
        """As it lies in `eval.json`; numbers that are none are named in `nonfinite`."""
        return split_nonfinite({**asdict(self), "perplexity": self.perplexity})


@dataclass(frozen=True)
class Evaluation:
    """A data set, how it was measured, and each of its files by itself.

    `stride` is how far the window of `seq_len` tokens moved. `kind` is text or tokens. `split` is
    `validation` for what was held back in training. `time` is Unix seconds.
    """

    total: Measured
    kind: str
    split: str
    seq_len: int
    stride: int
    max_tokens: int | None
    dtype: str
    time: float
    seconds: float
    command: str
    git_commit: str | None
    version: str
    machine: str
    files: tuple[Measured, ...] = ()

    def to_json(self) -> Json:
        """As it lies in `eval.json`."""
        value = {k: v for k, v in asdict(self).items() if k not in ("total", "files")}
        files = [m.to_json() for m in self.files[:MAX_FILES]]
        left_out = len(self.files) - len(files)
        return {
            **self.total.to_json(),
            **value,
            "files": files,
            **({"files_left_out": left_out} if left_out else {}),
        }


@dataclass(frozen=True)
class Speed:
    """How fast one sequence is read and written, in tokens per second, and where.

    `prefill` over `prompt_tokens` at once, `decode` over `new_tokens` one at a time with a
    key-value cache.
    """

    prefill: float
    decode: float
    prompt_tokens: int
    new_tokens: int
    dtype: str
    machine: str
    time: float


def add_evaluation(folder: Path, results: Sequence[Evaluation], speed: Speed | None) -> None:
    """Put results into the checkpoint's `eval.json`, in the place of those they repeat.

    What a newer program has written there stays. Raises OSError.
    """

    def add(known: Json) -> Json:
        entries = [entry for entry in _list(known, "results") if isinstance(entry, dict)]
        for result in results:
            new = result.to_json()
            entries = [e for e in entries if any(e.get(k) != new[k] for k in _SAME)]
            entries.append(new)
        speeds = [entry for entry in _list(known, "speed") if isinstance(entry, dict)]
        if speed is not None:
            speeds = [e for e in speeds if e.get("machine") != speed.machine]
            speeds.append(asdict(speed))
        return {**known, "results": entries, "speed": speeds}

    edit_evaluation(folder, add)


def edit_evaluation(folder: Path, edit: Callable[[Json], Json]) -> None:
    """Replace the checkpoint's `eval.json` with what `edit` makes of it, alone and atomically.

    Raises OSError.
    """
    with _alone(folder):
        value = edit(read_json(folder / EVALUATION) or {})
        write_json(folder / EVALUATION, {**value, "schema_version": SCHEMA_VERSION})


def read_evaluations(folder: Path) -> list[Evaluation]:
    """The results in a checkpoint's `eval.json` that can be understood, oldest first."""
    found = (_evaluation(e) for e in _list(read_json(folder / EVALUATION) or {}, "results"))
    return [evaluation for evaluation in found if evaluation is not None]


def read_speeds(folder: Path) -> list[Speed]:
    """The speeds in a checkpoint's `eval.json` that can be understood, oldest first."""
    found = (_speed(e) for e in _list(read_json(folder / EVALUATION) or {}, "speed"))
    return [speed for speed in found if speed is not None]


def without_paths(folder: Path) -> Json:
    """`eval.json` as others may read it."""
    value = read_json(folder / EVALUATION) or {}
    listed = [key for key in ("results", "suites") if key == "results" or key in value]
    public: Json = {
        key: [_public(entry) for entry in _list(value, key) if isinstance(entry, dict)]
        for key in listed
    }
    return {**value, **public}


def _public(entry: Mapping[str, Any]) -> Json:
    return {key: value for key, value in entry.items() if key not in _PRIVATE}


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def _evaluation(entry: object) -> Evaluation | None:
    """The result in `entry`, which anybody may have written; None unless it has its numbers."""
    if not isinstance(entry, dict):
        return None
    total = _measured(entry)
    numbers = [entry.get(key) for key in ("seq_len", "stride")]
    if total is None or not all(type(n) is int and n > 0 for n in numbers):
        return None
    limit = entry.get("max_tokens")
    files = [_measured(file) for file in _list(entry, "files") if isinstance(file, dict)]

    def text(key: str) -> str:
        return one_line(entry.get(key) or "", 500)

    return Evaluation(
        total=total,
        kind=text("kind"),
        split=text("split"),
        seq_len=entry["seq_len"],
        stride=entry["stride"],
        max_tokens=limit if type(limit) is int else None,
        dtype=text("dtype"),
        time=_number(entry.get("time")) or 0.0,
        seconds=_number(entry.get("seconds")) or 0.0,
        command=text("command"),
        git_commit=text("git_commit") or None,
        version=text("version"),
        machine=text("machine"),
        files=tuple(file for file in files if file is not None),
    )


def _speed(entry: object) -> Speed | None:
    if not isinstance(entry, dict):
        return None
    prefill, decode = _number(entry.get("prefill")), _number(entry.get("decode"))
    counts = [entry.get(key) for key in ("prompt_tokens", "new_tokens")]
    if prefill is None or decode is None or not all(type(n) is int and n > 0 for n in counts):
        return None
    return Speed(
        prefill=prefill,
        decode=decode,
        prompt_tokens=entry["prompt_tokens"],
        new_tokens=entry["new_tokens"],
        dtype=one_line(entry.get("dtype") or "", 20),
        machine=one_line(entry.get("machine") or "", 200),
        time=_number(entry.get("time")) or 0.0,
    )


def _measured(entry: Mapping[str, Any]) -> Measured | None:
    loss, tokens, size = _number(entry.get("loss")), entry.get("tokens"), entry.get("bytes")
    if loss is None or type(tokens) is not int or tokens < 1:
        return None
    return Measured(
        data=one_line(entry.get("data") or "", 200),
        sha256=one_line(entry.get("sha256") or "", 64),
        loss=loss,
        bits_per_byte=_number(entry.get("bits_per_byte")),
        tokens=tokens,
        bytes=size if type(size) is int and size > 0 else None,
    )


def _number(value: object) -> float | None:
    if not is_number(value):
        return None
    number = float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else None


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two evaluations that end together both keep their results, where the folder can be locked."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
