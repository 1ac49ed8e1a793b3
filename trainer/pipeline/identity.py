"""What a file, a folder or a checkpoint holds, as one short text: equal for equal content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from shared.checkpoints.manifest import MANIFEST, PACKED, file_sha256, read_manifest, verify_folder
from shared.errors import RunError
from shared.json_text import encode_json
from shared.text import one_line

GONE = ""


def identity_of(path: Path) -> str:
    """The identity of what `path` holds; empty if it is gone or a damaged checkpoint.

    A checkpoint is what its manifest lists, and every file is compared with its checksum. Raises
    RunError for what cannot be read.
    """
    try:
        if (path / MANIFEST).is_file():
            return _of_checkpoint(path)
        if path.is_dir():
            return _of_folder(path)
        return file_sha256(path) if path.is_file() else GONE
    except OSError as error:
        raise RunError(
            f"Cannot read {one_line(error.filename or path)}: {error.strerror}."
        ) from error


def _of_checkpoint(folder: Path) -> str:
    if verify_folder(folder):
        return GONE
    manifest = read_manifest(folder)
    if manifest is None:
        return GONE
    # A checkpoint that was compressed since is the same one.
    whole = {name: entry for name, entry in manifest.files.items() if not name.endswith(PACKED)}
    return _digest(sorted({**whole, **manifest.packed}.items()))


def _of_folder(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [os.fsencode(path.relative_to(folder)).hex() for path in files]
    return _digest([(name, file_sha256(path)) for name, path in zip(names, files, strict=True)])


def identities(paths: Iterable[Path]) -> dict[str, str]:
    """The identity of each path."""
    return {str(path): identity_of(path) for path in paths}


def key_of(settings: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """One text for everything that a stage's outputs depend on."""
    return _digest([dict(settings), sorted(inputs.items())])


def _digest(value: Any) -> str:
    return hashlib.sha256(encode_json({"of": value})).hexdigest()
