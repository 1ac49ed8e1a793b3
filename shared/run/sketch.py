"""Lines from all of a long file of which only the beginning is here.

The copy of another host's metrics is whole up to some byte. Until it reaches the end, a hidden file
beside it has evenly spaced lines of the file as it is there, so that nobody takes the beginning for
the whole. It begins with two lines of its own; the rest can be read as the file itself.
"""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from shared.files import open_file, replace_file
from shared.json_text import Json, encode_json, parse_json
from shared.run.spread import Found

MOST = 4 << 20  # bytes of a sketch
_HEAD = 256  # bytes of its first line, at most


@dataclass(frozen=True)
class Sketch:
    """Lines and where they begin, in the file's order. `size` is that of the whole file in bytes,
    `inode` tells whether it is still that file.
    """

    size: int
    inode: int
    lines: tuple[Found, ...]

    def joined(self, size: int, more: Iterable[Found], most: int) -> Sketch:
        """With more lines of the same file; thinned to at most so many, the last one included."""
        lines = dict(self.lines)
        lines.update(more)
        found = sorted(lines.items())
        while len(found) > max(2, most) or (len(found) > 2 and _bytes(found) > MOST // 2):
            last = found[-1:] if len(found) % 2 == 0 else []
            found = [*found[::2], *last]
        return Sketch(size, self.inode, tuple(found))

    def between(self, first: int, last: int) -> tuple[Found, ...]:
        """The lines that begin in [first, last)."""
        places = [at for at, _ in self.lines]
        return self.lines[bisect.bisect_left(places, first) : bisect.bisect_left(places, last)]


def _bytes(lines: Iterable[Found]) -> int:
    """What they take in a file, with their places."""
    return sum(len(line) + 20 for _, line in lines)


def sketch_path(path: Path) -> Path:
    """Where the sketch of a file is, if there is one."""
    return path.with_name(f".{path.name}.sketch")


def newest_part(path: Path) -> Path:
    """The file at whose end the newest lines are: `path`, or the sketch that stands for its end."""
    sketch = sketch_path(path)
    return sketch if sketch.exists() else path


def sketched_size(path: Path) -> int | None:
    """The size of the whole file in bytes; None if all of it is here."""
    with contextlib.suppress(OSError), open_file(sketch_path(path)) as file:
        return _head(file.readline(_HEAD))[0]
    return None


def read_sketch(path: Path) -> Sketch | None:
    """The sketch of a file; None if all of it is here."""
    try:
        with open_file(sketch_path(path)) as file:
            data = file.read(MOST)
    except OSError:
        return None
    first, _, rest = data.partition(b"\n")
    second, _, rest = rest.partition(b"\n")
    size, inode = _head(first)
    places, lines = _told(second).get("at"), rest.split(b"\n")[:-1]
    if not isinstance(places, list) or len(places) != len(lines):
        return Sketch(size, inode, ())
    if not all(isinstance(at, int) for at in places):
        return Sketch(size, inode, ())
    return Sketch(size, inode, tuple(zip(places, lines, strict=True)))


def write_sketch(path: Path, sketch: Sketch) -> None:
    """Put a sketch beside a file. Raises OSError."""
    parts = [
        encode_json({"size": sketch.size, "inode": sketch.inode}),
        encode_json({"at": [at for at, _ in sketch.lines]}),
        *(line for _, line in sketch.lines),
    ]
    replace_file(sketch_path(path), b"\n".join(parts) + b"\n", durable=False)


def remove_sketch(path: Path) -> None:
    """All of the file is here."""
    with contextlib.suppress(OSError):
        sketch_path(path).unlink()


def _head(line: bytes) -> tuple[int, int]:
    told = _told(line)
    size, inode = told.get("size"), told.get("inode")
    return (size if isinstance(size, int) else 0), (inode if isinstance(inode, int) else 0)


def _told(line: bytes) -> Json:
    try:
        value = parse_json(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
