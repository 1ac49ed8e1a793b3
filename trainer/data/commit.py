"""The last step of preparing data: describe the tokens, and put all files in place together."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from shared.errors import UserError
from trainer.data.bad_records import Report
from trainer.data.file_set import FileSet, partial_path
from trainer.data.marks import mask_path
from trainer.data.outputs import Targets, TokenWriter
from trainer.data.own_files import REPORT
from trainer.data.split import TRAIN, VALIDATION
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokens import Sidecar, fingerprint


@dataclass(frozen=True)
class Prepared:
    """The written files. `val` is None without a validation split; `notes` are for a person."""

    train: Path
    val: Path | None
    tokenizer_directory: Path
    train_sidecar: Sidecar
    val_sidecar: Sidecar | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """By which rule the sides were told apart, and with what share and seed."""

    rule: str
    val_split: float
    seed: int


def refuse_to_replace(targets: Targets, tokenizer: Tokenizer | None, *, overwrite: bool) -> None:
    """Raise UserError for files that exist, unless they may be overwritten. `tokenizer` is None
    where a new one is to be trained."""
    if overwrite:
        return
    for path in (targets.train, targets.val, targets.manifest):
        if path is not None and path.exists():
            raise UserError(f"{path} exists already: pass --overwrite to replace it")
    if targets.link and (targets.link.exists() or targets.link.is_symlink()):
        raise UserError(f"{targets.link} exists already: pass --overwrite to replace it")
    existing = targets.directory / "tokenizer.json"
    if existing.exists() and (tokenizer is None or Tokenizer.load(existing).hash != tokenizer.hash):
        raise UserError(
            f"{existing} is another tokenizer: use it with --tokenizer {existing.parent}, or pass "
            "--overwrite to replace it"
        )


def commit(
    *,
    targets: Targets,
    tokenizer: Tokenizer,
    split: Split,
    writers: dict[int, TokenWriter],
    files: FileSet,
    report: Report | None,
    overwrite: bool,
    notes: list[str],
) -> Prepared:
    """Write what describes the tokens, and put everything in place.

    `train.bin` is last: without it nothing reads the rest, and beside an old one the new sidecar
    shows that they do not belong together. `report` lists bad records, where they were skipped.
    """
    sidecars = _sidecars(tokenizer, split, writers)
    has_val = sidecars[VALIDATION].num_tokens > 0
    for name, data in tokenizer.files().items():
        files.stage(targets.directory / name, data)
    listed = targets.directory / REPORT
    if report is not None and report.records:
        files.stage(listed, report.to_lines())
        notes += report.notes(listed)
    elif overwrite:
        files.remove(listed)  # of the old tokens
    if targets.link and targets.manifest:
        files.stage_link(targets.link, targets.train.name)
        files.remove(targets.manifest)  # of the old tokens
    for side, writer in sorted(writers.items(), reverse=True):  # the training side is last
        sidecar = writer.path.with_name(writer.path.name + ".json")
        mask = mask_path(writer.path)
        if side == TRAIN or has_val:
            if writer.mask is None:
                files.remove(mask)  # of the old tokens
            else:
                files.stage_file(mask, writer.mask)
            files.stage(sidecar, sidecars[side].to_json())
            files.stage_file(writer.path, writer.file)
            continue
        # An old one would be mistaken for the validation side of the new training file.
        if writer.path.exists():
            notes.append(f"the old {writer.path} was removed: there is no validation split")
        for path in (mask, sidecar, writer.path):
            files.remove(path)
    if split.val_split > 0 and not has_val:
        what = "text is" if writers[TRAIN].mask is None else "conversations are"
        few = "too short" if writers[TRAIN].mask is None else "too few"
        notes.append(f"the {what} {few} to split: there is no validation file")
    files.commit()
    return Prepared(
        train=targets.train,
        val=targets.val if has_val else None,
        tokenizer_directory=targets.directory,
        train_sidecar=sidecars[TRAIN],
        val_sidecar=sidecars[VALIDATION] if has_val else None,
        notes=tuple(notes),
    )


def _sidecars(
    tokenizer: Tokenizer, split: Split, writers: dict[int, TokenWriter]
) -> dict[int, Sidecar]:
    prints, masks = {}, {}
    for side, writer in writers.items():
        writer.file.flush()
        prints[side] = fingerprint(partial_path(writer.path))
        if writer.mask is not None:
            writer.mask.flush()
            masks[side] = fingerprint(partial_path(mask_path(writer.path)))
    together = " ".join([tokenizer.hash, *prints.values(), *masks.values()])
    set_id = hashlib.blake2b(together.encode(), digest_size=8).hexdigest()
    return {
        side: Sidecar.of(
            tokenizer,
            num_tokens=writer.num_tokens,
            num_documents=writer.num_documents,
            text_bytes=writer.text_bytes,
            split="val" if side == VALIDATION else "train",
            split_rule=split.rule,
            val_split=split.val_split,
            seed=split.seed,
            fingerprint=prints[side],
            set_id=set_id,
            mask=masks.get(side, ""),
            counted_tokens=writer.counted,
            longest=writer.longest,
        )
        for side, writer in writers.items()
    }
