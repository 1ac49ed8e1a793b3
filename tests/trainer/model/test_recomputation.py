"""Gradient checkpointing: the same loss and gradients, bit by bit, from fewer kept activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch

from shared.errors import UserError
from trainer.config.model import ModelConfig
from trainer.config.resolve import resolve
from trainer.distributed.device import Compute
from trainer.loop.memory_plan import estimated_memory, with_recomputation
from trainer.model.estimates import estimate_memory
from trainer.model.recomputation import KEEP_ALL, Recomputation, draws_random_numbers

if TYPE_CHECKING:
    from trainer.model.language_model import LanguageModel
    from trainer.model.loss import Losses

SMALL = {"vocab_size": 97, "hidden_size": 32, "num_layers": 5, "num_heads": 4, "max_seq_len": 40}
MODELS: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": 0.2},
    "gpt2 with dropout": {"flavour": "gpt2", "dropout": 0.2},
    "ternary": {"ternary": True},
    "hyper-connections": {"hyper_streams": 2},
    "dynamic hyper-connections": {"hyper_streams": 4, "hyper_dynamic": True},
    "skips": {"parts": {"skips": {}}},
    "extra heads": {"mtp_heads": 2},
    "an extra block": {"mtp_heads": 1, "mtp_kind": "block"},
    "adapters": {"lora_r": 4, "lora_dropout": 0.2},
}


@pytest.fixture
def built(make_model) -> Callable[..., LanguageModel]:
    """A model in training mode; the frozen weights below adapters are given values too."""

    def build(which: str, **more: Any) -> LanguageModel:
        model = make_model(ModelConfig(**{**SMALL, **MODELS[which], **more}))
        generator = torch.Generator().manual_seed(3)
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
        return model.train()

    return build


def passed(model: LanguageModel, *, bf16: bool, documents: bool) -> Losses:
    """The losses of a training pass that draws the same random numbers each time."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(97, (3, 24), generator=generator)
    positions = torch.arange(23).expand(3, -1) % 7 if documents else None
    torch.manual_seed(2)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        return model(ids[:, :-1], ids[:, 1:], positions_BT=positions)


def loss_and_gradients(
    model: LanguageModel, every: int, *, bf16: bool = False, documents: bool = False
) -> dict[str, torch.Tensor]:
    """The total loss (named "") and every parameter's gradient."""
    model.body.recomputation = Recomputation(every, draws_random_numbers(model.config))
    model.zero_grad()
    losses = passed(model, bf16=bf16, documents=documents)
    losses.total.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return found | {"": losses.total.detach()} | losses.named


def assert_the_same(model: LanguageModel, *every: int, **how: bool) -> None:
    kept = loss_and_gradients(model, 0, **how)
    for number in every:
        found = loss_and_gradients(model, number, **how)
        assert found.keys() == kept.keys()
        assert [name for name in kept if not torch.equal(found[name], kept[name])] == []


def test_every_shape_has_the_same_gradients(shape: ModelConfig, make_model) -> None:
    assert_the_same(make_model(shape).train(), 1, 2, 9)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("which", MODELS)
def test_every_part_has_the_same_gradients(which: str, built, bf16: bool) -> None:
    model = built(which)
    assert_the_same(model, 2, bf16=bf16)
    assert_the_same(model, 1, 3, bf16=bf16, documents=True)


def test_dropout_must_be_drawn_again(built) -> None:
    """The tests above would see it: without the generator's state the gradients are others."""
    model = built("dropout")
    kept = loss_and_gradients(model, 0)
    model.body.recomputation = Recomputation(2, random=False)
    model.zero_grad()
    passed(model, bf16=False, documents=False).total.backward()
    name, weight = "model.layers.0.mlp.up_proj.weight", model.model.layers[0].mlp.up_proj.weight
    assert not torch.equal(weight.grad, kept[name])


@pytest.mark.slow
def test_the_compiled_model_has_the_same_gradients(built) -> None:
    """The graph is traced whole, with the pieces in it."""
    model = built("hyper-connections", num_layers=2)
    kept = loss_and_gradients(model, 0, documents=True)
    model.zero_grad()
    model.body.recomputation = Recomputation(1)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    passed(compiled, bf16=False, documents=True).total.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, kept[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("which", ["skips", "hyper-connections", "ternary"])
def test_only_the_inputs_of_the_pieces_are_kept(which: str, built) -> None:
    model = built(which, num_layers=4)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def saved(every: int) -> int:
        sizes: dict[int, int] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor

        model.body.recomputation = Recomputation(every)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            losses = passed(model, bf16=False, documents=False)
        assert losses.total.requires_grad
        return sum(sizes.values())

    assert saved(2) < saved(0) / 3


def test_nothing_is_recomputed_without_gradients(make_model) -> None:
    model = make_model(ModelConfig(**SMALL))
    ids = torch.arange(12).reshape(1, -1)
    expected = model(ids)
    model.body.recomputation = Recomputation(2)
    assert torch.equal(model(ids), expected)
    assert model.body.recomputation != KEEP_ALL


@pytest.mark.parametrize("change", [{}, {"hyper_streams": 2}, {"parts": {"skips": {}}}])
def test_the_estimate_knows_what_is_computed_again(change: dict[str, Any]) -> None:
    def activations(every: int) -> int:
        shape = {"vocab_size": 97, "num_layers": 12, "max_seq_len": 256, **change}
        settings: dict[str, Any] = {f"model.{key}": value for key, value in shape.items()}
        config = resolve(settings, {"train.grad_checkpoint_every": every, "train.batch_size": 16})
        return estimate_memory(config, bf16=False).activations

    assert activations(1) < activations(4) < activations(0)
    assert activations(4) < activations(0) * 0.6


def test_it_is_chosen_where_memory_is_short() -> None:
    """Never where it is set, and never with collider."""
    compute = Compute(torch.device("cpu"), bf16=False, compile=False)

    def chosen(free: float, **more: Any) -> int | None:
        shape = {"model.vocab_size": 97, "model.num_layers": 12, "train.batch_size": 64, **more}
        config = with_recomputation(resolve(shape), compute, free=int(free))
        return config.train.grad_checkpoint_every

    needed = {
        every: estimated_memory(
            resolve(
                {
                    "model.vocab_size": 97,
                    "model.num_layers": 12,
                    "train.batch_size": 64,
                    "train.grad_checkpoint_every": every,
                }
            ),
            compute,
        )
        for every in (0, 4, 1)
    }
    enough = {every: found.total - found.process for every, found in needed.items()}
    assert [chosen(1.01 * enough[every]) for every in (0, 4, 1)] == [0, 4, 1]
    assert chosen(1000) == 1
    assert chosen(1000, **{"train.grad_checkpoint_every": 2}) == 2
    assert chosen(1000, **{"train.collider": True}) == 0
    assert chosen(1.01 * enough[4], **{"train.micro_batch": "auto"}) == 0


def test_collider_is_refused() -> None:
    with pytest.raises(UserError, match="grad_checkpoint_every 4; set it to 0"):
        resolve({"train.collider": True, "train.grad_checkpoint_every": 4})
