"""Muon against `torch.optim.Muon`, and its orthogonal matrices against the exact ones."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainer.config.optim import OptimConfig
from trainer.optim.groups import Row
from trainer.optim.muon import Muon
from trainer.optim.optimizer import Optimizer
from trainer.optim.orthogonal import orthogonalize, polar_express, quintic
from trainer.optim.registry import parameter_rows

SHAPES = {"q": (16, 16), "k": (8, 16), "v": (8, 16), "up": (40, 16), "down": (16, 40)}


def matrices(seed: int = 0) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return {
        f"mlp.{name}_proj.weight": nn.Parameter(torch.randn(shape, generator=generator))
        for name, shape in SHAPES.items()
    }


def muon(named: dict[str, nn.Parameter], **settings: Any) -> Optimizer:
    optim = OptimConfig(**{"name": "muon", "muon_dtype": "bf16", **settings})
    optimizer = Optimizer(parameter_rows(optim), named)
    optimizer.allocate()
    return optimizer


def set_gradients(named: dict[str, nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in named.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("steps", [3, 5])
def test_every_step_is_torchs(scale: str, steps: int) -> None:
    """Both compute in bf16 and round in another order; a wrong momentum or scale is far outside."""
    ours, theirs = matrices(), matrices()
    optimizer = muon(ours, muon_scale=scale, muon_steps=steps, weight_decay=0.1, momentum=0.9)
    reference = torch.optim.Muon(
        list(theirs.values()),
        lr=0.02,
        weight_decay=0.1,
        momentum=0.9,
        ns_steps=steps,
        adjust_lr_fn=scale,
    )
    for step in range(6):
        before = {name: tensor.detach().clone() for name, tensor in theirs.items()}
        for named in (ours, theirs):
            set_gradients(named, step)
        optimizer.step(0.02)
        reference.step()
        for name, tensor in theirs.items():
            moved = (tensor - before[name]).norm()
            assert (ours[name] - tensor).norm() < 0.05 * moved, (step, name)
            state = reference.state[tensor]["momentum_buffer"]
            torch.testing.assert_close(optimizer.tensors()[f"momentum.{name}"], state)
            with torch.no_grad():
                ours[name].copy_(tensor)  # rounding must not add up


def test_in_fp32_it_is_torchs_formula_exactly() -> None:
    """One step from zero momentum: w - rate (scale O), O by the same polynomial in fp64."""
    named = matrices()
    before = {name: tensor.detach().double() for name, tensor in named.items()}
    set_gradients(named, 0)
    optimizer = muon(named, muon_dtype="fp32", weight_decay=0.5)
    optimizer.step(0.1)
    for name, tensor in named.items():
        gradient = tensor.grad.double()  # type: ignore[union-attr]
        x = gradient / gradient.norm()
        for _ in range(5):
            a, b, c = 3.4445, -4.7750, 2.0315
            gram = x @ x.mT
            x = a * x + (b * gram + c * gram @ gram) @ x
        rows, columns = x.shape
        expected = before[name] * 0.95 - 0.1 * math.sqrt(max(1, rows / columns)) * x
        torch.testing.assert_close(tensor.double(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(5, 7), (200, 210)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonal_matrices(rows: int, columns: int, dtype: torch.dtype) -> None:
    """Singular values near 1 for a matrix whose own lie between 1 and 0.01; directions stay."""
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(2, rows, columns), full_matrices=False)
    x = u @ torch.diag_embed(torch.logspace(0, -1, rows).expand(2, -1)) @ v
    for coefficients, low, high in ((quintic(5), 0.65, 1.25), (polar_express(5), 0.8, 1.2)):
        found = orthogonalize(x, coefficients, dtype).float()
        values = torch.linalg.svdvals(found)
        assert low < values.min() <= values.max() < high
        assert ((found * (u @ v)).sum((1, 2)) / found.norm(dim=(1, 2)) > 0.97 * rows**0.5).all()
    exact = orthogonalize(x.double(), polar_express(10), torch.float64)
    torch.testing.assert_close(exact, (u @ v).double(), atol=1e-4, rtol=1e-3)


def test_a_zero_gradient_moves_nothing_but_decay() -> None:
    named = matrices()
    before = {name: tensor.detach().clone() for name, tensor in named.items()}
    optimizer = muon(named, weight_decay=0.5)
    for parameter in named.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.1)
    for name, tensor in named.items():
        assert torch.equal(tensor, before[name] * (1 - 0.1 * 0.5))


def stepped(name: str, weight: Tensor, gradient: Tensor) -> Tensor:
    """The weight after one step in fp32."""
    parameter = nn.Parameter(weight.clone())
    parameter.grad = gradient
    muon({name: parameter}, muon_dtype="fp32", weight_decay=0.0).step(0.1)
    return parameter.detach()


def test_fused_matrices_are_split() -> None:
    """GPT-2's c_attn is stored (in, out); its queries, keys and values are matrices of their own,
    and so are a fused gate and up projection.
    """
    torch.manual_seed(0)
    weight, gradient = torch.randn(3, 16, 8), torch.randn(3, 16, 8)
    pairs = zip(weight, gradient, strict=True)
    apart = torch.stack([stepped("attn.q_proj.weight", *pair) for pair in pairs])
    in_out = stepped("attn.c_attn.weight", weight.flatten(0, 1).mT, gradient.flatten(0, 1).mT)
    torch.testing.assert_close(in_out.mT, apart.flatten(0, 1))
    for name, parts in (("attn.qkv_proj.weight", 3), ("mlp.gate_up_proj.weight", 2)):
        found = stepped(name, weight[:parts].flatten(0, 1), gradient[:parts].flatten(0, 1))
        torch.testing.assert_close(found, apart[:parts].flatten(0, 1))


def test_gpt2s_other_matrices_are_scaled_by_their_outputs() -> None:
    torch.manual_seed(0)
    weight, gradient = torch.randn(32, 8), torch.randn(32, 8)
    found = stepped("h.0.mlp.c_fc.weight", weight.T.contiguous(), gradient.T.contiguous())
    torch.testing.assert_close(found.T, stepped("mlp.up_proj.weight", weight, gradient))


def test_large_stacks_are_cut() -> None:
    one, other = matrices(), matrices()
    rule = Muon(0.95, 0.1, "original", quintic(5), torch.float32)
    for named, chosen in ((one, rule), (other, replace(rule, stack=300))):
        set_gradients(named, 0)
        optimizer = Optimizer([Row(chosen)], named)
        optimizer.allocate()
        optimizer.step(0.02)
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name])
