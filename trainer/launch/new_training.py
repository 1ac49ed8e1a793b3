"""The configuration of a new training, from what a command line gives: settings, text, a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shared.errors import UserError
from trainer.checkpoint.hub_models import Download
from trainer.config.resolve import Settings
from trainer.config.schema import Config
from trainer.data.progress import ProgressFactory
from trainer.launch.beginning import (
    KEY,
    Layers,
    check_model_is_given,
    with_adapter_rate,
    with_beginning,
    with_length,
)
from trainer.launch.raw_chat import fitted, prepare_conversations
from trainer.launch.raw_text import prepare_text
from trainer.launch.request import load_layers, new_run

#: What text is trained on where no configuration is named, and conversations.
TEXT_PRESET = "minigpt"
CHAT_PRESET = "finetune"


@dataclass(frozen=True)
class Given:
    """What to train on, beside the settings: files of text (`data`) or of conversations (`chat`),
    which are prepared first, and whether `--config` and `--dataset` are given."""

    data: Sequence[str] = ()
    text_field: str = "text"
    chat: Sequence[str] = ()
    chat_template: str | None = None
    config: bool = False
    dataset: bool = False

    def check(self, flags: Settings) -> None:
        """Raise UserError for sources that exclude each other."""
        path = flags.get("data.path")
        for option, value in (
            ("--data-path", path),
            ("--data", self.data),
            ("--chat", self.chat),
        ):
            if value and flags.get("data.sources"):
                raise UserError(f"--source and {option} are both given; give one of them.")
        if self.data and path:
            raise UserError(
                f"--data {self.data[0]} and --data-path {path} are both given; give text or tokens."
            )
        if self.chat:
            for option, value in (("--data", self.data), ("--data-path", path)):
                if value:
                    raise UserError(
                        f"--chat {self.chat[0]} and {option} are both given; give conversations, "
                        "text or tokens."
                    )
        elif self.chat_template is not None:
            raise UserError("--chat-template is for the conversations of --chat, which is missing.")
        if self.text_field != "text" and not self.data:
            raise UserError("--text-field is for the records of --data, which is missing.")


@dataclass(frozen=True)
class Tools:
    """What fetches a model, and shows progress and notes to a person."""

    download: Download
    progress: ProgressFactory
    tell: Callable[[str], None]


def training_config(
    layers: Layers, given: Given, runs_dir: Path, tools: Tools, prepared: Path | None = None
) -> Config:
    """The configuration of a new run, with absolute paths; text is prepared below `prepared`.

    `runs_dir` is where runs are looked up by name, and where prepared data is kept unless
    `prepared` names another folder. Raises UserError.
    """
    return finished(begun(layers, given, runs_dir, tools), given, prepared or runs_dir, tools)


def begun(
    layers: Layers, given: Given, runs_dir: Path, tools: Tools, command: str = "train"
) -> Layers:
    """The layers with a preset where none is named, and with the model that they begin from.

    Nothing is prepared. Raises UserError; `command` is what needs to know what to train.
    """
    flags, begins = layers.flags, layers.merged.get(KEY) is not None
    if given.chat and not given.config:
        layers = Layers(*load_layers(CHAT_PRESET)[:2], flags, preset=True)
    check_model_is_given(layers, chat=bool(given.chat))
    if given.data and not given.config and not begins:
        layers = Layers(*load_layers(TEXT_PRESET)[:2], flags, preset=True)
    elif not (
        given.data
        or given.chat
        or given.config
        or given.dataset
        or flags.get("data.path")
        or flags.get("data.sources")
    ):
        missing = "--data-path (what prepare-data wrote)"
        if not begins:
            missing = f"--config (a preset such as tiny-cpu, or a file) and {missing}"
        raise UserError(f"trainer {command} needs to know what to train: give {missing}.")
    layers = with_beginning(layers, runs_dir, tools.download)
    return with_adapter_rate(layers, tools.tell)


def finished(layers: Layers, given: Given, place: Path, tools: Tools) -> Config:
    """The configuration that `begun` layers come to, once text is prepared below `place`."""
    folder = _prepared(layers, given, place, tools)
    if folder is not None:
        layers = replace(layers, flags={**layers.flags, "data.path": str(folder)})
    layers = with_length(fitted(layers, tools.tell), tools.tell)
    return new_run(layers.source, layers.file, layers.flags, preset=layers.preset)


def _prepared(layers: Layers, given: Given, place: Path, tools: Tools) -> Path | None:
    """The folder with the token files of text or conversations, if they were given."""
    if given.data:
        return prepare_text(
            given.data,
            layers.in_order,
            place,
            tools.progress,
            text_field=given.text_field,
            model=layers.begun_from,
            tell=tools.tell,
        )
    if given.chat:
        return prepare_conversations(
            given.chat,
            layers.begun_from,
            place,
            tools.progress,
            template=given.chat_template,
            tell=tools.tell,
        )
    return None
