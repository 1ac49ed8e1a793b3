"""A section of a pipeline's file that holds the settings of a training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from pydantic import Field, create_model

from shared.errors import UserError
from shared.files import absolute_path
from trainer.config.resolve import Settings, resolve
from trainer.config.schema import SECTIONS
from trainer.config.section import Section
from trainer.data.progress import silent
from trainer.launch.beginning import Layers
from trainer.launch.new_training import Tools
from trainer.launch.raw_prompts import unfitted
from trainer.launch.request import choose_length, load_layers
from trainer.pipeline.config import PipelineConfig
from trainer.pipeline.settings import matters
from trainer.pipeline.stages.interface import training_settings


class _Base(Section):
    config: str | None = Field(
        None, description="Preset or file that the settings build on; see trainer config."
    )

    def with_absolute_paths(self) -> Section:
        """The same with absolute paths of files that are there; anything else may be a name."""
        update: dict[str, Any] = {}
        if self.config is not None and (path := absolute_path(self.config)).is_file():
            update["config"] = str(path)
        for section, keys in _PATHS.items():
            held = getattr(self, section, {})
            paths = {
                key: absolute_path(held[key]) for key in keys if isinstance(held.get(key), str)
            }
            found = {key: str(path) for key, path in paths.items() if path.exists()}
            update[section] = {**held, **found}
        return self.model_copy(update=update)


#: Keys of a training that may hold paths, by section.
_PATHS = {
    "data": ("path", "val_path", "tokenizer"),
    "checkpoint": ("begin_from",),
    "rl": ("prompts", "val_prompts"),
}


def training_section(name: str, doc: str, **more: Any) -> type[Section]:
    """A section with `config`, the sections of a training's configuration, and `more` keys."""
    fields: dict[str, Any] = {
        section: (dict[str, Any], Field(default={}, description=model.__doc__ or section))
        for section, model in SECTIONS.items()
    }
    made: type[Section] = create_model(name, __base__=_Base, __doc__=doc, **fields, **more)
    return made


class Layered:
    """The settings of one training section: of its preset, and its own."""

    def __init__(self, config: PipelineConfig, stage: str, preset: str | None = None) -> None:
        """`preset` is what the settings build on where the section names nothing."""
        section: Any = config.section(stage)
        self.source, file, self.preset = load_layers(section.config or preset)
        own = {
            f"{name}.{key}": value
            for name in SECTIONS
            for key, value in getattr(section, name).items()
        }
        device = {} if "train.device" in own else {"train.device": config.device}
        self.own: Settings = {**file, **own, **device}
        self._stage = stage

    def checked(self, *, sizes_follow: bool = False) -> Settings:
        """What decides what is learned. Raises UserError for settings that cannot be right.

        `sizes_follow`: the sizes that nobody chose follow from prompts that are not known yet.
        """
        try:
            source, own = choose_length(self.source, self.own)
            layers = Layers(source, own, {}, self.preset)
            settings = training_settings(
                resolve(*(unfitted(layers) if sizes_follow else layers).in_order)
            )
        except UserError as error:
            raise UserError(f"Stage {self._stage}: {error}") from error
        left = ("data.path", "data.tokenizer", "model.name", "checkpoint.begin_from")
        return {k: v for k, v in settings.items() if matters(k) and k not in left}


def tools(stage: str, tell: Callable[[str], None]) -> Tools:
    """What the making of a configuration may use: no download, and the log for notes."""

    def refuse(name: object) -> NoReturn:
        raise UserError(
            f"{stage}.checkpoint.begin_from {name} is a model of the Hub; download it first "
            "(trainer generate --checkpoint does), and give its folder."
        )

    return Tools(refuse, silent, lambda note: tell(f"[INFO] {note}"))
