"""Which metric comes first, whatever a program calls its metrics."""

from __future__ import annotations

import pytest

from monitor.data.main_metric import beside, main_key


@pytest.mark.parametrize(
    ("keys", "main", "others"),
    [
        (["lr", "val_loss", "loss"], "loss", ("val_loss",)),
        (["loss", "eval_loss", "eval_runtime"], "loss", ("eval_loss",)),
        (["train/lr", "train/aux_loss", "train/loss", "eval/loss"], "train/loss", ("eval/loss",)),
        (["train_loss", "valid.loss", "epoch"], "train_loss", ("valid.loss",)),
        (["eval/accuracy", "eval/loss"], "eval/loss", ()),
        (["policy_loss", "value_loss"], "policy_loss", ()),
        (["learning_rate", "kl", "reward_mean"], "reward_mean", ()),
        (["epoch", "eval/acc", "acc", "grad_norm"], "acc", ("eval/acc",)),
        (["step_time_ms", "tokens_total", "perplexity"], "perplexity", ()),
        (["gpu_memory_bytes", "lr", "temperature"], "temperature", ()),
        (["lr", "epoch"], "lr", ()),
        (["time"], "loss", ()),
        ([], "loss", ()),
    ],
)
def test_the_main_metric_and_its_evaluations(
    keys: list[str], main: str, others: tuple[str, ...]
) -> None:
    assert main_key(keys) == main
    assert beside(main, keys) == others
