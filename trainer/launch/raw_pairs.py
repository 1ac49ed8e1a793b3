"""`trainer dpo --pairs`: pairs of answers, prepared once for a model and kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shared.files import expand_user
from trainer.checkpoint.tokenizer_files import tokenizer_folder
from trainer.data.pairs import PAIRS, PairFile
from trainer.data.tokenizer import Tokenizer
from trainer.launch.beginning import Layers
from trainer.launch.raw_data import fitted_warmup, kept_folder

ADAPTER_RATE = 1e-5  # peak rate of LoRA adapters; the preset's is for all weights
EVALUATIONS = 4  # in an epoch
LONGEST = 4096  # tokens of a row, unless a person asks for more


def prepare_preferences(
    paths: Sequence[str],
    model: Path,
    runs_dir: Path,
    *,
    template: str | None = None,
    skip_bad: bool = False,
    val_split: float = 0.0,
    tell: Callable[[str], None] = lambda note: None,
) -> Path:
    """Prepare pairs for the model in a folder; returns their folder, below the runs directory.

    They are used again as long as nothing changes. `tell` receives what a person should know.
    """
    from trainer.conversations.pairs import PairSettings, prepare_pairs
    from trainer.conversations.prepare import read_template

    model = tokenizer_folder(model)
    codec = Tokenizer.load(model)
    chosen = None if template is None else read_template(expand_user(template))
    parts = [codec.hash, codec.eos_token, codec.chat_template, chosen, skip_bad, val_split]
    folder = kept_folder(runs_dir, "pairs-", paths, parts)
    if not (folder / PAIRS).is_file():  # put in place last
        settings = PairSettings(
            list(paths), folder, str(model), template, skip_bad=skip_bad, val_split=val_split
        )
        for note in prepare_pairs(settings):
            tell(note)
    return folder


def fitted_to_pairs(folder: Path, layers: Layers) -> dict[str, Any]:
    """Settings of a run that follow from its pairs, where nobody chose them: sequences as long as
    the longest, a warmup of a tenth of the steps at most, evaluations several times in an epoch,
    and no dropout, since the reference scores the answers without it."""
    from trainer.config.resolve import resolve

    found: dict[str, Any] = {"data.path": str(folder), "data.dataset": "pairs"}
    pairs, config = PairFile(folder), resolve(*layers.in_order)
    if "train.seq_len" not in layers.merged:
        wanted = 8 * math.ceil((pairs.longest - 1) / 8)
        found["train.seq_len"] = max(1, min(wanted, LONGEST, config.model.max_seq_len))
    chosen = {**layers.file, **layers.flags}
    steps = int((~pairs.held).sum()) / config.sequences_per_step  # in an epoch
    if "eval.interval" not in chosen and "checkpoint.interval" not in chosen:
        every = max(1, int(steps) // EVALUATIONS)
        found |= {"eval.interval": every, "checkpoint.interval": every}
    if config.model.dropout and "model.dropout" not in chosen:
        found["model.dropout"] = 0.0
    if "optim.warmup_steps" not in chosen:
        found["optim.warmup_steps"] = fitted_warmup(config, steps)
    return found
