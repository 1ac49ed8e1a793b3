"""The manifest of a checkpoint: size and checksum of every file, written last."""

from __future__ import annotations

import errno
import hashlib
import re
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.files import read_bytes, replace_file
from shared.json_text import Json, encode_json, is_number, parse_json
from shared.run.records import SCHEMA_VERSION

MANIFEST = "manifest.json"
PACKED = (
    ".packed"  # behind the name of a file that `shared.checkpoints.compression` has made smaller
)
_OWN_SUM = re.compile(rb'"manifest_sha256": ?"([^"]*)"')
_NO_SUM = "0" * 64
_READ_BYTES = 1 << 20
#: What a file that is not there answers. Any other error may pass: a server that is away, a right
#: that is missing.
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP}

FileEntry = tuple[int, str]
"""Bytes and SHA-256 of a file."""

Advance = Callable[[int], None]
"""Called with the number of bytes that were read since the last call."""


def unseen(count: int) -> None:
    """An `Advance` that nobody looks at."""


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`: `files` maps each name to (bytes, sha256), `facts` holds the rest.

    `packed` tells the same of the files that lie there packed, under their name with `.packed`
    behind it, as they are when unpacked.
    """

    step: int
    created_at: float
    files: dict[str, FileEntry]
    facts: Json
    packed: dict[str, FileEntry] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """Bytes of all listed files."""
        return sum(size for size, _ in self.files.values())


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a checkpoint, as a sentence.

    `damaged`: the checkpoint is; otherwise it could not be read now, which may pass.
    """

    message: str
    damaged: bool = True


def file_sha256(path: Path, advance: Advance = unseen) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_READ_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            advance(count)
    return digest.hexdigest()


def write_manifest(
    folder: Path,
    step: int,
    facts: Mapping[str, Any],
    *,
    packed: Mapping[str, FileEntry] | None = None,
    created_at: float | None = None,
) -> Manifest:
    """Describe every file now in `folder`; `facts` (losses, tokens…) go in as they are.

    `packed` describes the originals of files that are packed now; `created_at` is now by default.
    """
    files = {
        p.name: (p.stat().st_size, file_sha256(p))
        for p in sorted(folder.iterdir())
        if p.is_file() and p.name != MANIFEST
    }
    created = time.time() if created_at is None else created_at
    manifest = Manifest(step, created, files, dict(facts), dict(packed or {}))
    value = {
        **manifest.facts,
        "schema_version": SCHEMA_VERSION,
        "step": step,
        "created_at": manifest.created_at,
        "files": _as_json(files),
        **({"packed": _as_json(manifest.packed)} if packed else {}),
        "manifest_sha256": _NO_SUM,
    }
    blank = encode_json(value, indent=True) + b"\n"
    replace_file(folder / MANIFEST, _with_own_sum(blank, hashlib.sha256(blank).hexdigest()))
    return manifest


def _as_json(files: Mapping[str, FileEntry]) -> Json:
    return {name: {"bytes": size, "sha256": digest} for name, (size, digest) in files.items()}


def _with_own_sum(data: bytes, digest: str) -> bytes:
    """`data` with its (last) `manifest_sha256` set to `digest`; empty where it has none."""
    found = list(_OWN_SUM.finditer(data))
    if not found:
        return b""
    return data[: found[-1].start(1)] + digest.encode() + data[found[-1].end(1) :]


def _own_sum_holds(data: bytes) -> bool:
    """Whether the manifest's bytes have the SHA-256 they name, taken with 64 zeros in its place."""
    blank = _with_own_sum(data, _NO_SUM)
    return _with_own_sum(blank, hashlib.sha256(blank).hexdigest()) == data


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of `folder`, or None when it is missing or not one."""
    try:
        return _parse(read_bytes(folder / MANIFEST))
    except OSError:
        return None


def _parse(data: bytes) -> Manifest | None:
    try:
        value = parse_json(data)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    step, created = value.get("step"), value.get("created_at")
    files, packed = _entries(value.get("files")), _entries(value.get("packed", {}))
    if not isinstance(step, int) or files is None or packed is None:
        return None
    if any(name + PACKED not in files for name in packed):
        return None
    known = ("schema_version", "step", "created_at", "files", "packed", "manifest_sha256")
    facts = {k: v for k, v in value.items() if k not in known}
    return Manifest(step, float(created) if is_number(created) else 0.0, files, facts, packed)  # type: ignore[arg-type]


def _entries(value: object) -> dict[str, FileEntry] | None:
    if not isinstance(value, dict):
        return None
    entries: dict[str, FileEntry] = {}
    for name, entry in value.items():
        # A name with a slash would let a manifest speak of files outside its folder.
        if not isinstance(entry, dict) or "/" in name or "\0" in name or name in ("", ".", ".."):
            return None
        size, digest = entry.get("bytes"), entry.get("sha256")
        if not isinstance(size, int) or not isinstance(digest, str):
            return None
        entries[name] = (size, digest)
    return entries


def sizes_match(folder: Path, manifest: Manifest) -> bool:
    """Whether every listed file is there with its size: the quick look, without reading it."""
    try:
        return all((folder / n).stat().st_size == size for n, (size, _) in manifest.files.items())
    except OSError:
        return False


def verify_folder(folder: Path, advance: Advance = unseen) -> list[str]:
    """What is wrong with `folder` by its manifest, as sentences; empty when sound.

    Files the manifest does not list are none of its business.
    """
    return [problem.message for problem in find_problems(folder, advance)]


def find_problems(folder: Path, advance: Advance = unseen, *, deep: bool = True) -> list[Problem]:
    """What is wrong with `folder`; `deep=False` looks at sizes only and reads no data."""
    try:
        data = read_bytes(folder / MANIFEST)
    except OSError as error:
        gone = error.errno in _GONE
        return [Problem(f"{folder.name}/{MANIFEST} is missing or unreadable", damaged=gone)]
    manifest = _parse(data)
    if manifest is None:
        return [Problem(f"{folder.name}/{MANIFEST} is missing or unreadable")]
    problems: list[Problem] = []
    if not _own_sum_holds(data):
        problems.append(Problem(f"{folder.name}/{MANIFEST} does not match its own checksum"))
    for name, (size, digest) in manifest.files.items():
        path = folder / name
        shown = f"{folder.name}/{name}"
        try:
            found = path.stat()
            actual = found.st_size
            if not stat.S_ISREG(found.st_mode):
                problems.append(Problem(f"{shown} is not a file"))
            elif actual != size:
                problems.append(Problem(f"{shown} has {actual} bytes instead of {size}"))
            elif deep and file_sha256(path, advance) != digest:
                problems.append(Problem(f"{shown} does not match its checksum"))
        except OSError as error:
            gone = error.errno in _GONE
            problems.append(Problem(f"{shown} cannot be read: {error.strerror}", damaged=gone))
    return problems
