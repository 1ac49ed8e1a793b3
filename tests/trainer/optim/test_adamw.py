from __future__ import annotations

import pytest
import torch

from shared.errors import UserError
from trainer.config.model import ModelConfig
from trainer.config.optim import OptimConfig
from trainer.model.language_model import LanguageModel
from trainer.optim.optimizer import Optimizer
from trainer.optim.registry import build_optimizer, state_bytes

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


def built(model: LanguageModel, **settings: float) -> Optimizer:
    return build_optimizer(dict(model.named_parameters()), OptimConfig(**settings))


def one_step(model: LanguageModel, optimizer: Optimizer, seed: int, rate: float = 0.01) -> float:
    ids = torch.randint(31, (2, 9), generator=torch.Generator().manual_seed(seed))
    loss = model(ids[:, :-1], ids[:, 1:]).total
    loss.backward()
    optimizer.step(rate)
    optimizer.zero_grad()
    return loss.item()


@pytest.mark.parametrize("shape", SHAPES)
def test_only_matrices_decay(shape: str) -> None:
    """With zero gradients nothing but weight decay moves a parameter."""
    model = fresh(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    optimizer = built(model, weight_decay=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.1)
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim >= 2
        assert matrix == ("norm" not in name and "ln_" not in name and "bias" not in name)
        expected = 1 - 0.1 * 0.5 if matrix else 1.0
        assert torch.all(parameter == torch.tensor(expected)), name


def test_every_parameter_is_trained_once() -> None:
    for shape in SHAPES:
        model = fresh(shape)
        optimizer = built(model)
        trained = [id(p) for group in optimizer.groups for p in group.parameters.values()]
        assert sorted(trained) == sorted(id(p) for p in model.parameters())


def test_the_rate_is_that_of_every_group() -> None:
    model = fresh("llama")
    optimizer = built(model)
    before = [p.detach().clone() for p in model.parameters()]
    one_step(model, optimizer, 0, rate=0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_state_by_name_goes_on_as_if_never_saved(shape: str) -> None:
    model = fresh(shape)
    optimizer = built(model)
    for seed in range(3):
        one_step(model, optimizer, seed)
    names = {name for name, _ in model.named_parameters()}
    tensors = {key: value.clone() for key, value in optimizer.tensors().items()}
    assert set(tensors) == {
        f"{moment}.{name}" for name in names for moment in ("exp_avg", "exp_avg_sq", "step")
    }
    other = fresh(shape, seed=9)
    other.load_state_dict(model.state_dict())
    again = built(other)
    again.load(tensors)
    for seed in range(3, 6):
        assert one_step(model, optimizer, seed) == one_step(other, again, seed)
    for key, value in optimizer.tensors().items():
        assert torch.equal(value, again.tensors()[key]), key


def test_a_state_that_does_not_fit_is_refused_by_name() -> None:
    model = fresh("llama")
    optimizer = built(model)
    one_step(model, optimizer, 0)
    tensors = optimizer.tensors()
    name = "model.norm.weight"
    wrong = {**tensors, f"exp_avg.{name}": torch.zeros(3)}
    with pytest.raises(UserError, match=rf"optimizer state of {name} does not fit"):
        optimizer.load(wrong)
    incomplete = {key: value for key, value in tensors.items() if key != f"step.{name}"}
    with pytest.raises(UserError, match=name):
        optimizer.load(incomplete)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_moments_are_those_of_torch(shape: str) -> None:
    """The same bits as `torch.optim.AdamW` with the same groups."""
    ours, theirs = fresh(shape), fresh(shape)
    optimizer = built(ours, weight_decay=0.1)
    parameters = list(theirs.parameters())
    reference = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=0.01,
        betas=(0.9, 0.95),
        fused=True,
    )
    for seed in range(3):
        one_step(ours, optimizer, seed)
        ids = torch.randint(31, (2, 9), generator=torch.Generator().manual_seed(seed))
        theirs(ids[:, :-1], ids[:, 1:]).total.backward()
        reference.step()
        reference.zero_grad()
    for one, other in zip(ours.parameters(), parameters, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("shape", SHAPES)
def test_its_bytes_are_known_before(shape: str) -> None:
    model = fresh(shape)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    optimizer = built(model)
    real = sum(tensor.nbytes for tensor in optimizer.tensors().values())
    assert state_bytes(shapes, OptimConfig()) == optimizer.bytes() == real
