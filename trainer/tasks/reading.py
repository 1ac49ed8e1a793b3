"""Files of tasks, in the formats that exist: each is recognised by what is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from shared.errors import UserError
from shared.files import expand_user, open_file
from shared.json_text import parse_json
from shared.text import format_bytes, one_line
from trainer.data.compressed import damages, opened
from trainer.data.inputs import extension_of, find_inputs
from trainer.tasks import benchmark_records, exercism, rust_files
from trainer.tasks.prompt import Prompt
from trainer.tasks.records import BadTaskError, text, text_if_any
from trainer.tasks.signatures import signature_in

MAX_BYTES = 512 * 1024 * 1024  # of a file's content; tasks are kept in memory

Record = Mapping[str, Any]


class Format(NamedTuple):
    """A format of records: how to recognise one, and the tasks in it."""

    name: str
    is_one: Callable[[Record], bool]
    read: Callable[[Record], Iterable[Prompt]]


def is_own(record: Record) -> bool:
    """Whether a record is in our own format."""
    return {"id", "prompt"} <= record.keys()


def own(record: Record) -> Iterator[Prompt]:
    """A task in our own format. Raises BadTaskError."""
    language = text_if_any(record, "language") or "rust"
    prompt = text(record, "prompt")
    yield Prompt(
        id=text(record, "id"),
        prompt=prompt,
        language=language,
        signature=text_if_any(record, "signature") or signature_in(prompt, language),
        tests=text_if_any(record, "tests"),
        template=text_if_any(record, "template"),
        reference=text_if_any(record, "reference"),
    )


#: In the order in which they are tried.
FORMATS = (
    Format("trainer's tasks", is_own, own),
    Format("HumanEval-X", benchmark_records.is_humaneval_x, benchmark_records.humaneval_x),
    Format("HumanEval", benchmark_records.is_humaneval, benchmark_records.humaneval),
    Format("MultiPL-E", benchmark_records.is_multipl_e, benchmark_records.multipl_e),
    Format("exercism exercises", exercism.is_exercise, exercism.exercise),
    Format("Rust files with tests", rust_files.is_rust_file, rust_files.rust_file),
)
_KNOWN = ", ".join(form.name for form in FORMATS)


def read_prompts(path: str | Path) -> list[Prompt]:
    """The tasks in a file or folder.

    A file is JSON Lines or a JSON list, maybe compressed, or a Rust file; a folder is a checkout of
    exercism's track, or holds Rust files. Raises UserError with file and line for what is no task,
    for two tasks with one id, and where there is none at all.
    """
    place = expand_user(path)
    shown = one_line(place)
    tasks: dict[str, Prompt] = {}
    for where, record in _records_at(place, shown):
        try:
            found = list(_tasks(record))
        except BadTaskError as error:
            problem = str(error)
            space = "" if problem.startswith(":") else " "
            raise UserError(f"{shown} {where}{space}{problem}.") from error
        for task in found:
            if task.id in tasks:
                raise UserError(
                    f"{shown} {where} has the id of an earlier task: {one_line(task.id)}."
                )
            tasks[task.id] = task
    if not tasks:
        raise UserError(f"{shown} has no task: give JSON Lines of {_KNOWN}.")
    return list(tasks.values())


def _tasks(record: object) -> Iterable[Prompt]:
    if not isinstance(record, dict):
        raise BadTaskError("is not a JSON object")
    for form in FORMATS:
        if form.is_one(record):
            return form.read(record)
    fields = ", ".join(map(one_line, list(record)[:12])) or "none"
    raise BadTaskError(f"is no task of a known format ({_KNOWN}); its fields are {fields}")


def _records_at(place: Path, shown: str) -> Iterator[tuple[str, object]]:
    """Each record of a file or folder, with its place."""
    if not place.is_dir():
        data = _content(place)
        if extension_of(place) == ".rs":
            yield "", {"path": place.name, "text": data.decode("utf-8", "replace")}
        else:
            yield from _records(data, shown)
        return
    try:
        if (place / exercism.PRACTICE).is_dir():
            yield from exercism.checkout(place)
            return
    except OSError as error:
        where = one_line(error.filename or place)
        raise UserError(f"Cannot read {where}: {error.strerror}.") from error
    for file in find_inputs([str(place)]).files:
        if extension_of(file.path) == ".rs":
            source = _content(file.path).decode("utf-8", "replace")
            yield "", {"path": file.path.relative_to(place).as_posix(), "text": source}


def _content(path: Path) -> bytes:
    shown = one_line(path)
    try:
        with open_file(path) as raw, opened(path, raw, None) as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        if error.errno is None:  # what gzip and bz2 raise for bytes that are not theirs
            raise _damaged(shown, error) from error
        raise UserError(f"Cannot read {shown}: {error.strerror}.") from error
    except damages() as error:
        raise _damaged(shown, error) from error
    if len(data) > MAX_BYTES:
        raise UserError(f"{shown} has more than {format_bytes(MAX_BYTES)}: divide it.")
    return data.removeprefix(b"\xef\xbb\xbf")


def _damaged(shown: str, error: Exception) -> UserError:
    return UserError(f"{shown} is damaged or cut short ({one_line(error)}): copy it again.")


def _records(data: bytes, shown: str) -> Iterator[tuple[str, object]]:
    """Each record with its place."""
    if data.lstrip()[:1] == b"[":
        records = _parsed(data, f"{shown} begins like a JSON list, but")
        for number, record in enumerate(_listed(records), 1):
            yield f"record {number}", record
        return
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            yield f"line {number}", _parsed(line, f"{shown} line {number}")


def _listed(records: object) -> Iterable[object]:
    return records if isinstance(records, list) else ()


def _parsed(data: bytes, place: str) -> object:
    try:
        return parse_json(data)
    except ValueError as error:
        raise UserError(f"{place} is not JSON: {one_line(error)}.") from error
