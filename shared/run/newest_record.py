"""The newest records of a metrics log, without reading all of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from shared.files import open_file
from shared.json_text import Json
from shared.run.foreign import canonical, read_step
from shared.run.record_lines import parse_line
from shared.run.sketch import newest_part
from shared.run.text_form import TextForm

_HEAD = 4 << 10
_TAILS = (16 << 10, 1 << 20, 64 << 20)  # bytes read, the more where a line is longer
_DECODED = 4 << 20  # bytes up to which a file that has to be decoded is read
_MOST = 200  # records


def newest_records(path: Path) -> list[Json]:
    """The last records that have a step, the newest first, flat and with a whole `step`.

    None of a file that is missing or unreadable.
    """
    try:
        with open_file(newest_part(path)) as file:
            form = TextForm()
            form.feed(file.read(_HEAD))
            size = file.seek(0, 2)
            if not form.is_plain and size > _HEAD:
                file.seek(0)
                whole = TextForm()
                text = whole.feed(file.read(_DECODED)) if size <= _DECODED else b""
                return list(_records(text))
            for length in _TAILS:
                file.seek(max(0, size - length))
                data = file.read(length)
                text = data.replace(b"\r", b"\n") if form.is_plain else TextForm().feed(data)
                if (found := list(_records(text))) or size <= length:
                    return found
    except OSError:
        pass
    return []


def _records(text: bytes) -> Iterator[Json]:
    count = 0
    for line in reversed(text.split(b"\n")):
        record = parse_line(line) if line and not line.isspace() else None
        if record is None:
            continue
        flat, key = canonical(record)
        step = None if key is None else read_step(flat["step"])[0]
        if step is not None:
            yield {**flat, "step": step}
            count += 1
            if count == _MOST:
                return
