"""Tokens that datatrove wrote, described where they lie, so that training reads them as shards.

Its `DocumentTokenizer` writes `NAME.ds` (ids of 2 or 4 bytes), `NAME.ds.index` (where documents
end, 8 bytes each) and last `NAME.ds.metadata` (tokenizer and bytes per token; tokens). Nothing is
copied but the validation tokens: the last documents of each file, which datatrove has shuffled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shared.errors import UserError
from shared.files import expand_user
from shared.text import one_line, plural
from trainer.data.commit import Prepared
from trainer.data.file_set import FileSet, cannot_write, partial_path
from trainer.data.progress import ProgressFactory, silent
from trainer.data.shards.manifest import SPOT_BLOCKS, Manifest, Shard, checksum_of
from trainer.data.shards.pool import check_workers, cores
from trainer.data.split import check_val_split
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokens import MANIFEST, Sidecar, fingerprint, sidecar_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DTYPES = {2: "uint16", 4: "uint32"}
_BLOCK = 1 << 24  # bytes read at a time
_ENDS_CHECKED = 4096  # documents of a file whose last token is looked at
_AGAIN = "let datatrove finish its tasks (it repeats those that failed), or remove the file"


@dataclass(frozen=True)
class DatatroveSettings:
    """The folder of `.ds` files, and the tokenizer they were made with."""

    folder: str
    tokenizer: str | None
    val_split: float = 0.05
    overwrite: bool = False
    workers: int | None = None


@dataclass(frozen=True)
class _File:
    """A file of datatrove's: how many tokens and documents are for training, and where documents
    end."""

    path: Path
    size: int
    token_bytes: int
    ends: NDArray[np.uint64]
    kept: int

    @property
    def tokens(self) -> int:
        """Tokens for training."""
        return int(self.ends[self.kept - 1])


def describe_datatrove(settings: DatatroveSettings, progress: ProgressFactory = silent) -> Prepared:
    """Write the manifest, `val.bin` and the tokenizer's files into datatrove's folder.

    Raises UserError for files that are unfinished, damaged or made with another tokenizer.
    """
    check_val_split(settings.val_split, "the documents")
    check_workers(settings.workers)
    if settings.tokenizer is None:
        raise UserError("--datatrove needs --tokenizer with the tokenizer that datatrove was given")
    folder = expand_user(settings.folder)
    manifest, val = folder / MANIFEST, folder / "val.bin"
    if manifest.exists() and not settings.overwrite:
        raise UserError(f"{manifest} exists already: pass --overwrite to replace it")
    tokenizer = Tokenizer.load(settings.tokenizer)
    files = [_opened(path, settings.val_split) for path in _found(folder)]
    sizes = {file.token_bytes for file in files}
    if len(sizes) > 1:
        raise UserError(f"{folder} mixes files with tokens of 2 and of 4 bytes: keep one kind")
    for file in files:
        _check_tokenizer(file, tokenizer)
    shards = _shards(folder, files, tokenizer, settings.workers or cores(), progress)
    set_id = hashlib.blake2b(
        f"{tokenizer.hash} {settings.val_split} {checksum_of(shards)}".encode(), digest_size=8
    ).hexdigest()
    held = sum(int(file.ends[-1]) - file.tokens for file in files)
    stream = Sidecar.of(
        tokenizer,
        num_tokens=sum(shard.tokens for shard in shards),
        num_documents=sum(shard.documents for shard in shards),
        text_bytes=0,  # datatrove does not say
        split="train",
        split_rule="documents" if held else "none",
        val_split=settings.val_split,
        seed=0,
        fingerprint=checksum_of(shards),
        set_id=set_id,
        dtype=_DTYPES[min(sizes)],
    )
    notes = [] if held or not settings.val_split else ["too few documents for a validation file"]
    sidecar = None
    try:
        with FileSet() as staged:
            for name, data in tokenizer.files().items():
                staged.stage(folder / name, data)
            if held:
                sidecar = _stage_validation(files, val, stream, staged)
            elif settings.overwrite:
                staged.remove(sidecar_path(val))
                staged.remove(val)
            staged.stage(manifest, Manifest(stream, tuple(shards)).to_json())
            staged.commit()
    except OSError as error:
        raise cannot_write(error, folder) from error
    return Prepared(manifest, val if held else None, folder, stream, sidecar, tuple(notes))


def _found(folder: Path) -> list[Path]:
    """The files of tokens in a folder, in order."""
    if not folder.is_dir():
        raise UserError(f"--datatrove {one_line(folder)} is not a folder")
    found = sorted(folder.rglob("*.ds"))
    if not found:
        raise UserError(f"{one_line(folder)} has no .ds file of datatrove's DocumentTokenizer")
    # What a task writes first, and removes when it has been shuffled.
    first = [path for path in found if path.name.endswith("unshuffled.ds")]
    if first and len(first) < len(found):
        raise UserError(f"{one_line(first[0])} was left by a task that was interrupted: {_AGAIN}")
    for path in found:
        for suffix in (".index", ".metadata"):
            if not path.with_name(path.name + suffix).is_file():
                raise UserError(f"{one_line(path)} has no {suffix} file beside it: {_AGAIN}")
        if path.with_name(path.name + ".loss").exists():
            raise UserError(
                f"{one_line(path)} has a loss mask, which is not read: give datatrove "
                "save_loss_metadata=False"
            )
    return found


def _opened(path: Path, val_split: float) -> _File:
    shown = one_line(path)
    try:
        size = path.stat().st_size
        ends = np.fromfile(path.with_name(path.name + ".index"), dtype="<u8")
        about = path.with_name(path.name + ".metadata").read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise UserError(f"cannot read {shown}: {error.strerror}") from error
    first = about[0] if about else ""
    told = first.rpartition("|")[2]
    if told not in ("2", "4"):
        raise UserError(f"{shown}.metadata does not say how long a token is: {one_line(first, 60)}")
    token_bytes = int(told)
    if not len(ends) or not ends[0] or (ends[1:] <= ends[:-1]).any():
        raise UserError(f"{shown}.index does not say where documents end: {_AGAIN}")
    if int(ends[-1]) * token_bytes != size:
        raise UserError(
            f"{shown} has {size} bytes, but its documents end at token {int(ends[-1])} of "
            f"{token_bytes} bytes: {_AGAIN}"
        )
    wanted = int(ends[-1]) * (1 - val_split)
    kept = max(1, int(np.searchsorted(ends, wanted, side="right")))
    return _File(path, size, token_bytes, ends, kept if val_split else len(ends))


def _tokens(file: _File) -> NDArray[np.unsignedinteger]:
    return np.asarray(np.memmap(file.path, dtype=f"<u{file.token_bytes}", mode="r"))


def _check_tokenizer(file: _File, tokenizer: Tokenizer) -> None:
    """Raise UserError unless documents end as this tokenizer ends them."""
    step = -(-len(file.ends) // _ENDS_CHECKED)
    last = _tokens(file)[file.ends[::step].astype(np.int64) - 1]
    wrong = np.flatnonzero(last != tokenizer.eos_id)
    if len(wrong):
        raise UserError(
            f"{one_line(file.path)}: document {int(wrong[0]) * step} ends with token "
            f"{last[wrong[0]]}, not with {one_line(tokenizer.eos_token, 40)} ({tokenizer.eos_id}): "
            f"give datatrove this tokenizer and eos_token={one_line(tokenizer.eos_token, 40)!r}"
        )


def _shards(
    folder: Path,
    files: Sequence[_File],
    tokenizer: Tokenizer,
    workers: int,
    progress: ProgressFactory,
) -> list[Shard]:
    """The files as shards. Reading and checksums release Python's lock, so threads do it."""
    shards = []
    with (
        progress("reading", sum(file.size for file in files)) as update,
        ThreadPoolExecutor(workers) as pool,
    ):
        done = 0
        for file, (sha256, largest) in zip(files, pool.map(_read, files), strict=True):
            if largest >= tokenizer.vocab_size:
                raise UserError(
                    f"{one_line(file.path)} has the token {largest}, and the tokenizer has "
                    f"{plural(tokenizer.vocab_size, 'token')}: datatrove was given another one"
                )
            shards.append(
                Shard(
                    file=file.path.relative_to(folder).as_posix(),
                    bytes=file.size,
                    tokens=file.tokens,
                    documents=file.kept,
                    text_bytes=0,
                    largest=largest,
                    sha256=sha256,
                    spot=fingerprint(file.path, SPOT_BLOCKS),
                )
            )
            done += file.size
            update(done)
    return shards


