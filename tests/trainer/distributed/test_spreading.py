"""How a model is spread over ranks: the choice by memory, and what a rank is estimated to take."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from trainer.config.resolve import load_source, resolve
from trainer.config.schema import Config
from trainer.distributed.communication import received_per_step
from trainer.distributed.device import Compute
from trainer.distributed.world import World
from trainer.loop.memory_plan import estimated_memory, parallel_notes, parallel_of, total_memory
from trainer.model.shapes import block_parameters, parameter_count

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


def test_a_replica_has_buckets_beside_its_gradients() -> None:
    ddp = config("tiny-cpu", **{"train.parallel": "ddp"})
    assert estimated_memory(ddp, CPU).buckets == 0
    rank = estimated_memory(ddp, CPU, EIGHT)
    assert rank.buckets == rank.gradients
    assert "buckets" in str(rank)


def received(way: str, *, whole_gradients: bool = False, ranks: int = 8, **more: Any) -> int:
    settings = {"optim.name": "adamw", "train.batch_size": 8, **more, "train.parallel": way}
    world = World(rank=0, size=ranks, local_rank=0, local_size=ranks)
    asked = config("tiny-cpu", **settings)
    return received_per_step(asked, CPU, world, whole_gradients=whole_gradients)


def test_what_a_rank_exchanges() -> None:
    count = parameter_count(config("tiny-cpu").model).total
    blocks = 4 * block_parameters(config("tiny-cpu").model)
    outside = count - blocks
    assert received("ddp", ranks=1) == 0
    # Spread and gathered: each way all but a rank's own share, in fp32.
    assert received("ddp") == pytest.approx(2 * 4 * count * 7 / 8)
    # Blocks are gathered for both passes in bf16, what is outside of them once in fp32.
    passed = 2 * 2 * blocks + 4 * outside
    assert received("fsdp") == pytest.approx((passed + 4 * count) * 7 / 8)
    twice: dict[str, Any] = {"train.batch_size": 8, "train.micro_batch": 1}
    twice["train.accumulation_steps"] = 2
    assert received("fsdp", **twice) == pytest.approx(2 * (passed + 4 * count) * 7 / 8)
    once = received("fsdp", whole_gradients=True, **twice)
    assert once == pytest.approx((2 * passed + 4 * count) * 7 / 8)
    # Muon's owners tell the others.
    assert received("ddp", **{"optim.name": "muon+adamw"}) > received("ddp")


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
