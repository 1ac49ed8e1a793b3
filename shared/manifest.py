"""The manifest of a checkpoint: size and checksum of every file, written last."""

from __future__ import annotations

import hashlib
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.files import read_json, replace_file
from shared.records import SCHEMA_VERSION, Json, encode_json, is_number

MANIFEST = "manifest.json"
_OWN_SUM = re.compile(rb'"manifest_sha256": ?"([^"]*)"')
_NO_SUM = "0" * 64


@dataclass(frozen=True)
class Manifest:
    """`manifest.json`: `files` maps each name to (bytes, sha256), `facts` holds the rest."""

    step: int
    created_at: float
    files: dict[str, tuple[int, str]]
    facts: Json

    @property
    def total_bytes(self) -> int:
        """Bytes of all listed files."""
        return sum(size for size, _ in self.files.values())


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path, step: int, facts: Mapping[str, Any]) -> Manifest:
    """Describe every file now in `folder`; `facts` (losses, tokens…) go in as they are."""
    files = {
        p.name: (p.stat().st_size, file_sha256(p))
        for p in sorted(folder.iterdir())
        if p.is_file() and p.name != MANIFEST
    }
    manifest = Manifest(step, time.time(), files, dict(facts))
    value = {
        **manifest.facts,
        "schema_version": SCHEMA_VERSION,
        "step": step,
        "created_at": manifest.created_at,
        "files": {name: {"bytes": n, "sha256": s} for name, (n, s) in files.items()},
        "manifest_sha256": _NO_SUM,
    }
    blank = encode_json(value, indent=True) + b"\n"
    replace_file(folder / MANIFEST, _with_own_sum(blank, hashlib.sha256(blank).hexdigest()))
    return manifest


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
    value = read_json(folder / MANIFEST)
    if value is None:
        return None
    step, files, created = value.get("step"), value.get("files"), value.get("created_at")
    if not isinstance(step, int) or not isinstance(files, dict):
        return None
    entries: dict[str, tuple[int, str]] = {}
    for name, entry in files.items():
        # A name with a slash would let a manifest speak of files outside its folder.
        if not isinstance(entry, dict) or "/" in name or "\0" in name or name in ("", ".", ".."):
            return None
        size, digest = entry.get("bytes"), entry.get("sha256")
        if not isinstance(size, int) or not isinstance(digest, str):
            return None
        entries[name] = (size, digest)
    known = ("schema_version", "step", "created_at", "files", "manifest_sha256")
    facts = {k: v for k, v in value.items() if k not in known}
    return Manifest(step, float(created) if is_number(created) else 0.0, entries, facts)  # type: ignore[arg-type]


def sizes_match(folder: Path, manifest: Manifest) -> bool:
    """Whether every listed file is there with its size: the quick look, without reading it."""
    try:
        return all((folder / n).stat().st_size == size for n, (size, _) in manifest.files.items())
    except OSError:
        return False


def verify_folder(folder: Path) -> list[str]:
    """What is wrong with `folder` by its manifest, as sentences; empty when sound.

    Files the manifest does not list are none of its business.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return [f"{folder.name}/{MANIFEST} is missing or unreadable"]
    problems: list[str] = []
    if not _own_sum_holds((folder / MANIFEST).read_bytes()):
        problems.append(f"{folder.name}/{MANIFEST} does not match its own checksum")
    for name, (size, digest) in manifest.files.items():
        path = folder / name
        try:
            found = path.stat()
            actual = found.st_size
            if not stat.S_ISREG(found.st_mode):
                problems.append(f"{folder.name}/{name} is not a file")
            elif actual != size:
                problems.append(f"{folder.name}/{name} has {actual} bytes instead of {size}")
            elif file_sha256(path) != digest:
                problems.append(f"{folder.name}/{name} does not match its checksum")
        except OSError as error:
            problems.append(f"{folder.name}/{name} cannot be read: {error.strerror}")
    return problems
