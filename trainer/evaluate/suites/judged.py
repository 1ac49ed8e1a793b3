"""An answer with all that was found out about it, and files of such answers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from shared.errors import RunError, UserError
from shared.files import open_file
from shared.json_text import Json, encode_line, is_number
from shared.run.record_lines import parse_line
from shared.text import one_line
from trainer.rewards.quality import Quality

MAX_MESSAGES = 5  # of the compiler, kept with an answer
MAX_MESSAGE = 2000  # characters

#: Which files of answers may be replaced.
Replace = Literal["never", "others", "always"]


@dataclass(frozen=True)
class Judged:
    """Answer number `sample` to `task`.

    `completion` is what the model wrote, `tokens` its length; `ending` is why it ended: `end` where
    the answer does, `stop` at a token that ends texts, `length` when it was cut off, `no room` when
    the prompt alone fills the context. `tested` is None without tests. `quality` is that of answers
    that parse.
    """

    task: str
    sample: int
    completion: str
    ending: str
    tokens: int
    reward: float
    parts: Mapping[str, float]
    parsed: bool
    compiled: bool
    tested: bool | None
    messages: tuple[str, ...] = ()
    quality: Quality | None = None

    def to_json(self) -> Json:
        """As it lies in a file of answers."""
        quality = asdict(self.quality) if self.quality else None
        return {**asdict(self), "messages": list(self.messages), "quality": quality}


def judged_from(entry: Mapping[str, Any]) -> Judged | None:
    """The answer in a line of a file, which anybody may have written; None if it is none."""
    texts = [entry.get(key) for key in ("task", "completion", "ending")]
    counts = [entry.get(key) for key in ("sample", "tokens")]
    flags = [entry.get(key) for key in ("parsed", "compiled")]
    parts, messages, tested = entry.get("parts"), entry.get("messages"), entry.get("tested")
    if (
        not all(isinstance(value, str) for value in texts)
        or not all(type(value) is int and value >= 0 for value in counts)
        or not all(isinstance(value, bool) for value in flags)
        or not is_number(entry.get("reward"))
        or not isinstance(parts, dict)
        or not all(is_number(value) for value in parts.values())
        or not isinstance(messages, list)
        or not (tested is None or isinstance(tested, bool))
    ):
        return None
    return Judged(
        task=entry["task"],
        sample=entry["sample"],
        completion=entry["completion"],
        ending=entry["ending"],
        tokens=entry["tokens"],
        reward=float(entry["reward"]),
        parts={name: float(value) for name, value in parts.items()},
        parsed=entry["parsed"],
        compiled=entry["compiled"],
        tested=tested,
        messages=tuple(str(message)[:MAX_MESSAGE] for message in messages[:MAX_MESSAGES]),
        quality=_quality(entry.get("quality")),
    )


def _quality(value: object) -> Quality | None:
    if not isinstance(value, dict):
        return None
    found = {field.name: value.get(field.name) for field in fields(Quality)}
    if not all(type(number) in (int, bool) for number in found.values()):
        return None
    return Quality(**found)  # type: ignore[arg-type]


class AnswersFile:
    """JSON Lines of answers, written as they come; the first line says what they answer.

    A file that answers the same is continued: what an interrupted evaluation has judged is not
    judged again. `replace`: `never` raises UserError for a file of something else, which `others`
    replaces; `always` replaces any file. Raises RunError when it cannot be written.
    """

    def __init__(self, path: Path, about: Json, *, replace: Replace = "never") -> None:
        self.path = path
        self._about = about
        self.known: list[Judged] = []
        known = self._read(replace) if replace != "always" and os.path.lexists(path) else None
        if known is None:
            self._write([], os.O_TRUNC, first=[self._about])
        else:
            self.known = known
            self._end_line()

    def add(self, answers: Sequence[Judged]) -> None:
        """Append answers, in one write."""
        self._write(answers, os.O_APPEND)

    def _end_line(self) -> None:
        """Have what is added begin a line, behind one that was cut off, too. What is there is never
        written again: a full disk would lose it.
        """
        with self._telling(), open_file(self.path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            whole = file.read(1) == b"\n"
        self._append(b"" if whole else b"\n", os.O_APPEND)

    def _write(self, answers: Sequence[Judged], flag: int, first: Sequence[Json] = ()) -> None:
        lines = [*first, *(answer.to_json() for answer in answers)]
        self._append(b"".join(encode_line(line) + b"\n" for line in lines), flag)

    def _append(self, data: bytes, flag: int) -> None:
        with self._telling():
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flag, 0o644)
            with os.fdopen(fd, "wb") as file:
                file.write(data)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"Cannot write {one_line(self.path)}: {error.strerror}. --no-save measures without "
                "writing; --answers FILE writes elsewhere."
            ) from error

    def _read(self, replace: Replace) -> list[Judged] | None:
        """The answers that are there; None if the file is to be replaced."""
        try:
            with open_file(self.path) as file:
                entries = list(_entries(file))
        except OSError as error:
            raise UserError(
                f"{one_line(self.path)} cannot be read: {error.strerror}. Name another file with "
                "--answers."
            ) from error
        if not entries or entries[0] != self._about:
            if replace == "others":
                return None
            raise UserError(
                f"{one_line(self.path)} holds other answers than those asked for; --force "
                "replaces it."
            )
        answers = {}
        for entry in entries[1:]:
            with contextlib.suppress(OverflowError):
                answer = judged_from(entry)
                if answer is not None:
                    answers[answer.task, answer.sample] = answer
        return list(answers.values())


def _entries(lines: Iterator[bytes] | Any) -> Iterator[Json]:
    for line in lines:
        entry = parse_line(line)
        if entry is not None:
            yield entry
