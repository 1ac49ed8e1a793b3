"""One step: which tokens it counts, and what it does in a session that was rebuilt."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainer.loop.conftest import TINY, Train
from trainer.config.conditions import without_effect
from trainer.config.resolve import load_source, preset_names, resolve
from trainer.loop.figures import Part, mean_loss
from trainer.loop.hooks import NO_HOOKS, Hooks
from trainer.loop.micro_batch import MicroBatch
from trainer.loop.plan import Plan, plan
from trainer.loop.session import Session, build
from trainer.loop.step import (
    StepResult,
    forward_backward,
    train_step,
    unwanted,
    unwanted_on_device,
)
from trainer.loop.training import Training
from trainer.optim.kinds import names
from trainer.optim.registry import state_bytes

if TYPE_CHECKING:
    from trainer.data.batches import Batch, SampleSource

SYNTHETIC = {
    **TINY,
    "data.dataset": "synthetic",
    "data.n_samples": 50,
    "train.dtype": "fp32",
    "train.seq_len": 13,
}


class Masked:
    """A source in which only some tokens count: of sample i the first i mod 4 times three."""

    row_by_row = True

    def __init__(self, source: SampleSource, all_of_them: bool = False) -> None:
        self._source = source
        self._all = all_of_them
        self.seq_len, self.vocab_size = source.seq_len, source.vocab_size
        self.num_windows = source.num_windows

    def mask(self, first_sample: int, count: int) -> Any:
        samples = np.arange(first_sample, first_sample + count)[:, None]
        return (np.arange(self.seq_len)[None, :] < samples % 4 * 3) | self._all

    def batch(self, first_sample: int, count: int) -> Batch:
        inputs, targets = self._source.batch(first_sample, count)[:2]
        return inputs, targets, self.mask(first_sample, count)

    def counted(self, first_sample: int, count: int) -> float:
        return int(self.mask(first_sample, count).sum())


def session(masked: bool = False, all_of_them: bool = False, **more: object) -> Session:
    planned: Plan = plan(resolve({**SYNTHETIC, **more}))
    if masked:
        source = Masked(planned.sources.train, all_of_them)
        planned = replace(planned, sources=replace(planned.sources, train=source))
    return build(planned)


def weights(made: Session) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in made.parameters.items()}


@pytest.mark.parametrize("size", [1, 4])
def test_what_no_pass_uses_has_no_gradient(size: int) -> None:
    made = session()
    used = dict(made.parameters)
    unused = nn.Parameter(torch.ones(3))
    made.learner = replace(made.learner, parameters={**used, "unused": unused})
    forward_backward(made, MicroBatch(size), NO_HOOKS)
    assert unused.grad is None
    assert all(p.grad is not None and p.grad.any() for p in used.values())


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_micro_batch_weighs_what_it_counts(size: int) -> None:
    """In any micro-batches the loss and gradient are those of the whole batch. Sample 0 has no
    counted token at all.
    """
    whole, cut = session(masked=True), session(masked=True)
    expected = train_step(whole, MicroBatch(4))
    found = train_step(cut, MicroBatch(size))
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(cut.parameters[name].data, tensor, atol=2e-5, rtol=1e-4)
    batch = whole.sources.train.batch(0, 4)
    inputs, targets, mask = (torch.from_numpy(part) for part in batch)
    losses = build(whole.plan).model(inputs, targets, weights_BT=mask)
    assert losses.counted.item() == (0 + 3 + 6 + 9)
    assert expected.loss == pytest.approx(losses.total.item(), rel=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_micro_batch_weighs_what_the_model_keeps(size: int) -> None:
    """Of 0, 3, 6 and 9 counted tokens of a sequence token filtering keeps at most 6."""
    filtering = {"train.collider": True, "train.collider_keep": 0.45}
    whole, cut = session(masked=True, **filtering), session(masked=True, **filtering)
    expected = train_step(whole, MicroBatch(4))
    found = train_step(cut, MicroBatch(size))
    assert found.loss == pytest.approx(expected.loss, rel=1e-5)
    assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-4)
    assert expected.named["collider_kept"] == pytest.approx((3 + 6 + 6) / (3 + 6 + 9))
    assert found.named == pytest.approx(expected.named, rel=1e-5)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(cut.parameters[name].data, tensor, atol=2e-5, rtol=1e-4)


def test_a_mask_of_all_tokens_changes_no_bit() -> None:
    plain, masked = session(), session(masked=True, all_of_them=True)
    for _ in range(3):
        one, other = train_step(plain, MicroBatch(3)), train_step(masked, MicroBatch(3))
        assert (one.loss, one.gradient_norm) == (other.loss, other.gradient_norm)
    for name, tensor in weights(plain).items():
        assert torch.equal(tensor, masked.parameters[name]), name


def test_a_step_in_which_nothing_counts_is_harmless() -> None:
    made = session(masked=True)
    made.plan = replace(made.plan, config=resolve({**SYNTHETIC, "train.batch_size": 1}))
    result = train_step(made, MicroBatch(1))
    assert (result.loss, result.gradient_norm) == (0.0, 0.0)
    assert result.updated


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("name", names())
def test_a_poisoned_gradient_changes_no_bit(name: str, poison: float) -> None:
    """Neither of weights nor of state, whichever optimizer trains them."""
    made = build(plan(resolve({**SYNTHETIC, "optim.name": name})))

    def everything() -> dict[str, torch.Tensor]:
        return {**weights(made), **{k: v.clone() for k, v in made.optimizer.tensors().items()}}

    def spoil(_session: Session, _parts: object) -> None:
        for parameter in made.parameters.values():
            parameter.grad.view(-1)[0] = poison  # type: ignore[union-attr]

    assert train_step(made, MicroBatch(4)).updated
    before = everything()
    assert not train_step(made, MicroBatch(4), hooks=Hooks(after_backward=spoil)).updated
    assert all(torch.equal(tensor, before[key]) for key, tensor in everything().items())
    assert train_step(made, MicroBatch(4)).updated
    changed = [key for key, tensor in everything().items() if not torch.equal(tensor, before[key])]
    assert len(changed) == len(before)


def test_the_loss_of_a_step_may_be_another_than_the_one_measured() -> None:
    """With label smoothing the minimized loss is higher; the plain one is named beside it."""
    settings = {"train.label_smoothing": 0.1, "train.z_loss": 1e-3}
    plain = train_step(session(), MicroBatch(4))
    smoothed = train_step(build(plan(resolve({**SYNTHETIC, **settings}))), MicroBatch(2))
    found = smoothed.named["cross_entropy"]
    assert smoothed.loss > found
    assert found == pytest.approx(plain.loss, rel=1e-5)


def test_a_setting_that_has_no_effect_is_told() -> None:
    made = build(plan(resolve({**SYNTHETIC, "optim.decay_shape": "sqrt", "optim.muon_steps": 4})))
    assert "optim.muon_steps 4 has no effect: nothing is trained by muon" in made.notes
    assert "optim.decay_shape sqrt has no effect: optim.schedule is cosine, not wsd" in made.notes


def test_what_has_no_effect_has_one_beside_what_it_belongs_to() -> None:
    muon = {"optim.name": "muon"}
    for key, value, beside in (
        ("train.collider_keep", 0.5, {"train.collider": True}),
        ("model.mtp_kind", "block", {"model.mtp_heads": 1}),
        ("model.mtp_weight", 0.3, {"model.mtp_heads": 1}),
        ("model.ternary_activations", False, {"model.ternary": True}),
        ("checkpoint.begin_with", "state", {"checkpoint.begin_from": "x"}),
        ("optim.rest_learning_rate", 1e-3, muon),
        ("optim.muon_scale", "match_rms_adamw", muon),
        ("optim.muon_steps", 4, muon),
        ("optim.muon_dtype", "fp32", {"optim.groups": [{"optimizer": "muon", "min_dims": 2}]}),
        ("optim.momentum", 0.9, muon),
        ("optim.decay_start", 0.5, {"optim.schedule": "wsd"}),
        ("preference.beta", 0.5, {"data.dataset": "pairs"}),
        ("preference.loss", "ipo", {"data.dataset": "pairs"}),
    ):
        for more in ({}, beside):
            notes = list(without_effect(resolve({key: value, **more})))
            assert [note.partition(" ")[0] for note in notes] == ([] if more else [key])
    pairs = {"data.dataset": "pairs", "preference.loss": "ipo", "preference.label_smoothing": 0.1}
    for key, more in (("preference.label_smoothing", pairs), ("train.z_loss", pairs)):
        (note,) = [n for n in without_effect(resolve({**more, "train.z_loss": 0.1})) if key in n]
        assert "has no effect" in note
    for name in preset_names():
        assert not list(without_effect(resolve(load_source(name)[0])))


def test_the_first_step_has_the_rate_of_the_warmup() -> None:
    """For every group: with a rate of almost 0, almost nothing moves."""
    made = build(plan(resolve({**SYNTHETIC, "optim.name": "muon+lion", "optim.warmup_steps": 100})))
    before = weights(made)
    train_step(made, MicroBatch(4))
    for name, tensor in weights(made).items():
        rate = 0.02 if name.endswith("_proj.weight") else 1e-4
        moved = (tensor - before[name]).abs().max().item()
        assert 0 < moved <= 1.01 * rate / 100 * (1 + tensor.abs().max()), name


def test_a_session_is_rebuilt_with_its_position() -> None:
    made = session()
    for _ in range(3):
        train_step(made, MicroBatch(4))
    drawn = torch.get_rng_state()
    before = replace(made.progress)
    made.rebuild(plan(resolve({**SYNTHETIC, "model.hidden_size": 64, "optim.beta1": 0.8})))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert made.progress == before
    assert made.model.dimensions.D == 64
    result = train_step(made, MicroBatch(4))
    assert made.progress.step == 4
    assert result.updated
    assert all(p.grad is None for p in made.parameters.values())


def test_a_run_goes_on_with_a_rebuilt_session(train: Train) -> None:
    """Nobody in the loop still holds the old model: steps, norms, evaluation and checkpoints are
    those of the new one.
    """
    from safetensors.torch import load_file

    from trainer.checkpoint.loading import model_config

    results: list[StepResult] = []
    old: list[torch.nn.Module] = []

    def grow(training: Training) -> None:
        made = training.session
        if made.progress.step == 5:
            old.append(made.model)
            model = made.config.model.model_copy(update={"hidden_size": 64, "num_layers": 3})
            made.rebuild(plan(made.config.model_copy(update={"model": model})))

    def after_step(_session: Session, result: StepResult) -> None:
        results.append(result)

    done = train("grown", hooks=Hooks(before_step=grow, after_step=after_step))
    assert done.code == 0
    assert [c.updated for c in results] == [True] * 12
    assert done.metrics.series("loss").steps.tolist() == list(range(1, 13))
    final = done.run.checkpoints / "final"
    saved, state = (
        load_file(final / "model.safetensors"),
        load_file(final / "optimizer.safetensors"),
    )
    assert model_config(final).num_layers == 3
    assert saved["model.norm.weight"].shape == (64,)
    assert state["exp_avg.model.layers.2.mlp.up_proj.weight"].shape == (64, 64)
    assert state["step.model.norm.weight"] == 7
    assert all(p.grad is None for p in old[0].parameters())
    assert done.metrics.series("val_loss").steps.tolist() == [4, 8, 12]


def test_the_plan_counts_the_optimizers_memory() -> None:
    made = session()
    shapes = {name: tuple(p.shape) for name, p in made.parameters.items()}
    real = sum(tensor.nbytes for tensor in made.optimizer.tensors().values())
    assert state_bytes(shapes, made.config.optim) == real


@pytest.mark.parametrize("losses", [(1.0, 3.0), (1.0, math.nan), (math.inf, 1.0)])
@pytest.mark.parametrize("norm", [1.0, math.nan, math.inf])
@pytest.mark.parametrize("limit", [math.inf, 2.6, 2.4])
def test_host_and_device_agree_on_what_is_skipped(
    losses: tuple[float, float], norm: float, limit: float
) -> None:
    """Of 4 counted tokens one has the first loss and three the second: their mean is 2.5."""
    pairs = zip(losses, (1, 3), strict=True)
    parts = [Part(torch.tensor(x), {}, torch.tensor(n), n, 1) for x, n in pairs]
    expected = not (all(map(math.isfinite, (*losses, norm))) and limit > 2.5)
    assert unwanted(mean_loss(parts), norm, limit) is expected
    assert unwanted_on_device(parts, torch.tensor(norm), limit).item() == float(expected)
