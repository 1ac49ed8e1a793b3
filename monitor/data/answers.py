"""Following the newest `samples/rl-iter-N.jsonl`: answers of a model with what they are worth."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path

from monitor.data.tails import Signature, file_signature
from monitor.data.values import finite, whole
from monitor.data.views import AnswerView
from shared.files import open_file
from shared.json_text import Json
from shared.run.record_lines import parse_lines
from shared.text import many_lines, one_line

MAX_FILES = 4  # the newest
MAX_ANSWERS = 32  # of a file
MAX_BYTES = 1 << 20  # of a file; ours have a tenth of it
MAX_TEXT = 8_000  # characters of a prompt or an answer
MAX_MESSAGES = 8
MAX_MESSAGE = 1_000
MAX_PARTS = 12
_NAMED = re.compile(r"rl-iter-(\d{1,15})\.jsonl")
_CUT = " […]"
_FRESH = 1_000_000_000  # nanoseconds

_File = tuple[int, Path]


class AnswersFollower:
    """The answers in the newest files of a run's folder of samples, renewed by `poll`.

    All texts are safe to show and of bounded length, whoever wrote the files. A file that was
    replaced, cut short or that grows is read again; of a torn last line nothing is shown.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        #: The newest iteration first, its answers in the order of the file.
        self.answers: tuple[AnswerView, ...] = ()
        self._listed: object = None
        self._files: list[_File] = []
        self._read: dict[Path, tuple[Signature, tuple[AnswerView, ...]]] = {}

    def poll(self) -> bool:
        """Read what is new; True when the answers changed."""
        self._list()
        read: dict[Path, tuple[Signature, tuple[AnswerView, ...]]] = {}
        for iteration, path in self._files:
            signature = file_signature(path)
            if signature is None:
                continue
            known = self._read.get(path)
            if known is None or known[0] != signature:
                known = signature, _answers(path, iteration)
            read[path] = known
        self._read = read
        found = tuple(answer for _, answers in read.values() for answer in answers)
        changed = found != self.answers
        if changed:
            self.answers = found
        return changed

    def _list(self) -> None:
        """Find the newest files; the folder's own time tells whether there are others."""
        listed = file_signature(self._folder)
        if listed is None:
            self._listed, self._files = None, []
        elif listed != self._listed:
            # Times are coarse: of a folder that has just changed, another change may show no other.
            is_fresh = abs(time.time_ns() - listed[0]) < _FRESH
            self._listed, self._files = None if is_fresh else listed, _newest(self._folder)


def _newest(folder: Path) -> list[_File]:
    """The files of the last iterations, the newest first."""
    try:
        names = os.listdir(folder)  # noqa: PTH208  there may be thousands
    except OSError:
        return []
    found = [(int(m.group(1)), folder / m.group()) for m in map(_NAMED.fullmatch, names) if m]
    return sorted(found, reverse=True)[:MAX_FILES]


def _answers(path: Path, iteration: int) -> tuple[AnswerView, ...]:
    try:
        with open_file(path) as file:
            data = file.read(MAX_BYTES)
    except OSError:
        return ()
    lines = data.split(b"\n")[:-1]  # the last one may still be growing
    records, _ = parse_lines(b"\n".join(lines[:MAX_ANSWERS]) + b"\n")
    return tuple(_answer(record, iteration) for record in records)


def _answer(record: Json, iteration: int) -> AnswerView:
    parts = record.get("parts")
    messages = record.get("messages")
    return AnswerView(
        iteration=iteration,
        prompt_id=one_line(record.get("prompt_id") or "", 120),
        prompt=_text(record.get("prompt"), MAX_TEXT),
        completion=_text(record.get("completion"), MAX_TEXT),
        given=len(_text(record.get("given"), MAX_TEXT)),
        reward=finite(record.get("reward")),
        parts=tuple(_parts(parts)) if isinstance(parts, dict) else (),
        parsed=_told(record.get("parsed")),
        compiled=_told(record.get("compiled")),
        tested=_told(record.get("tested")),
        messages=tuple(
            text
            for message in (messages if isinstance(messages, list) else [])[:MAX_MESSAGES]
            if (text := _text(message, MAX_MESSAGE))
        ),
        tokens=whole(record.get("tokens")),
        truncated=record.get("truncated") is True,
    )


def _parts(parts: Json) -> Iterable[tuple[str, float]]:
    for name, value in list(parts.items())[:MAX_PARTS]:
        points = finite(value)
        if points is not None:
            yield one_line(name, 20), points


def _told(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: object, limit: int) -> str:
    """Text with its line breaks, without control characters; empty for anything else."""
    if not isinstance(value, str):
        return ""
    # A tab has no width that is known; a return alone would be a line break to some.
    clean = many_lines(value[: 2 * limit]).expandtabs(4).replace("\r", "")
    return clean if len(clean) <= limit else clean[: limit - len(_CUT)] + _CUT
