"""How a model is spread over ranks: the choice by memory, and what a rank is estimated to take."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainer.config.resolve import load_source, resolve
from trainer.config.schema import Config
from trainer.distributed.device import Compute
from trainer.distributed.world import World
from trainer.loop.memory_plan import estimated_memory, parallel_notes, parallel_of, total_memory
from trainer.model.shapes import parameter_count

CPU = Compute(torch.device("cpu"), bf16=True, compile=False)
EIGHT = World(rank=0, size=8, local_rank=0, local_size=8)


def config(preset: str = "large-7b", **more: Any) -> Config:
    return resolve({**load_source(preset)[0], **more})


def test_a_model_that_fits_is_replicated_and_a_larger_one_is_sharded() -> None:
    large = config()
    assert 16 * parameter_count(large.model).total > total_memory(CPU, EIGHT)
    assert parallel_of(large, CPU, EIGHT) == "fsdp"
    assert parallel_of(config("tiny-cpu"), CPU, EIGHT) == "ddp"
    assert parallel_of(config("tiny-cpu", **{"train.parallel": "fsdp"}), CPU, EIGHT) == "fsdp"


def test_what_cannot_be_sharded_is_replicated_by_default() -> None:
    deep = {"model.num_layers": 2000, "model.ternary": False, "model.hyper_streams": 0}
    adapters = {"model.lora_r": 8, "checkpoint.begin_from": "."}
    assert parallel_of(config("nano-125m", **deep), CPU, EIGHT) == "fsdp"
    assert parallel_of(config("nano-125m", **deep, **adapters), CPU, EIGHT) == "ddp"


def test_a_rank_takes_its_rows_and_two_blocks() -> None:
    settings = {"train.micro_batch": 1, "checkpoint.background": False, "train.threads": 1}
    ddp, fsdp = (
        estimated_memory(config(**settings, **{"train.parallel": way}), CPU, EIGHT)
        for way in ("ddp", "fsdp")
    )
    assert fsdp.state == pytest.approx(ddp.state / 8, rel=0.01)
    assert 0 < fsdp.gathered < ddp.state / 4
    assert "gathered" in str(fsdp)
    assert "gathered" not in str(ddp)


@pytest.mark.parametrize(("way", "other"), [("ddp", "--parallel fsdp"), ("fsdp", "--parallel ddp")])
def test_the_log_tells_the_other_way(way: str, other: str) -> None:
    chosen = config("tiny-cpu", **{"train.parallel": way})
    (note,) = parallel_notes(chosen, CPU, estimated_memory(chosen, CPU, EIGHT), EIGHT)
    assert other in note
    assert not list(parallel_notes(chosen, CPU, estimated_memory(chosen, CPU), World()))
