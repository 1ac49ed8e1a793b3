"""Which checkpoints to keep: the last, the best, and the targets of `latest` and `best`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from shared.checkpoints.bases import bases_in
from shared.checkpoints.catalogue import (
    FINAL,
    CheckpointInfo,
    claimed,
    list_checkpoints,
    remove_checkpoint,
)


def to_keep(
    checkpoints: Sequence[CheckpointInfo], keep_last: int, save_top_k: int, since: int = 0
) -> set[str]:
    """The names to keep: the newest `keep_last`, the best `save_top_k` by their validation from the
    step `since` on, latest, best and final. Decided by step, not by file times.
    """
    whole = [c for c in checkpoints if c.whole and c.name != FINAL]
    kept = {c.name for c in whole[-keep_last:]}
    measured = sorted(
        (c for c in whole if c.cost is not None and c.step >= since),
        key=lambda c: (c.cost, -c.step),
    )
    kept |= {c.name for c in measured[:save_top_k]}
    return kept | {c.name for c in checkpoints if c.is_latest or c.is_best or c.name == FINAL}


def apply_retention(
    folder: Path,
    keep_last: int,
    save_top_k: int,
    since: int = 0,
    others: Collection[str] = (),
) -> list[str]:
    """Remove the other checkpoints; returns their names. Broken folders stay, for a person to see,
    and so do those that other runs need, and the `others` named.

    Call it only after the newest checkpoint has been verified.
    """
    present = list_checkpoints(folder)
    kept = to_keep(present, keep_last, save_top_k, since) | set(others)
    doomed = [c for c in present if c.whole and c.name not in kept]
    bases = bases_in(folder.resolve()) if doomed else {}
    removed: list[str] = []
    for checkpoint in doomed:
        if checkpoint.name in bases:
            continue
        with claimed(checkpoint.path) as free:
            if free:  # one in use is removed next time
                remove_checkpoint(checkpoint.path)
                removed.append(checkpoint.name)
    return removed
