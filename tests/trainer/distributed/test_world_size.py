"""A run does not depend on the number of ranks that train it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.distributed.conftest import Ranks
from tests.trainer.loop.conftest import Trained

STOP = "tests.trainer.distributed.stopping:stop_at_"


def losses(trained: Trained) -> np.ndarray:
    return np.array([trained.metrics.series(key).values for key in ("loss", "gradient_norm")])


@pytest.mark.parametrize(
    "changes",
    [
        {"train.batch_size": 3, "train.micro_batch": 1},  # shares of 1 and 2 sequences
        {"train.document_mask": True, "train.accumulation_steps": 2},
    ],
    ids=["uneven", "documents"],
)
def test_one_two_one_ranks(ranks: Ranks, changes: dict[str, object]) -> None:
    changes = {"train.dtype": "fp32", **changes}
    changes = {key.replace(".", "__"): value for key, value in changes.items()}
    whole = ranks.train(1, "whole", **changes)
    parts = ranks.train(1, "parts", hooks=f"{STOP}5", **changes)
    assert parts.code == 75
    assert ranks.resume(2, parts.run, hooks=f"{STOP}9").code == 75
    parts = ranks.resume(1, parts.run)
    assert parts.code == 0
    np.testing.assert_allclose(losses(parts), losses(whole), rtol=1e-4)
    assert parts.state.attempt == 3


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


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_model_grows_on_two_ranks_as_on_one(ranks: Ranks, parallel: str) -> None:
    stages = [{"until": 0.5, "hidden_size": 16, "num_heads": 2, "num_layers": 1}]
    changes = {
        "train__dtype": "fp32",
        "train__max_steps": 8,
        "optim__schedule": "constant",
        "optim__warmup_steps": 2,
        "growth__stages": json.dumps(stages),
    }
    whole = ranks.train(1, "whole", **changes)
    both = ranks.train(2, "both", train__parallel=parallel, **changes)
    assert both.code == 0
    np.testing.assert_allclose(losses(both), losses(whole), rtol=1e-4)
    assert both.state.model["width"] == 32
