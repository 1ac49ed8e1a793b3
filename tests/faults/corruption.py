"""Damage to the files of a run: what disks, kills, editors and ill will make of them."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path

ESCAPES = b"\x1b]0;owned\x07\x1b[2J\x9b31m\xc2\x9b31m\x1b]52;c;aGFja2Vk\x1b\\"
#: What a reader hopes never to find where a value should be, as JSON text.
VALUES = (
    b"null",
    b"true",
    b"-1",
    b"1e308",
    b"-1e999",
    b"NaN",
    b"-Infinity",
    b"18446744073709551615",
    b"-9223372036854775808",
    b"9" * 400,
    b"0." + b"0" * 400 + b"1",
    b'""',
    b'"nan"',
    b'"\\u001b]0;owned\\u0007\\u001b[2J\\u009b31m"',
    b'"\\ud800 lone"',
    b'"\\u202egnp.exe"',
    b'"' + b"x" * 5000 + b'"',
    b"{}",
    b"[]",
    b"[" * 1010 + b"]" * 1010,
    b'{"a":' * 1000 + b"1" + b"}" * 1000,
    b"[" * 100_000 + b"]" * 100_000,
    b'{"step": 1e400, "\\u001b[31m": {"bytes": 1e20}}',
)
#: A value of a record.
VALUE = re.compile(rb'(?<=:) ?(?:"[^"]*"|[-+0-9.eE]+|true|false|null|\{\}|\[\])')
_KEY = re.compile(rb'"[a-z_]+"(?=:)')

Damage = Callable[[random.Random, bytes], bytes]


def half_line(rng: random.Random, data: bytes) -> bytes:
    """Cut off anywhere, as by a kill."""
    return data[: rng.randrange(len(data) + 1)]


def nul_stretch(rng: random.Random, data: bytes) -> bytes:
    """A block that never reached the disk."""
    at, size = rng.randrange(len(data) + 1), rng.choice((1, 16, 512, 4096))
    keep = rng.random() < 0.5
    return data[:at] + b"\0" * size + data[at if keep else at + size :]


def flipped_bit(rng: random.Random, data: bytes) -> bytes:
    """One bit."""
    changed = bytearray(data)
    if changed:
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def swapped_bytes(rng: random.Random, data: bytes) -> bytes:
    """Two neighbours."""
    at = rng.randrange(max(1, len(data) - 1))
    return data[:at] + data[at : at + 2][::-1] + data[at + 2 :]


def stray_bytes(rng: random.Random, data: bytes) -> bytes:
    """Some that mean something to a terminal, to UTF-8 or to JSON, somewhere."""
    at = rng.randrange(len(data) + 1)
    stray = rng.choice(
        (
            *(ESCAPES, b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\x1b"),
            *(b'"', b"\\", b"{", b"}", b"[" * 2000, b"\n", b"\r", b"\t", b": *a", b"\n---\n"),
            rng.randbytes(64),
        )
    )
    return data[:at] + stray + data[at:]


def wrong_value(rng: random.Random, data: bytes) -> bytes:
    """Still a record, with something else where a value was."""
    return _replaced(rng, data, VALUE, rng.choice(VALUES))


def wrong_key(rng: random.Random, data: bytes) -> bytes:
    """Still a record, with another key."""
    key = rng.choice((b'"\\u001b[31mred"', b'"\\ud800"', b'"step"', b'"' + b"k" * 3000 + b'"'))
    return _replaced(rng, data, _KEY, key)


def _replaced(rng: random.Random, data: bytes, pattern: re.Pattern[bytes], by: bytes) -> bytes:
    found = list(pattern.finditer(data))
    if not found:
        return data + by
    match = rng.choice(found)
    return data[: match.start()] + by + data[match.end() :]


def strange_line(rng: random.Random, data: bytes) -> bytes:
    """A whole line of something else."""
    lines = data.split(b"\n")
    line = rng.choice((*VALUES, ESCAPES, b"not json", b"\xef\xbb\xbf", b"\0" * 300, b"{}", b"{"))
    lines.insert(rng.randrange(len(lines) + 1), line)
    return b"\n".join(lines)


def shuffled_lines(rng: random.Random, data: bytes) -> bytes:
    """Lines in another order, some twice, some gone."""
    lines = data.splitlines(keepends=True)
    return b"".join(rng.choices(lines, k=len(lines))) if lines else data


def repeated_stretch(rng: random.Random, data: bytes) -> bytes:
    """A piece written twice."""
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:b] + data[a:]


def dos_lines(_rng: random.Random, data: bytes) -> bytes:
    """Touched by an editor that ends lines its own way."""
    return data.replace(b"\n", b"\r\n")


def byte_order_mark(_rng: random.Random, data: bytes) -> bytes:
    """Touched by another."""
    return b"\xef\xbb\xbf" + data


def other_encoding(_rng: random.Random, data: bytes) -> bytes:
    """And by a third."""
    return data.decode("utf-8", "replace").encode("utf-16")


def noise(rng: random.Random, data: bytes) -> bytes:
    """What was never a file."""
    return rng.randbytes(len(data) or 100)


def huge_line(rng: random.Random, data: bytes) -> bytes:
    """One of 10 MB."""
    fill = rng.choice((b"x", b" ", b"[", b"\x1b[2J", b'{"a":', b"9", b"\0"))
    line = (fill * (10 << 20))[: 10 << 20]
    lines = data.split(b"\n")
    lines.insert(rng.randrange(len(lines)), line)
    return b"\n".join(lines)


def emptied(_rng: random.Random, _data: bytes) -> bytes:
    """Nothing left."""
    return b""


DAMAGES: tuple[Damage, ...] = (
    *(half_line, nul_stretch, flipped_bit, swapped_bytes, stray_bytes, wrong_value, wrong_key),
    *(strange_line, shuffled_lines, repeated_stretch, dos_lines, byte_order_mark),
    *(other_encoding, noise, emptied),
)
#: How often a file gets a line of 10 MB, which takes its time.
HUGE = 0.01


def damage(rng: random.Random, data: bytes) -> tuple[bytes, list[str]]:
    """`data` with one to three things done to it, and their names."""
    chosen = rng.choices(DAMAGES, k=rng.choice((1, 1, 2, 3)))
    # More often than the others: it is what gets past a parser.
    chosen = [rng.choice((c, wrong_value)) for c in chosen]
    if rng.random() < HUGE:
        chosen.append(huge_line)
    for one in chosen:
        data = one(rng, data)
    return data, [one.__name__ for one in chosen]


def a_folder(path: Path) -> None:
    """A folder in its place."""
    path.mkdir()


def a_pipe(path: Path) -> None:
    """A pipe into which nobody writes: who opens it to read waits for ever."""
    os.mkfifo(path)


def a_dangling_link(path: Path) -> None:
    """A link to nothing."""
    path.symlink_to("nowhere")


def a_link_to_itself(path: Path) -> None:
    """A link that never ends."""
    path.symlink_to(path.name)


def nothing(_path: Path) -> None:
    """No file at all."""


REPLACEMENTS: tuple[Callable[[Path], None], ...] = (
    *(a_folder, a_pipe, a_dangling_link, a_link_to_itself, nothing),
)


def request_record(request_id: str) -> bytes:
    """A request as a monitor leaves it."""
    record = {
        "id": request_id,
        "action": "stop",
        "arguments": {},
        "asked_by": "somebody@box:1",
        "time": 1_790_000_000.0,
    }
    return json.dumps(record).encode() + b"\n"
