"""Opening sharded tokens: what the manifest promises is compared with the files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared.errors import UserError
from shared.text import one_line
from trainer.data.shards.manifest import (
    SPOT_BLOCKS,
    Manifest,
    missing_files,
    read_manifest,
    tell_missing,
)
from trainer.data.shards.stream import ShardedTokens
from trainer.data.tokens import TokenFile, check_vocabulary, fingerprint

if TYPE_CHECKING:
    from numpy.typing import NDArray

_REPLACED = (
    "it was cut short or replaced, or belongs to another set; run the same `trainer prepare-data` "
    "command again"
)
_NUMPY = {"uint32": "<u4", "uint16": "<u2"}


def open_shards(
    path: Path, *, vocab_size: int | None = None, tokenizer_hash: str | None = None
) -> TokenFile:
    """The stream that the manifest at `path` describes, as a token file.

    Every shard must be there with its size and a sample of its content. Raises UserError that names
    what is missing or does not fit.
    """
    manifest = read_manifest(path)
    stream = manifest.stream
    check_vocabulary(path, stream, vocab_size, tokenizer_hash)
    limit = vocab_size or stream.vocab_size
    if missing := missing_files(path, manifest):
        raise UserError(tell_missing(path, missing))
    for shard in manifest.shards:
        if shard.largest >= limit:
            raise UserError(
                f"{one_line(path)}: {one_line(shard.file, 80)} has the token {shard.largest}, "
                f"outside the vocabulary of {limit}"
            )
        _check(path.parent / shard.file, shard.bytes, shard.spot)
        if shard.mask_sha256:
            _check(path.parent / shard.mask_file, shard.tokens, shard.mask_spot)
    tokens = ShardedTokens(
        [path.parent / shard.file for shard in manifest.shards],
        [shard.tokens for shard in manifest.shards],
        _NUMPY[stream.dtype],
    )
    return TokenFile(path, tokens, limit, stream, _marks(path, manifest))


def _check(file: Path, size: int, spot: str) -> None:
    try:
        found = file.stat().st_size
        if found != size:
            raise UserError(
                f"{one_line(file)} has {found} bytes and its manifest says {size}: {_REPLACED}"
            )
        if fingerprint(file, SPOT_BLOCKS) != spot:
            raise UserError(
                f"{one_line(file)} is not the file that its manifest describes: {_REPLACED}"
            )
    except OSError as error:
        raise UserError(f"cannot read {one_line(file)}: {error.strerror}") from error


def _marks(path: Path, manifest: Manifest) -> NDArray[np.uint8] | None:
    """The marks of conversations, whole: a byte per token."""
    if not manifest.stream.mask:
        return None
    parts = [np.fromfile(path.parent / s.mask_file, dtype=np.uint8) for s in manifest.shards]
    return np.concatenate(parts)
