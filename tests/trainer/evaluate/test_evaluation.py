"""Figures of data sets, the windows they are measured in, and speed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shared.errors import UserError
from tests.trainer.evaluate.conftest import CPU, TEXT
from trainer.checkpoint.opening import OpenedModel
from trainer.evaluate.datasets import open_data
from trainer.evaluate.evaluation import choose_windowing, evaluate_data
from trainer.evaluate.likelihood.scoring import score_sequences
from trainer.evaluate.origin import find_origin
from trainer.evaluate.speed import measure_speed


def test_files_add_up(opened: OpenedModel, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.txt").write_text(TEXT * 3)
    (data,) = open_data([str(tmp_path)], opened.tokenizer, opened.model.dimensions.V)
    windowing = choose_windowing(opened.context, stride=16)
    result = evaluate_data(opened, data, CPU, windowing)
    nats = sum(file.loss * file.tokens for file in result.files)
    size = len((TEXT * 4).encode())
    assert result.total.tokens == sum(file.tokens for file in result.files) == size + 2
    assert result.total.loss == pytest.approx(nats / result.total.tokens)
    assert result.total.bits_per_byte == pytest.approx(nats / math.log(2) / size)
    assert result.total.perplexity == pytest.approx(math.exp(result.total.loss))
    [alone] = score_sequences(opened.model, [data.files[0].tokens], CPU, seq_len=64, stride=16)
    assert result.files[0].loss == pytest.approx(alone / (len(TEXT.encode()) + 1))


def test_windows_are_those_of_the_run_by_default(opened: OpenedModel) -> None:
    origin = find_origin(opened.path)
    assert origin.seq_len == 32
    assert origin.step == 10
    assert origin.run is not None and origin.checkpoint == opened.path
    windowing = choose_windowing(opened.context, origin.seq_len)
    assert (windowing.seq_len, windowing.stride) == (32, 32)
    assert "from 1 to 32 before it" in windowing.told()
    assert "from 17 to 32 before it" in choose_windowing(64, 32, stride=16).told()
    assert choose_windowing(100_000).seq_len == 2048


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"seq_len": 65}, "--seq-len is 65; it must be between 1 and the context of 64 tokens"),
        ({"seq_len": 0}, "--seq-len is 0"),
        ({"stride": 33}, "--stride is 33; it must be between 1 and --seq-len, 32"),
        ({"stride": 0}, "--stride is 0"),
        ({"batch_size": 0}, "--batch-size is 0"),
    ],
)
def test_windows_that_cannot_be(given: dict[str, int], told: str) -> None:
    with pytest.raises(UserError, match=told):
        choose_windowing(64, 32, **given)


@pytest.mark.parametrize("bf16", [False, True])
def test_speed_is_measured_within_the_context(opened: OpenedModel, bf16: bool) -> None:
    speed = measure_speed(opened.model, replace(CPU, bf16=bf16))
    assert speed is not None
    assert speed.prompt_tokens + speed.new_tokens <= opened.context
    assert speed.prefill > 0 and speed.decode > 0
    assert f"{torch.get_num_threads()} thread" in speed.machine
    assert speed.dtype == ("bf16" if bf16 else "fp32")
