"""A run does not depend on the number of ranks that train it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.faults.counts import SOAK
from tests.trainer.distributed.conftest import Ranks, losses
from tests.trainer.loop.conftest import Trained

SOAKED = pytest.mark.skipif(not SOAK, reason="make soak")
JUDGED = "tests.trainer.rl.letters:judged"
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


@pytest.fixture(scope="module")
def rl_arguments(ranks: Ranks) -> list[str]:
    """Two iterations of three groups on a tiny model; one rank has fewer than the other."""
    base = ranks.train(1, "base", train__max_steps=1, train__dtype="fp32")
    prompts = ranks.where / "prompts.jsonl"
    tasks = [{"id": f"t{n}", "prompt": f"def {n}", "language": "rust"} for n in range(5)]
    prompts.write_text("\n".join(map(json.dumps, tasks)))
    return [
        *("rl", "--runs-dir", str(ranks.runs_dir), "--prompts", str(prompts)),
        *("--val-prompts", str(prompts), "--checkpoint", str(base.run.checkpoints / "final")),
        *("--iterations", "2", "--prompts-per-iteration", "3", "--group-size", "4"),
        *("--max-new-tokens", "6", "--learning-rate", "1e-2", "--epochs", "2"),
        *("--device", "cpu", "--threads", "1", "--dtype", "fp32", "--eval-interval", "2"),
        *("--batch-size", "3", "--accumulation-steps", "2", "--set", "rl.kl_beta=0.1"),
        *("--set", "distributed.timeout=60", "--set", "rl.min_pass_rate=0"),
        *("--set", "rl.mask_truncated=false"),
    ]


def rewarded(ranks: Ranks, size: int, name: str, arguments: list[str], *flags: str) -> Trained:
    started = ranks.start(size, *arguments, "--name", name, *flags, hooks=JUDGED)
    codes = started.codes()
    assert codes == [0] * size, [started.said(rank) for rank in range(size)]
    return Trained(ranks.find(name), 0)


def rewards(run: Trained) -> list[Any]:
    """What the answers of each iteration, and of held-out prompts, were worth."""
    keys = ("reward_mean", "reward_std", "completion_length", "dropped_groups", "val_reward")
    records = map(json.loads, run.run.metrics_path.read_text().splitlines())
    return [record[key] for record in records for key in keys if key in record]


@pytest.mark.parametrize("parallel", ["fsdp", pytest.param("ddp", marks=SOAKED)])
def test_two_ranks_learn_from_answers_what_one_does(
    ranks: Ranks, rl_arguments: list[str], parallel: str
) -> None:
    whole = rewarded(ranks, 1, "whole", rl_arguments)
    both = rewarded(ranks, 2, f"both-{parallel}", rl_arguments, "--parallel", parallel)
    np.testing.assert_allclose(losses(both), losses(whole), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(rewards(both), rewards(whole), rtol=1e-6)
