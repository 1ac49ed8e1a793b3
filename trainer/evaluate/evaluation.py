"""Loss, perplexity and bits per byte of an opened model on data sets."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared import __version__
from shared.checkpoints.evaluation import Evaluation, Measured
from shared.errors import UserError
from trainer.checkpoint.opening import OpenedModel
from trainer.distributed.device import Compute
from trainer.evaluate.datasets import DataSet, ScoredFile
from trainer.evaluate.likelihood.scoring import bits_per_byte, score_sequences
from trainer.evaluate.speed import machine_name

USUAL_SEQ_LEN = 2048  # at most, unless a run or a person sets it


@dataclass(frozen=True)
class Windowing:
    """How text goes through the model: windows of `seq_len` tokens, `stride` apart.

    `batch_size` windows go through at once, None for the default; it does not change the results.
    """

    seq_len: int
    stride: int
    batch_size: int | None = None

    def told(self) -> str:
        """What each token is predicted from, for a person."""
        if self.stride == self.seq_len:
            return (
                f"windows of {self.seq_len} tokens without overlap: a token is predicted from 1 "
                f"to {self.seq_len} before it"
            )
        return (
            f"windows of {self.seq_len} tokens, {self.stride} apart: after the first one, a token "
            f"is predicted from {self.seq_len - self.stride + 1} to {self.seq_len} before it"
        )


def choose_windowing(
    context: int,
    usual: int | None = None,
    seq_len: int | None = None,
    stride: int | None = None,
    batch_size: int | None = None,
) -> Windowing:
    """The windows a person asked for. `usual` is the length the run was validated with.

    Raises UserError for sizes that are impossible.
    """
    length = seq_len if seq_len is not None else min(usual or USUAL_SEQ_LEN, context)
    if not 1 <= length <= context:
        raise UserError(
            f"--seq-len is {length}; it must be between 1 and the context of {context} tokens."
        )
    step = length if stride is None else stride
    if not 1 <= step <= length:
        raise UserError(f"--stride is {step}; it must be between 1 and --seq-len, {length}.")
    if batch_size is not None and batch_size < 1:
        raise UserError(f"--batch-size is {batch_size}; it must be 1 or more.")
    return Windowing(length, step, batch_size)


def evaluate_data(
    opened: OpenedModel,
    data: DataSet,
    compute: Compute,
    windowing: Windowing,
    *,
    command: str = "",
    git_commit: str | None = None,
    progress: Callable[[int], None] = lambda _count: None,
) -> Evaluation:
    """Score each file of `data` and all together. `progress` receives numbers of scored tokens."""
    started = time.perf_counter()
    pieces = [(file, *piece) for file in data.files for piece in file.sequences]
    found = score_sequences(
        opened.model,
        [tokens for _, tokens, _ in pieces],
        compute,
        seq_len=windowing.seq_len,
        stride=windowing.stride,
        batch_size=windowing.batch_size,
        counts=[counts for _, _, counts in pieces],
        progress=progress,
    )
    nats = [
        math.fsum(value for (of, _, _), value in zip(pieces, found, strict=True) if of is file)
        for file in data.files
    ]
    files = [
        _measured(file.name, file.sha256, [file], part)
        for file, part in zip(data.files, nats, strict=True)
    ]
    return Evaluation(
        total=_measured(data.name, data.sha256, data.files, math.fsum(nats)),
        kind=data.kind,
        split=data.split,
        seq_len=windowing.seq_len,
        stride=windowing.stride,
        max_tokens=data.max_tokens,
        dtype="bf16" if compute.bf16 else "fp32",
        time=time.time(),
        seconds=time.perf_counter() - started,
        command=command,
        git_commit=git_commit,
        version=__version__,
        machine=machine_name(compute),
        files=tuple(files) if len(files) > 1 else (),
    )


def _measured(name: str, sha256: str, files: Sequence[ScoredFile], nats: float) -> Measured:
    tokens = sum(file.scored for file in files)
    sizes = [file.bytes for file in files]
    size = sum(known for known in sizes if known is not None) if None not in sizes else None
    return Measured(
        data=name,
        sha256=sha256,
        loss=nats / tokens,
        bits_per_byte=bits_per_byte(nats, size) if size else None,
        tokens=tokens,
        bytes=size,
    )
