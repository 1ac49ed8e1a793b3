"""The manifest of sharded tokens, `train.shards.json`: which files the stream consists of.

Like the sidecar of a token file, it describes the tokens as a whole; besides, each shard with its
size, checksum and largest id. It is written last, so a folder without it is unfinished.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from shared.errors import UserError
from shared.files import read_json
from shared.json_text import encode_json
from shared.text import one_line, plural
from trainer.data.marks import SUFFIX as MASK
from trainer.data.tokens import PLAN, Sidecar, check_counts, sidecar_from

FOLDER = "shards-"
_DTYPES = {"uint32": 4, "uint16": 2}
_SPOT = re.compile("[0-9a-f]{16}")
_SHA256 = re.compile("[0-9a-f]{64}")
_AGAIN = "run the same `trainer prepare-data` command again"
#: Blocks of a shard that are compared whenever it is opened; the whole has a SHA-256.
SPOT_BLOCKS = 8
_SHOWN = 3


@dataclass(frozen=True)
class Shard:
    """A file of tokens, of `bytes`, by its path below the manifest's folder.

    The stream takes its first `tokens`, whose ids are at most `largest`. `spot` is a fingerprint of
    few blocks. A shard of conversations has a mask file with `mask_spot` and `mask_sha256`.
    """

    file: str
    bytes: int
    tokens: int
    documents: int
    text_bytes: int
    largest: int
    sha256: str
    spot: str
    counted_tokens: int = 0
    longest: int = 0
    mask_sha256: str = ""
    mask_spot: str = ""

    @property
    def mask_file(self) -> str:
        """The path of its mask file."""
        return str(PurePosixPath(self.file).with_suffix(MASK))


@dataclass(frozen=True)
class Manifest:
    """The stream as a whole, as if it were one file, and its shards in order."""

    stream: Sidecar
    shards: tuple[Shard, ...]

    def to_json(self) -> bytes:
        """The content of the manifest's file."""
        content = self.stream.to_plain() | {"shards": [_plain(shard) for shard in self.shards]}
        return encode_json(content, indent=True) + b"\n"


def _plain(shard: Shard) -> dict[str, Any]:
    content = asdict(shard)
    return content if shard.mask_sha256 else {k: content[k] for k in list(content)[:8]}


def checksum_of(shards: Sequence[Shard]) -> str:
    """16 hex digits that tell streams apart, whatever the names of the files."""
    digest = hashlib.blake2b(digest_size=8)
    for shard in shards:
        digest.update(f"{shard.sha256} {shard.tokens}\n".encode())
    return digest.hexdigest()


def read_manifest(path: Path) -> Manifest:
    """The manifest at `path`. Raises UserError for one that cannot be understood."""
    shown = one_line(path)
    content = read_json(path)
    if content is None:
        raise UserError(f"{shown} is not a JSON object: {_AGAIN}")
    listed = content.get("shards")
    if not isinstance(listed, list) or not listed:
        raise UserError(f"{shown} lists no shards: {_AGAIN}")
    stream = sidecar_from(path, content, dtypes=tuple(_DTYPES))
    shards = tuple(_shard(path, number, entry) for number, entry in enumerate(listed))
    if (total := sum(shard.tokens for shard in shards)) != stream.num_tokens:
        raise UserError(
            f"{shown} says {plural(stream.num_tokens, 'token')}, but its shards have {total:,}: "
            f"it was changed; {_AGAIN}"
        )
    for shard in shards:
        if shard.tokens * _DTYPES[stream.dtype] > shard.bytes:
            raise UserError(f"{shown}: {one_line(shard.file, 80)} is too small for its tokens")
        if bool(shard.mask_sha256) != bool(stream.mask):
            raise UserError(f"{shown} mixes shards of text and of conversations: {_AGAIN}")
    return Manifest(stream, shards)


def _shard(path: Path, number: int, entry: Any) -> Shard:
    where = f"{one_line(path)}: shard {number}"
    if not isinstance(entry, dict):
        raise UserError(f"{where} is not a JSON object: {_AGAIN}")
    known = {field.name for field in fields(Shard)}
    try:
        shard = Shard(**{key: value for key, value in entry.items() if key in known})
    except TypeError as error:
        lacking = one_line(str(error).partition("missing")[2] or error)
        raise UserError(f"{where} does not describe a file (missing{lacking}): {_AGAIN}") from error
    check_counts(
        where,
        asdict(shard),
        ("bytes", "tokens", "documents", "text_bytes", "largest", "counted_tokens", "longest"),
    )
    file = shard.file
    if not isinstance(file, str) or not _is_below(file):
        raise UserError(f"{where}: {one_line(file, 80)!r} is not the name of a file in its folder")
    for key, pattern, needed in (
        ("sha256", _SHA256, True),
        ("spot", _SPOT, True),
        ("mask_sha256", _SHA256, False),
        ("mask_spot", _SPOT, bool(shard.mask_sha256)),
    ):
        value = getattr(shard, key)
        if not isinstance(value, str) or not (pattern.fullmatch(value) or not (value or needed)):
            raise UserError(f"{where}: {key} is {one_line(value, 80)}, not a checksum")
    return shard


def _is_below(file: str) -> bool:
    path = PurePosixPath(file)
    return bool(file) and "\0" not in file and not path.is_absolute() and ".." not in path.parts


def folders_of_shards(folder: Path) -> list[Path]:
    """The folders of shards in `folder`, whether or not they were finished, sorted."""
    try:
        return sorted(place.parent for place in folder.glob(f"{FOLDER}*/{PLAN}"))
    except OSError:
        return []


def has_finished_shards(folder: Path) -> bool:
    """Whether any of the shards in a folder of them is finished."""
    return any(folder.glob(f"{'[0-9]' * 5}.bin.json"))


def why_unfinished(folder: Path) -> str | None:
    """What is missing of the shards in a folder without a manifest; None if there are none."""
    for place in folders_of_shards(folder):
        count = ((read_json(place / PLAN) or {}).get("shards")) or 0
        total = count if isinstance(count, int) and 0 < count <= 10**6 else 0
        missing = [n for n in range(total) if not (place / f"{shard_name(n)}.json").is_file()]
        told = f"{one_line(folder)} holds unfinished shards"
        if missing:
            more = ", …" if len(missing) > _SHOWN else ""
            numbers = ", ".join(map(str, missing[:_SHOWN])) + more
            told += f": {total - len(missing)} of {total} are made, and {numbers} are missing"
        return f"{told}; {_AGAIN} to finish them"
    return None


def shard_name(number: int) -> str:
    """The file of a shard in its folder."""
    return f"{number:05}.bin"


def missing_files(path: Path, manifest: Manifest) -> list[str]:
    """The files of the manifest at `path` that are not there."""
    names = [shard.file for shard in manifest.shards]
    names += [shard.mask_file for shard in manifest.shards if shard.mask_sha256]
    return [name for name in names if not (path.parent / name).is_file()]


def tell_missing(path: Path, missing: Sequence[str]) -> str:
    """A sentence about files that are missing."""
    more = f" and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
    return (
        f"{one_line(path)} lists files that are not there: "
        f"{', '.join(one_line(name, 60) for name in missing[:_SHOWN])}{more}; copy them beside it, "
        f"or {_AGAIN}"
    )
