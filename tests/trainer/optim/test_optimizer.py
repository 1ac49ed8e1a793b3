"""What holds for every optimizer: skipped steps, groups, state by name."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from shared.errors import UserError
from tests.trainer.optim import momentum
from trainer.config.schema import OptimConfig
from trainer.optim import adamw
from trainer.optim.groups import Row, assign
from trainer.optim.optimizer import Optimizer
from trainer.optim.registry import OPTIMIZERS, parameter_rows

KINDS = {"adamw": adamw.rows, "momentum": momentum.rows}


def parameters() -> dict[str, nn.Parameter]:
    torch.manual_seed(0)
    return {
        "layer.weight": nn.Parameter(torch.randn(3, 4)),
        "layer.bias": nn.Parameter(torch.randn(3)),
        "norm.weight": nn.Parameter(torch.ones(4)),
    }


def made(kind: str, named: dict[str, nn.Parameter]) -> Optimizer:
    optimizer = Optimizer(KINDS[kind](OptimConfig()), named)
    optimizer.allocate()
    return optimizer


def fill(named: dict[str, nn.Parameter], value: float) -> None:
    for parameter in named.values():
        parameter.grad = torch.full_like(parameter, value)


def everything(named: dict[str, nn.Parameter], optimizer: Optimizer) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in {**named, **optimizer.tensors()}.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [math.nan, math.inf, 1.0])
@pytest.mark.parametrize("skip", [True, torch.tensor(1.0)], ids=["bool", "tensor"])
def test_a_skipped_step_changes_no_bit(kind: str, value: float, skip: torch.Tensor | bool) -> None:
    named = parameters()
    optimizer = made(kind, named)
    fill(named, 0.5)
    optimizer.step(0.1)
    before = everything(named, optimizer)
    fill(named, value)
    optimizer.step(0.1, skip)
    for name, tensor in everything(named, optimizer).items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wanted", [False, torch.tensor(0.0)], ids=["bool", "tensor"])
def test_a_wanted_step_is_the_plain_one(kind: str, wanted: torch.Tensor | bool) -> None:
    one, other = parameters(), parameters()
    plain, asked = made(kind, one), made(kind, other)
    for value in (0.5, -2.0):
        fill(one, value)
        fill(other, value)
        plain.step(0.1)
        asked.step(0.1, wanted)
    found = everything(other, asked)
    for name, tensor in everything(one, plain).items():
        assert torch.equal(tensor, found[name]), name
    assert not torch.equal(one["layer.weight"], parameters()["layer.weight"])


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_without_a_gradient_stay(kind: str) -> None:
    named = parameters()
    optimizer = made(kind, named)
    fill(named, 1.0)
    named["layer.bias"].grad = None
    before = everything(named, optimizer)
    optimizer.step(0.1)
    after = everything(named, optimizer)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert not any(name.endswith("layer.bias") for name in changed)


@pytest.mark.parametrize("kind", KINDS)
def test_allocate_begins_anew(kind: str) -> None:
    named = parameters()
    optimizer = made(kind, named)
    fresh = everything({}, optimizer)
    fill(named, 1.0)
    optimizer.step(0.1)
    optimizer.allocate()
    for name, tensor in optimizer.tensors().items():
        assert torch.equal(tensor, fresh[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_need_no_memory(kind: str) -> None:
    named = {"w": nn.Parameter(torch.empty(1 << 20, 1 << 20, device="meta"))}
    moments = {"adamw": 2, "momentum": 1}[kind]
    assert Optimizer(KINDS[kind](OptimConfig()), named).bytes() >= moments * 4 << 40


def test_another_optimizers_state_is_refused() -> None:
    named = parameters()
    saved = {k: v.clone() for k, v in made("adamw", named).tensors().items()}
    optimizer = made("momentum", named)
    before = everything(named, optimizer)
    with pytest.raises(UserError, match=r"layer\.weight does not fit"):
        optimizer.load(saved)
    for name, tensor in everything(named, optimizer).items():
        assert torch.equal(tensor, before[name]), name


def test_the_first_row_that_matches_wins() -> None:
    rule = momentum.Momentum(0.9, 0.0)
    rows = [Row(rule, "norm", rate=2.0), Row(rule, min_ndim=2), Row(rule, "bias|weight", rate=0.5)]
    groups = assign(rows, parameters())
    assert [list(group.parameters) for group in groups] == [
        ["norm.weight"],
        ["layer.weight"],
        ["layer.bias"],
    ]
    assert [group.rate for group in groups] == [2.0, 1.0, 0.5]


def test_a_parameter_that_no_row_matches_is_named() -> None:
    with pytest.raises(ValueError, match=r"layer\.bias"):
        assign([Row(momentum.Momentum(0.9, 0.0), "weight")], parameters())


def test_rates_are_multiplied_by_group() -> None:
    named = parameters()
    optimizer = made("momentum", named)
    fill(named, 1.0)
    before = {name: parameter.detach().clone() for name, parameter in named.items()}
    optimizer.step(0.1)
    assert torch.equal(named["norm.weight"], before["norm.weight"] - 0.2)
    torch.testing.assert_close(named["layer.bias"].data, before["layer.bias"] * 0.99 - 0.1)


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(UserError, match="'lyon' is not known; choose one of adamw"):
        parameter_rows(OptimConfig(name="lyon"))
    assert set(OPTIMIZERS) == {"adamw"}
