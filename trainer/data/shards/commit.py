"""The last step of making shards: the validation tokens, and the manifest that makes it a set."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from shared.errors import UserError
from shared.files import remove_temporaries
from trainer.data.bad_records import Report
from trainer.data.commit import Prepared
from trainer.data.file_set import FileSet, partial_path
from trainer.data.marks import mask_path
from trainer.data.outputs import Targets, plan_targets
from trainer.data.own_files import REPORT
from trainer.data.shards.manifest import (
    Manifest,
    Shard,
    checksum_of,
    folders_of_shards,
    has_finished_shards,
    shard_name,
)
from trainer.data.shards.records import HASHES, SURVEY, VALIDATION_PART
from trainer.data.shards.worker import mask_of
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokens import MANIFEST, Sidecar, fingerprint, read_sidecar, sidecar_path


@dataclass(frozen=True)
class Place:
    """Where a set of shards goes."""

    directory: Path
    val: Path
    #: What one process would write there.
    single: Targets

    @classmethod
    def of(cls, output: str, val_output: str | None) -> Place:
        """The place for `--output` and `--val-output`. Raises UserError if it is not a folder."""
        single = plan_targets(output, val_output)
        if single.link is None:
            raise UserError(
                f"--output {single.train} is a file, and shards are many: give a folder"
            )
        return cls(single.directory, single.val, single)

    @property
    def manifest(self) -> Path:
        """Where the manifest goes."""
        return self.directory / MANIFEST

    @property
    def files(self) -> list[Path]:
        """Every file that may be written, besides the shards."""
        return [*self.single.files, self.manifest]

    def refuse_other_files(self, key: str) -> None:
        """Raise UserError for the files of one process, and validation tokens that are not of the
        set `key`."""
        for path in (self.single.train, self.single.link):
            if path is not None and (path.exists() or path.is_symlink()):
                raise UserError(f"{path} exists already: pass --overwrite to replace it")
        sidecar = read_sidecar(self.val) if self.val.exists() else None
        if self.val.exists() and (sidecar is None or sidecar.set_id != key):
            raise UserError(f"{self.val} exists already: pass --overwrite to replace it")

    def has_validation_of(self, key: str) -> bool:
        """Whether the validation tokens of the set are in place, or it has none."""
        if not self.manifest.exists():
            return False
        try:
            if read_sidecar(self.manifest).set_id != key:  # type: ignore[union-attr]
                return False
            sidecar = read_sidecar(self.val) if self.val.exists() else None
            return (
                sidecar is not None
                and sidecar.set_id == key
                and sidecar.fingerprint == fingerprint(self.val)
                and (not sidecar.mask or sidecar.mask == fingerprint(mask_path(self.val)))
            )
        except (UserError, OSError):
            return False

    def clean(self, work: Path, *, everything: bool) -> None:
        """Remove what only the making needed, what killed processes left, folders without a
        finished shard, and with `everything` the shards of other sets."""
        remove_temporaries(work)
        with contextlib.suppress(OSError):
            patterns = (SURVEY, HASHES, VALIDATION_PART, f"{VALIDATION_PART}.mask")
            for pattern in (f"*{pattern}" for pattern in patterns):
                for path in work.glob(pattern):
                    path.unlink()
            shutil.rmtree(work / "tokenizer", ignore_errors=True)
        for folder in folders_of_shards(self.directory):
            if folder != work and (everything or not has_finished_shards(folder)):
                shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Made:
    """Finished shards: their training and validation sides, and what describes them."""

    place: Place
    work: Path
    stream: Sidecar
    train: Sequence[Shard]
    val: Sequence[Shard]
    tokenizer: Tokenizer
    report: Report | None
    overwrite: bool
    #: The validation tokens are in place already.
    keep_validation: bool
    notes: list[str]


def commit(made: Made, files: FileSet) -> Prepared:
    """Put the tokenizer, the validation tokens and last the manifest in place; `files` has been
    opened for the manifest. Without it nothing reads the shards."""
    place, notes = made.place, made.notes
    for name, data in made.tokenizer.files().items():
        files.stage(place.directory / name, data)
    listed = place.directory / REPORT
    if made.report is not None and made.report.records:
        files.stage(listed, made.report.to_lines())
        notes += made.report.notes(listed)
    elif made.overwrite:
        files.remove(listed)
    val = _stage_validation(made, files)
    if made.stream.val_split > 0 and val is None:
        notes.append("there is too little to split: there is no validation file")
    manifest = _manifest(made)
    single = place.single
    for path in (single.train, sidecar_path(single.train), mask_path(single.train), single.link):
        if path is not None and made.overwrite:
            files.remove(path)
    files.stage_opened(place.manifest, manifest.to_json())
    files.commit()
    return Prepared(
        train=place.manifest,
        val=place.val if val else None,
        tokenizer_directory=place.directory,
        train_sidecar=manifest.stream,
        val_sidecar=val,
        notes=tuple(notes),
    )


def _manifest(made: Made) -> Manifest:
    shards = tuple(
        replace(shard, file=f"{made.work.name}/{shard_name(number)}")
        for number, shard in enumerate(made.train)
    )
    masks = [replace(shard, sha256=shard.mask_sha256) for shard in shards if shard.mask_sha256]
    stream = replace(
        _total(made.stream, shards),
        fingerprint=checksum_of(shards),
        mask=checksum_of(masks) if masks else "",
    )
    return Manifest(stream, shards)


def _total(stream: Sidecar, shards: Sequence[Shard]) -> Sidecar:
    return replace(
        stream,
        num_tokens=sum(shard.tokens for shard in shards),
        num_documents=sum(shard.documents for shard in shards),
        text_bytes=sum(shard.text_bytes for shard in shards),
        counted_tokens=sum(shard.counted_tokens for shard in shards),
        longest=max(shard.longest for shard in shards),
    )


def _stage_validation(made: Made, files: FileSet) -> Sidecar | None:
    """The validation tokens of all shards as one file; returns its sidecar, None if there are
    none."""
    target = made.place.val
    if made.keep_validation:
        return read_sidecar(target)
    total = replace(_total(made.stream, made.val), split="val")
    mask = mask_path(target)
    if not total.num_tokens:
        if target.exists():
            made.notes.append(f"the old {target} was removed: there is no validation split")
        for path in (mask, sidecar_path(target), target):
            files.remove(path)
        return None
    parts = [made.work / shard.file for shard in made.val]
    if made.val[0].mask_sha256:
        _copy([mask_of(part) for part in parts], files.open(mask))
        total = replace(total, mask=fingerprint(partial_path(mask)))
        files.stage_opened(mask)
    else:
        files.remove(mask)
    _copy(parts, files.open(target))
    total = replace(total, fingerprint=fingerprint(partial_path(target)))
    files.stage(sidecar_path(target), total.to_json())
    files.stage_opened(target)
    return total


def _copy(parts: Sequence[Path], file: IO[bytes]) -> None:
    for part in parts:
        with part.open("rb") as source:
            shutil.copyfileobj(source, file, 1 << 20)
    file.flush()
