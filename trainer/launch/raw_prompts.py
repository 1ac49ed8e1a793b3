"""`trainer rl --prompts`: settings of a run that follow from its prompts and its model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.checkpoint.tokenizer_files import tokenizer_folder
from trainer.config.resolve import resolve
from trainer.config.rl import RlConfig
from trainer.data.tokenizer import Tokenizer
from trainer.launch.beginning import Layers
from trainer.rewards.registry import open_language
from trainer.rl.prompts import Prompts
from trainer.tasks.reading import read_prompts

ADAPTER_RATE = 1e-5  # peak rate of LoRA adapters; the preset's is for all weights


def check_tasks(layers: Layers) -> None:
    """Raise UserError where the tasks cannot be read or their language cannot be judged here.

    Before a model is read, and torch with it.
    """
    for key in ("rl.prompts", "rl.val_prompts"):
        path = layers.merged.get(key)
        if path:
            read_prompts(str(path))
    language = str(layers.merged.get("rl.language", RlConfig().language))
    open_language(language, run_tests=layers.merged.get("rl.run_tests")).close()


_SIZES = ("train.batch_size", "train.accumulation_steps")


def unfitted(layers: Layers) -> Layers:
    """The layers with sizes that divide any number of answers, where nobody chose them: to find
    out what is wrong with all else."""
    chosen = {**layers.file, **layers.flags}
    sizes = {key: 1 for key in _SIZES if key not in chosen}
    return replace(layers, flags={**layers.flags, **sizes})


def fitted_to_prompts(layers: Layers, model: Path) -> dict[str, Any]:
    """Settings where nobody chose them: sequences as long as the longest prompt with an answer,
    as many micro-batches as one optimizer step for each iteration takes, and no dropout, since
    answers are written without it: the ratio of two passes would be noise.

    Raises UserError for prompts that cannot be read.
    """
    found: dict[str, Any] = {"data.dataset": "prompts"}
    config = resolve(*unfitted(layers).in_order)
    chosen, rl = {**layers.file, **layers.flags}, config.rl
    if config.model.dropout and "model.dropout" not in chosen:
        found["model.dropout"] = 0.0
    if "train.seq_len" not in layers.merged and rl.prompts is not None:
        context = config.model.max_seq_len
        tokenizer = Tokenizer.load(config.data.tokenizer or tokenizer_folder(model))
        every = [path for path in (rl.prompts, rl.val_prompts) if path is not None]
        longest = max(Prompts(read_prompts(path), tokenizer, context).longest for path in every)
        found["train.seq_len"] = min(context, max(1, longest) + rl.max_new_tokens)
    size = config.train.batch_size
    if "train.batch_size" not in chosen:
        most = layers.merged.get("train.batch_size", size)
        size = max(part for part in range(1, min(most, rl.answers) + 1) if rl.answers % part == 0)
        found["train.batch_size"] = size
    if "train.accumulation_steps" not in chosen:
        found["train.accumulation_steps"] = max(1, rl.answers // size)
    return found
