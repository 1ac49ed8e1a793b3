"""`--chat`: training straight from conversations, which are prepared once and kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import UserError
from shared.text import one_line
from trainer.checkpoint.tokenizer_files import tokenizer_folder
from trainer.config.resolve import Settings
from trainer.data.progress import ProgressFactory, silent
from trainer.launch.raw_data import fitted_warmup, kept_folder

if TYPE_CHECKING:
    from trainer.launch.beginning import Layers

VALIDATION = 0.1
SHORTEST = 256  # tokens of a sequence, which holds several conversations
LONGEST = 4096  # unless a person asks for more
EVALUATIONS = 4  # in an epoch, or one if it has few steps
FEW = 4  # steps between two of them


def prepare_conversations(
    paths: Sequence[str],
    model: Path | None,
    runs_dir: Path,
    progress: ProgressFactory = silent,
    *,
    template: str | None = None,
    tell: Callable[[str], None] = lambda note: None,
) -> Path:
    """Prepare token files from conversations for the model in a folder; returns their folder, below
    the runs directory.

    `template` is a file with a chat template in place of the model's own. `tell` receives what a
    person should know. The files are used again as long as nothing changes.
    """
    from trainer.conversations.prepare import ChatSettings, chat_tokenizer, prepare_chat

    if model is None:
        raise UserError(
            "--chat needs a model to fine-tune and its tokenizer: give --begin-from with a model "
            "folder, a run or a checkpoint."
        )
    model = tokenizer_folder(model)
    codec, _ = chat_tokenizer(str(model), template)
    parts = [codec.hash, codec.eos_token, codec.chat_template]
    folder = kept_folder(runs_dir, "chat-", paths, parts)
    if not (folder / "train.bin").is_file():  # put in place last
        settings = ChatSettings(
            inputs=list(paths),
            output=str(folder),
            tokenizer=str(model),
            template=template,
            val_split=VALIDATION,
            overwrite=True,
        )
        for note in prepare_chat(settings, progress).notes:
            tell(note)
    return folder


def fitted(layers: Layers, tell: Callable[[str], None] = lambda note: None) -> Layers:
    """The layers with settings that follow from the conversations in `data.path`, where nobody
    chose them: sequences as long as the longest, and evaluations several times in an epoch.

    They stay as they are for other data.
    """
    from trainer.config.resolve import resolve
    from trainer.data.packed import PackedBatches
    from trainer.data.tokens import find_tokens, open_tokens, read_sidecar, validation_path

    path = layers.merged.get("data.path")
    if not isinstance(path, str) or not path or layers.merged.get("data.dataset") == "pairs":
        return layers
    place = find_tokens(path)
    sidecar = read_sidecar(place) if place.is_file() else None
    if sidecar is None or not sidecar.mask:
        return layers
    chosen: Settings = {**layers.file, **layers.flags}
    found: dict[str, Any] = {}
    train = open_tokens(place)
    config = resolve(*layers.in_order)
    length = config.seq_len
    if "train.seq_len" not in layers.merged:
        wanted = max(SHORTEST, 64 * math.ceil((sidecar.longest - 1) / 64))
        length = min(wanted, LONGEST, config.model.max_seq_len)
        found["train.seq_len"] = length
    source = PackedBatches(train, length, config.train.seed, apart=True)
    steps = math.ceil(source.num_windows / config.sequences_per_step)  # in an epoch
    if "eval.interval" not in chosen and "checkpoint.interval" not in chosen:
        every = steps // EVALUATIONS if steps >= FEW * EVALUATIONS else steps
        found |= {"eval.interval": every, "checkpoint.interval": every}
    if "optim.warmup_steps" not in chosen:
        found["optim.warmup_steps"] = fitted_warmup(config, steps)
    without = validation_path(train.path) is None and "data.val_path" not in layers.merged
    if without and config.train.patience is not None and "train.patience" not in chosen:
        found["train.patience"] = None
        tell(f"{one_line(path)} has no validation data, so training does not stop early")
    return replace(layers, flags={**layers.flags, **found})
