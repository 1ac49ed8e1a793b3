"""A run does not depend on the number of ranks that train it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.faults.counts import SOAK
from tests.trainer.distributed.conftest import Ranks, losses

SOAKED = pytest.mark.skipif(not SOAK, reason="make soak")
STOP = "tests.trainer.distributed.disturbing:stop_at_"


@pytest.mark.parametrize(
    "changes",
    [
        # Shares of 1 and 2 sequences.
        {"train.batch_size": 3, "train.micro_batch": 1, "train.document_mask": True},
        pytest.param({"train.accumulation_steps": 2}, marks=SOAKED),
        pytest.param({"train.collider": True, "model.mtp_heads": 2}, marks=SOAKED),
    ],
    ids=["uneven", "accumulated", "collider"],
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


@pytest.mark.parametrize("parallel", ["fsdp", pytest.param("ddp", marks=SOAKED)])
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


def test_predicted_steps_are_the_same_on_two_ranks(ranks: Ranks) -> None:
    changes = {
        "train__dtype": "fp32",
        "train__max_steps": 12,
        "optim__schedule": "constant",
        "hybrid__predictor": "outer_nesterov",
        "hybrid__every": 4,
        "hybrid__correct": 2,
        "hybrid__band": 100,
    }
    whole = ranks.train(1, "whole", **changes)
    both = ranks.train(2, "both", train__parallel="fsdp", **changes)
    assert both.code == 0
    np.testing.assert_allclose(losses(both), losses(whole), rtol=1e-4)
    errors = [of.metrics.series("prediction_error").values for of in (whole, both)]
    np.testing.assert_allclose(errors[1], errors[0], rtol=1e-4)