def _read(file: _File) -> tuple[str, int]:
    """The checksum of a file, and its largest id."""
    digest, largest = hashlib.sha256(), 0
    try:
        with file.path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
                largest = max(largest, int(np.frombuffer(block, f"<u{file.token_bytes}").max()))
    except OSError as error:
        raise UserError(f"cannot read {one_line(file.path)}: {error.strerror}") from error
    return digest.hexdigest(), largest


def _stage_validation(
    files: Sequence[_File], val: Path, stream: Sidecar, staged: FileSet
) -> Sidecar:
    """The last documents of each file as validation tokens."""
    out = staged.open(val)
    count = 0
    for block in _held_back(files):
        out.write(block.astype("<u4").data)
        count += len(block)
    out.flush()
    sidecar = replace(
        stream,
        num_tokens=count,
        num_documents=sum(len(file.ends) - file.kept for file in files),
        split="val",
        fingerprint=fingerprint(partial_path(val)),
        dtype="uint32",
    )
    staged.stage(sidecar_path(val), sidecar.to_json())
    staged.stage_opened(val)
    return sidecar


def _held_back(files: Sequence[_File]) -> Iterator[NDArray[np.unsignedinteger]]:
    for file in files:
        tokens = _tokens(file)
        for start in range(file.tokens, len(tokens), _BLOCK):
            yield tokens[start : start + _BLOCK]
