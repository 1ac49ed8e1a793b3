"""Losses against other people's arithmetic, and against the trainer's own."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.trainer.evaluate.conftest import CPU, TEXT
from trainer.checkpoint.opening import OpenedModel
from trainer.data.batches import ordered_batches, to_tensors
from trainer.data.tokens import TokenFile, open_tokens
from trainer.distributed.device import Compute
from trainer.evaluate.likelihood.scoring import Scored, score_batch, score_sequences
from trainer.loop.evaluation import evaluate
from trainer.model.language_model import LanguageModel
from trainer.model.loss import IGNORED


def summed_loss(
    model: LanguageModel, tokens: NDArray[np.uint32], compute: Compute, **given: Any
) -> float:
    [nats] = score_sequences(model, [tokens], compute, **given)
    return nats


@pytest.fixture(scope="module")
def val(token_data: Path) -> TokenFile:
    return open_tokens(token_data / "val.bin")


@pytest.mark.parametrize("stride", [64, 32, 5])
def test_as_a_plain_loop_over_transformers(opened: OpenedModel, stride: int) -> None:
    """The sliding window of the transformers guide: labels of what was scored are -100."""
    from transformers import AutoModelForCausalLM

    tokens = np.array(opened.tokenizer.encode(TEXT * 4), dtype=np.uint32)
    ours = summed_loss(opened.model, tokens, CPU, seq_len=64, stride=stride)
    theirs = AutoModelForCausalLM.from_pretrained(opened.path).eval()
    total, end = 0.0, 0
    while end < len(tokens) - 1:
        before, end = end, min(len(tokens) - 1, end + (stride if end else 64))
        begin = max(0, end - 64)
        window = torch.from_numpy(tokens[begin : end + 1].astype(np.int64))[None]
        with torch.no_grad():
            logits = theirs(window[:, :-1]).logits[0]
        nats = torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="none")
        total += nats[before - begin :].sum().item()
    assert ours / (len(tokens) - 1) == pytest.approx(total / (len(tokens) - 1), abs=1e-5)


def test_as_during_training_on_the_same_windows(opened: OpenedModel, val: TokenFile) -> None:
    expected = evaluate(opened.model, ordered_batches(val, 32, 4), CPU)
    tokens = val.tokens[: expected.tokens + 1]
    nats = summed_loss(opened.model, tokens, CPU, seq_len=32, stride=32)
    assert nats / expected.tokens == pytest.approx(expected.loss, abs=1e-5)


def test_a_batch_is_scored_as_the_model_is_trained(opened: OpenedModel, val: TokenFile) -> None:
    """Bit for bit: a validation loss must not change with the way it is computed."""
    (batch, *_) = ordered_batches(val, 32, 4)
    inputs, targets = to_tensors(batch, CPU.device)
    with torch.no_grad():
        whole = opened.model(inputs, targets).total.item() * 128
        halves = sum(
            opened.model(inputs[i : i + 2], targets[i : i + 2]).total.item() * 64 for i in (0, 2)
        )
    assert score_batch(opened.model, inputs, targets, CPU) == Scored(whole, 128)
    assert score_batch(opened.model, inputs, targets, CPU, parts=[2, 2]) == Scored(halves, 128)


def test_targets_that_are_ignored_do_not_count(opened: OpenedModel, val: TokenFile) -> None:
    (batch, *_) = ordered_batches(val, 32, 4)
    inputs, targets = to_tensors(batch, CPU.device)
    first = score_batch(opened.model, inputs[:1], targets[:1], CPU)
    masked = targets.clone()
    masked[1:] = IGNORED
    found = score_batch(opened.model, inputs, masked, CPU)
    assert found.tokens == first.tokens == 32
    assert found.nats == pytest.approx(first.nats, rel=1e-5)


def test_the_sum_does_not_depend_on_the_batch_size(opened: OpenedModel, val: TokenFile) -> None:
    tokens = val.tokens[:1999]
    told: list[int] = []

    def nats(batch_size: int | None, **options: int) -> float:
        told.clear()
        return summed_loss(
            opened.model,
            tokens,
            CPU,
            seq_len=64,
            stride=48,
            batch_size=batch_size,
            progress=told.append,
            **options,
        )

    one = nats(1)
    assert sum(told) == 1998
    for size in (3, 7, 64, None):
        assert nats(size) == pytest.approx(one, rel=1e-6)
    one_token_at_a_time = opened.model.dimensions.V
    assert nats(7, logits=one_token_at_a_time) == pytest.approx(one, rel=1e-6)


def test_more_context_is_used(opened: OpenedModel, val: TokenFile) -> None:
    """A window that slides by one sees for the last token what a single window sees."""
    tokens = val.tokens[:65]
    whole = summed_loss(opened.model, tokens, CPU, seq_len=64, stride=64)
    without_last = summed_loss(opened.model, tokens[:-1], CPU, seq_len=64, stride=64)
    longer = np.concatenate([[0], tokens]).astype(np.uint32)
    sliding = summed_loss(opened.model, longer, CPU, seq_len=64, stride=1)
    first = summed_loss(opened.model, longer[:-1], CPU, seq_len=64, stride=64)
    assert sliding - first == pytest.approx(whole - without_last, abs=1e-4)


def test_sequences_in_one_batch_do_not_see_each_other(opened: OpenedModel, val: TokenFile) -> None:
    parts = [val.tokens[:5], val.tokens[5:300], val.tokens[300:301], val.tokens[301:340]]
    sizes = {"seq_len": 64, "stride": 32}
    together = score_sequences(opened.model, parts, CPU, **sizes)
    alone = [summed_loss(opened.model, part, CPU, **sizes) for part in parts]
    assert together == pytest.approx(alone, rel=1e-6)


def test_bf16_is_close(opened: OpenedModel, val: TokenFile) -> None:
    sizes = {"seq_len": 32, "stride": 32}
    exact = summed_loss(opened.model, val.tokens[:500], CPU, **sizes)
    rounded = summed_loss(opened.model, val.tokens[:500], replace(CPU, bf16=True), **sizes)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.01)


def test_a_single_token_needs_nothing(opened: OpenedModel, val: TokenFile) -> None:
    assert summed_loss(opened.model, val.tokens[:1], CPU, seq_len=8, stride=8) == 0.0


def test_nan_weights_make_a_nan_loss(opened: OpenedModel) -> None:
    tokens = np.arange(20, dtype=np.uint32)
    weight = opened.model.lm_head.weight
    kept = weight.data.clone()
    try:
        weight.data.fill_(math.nan)
        assert math.isnan(summed_loss(opened.model, tokens, CPU, seq_len=8, stride=8))
    finally:
        weight.data.copy_(kept)
