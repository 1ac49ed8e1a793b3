"""Tiny Shakespeare as characters, split as nanoGPT does, and the loss on all of its last tenth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).resolve().parent.parent
TEXT = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"
SEQ_LEN = 64
_BATCH = 128


@dataclass(frozen=True)
class Shakespeare:
    """Token files of the text's characters, and how many different ones there are."""

    train: Path
    validation: Path
    vocab_size: int


def prepare(text: Path, folder: Path) -> Shakespeare:
    """Write the token files: nine tenths to train on. Raises SystemExit if the text is absent."""
    if not text.is_file():
        raise SystemExit(f"{text} is absent; give tinyshakespeare.txt with --text.")
    characters = text.read_text(encoding="utf-8")
    known = {character: number for number, character in enumerate(sorted(set(characters)))}
    ids = np.array([known[character] for character in characters], dtype="<u4")
    cut = int(0.9 * len(ids))
    made = Shakespeare(folder / "tokens.bin", folder / "held_out.bin", len(known))
    ids[:cut].tofile(made.train)
    ids[cut:].tofile(made.validation)
    return made


def validation_loss(tokens: Path, loss_of: Callable[[Tensor, Tensor], Tensor]) -> float:
    """The mean loss in nats per character over every window of the file."""
    import torch

    ids = torch.from_numpy(np.fromfile(tokens, dtype="<u4").astype(np.int64))
    windows = (len(ids) - 1) // SEQ_LEN
    inputs = ids[: windows * SEQ_LEN].view(windows, SEQ_LEN)
    targets = ids[1 : windows * SEQ_LEN + 1].view(windows, SEQ_LEN)
    total = 0.0
    with torch.no_grad():
        for first in range(0, windows, _BATCH):
            part = slice(first, first + _BATCH)
            total += loss_of(inputs[part], targets[part]).item() * len(inputs[part])
    return total / windows
