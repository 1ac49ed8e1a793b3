"""Supervised training to an absolute number of steps, from random weights or a base model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from shared.checkpoints.catalogue import META, list_checkpoints
from shared.files import read_json
from shared.json_text import Json
from trainer.checkpoint.references import resolve_reference
from trainer.config.section import Section
from trainer.launch.beginning import KEY, Layers
from trainer.launch.new_training import Given, training_config
from trainer.pipeline.stages.interface import Context, Outputs, StageError, Work
from trainer.pipeline.stages.training_section import Layered, tools, training_section

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
        layered = Layered(context.config, self.name)
        layers = Layers(layered.source, layered.own, {"data.path": data}, layered.preset)
        config = training_config(
            layers, Given(config=True), context.place.runs_dir, tools(self.name, work.say)
        )
        trained = work.train(self.name, config)
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
