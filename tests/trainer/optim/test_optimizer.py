"""What holds for every optimizer: skipped steps, groups, state by name."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from shared.errors import UserError
from tests.trainer.optim import momentum
from trainer.config.optim import GroupConfig, OptimConfig
from trainer.optim.groups import Row, assign
from trainer.optim.kinds import names
from trainer.optim.optimizer import Optimizer
from trainer.optim.registry import parameter_rows, planned_optimizer, scratch_bytes

#: Every optimizer that can be chosen, and one that the project does not know.
KINDS = (*names(), "momentum")
MOMENTUM = [
    Row(momentum.Momentum(0.9, 0.0), "norm", rate=2.0),
    Row(momentum.Momentum(0.9, 0.1)),
]


def rows(kind: str) -> list[Row]:
    return MOMENTUM if kind == "momentum" else parameter_rows(OptimConfig(name=kind))


def parameters() -> dict[str, nn.Parameter]:
    torch.manual_seed(0)
    return {
        "layer.weight": nn.Parameter(torch.randn(3, 4)),
        "mlp.up_proj.weight": nn.Parameter(torch.randn(6, 4)),
        "mlp.down_proj.weight": nn.Parameter(torch.randn(4, 6)),
        "attn.c_attn.weight": nn.Parameter(torch.randn(4, 12)),
        "layer.bias": nn.Parameter(torch.randn(3)),
        "norm.weight": nn.Parameter(torch.ones(4)),
    }


def made(kind: str, named: dict[str, nn.Parameter]) -> Optimizer:
    optimizer = Optimizer(rows(kind), named)
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
    named = {"mlp.up_proj.weight": nn.Parameter(torch.empty(1 << 20, 1 << 20, device="meta"))}
    moments = 2 if kind == "adamw" else 1
    found = Optimizer(rows(kind), named).bytes()
    assert moments * 4 << 40 <= found <= (moments * 4 << 40) + 4


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
        [name for name, tensor in parameters().items() if tensor.ndim == 2],
        ["layer.bias"],
    ]
    assert [group.rate for group in groups] == [2.0, 1.0, 0.5]


def test_a_parameter_that_no_row_matches_is_named() -> None:
    with pytest.raises(UserError, match=r"layer\.bias; add a last row"):
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
    with pytest.raises(UserError, match="'lyon' is not known; choose one of adamw, lion, muon, "):
        parameter_rows(OptimConfig(name="lyon"))
    with pytest.raises(UserError, match=r"'lyon' in optim\.groups is not known; choose"):
        parameter_rows(OptimConfig(groups=[GroupConfig(optimizer="lyon")]))


def test_the_number_of_betas_is_checked() -> None:
    for optimizer, betas, wanted in (("muon", [0.9, 0.9], 1), ("lion", [0.9], 2)):
        row = GroupConfig(optimizer=optimizer, betas=betas)
        with pytest.raises(UserError, match=f"{optimizer} {len(betas)} betas; it has {wanted}"):
            parameter_rows(OptimConfig(groups=[row]))


def test_muon_is_refused_for_what_is_no_matrix() -> None:
    optim = OptimConfig(groups=[GroupConfig(optimizer="muon")])
    with pytest.raises(UserError, match=r"optim.groups gives layer\.bias to Muon"):
        Optimizer(parameter_rows(optim), parameters())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("adamw", [("AdamW", 3, 6e-4, 0.1), ("AdamW", 3, 6e-4, 0.0)]),
        ("lion", [("Lion", 3, 1e-4, 0.1), ("Lion", 3, 1e-4, 0.0)]),
        ("muon", [("Muon", 2, 0.02, 0.1), ("AdamW", 1, 6e-4, 0.1), ("AdamW", 3, 6e-4, 0.0)]),
        ("muon+lion", [("Muon", 2, 0.02, 0.1), ("Lion", 1, 1e-4, 0.1), ("Lion", 3, 1e-4, 0.0)]),
    ],
)
def test_who_trains_what_by_default(
    name: str, expected: list[tuple[str, int, float, float]]
) -> None:
    shapes = {
        "model.embed_tokens.weight": (50, 8),
        "model.layers.0.self_attn.q_proj.weight": (8, 8),
        "model.layers.0.self_attn.q_proj.bias": (8,),
        "model.layers.0.mlp.down_proj.weight": (8, 16),
        "model.layers.0.input_layernorm.weight": (8,),
        "model.norm.weight": (8,),
    }
    optim = OptimConfig(name=name)
    groups = planned_optimizer(shapes, optim).groups
    found = [
        (
            type(group.rule).__name__,
            len(group.parameters),
            pytest.approx(optim.learning_rate * group.rate),
            group.rule.weight_decay,  # type: ignore[attr-defined]
        )
        for group in groups
    ]
    assert found == expected


def test_a_table_of_ones_own() -> None:
    optim = OptimConfig(
        learning_rate=1e-3,
        weight_decay=0.2,
        groups=[
            GroupConfig(pattern="^layer", optimizer="lion", betas=[0.8, 0.7], learning_rate=1e-5),
            GroupConfig(pattern="up_proj", optimizer="muon", weight_decay=0.0),
            GroupConfig(optimizer="adamw"),
        ],
    )
    lion, muon, adamw = Optimizer(parameter_rows(optim), parameters()).describe(1e-3)
    assert lion == (
        "Lion: learning rate 1e-05, betas 0.8 and 0.7, weight decay 0.2, for 2 tensors with 15 "
        "parameters (layer.weight, …)"
    )
    assert muon == (
        "Muon: learning rate 0.02, momentum 0.95, weight decay 0, for 1 tensor with 24 parameters "
        "(mlp.up_proj.weight)"
    )
    assert adamw == (
        "AdamW: learning rate 0.001, betas 0.9 and 0.95, weight decay 0.2, for 3 tensors with 76 "
        "parameters (mlp.down_proj.weight, …)"
    )


def test_scratch_of_a_group_that_the_first_layer_has_nothing_of() -> None:
    def shapes(layers: int) -> dict[str, tuple[int, ...]]:
        return {f"layers.{n}.weight": (64, 64) for n in range(layers)} | {"norm": (64,)}

    def scratch(pattern: str) -> int:
        groups = [
            GroupConfig(pattern=pattern, min_dims=2, optimizer="muon"),
            GroupConfig(optimizer="adamw"),
        ]
        return scratch_bytes(shapes, 8, OptimConfig(name="muon+adamw", groups=groups))

    assert scratch(r"layers\.[1-9]") == pytest.approx(scratch("layers") * 7 / 8)
