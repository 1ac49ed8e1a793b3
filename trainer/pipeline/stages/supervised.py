"""Supervised training to an absolute number of steps, from random weights or a base model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from shared.checkpoints.catalogue import META, list_checkpoints
from shared.errors import UserError
from shared.files import read_json
from shared.json_text import Json
from trainer.checkpoint.references import resolve_reference
from trainer.config.schema import Config
from trainer.config.section import Section
from trainer.launch.beginning import KEY, Layers
from trainer.pipeline.stages.interface import Context, Outputs, StageError, Work
from trainer.pipeline.stages.training_section import Layered, training_section

SupervisedSection = training_section("SupervisedSection", "The supervised training.")


class Supervised:
    """`trainer train` on the prepared tokens."""

    name: ClassVar[str] = "supervised"
    title: ClassVar[str] = "supervised training"
    section: ClassVar[type[Section]] = SupervisedSection

    def skipped(self, context: Context) -> str:
        """Never."""
        return ""

    def settings(self, context: Context) -> Json:
        """What decides what is learned."""
        return Layered(context.config, self.name).checked()

    def inputs(self, context: Context) -> Sequence[Path]:
        """The base model, if there is one."""
        base = Layered(context.config, self.name).own.get(KEY)
        if base is None:
            return ()
        return [resolve_reference(str(base), context.place.runs_dir).find()]

    def needs(self, context: Context) -> Sequence[Path]:
        """The token files."""
        return context.outputs("prepare")

    def work(self, context: Context, work: Work) -> Outputs:
        """Train, or continue."""
        data = context.fact("prepare", "data")
        if data is None:
            raise StageError("there is no prepared data: the stage prepare is not done.")
        trained = work.train(self.name, training_config(context, self.name, {"data.path": data}))
        infos = {info.path.name: info for info in list_checkpoints(trained.newest.parent)}
        best = infos.get(trained.best.name)
        loss = best.val_loss if best is not None else None
        meta = read_json(trained.newest / META) or {}
        step = meta.get("step")
        told = f", validation loss {loss:.4f}" if loss is not None else ""
        return Outputs(
            tuple(dict.fromkeys((trained.newest, trained.best))),
            {
                "run_id": trained.run_id,
                "checkpoint": str(trained.best),
                "newest": str(trained.newest),
                "step": step,
                "val_loss": loss,
                "result": f"step {step}, best {trained.best.name}{told}",
            },
        )


def training_config(context: Context, stage: str, flags: dict[str, object]) -> Config:
    """The configuration of a stage's run, as `trainer train` would make it. Raises UserError."""
    from trainer.data.progress import silent
    from trainer.launch.new_training import Given, Tools
    from trainer.launch.new_training import training_config as as_train

    layered = Layered(context.config, stage)
    layers = Layers(layered.source, layered.own, flags, layered.preset)
    given = Given(config=True)

    def refuse(name: object) -> None:
        raise UserError(
            f"{stage}.checkpoint.begin_from {name} is a model of the Hub; download it first "
            "(trainer generate --checkpoint does), and give its folder."
        )

    tools = Tools(refuse, silent, lambda note: None)  # type: ignore[arg-type]
    return as_train(layers, given, context.place.runs_dir, tools)
