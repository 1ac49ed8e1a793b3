"""The configuration of a new run of `trainer rl`, from what a command line or a pipeline gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from shared.errors import UserError
from trainer.config.resolve import resolve
from trainer.config.schema import Config
from trainer.launch.beginning import KEY, Layers, with_adapter_rate, with_beginning
from trainer.launch.new_training import Tools
from trainer.launch.raw_prompts import ADAPTER_RATE, fitted_to_prompts, unfitted
from trainer.launch.request import new_run


def rl_config(layers: Layers, runs_dir: Path, tools: Tools) -> Config:
    """The configuration of a new run, with sizes that fit its prompts. Raises UserError."""
    if not layers.merged.get("rl.prompts"):
        raise UserError("trainer rl needs tasks: give --prompts FILE.jsonl (`trainer tasks make`).")
    if layers.merged.get(KEY) is None:
        raise UserError(
            "trainer rl trains a model that exists: give --checkpoint with a model folder, a run, "
            "a checkpoint or OWNER/NAME of the Hub."
        )
    layers = with_beginning(layers, runs_dir, tools.download)
    model = layers.begun_from
    assert model is not None
    layers = with_adapter_rate(layers, tools.tell, ADAPTER_RATE)
    resolve(*unfitted(layers).in_order)  # what is wrong is told before prompts are read
    layers = replace(layers, flags={**layers.flags, **fitted_to_prompts(layers, model)})
    return new_run(layers.source, layers.file, layers.flags, preset=layers.preset)
