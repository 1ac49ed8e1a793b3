"""`labels.json`: names, tags and notes that people give a run. The trainer never writes it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shared.errors import RunError, UserError
from shared.files import write_json
from shared.json_text import Json, parse_json
from shared.ownership.claim import hold_lock
from shared.ownership.lock import LockHeldError
from shared.run.directory import RunDirectory
from shared.run.records import SCHEMA_VERSION
from shared.text import many_lines, one_line

LABELS = "labels.json"
LOCK = ".labels.lock"

# Characters, and how many tags.
MAX_NAME = 100
MAX_NOTE = 4000
MAX_TAG = 40
MAX_TAGS = 32
MAX_BYTES = 256 << 10  # of the file; a larger one is not ours

WAIT = 5.0  # seconds for another writer to finish
_TRIES = 5


@dataclass(frozen=True)
class Labels:
    """Safe to show. `name` replaces the run's own name; `note` may have several lines."""

    name: str = ""
    tags: tuple[str, ...] = ()
    note: str = ""
    archived: bool = False

    @classmethod
    def from_json(cls, value: Json) -> Labels:
        """Read any object. Valid fields are sanitized and cut to their limits."""
        name, note, tags = value.get("name"), value.get("note"), value.get("tags")
        return cls(
            name=_clean(name, MAX_NAME) if isinstance(name, str) else "",
            tags=_distinct(t for t in tags if isinstance(t, str)) if isinstance(tags, list) else (),
            note=many_lines(note[:MAX_NOTE]).strip() if isinstance(note, str) else "",
            archived=value.get("archived") is True,
        )


def read_labels(run: RunDirectory) -> Labels:
    """The labels of `run`; empty if the file is missing or invalid."""
    return Labels.from_json(_read(run) or {})


def change_labels(
    run: RunDirectory,
    *,
    name: str | None = None,
    note: str | None = None,
    archived: bool | None = None,
    add_tags: Iterable[str] = (),
    remove_tags: Iterable[str] = (),
    wait: float = WAIT,
) -> Labels:
    """Change the given labels and keep the others; an empty text clears a label.

    Works while the run trains. Waits up to `wait` seconds for another writer. Returns the new
    labels. Raises UserError for an invalid text, and RunError when the file cannot be read or
    written.
    """
    added, gone = _checked(add_tags), {tag.casefold() for tag in map(_plain, remove_tags)}
    changes: Json = {}
    if name is not None:
        changes["name"] = _within(_plain(name), MAX_NAME, "A name")
    if note is not None:
        changes["note"] = _within(many_lines(note).strip(), MAX_NOTE, "A note")
    if archived is not None:
        changes["archived"] = archived
    try:
        with _alone(run, wait):
            value = _read_to_change(run)
            if added or gone:
                kept = [t for t in Labels.from_json(value).tags if t.casefold() not in gone]
                changes["tags"] = _joined(kept, added)
            value = {"schema_version": SCHEMA_VERSION, **value, **changes}
            _write(run, value)
            return Labels.from_json(value)
    except OSError as error:
        raise RunError(
            f"Run {one_line(run.run_id)} cannot be labelled: {error.strerror}; check that its "
            "folder is there and may be written."
        ) from error


def _read(run: RunDirectory) -> Json | None:
    """The object in the file; None if it is missing or unreadable."""
    try:
        # A pipe of that name must not block the reader.
        fd = os.open(run.path / LABELS, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
                return None
            value = parse_json(os.pread(fd, MAX_BYTES, 0))
        finally:
            os.close(fd)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _read_to_change(run: RunDirectory) -> Json:
    value = _read(run)
    if value is None and os.path.lexists(run.path / LABELS):
        # It may contain someone's notes: do not overwrite them.
        raise RunError(
            f"{LABELS} of {one_line(run.run_id)} cannot be read; repair it or move it away, then "
            "try again."
        )
    return value or {}


def _write(run: RunDirectory, value: Json) -> None:
    for left in reversed(range(_TRIES)):
        try:
            write_json(run.path / LABELS, value)
        except FileNotFoundError:
            # A trainer that is starting removes all temporary files.
            if not left or not run.path.is_dir():
                raise
        else:
            return


@contextlib.contextmanager
def _alone(run: RunDirectory, wait: float) -> Iterator[None]:
    """Within the block, no other tool changes the labels of `run`."""
    try:
        with hold_lock(run.path / LOCK, wait):
            yield
    except LockHeldError as error:
        raise RunError(
            f"The labels of {one_line(run.run_id)} are being changed by {error.holder}; try again."
        ) from error


# -- texts -------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """One line without control characters, with single spaces."""
    return " ".join(one_line(text, MAX_BYTES).split())


def _clean(text: str, limit: int) -> str:
    return " ".join(one_line(text, limit).split())


def _within(text: str, limit: int, what: str) -> str:
    if len(text) > limit:
        raise UserError(f"{what} has at most {limit} characters; this one has {len(text)}.")
    return text


def _distinct(tags: Iterable[str]) -> tuple[str, ...]:
    """The first `MAX_TAGS` non-empty tags, ignoring case."""
    found: dict[str, str] = {}
    for text in tags:
        tag = _clean(text, MAX_TAG)
        if tag and len(found) < MAX_TAGS:
            found.setdefault(tag.casefold(), tag)
    return tuple(found.values())


def _checked(tags: Iterable[str]) -> list[str]:
    checked = []
    for text in tags:
        tag = _within(_plain(text), MAX_TAG, "A tag")
        if not tag or "," in tag:
            raise UserError(
                f"{one_line(text, 60)!r} is not a tag: use one or a few words without commas."
            )
        checked.append(tag)
    return checked


def _joined(kept: list[str], added: list[str]) -> list[str]:
    if len({t.casefold() for t in (*kept, *added)}) > MAX_TAGS:
        raise UserError(f"A run has at most {MAX_TAGS} tags; remove some first.")
    return list(_distinct([*kept, *added]))
