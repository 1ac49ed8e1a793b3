from __future__ import annotations

import pytest
import torch

from shared.errors import UserError
from trainer.config.schema import ModelConfig, OptimConfig
from trainer.model.language_model import LanguageModel
from trainer.optim.adamw import (
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    set_learning_rate,
)

SHAPES = {
    "llama": ModelConfig(vocab_size=31, hidden_size=16, num_layers=2, num_heads=2, qk_norm=True),
    "gpt2": ModelConfig(
        flavour="gpt2", vocab_size=31, hidden_size=16, num_layers=2, num_heads=2, max_seq_len=8
    ),
}


def fresh(shape: str, seed: int = 0) -> LanguageModel:
    model = LanguageModel(SHAPES[shape])
    model.initialize(seed)
    return model


def one_step(model: LanguageModel, optimizer: torch.optim.Optimizer, seed: int) -> float:
    ids = torch.randint(31, (2, 9), generator=torch.Generator().manual_seed(seed))
    loss = model(ids[:, :-1], ids[:, 1:]).total
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


@pytest.mark.parametrize("shape", SHAPES)
def test_only_matrices_decay(shape: str) -> None:
    """With zero gradients nothing but weight decay moves a parameter."""
    model = fresh(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    optimizer = build_optimizer(model, OptimConfig(learning_rate=0.1, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim >= 2
        assert matrix == ("norm" not in name and "ln_" not in name and "bias" not in name)
        expected = 1 - 0.1 * 0.5 if matrix else 1.0
        assert torch.all(parameter == torch.tensor(expected)), name


def test_every_parameter_is_trained_once() -> None:
    for shape in SHAPES:
        model = fresh(shape)
        optimizer = build_optimizer(model, OptimConfig())
        trained = [id(p) for group in optimizer.param_groups for p in group["params"]]
        assert sorted(trained) == sorted(id(p) for p in model.parameters())


def test_the_rate_is_set_for_every_group() -> None:
    model = fresh("llama")
    optimizer = build_optimizer(model, OptimConfig())
    before = [p.detach().clone() for p in model.parameters()]
    set_learning_rate(optimizer, 0.0)
    one_step(model, optimizer, 0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_state_by_name_goes_on_as_if_never_saved(shape: str) -> None:
    model = fresh(shape)
    optimizer = build_optimizer(model, OptimConfig(learning_rate=0.01))
    for seed in range(3):
        one_step(model, optimizer, seed)
    names = {name for name, _ in model.named_parameters()}
    tensors = {key: value.clone() for key, value in optimizer_tensors(model, optimizer).items()}
    assert set(tensors) == {
        f"{moment}.{name}" for name in names for moment in ("exp_avg", "exp_avg_sq", "step")
    }
    other = fresh(shape, seed=9)
    other.load_state_dict(model.state_dict())
    again = build_optimizer(other, OptimConfig(learning_rate=0.01))
    load_optimizer_tensors(other, again, tensors)
    for seed in range(3, 6):
        assert one_step(model, optimizer, seed) == one_step(other, again, seed)
    for key, value in optimizer_tensors(model, optimizer).items():
        assert torch.equal(value, optimizer_tensors(other, again)[key]), key


def test_a_state_that_does_not_fit_is_refused_by_name() -> None:
    model = fresh("llama")
    optimizer = build_optimizer(model, OptimConfig())
    one_step(model, optimizer, 0)
    tensors = optimizer_tensors(model, optimizer)
    name = "model.norm.weight"
    wrong = {**tensors, f"exp_avg.{name}": torch.zeros(3)}
    with pytest.raises(UserError, match=rf"optimizer state of {name} does not fit"):
        load_optimizer_tensors(model, optimizer, wrong)
    incomplete = {key: value for key, value in tensors.items() if key != f"step.{name}"}
    with pytest.raises(UserError, match=name):
        load_optimizer_tensors(model, optimizer, incomplete)
