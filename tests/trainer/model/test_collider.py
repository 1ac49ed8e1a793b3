"""Token filtering: its gradient against plain autograd with constants, and its backward work."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from shared.errors import UserError
from trainer.config.model import ModelConfig
from trainer.config.resolve import resolve
from trainer.model.attention import causal_attention
from trainer.model.collider import Collider
from trainer.model.language_model import LanguageModel
from trainer.model.loss import IGNORED, LossMemory

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_layers": 3,
    "num_heads": 4,
    "num_kv_heads": 2,
    "max_seq_len": 40,
}
GENERATOR = torch.Generator().manual_seed(1)
IDS = torch.randint(97, (3, 21), generator=GENERATOR)
INPUTS, TARGETS = IDS[:, :-1], IDS[:, 1:]


def make(keep: float | None, *, memory: LossMemory | None = None, **more: object) -> LanguageModel:
    shape = ModelConfig.model_validate(SHAPE | more)
    given: dict[str, Any] = {} if keep is None else {"training_pass": Collider(keep)}
    if memory:
        given["loss_memory"] = memory
    model = LanguageModel(shape, **given)
    model.initialize(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=GENERATOR))
    return model.double().train()


def gradients(model: LanguageModel) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


class Constants(TorchFunctionMode):
    """The same in plain autograd: rows that are not kept are detached behind every linear layer."""

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.kept = kept[..., None]

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if func is F.linear or func is torch.addmm:
            kept = self.kept if found.ndim == 3 else self.kept.reshape(-1, 1)
            return torch.where(kept, found, found.detach())
        return found


class ConstantKeys:
    """Attention that sees rows that are not kept as constants."""

    def __init__(self, kept: Tensor) -> None:
        self.kept = kept[:, None, :, None]

    def rows(self, table: Tensor, length: int) -> Tensor:
        return table[:length]

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return causal_attention(*(torch.where(self.kept, x, x.detach()) for x in (q, k, v)))

    def advance(self, length: int) -> None:
        pass


def reference(model: LanguageModel, share: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss, and the gradients by plain autograd."""
    plain = LanguageModel(model.config).double()
    plain.load_state_dict(model.state_dict())
    logits = plain(INPUTS)
    losses = F.cross_entropy(logits.flatten(0, 1), TARGETS.flatten(), reduction="none")
    losses = losses.view(TARGETS.shape).detach()
    most = round(share * TARGETS.shape[1])
    rows = losses.topk(most, dim=1).indices
    kept = torch.zeros_like(TARGETS, dtype=torch.bool).scatter_(1, rows, True)
    with Constants(kept):
        hidden = plain.body(INPUTS, ConstantKeys(kept))
    hidden = torch.where(kept[..., None], hidden, hidden.detach())
    loss = F.cross_entropy(plain.lm_head(hidden[kept]), TARGETS[kept])
    loss.backward()
    return loss.detach(), gradients(plain)


@pytest.mark.parametrize(
    "more",
    [{}, {"tie_embeddings": False, "qk_norm": True}, {"hyper_streams": 2}, {"ternary": True}],
)
def test_the_gradient_is_that_of_constants(more: dict[str, object]) -> None:
    model = make(0.6, **more)
    losses = model(INPUTS, TARGETS)
    losses.total.backward()
    loss, expected = reference(model, 0.6)
    torch.testing.assert_close(losses.total.double().detach(), loss, atol=1e-6, rtol=0)
    found = gradients(model)
    assert set(expected) <= set(found)
    for name, gradient in expected.items():
        # The loss itself is in fp32.
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_keeping_every_token_is_plain_training() -> None:
    for more in ({}, {"flavour": "gpt2", "num_kv_heads": 4}):
        model = make(1.0, **more)
        filtered = model(INPUTS, TARGETS)
        filtered.total.backward()
        found = gradients(model)
        plain = LanguageModel(model.config).double().train()
        plain.load_state_dict(model.state_dict())
        plain(INPUTS, TARGETS).total.backward()
        for name, gradient in gradients(plain).items():
            torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4, msg=name)
        assert filtered.named["collider_kept"] == 1


def test_filtered_tokens_leave_the_products_of_every_layer() -> None:
    def work(keep: float | None) -> int:
        model = make(keep)
        total = model(INPUTS, TARGETS).total
        with FlopCounterMode(display=False) as counter:
            total.backward()
        return counter.get_total_flops()

    everything, kept = work(None), work(0.5)
    # Attention is computed again for the kept queries, against all keys: a little more than half.
    assert 0.45 < kept / everything < 0.55


def test_the_hidden_states_of_filtered_tokens_get_no_gradient() -> None:
    model = make(0.5)
    seen: list[Tensor] = []

    def watch(_: object, inputs: tuple[Tensor, ...]) -> None:
        inputs[0].register_hook(seen.append)

    for block in model.model.layers:
        block.input_layernorm.register_forward_pre_hook(watch)
    model(INPUTS, TARGETS).total.backward()
    assert len(seen) == 3
    live = [(gradient.abs().sum(dim=-1) > 0) for gradient in seen]
    for rows in live:
        assert (rows.sum(dim=1) == 10).all()
        assert torch.equal(rows, live[0])


def test_chunks_of_logits_change_nothing() -> None:
    whole = make(0.6)
    parts = LanguageModel(
        whole.config, loss_memory=LossMemory(logits=1, chunk=7), training_pass=Collider(0.6)
    )
    parts.double().train().load_state_dict(whole.state_dict())
    for model in (whole, parts):
        model(INPUTS, TARGETS).total.backward()
    for name, gradient in gradients(whole).items():
        torch.testing.assert_close(gradients(parts)[name], gradient, atol=1e-6, rtol=1e-4)


def test_tokens_that_do_not_count_go_first() -> None:
    model = make(0.5)
    targets = TARGETS.clone()
    targets[:, ::2] = IGNORED
    losses = model(INPUTS, targets)
    assert losses.counted == 30
    assert losses.named["collider_kept"] == 1
    weights = torch.ones(TARGETS.shape)
    weights[:, :15] = 0
    assert model(INPUTS, TARGETS, weights_BT=weights).counted == 15


def test_evaluation_counts_every_token() -> None:
    model = make(0.5)
    told = model(INPUTS, TARGETS).named["cross_entropy"]
    evaluated = model.eval()(INPUTS, TARGETS)
    assert evaluated.counted == 60
    torch.testing.assert_close(evaluated.total.float(), told.float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"train.compile": True}, "does not work with train.compile"),
        ({"train.collider_keep": 0.0}, "train.collider_keep is 0.0"),
        (
            {"model.flavour": "gpt2", "model.dropout": 0.1},
            r"does not work with model\.dropout 0\.1",
        ),
    ],
)
def test_what_it_does_not_work_with(more: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        resolve({"train.collider": True, **more})
