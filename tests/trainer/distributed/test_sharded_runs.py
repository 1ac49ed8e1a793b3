"""Runs whose model is spread over ranks (FSDP): resumed elsewhere, killed, diverging."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from shared.checkpoints.catalogue import newest_sound
from tests.trainer.distributed.conftest import Ranks
from tests.trainer.loop.conftest import Trained

STOP = "tests.trainer.distributed.disturbing:stop_at_"
KILL = "tests.trainer.distributed.killing:"
FSDP = {"train__dtype": "fp32", "train__parallel": "fsdp"}


def losses(trained: Trained) -> np.ndarray:
    return np.array([trained.metrics.series(key).values for key in ("loss", "gradient_norm")])


def test_a_sharded_model_goes_from_two_ranks_to_one_and_back(ranks: Ranks) -> None:
    """Shares of 1 and 2 sequences, 3 evaluation batches for 2 ranks, Muon, an average, a sample."""
    changes = {
        "train__dtype": "fp32",
        "train__batch_size": 3,
        "train__micro_batch": 1,
        "eval__batches": 3,
        "eval__sample_interval": 6,
        "eval__sample_tokens": 5,
        "optim__name": "muon",
        "optim__muon_dtype": "fp32",
        "optim__ema_decay": 0.9,
        "model__tie_embeddings": True,
    }
    whole = ranks.train(1, "whole", **changes)
    parts = ranks.train(2, "parts", train__parallel="fsdp", hooks=f"{STOP}5", **changes)
    assert parts.code == 75
    assert ranks.resume(1, parts.run, hooks=f"{STOP}9").code == 75
    parts = ranks.resume(2, parts.run)
    assert parts.code == 0
    np.testing.assert_allclose(losses(parts), losses(whole), rtol=1e-4)
    np.testing.assert_allclose(validation(parts), validation(whole), rtol=1e-4)
    weights, expected = (
        load_file(trained.run.checkpoints / "ema" / "model.safetensors")
        for trained in (parts, whole)
    )
    assert weights.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, atol=1e-4, rtol=0)
    assert len(list(parts.run.samples.iterdir())) == 2


def validation(trained: Trained) -> np.ndarray:
    return trained.metrics.series("val_loss").values


@pytest.fixture(scope="module")
def whole(ranks: Ranks) -> Trained:
    """The run of one process that the others are compared with."""
    return ranks.train(1, "one", train__dtype="fp32")


@pytest.mark.parametrize("who", ["writer", "giver"])
def test_a_rank_killed_in_the_middle_of_a_save_leaves_the_older_checkpoint(
    ranks: Ranks, whole: Trained, who: str
) -> None:
    started = ranks.start(2, *ranks.arguments(who, **FSDP), hooks=f"{KILL}kill_{who}")
    codes = started.codes()
    assert codes[0 if who == "writer" else 1] == -9
    assert 0 not in codes
    run = ranks.find(who)
    newest, _ = newest_sound(run.checkpoints)
    assert newest is not None
    assert newest.name == "step_4"
    resumed = ranks.resume(1, run)
    assert resumed.code == 0
    np.testing.assert_allclose(losses(resumed), losses(whole), rtol=1e-4)


def test_all_ranks_roll_back_together(ranks: Ranks) -> None:
    changes = {**FSDP, "checkpoint__interval": 5, "stability__nonfinite_steps": 3}
    both = [ranks.train(n, "back", hooks=f"{KILL}diverge", **changes) for n in (1, 2)]
    for trained in both:
        assert trained.code == 0
        (event,) = [e for e in trained.events if e["event"] == "rolled_back"]
        assert (event["from_step"], event["checkpoint"]) == (8, "step_5")
    np.testing.assert_allclose(losses(both[1]), losses(both[0]), rtol=1e-4)


def test_out_of_memory_on_one_rank_ends_all_and_tells_the_remedy(ranks: Ranks) -> None:
    arguments = ranks.arguments("memory", train__micro_batch=2, train__batch_size=8, **FSDP)
    started = ranks.start(2, *arguments, hooks=f"{KILL}out_of_memory")
    assert 0 not in started.codes()
    said = started.said(0)  # rank 0 tells what another failed of
    assert "Out of memory on rank 1 of 2 with 2 sequences at once (made up)" in said
    assert "--micro-batch 1" in said
