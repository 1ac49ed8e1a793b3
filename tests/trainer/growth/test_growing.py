"""A grown model computes what the smaller one did, over random shapes."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from trainer.config.model import ModelConfig
from trainer.growth.model import grow_state, grow_weights
from trainer.growth.plan import plan_growth
from trainer.growth.tensors import Placement, placement
from trainer.model.language_model import LanguageModel

V, T = 23, 12


@st.composite
def growths(draw: st.DrawFn) -> tuple[ModelConfig, dict[str, Any], str, str]:
    """A small model, the sizes it grows to, and how."""
    flavour = draw(st.sampled_from(["llama", "llama", "gpt2"]))
    gpt2 = flavour == "gpt2"
    channels = draw(st.sampled_from([2, 4]))
    pairs = draw(st.integers(1, 2))
    heads = pairs * draw(st.integers(1, 3))
    width = heads * channels if gpt2 else draw(st.integers(2, 9))
    qk_norm = not gpt2 and draw(st.booleans())
    biases = ["none"] if gpt2 else ["none", "all"] if qk_norm else ["none", "qkv", "all"]
    old = ModelConfig(
        flavour=flavour,
        vocab_size=V,
        hidden_size=width,
        num_layers=draw(st.integers(1, 3)),
        num_heads=heads,
        num_kv_heads=heads if gpt2 else pairs,
        head_dim=channels,
        intermediate_size=draw(st.integers(3, 9)),
        max_seq_len=T,
        tie_embeddings=draw(st.booleans()),
        qk_norm=qk_norm,
        attention_bias=draw(st.sampled_from(biases)),
        norm_eps=draw(st.sampled_from([1e-6, 1e-2])),
    )
    method = draw(st.sampled_from(["pad", "duplicate"]))
    more = draw(st.integers(0, 2))
    new_pairs = pairs + more
    new_heads = heads + heads // pairs * more
    if gpt2:
        new_heads = heads * draw(st.integers(1, 3)) if method == "duplicate" else heads + more
    if gpt2:
        new_width = new_heads * channels
    elif method == "duplicate":
        new_width = width * draw(st.integers(1, 3))
    else:
        new_width = width + draw(st.integers(0, 7))
    sizes = {
        "hidden_size": new_width,
        "num_layers": old.num_layers + draw(st.integers(1, 3)),
        "num_heads": new_heads,
        "num_kv_heads": new_heads if gpt2 else new_pairs,
        "intermediate_size": (old.intermediate_size or 0) + draw(st.integers(0, 5)),
    }
    return old, sizes, method, draw(st.sampled_from(["interleave", "top"]))


def random_model(config: ModelConfig, dtype: torch.dtype) -> LanguageModel:
    """A model in which every parameter matters."""
    model = LanguageModel(config).to(dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.empty(parameter.shape).normal_(0, 0.5, generator=generator))
    return model


def weights_of(model: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.state_dict().items()}


def logits(model: LanguageModel) -> torch.Tensor:
    ids = torch.randint(V, (2, T), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        return model.eval()(ids)


def grown_model(
    old: LanguageModel, sizes: dict[str, Any], method: Any = "pad", place: Any = "interleave"
) -> LanguageModel:
    growth = plan_growth(old.config, sizes, method=method, place=place)
    new = LanguageModel(growth.new).to(next(old.parameters()).dtype)
    found = grow_weights(growth, weights_of(old), seed=3)
    if growth.new.tie_embeddings:
        embed = "transformer.wte" if growth.new.flavour == "gpt2" else "model.embed_tokens"
        found["lm_head.weight"] = found[f"{embed}.weight"]
    new.load_state_dict(found)
    return new


@settings(max_examples=30)
@given(growths())
def test_the_function_stays(case: tuple[ModelConfig, dict[str, Any], str, str]) -> None:
    config, sizes, method, place = case
    for dtype, bound in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        old = random_model(config, dtype)
        new = grown_model(old, sizes, method, place)
        before, after = logits(old), logits(new)
        scale = max(1.0, before.abs().max().item() / 4)
        assert (before - after).abs().max() <= bound * scale


LLAMA: dict[str, Any] = {
    "vocab_size": V,
    "hidden_size": 8,
    "num_layers": 2,
    "num_heads": 2,
    "num_kv_heads": 1,
    "intermediate_size": 12,
    "max_seq_len": T,
}
WIDER = {"hidden_size": 12, "num_heads": 4, "num_kv_heads": 2, "intermediate_size": 16}
DEEPER = {"num_layers": 5}


@pytest.mark.parametrize(
    ("model", "sizes", "method"),
    [
        ({"ternary": True}, DEEPER, "pad"),
        ({"hyper_streams": 2}, WIDER, "pad"),
        ({"hyper_streams": 4, "hyper_dynamic": True}, WIDER, "pad"),
        ({"hyper_streams": 2, "hyper_dynamic": True}, {"hidden_size": 16}, "duplicate"),
        ({"parts": {"skips": {}}}, {**WIDER, **DEEPER}, "pad"),
        ({"mtp_heads": 2}, {**WIDER, **DEEPER}, "pad"),
        (
            {"mtp_heads": 2, "tie_embeddings": False},
            {"hidden_size": 24, "num_heads": 6},
            "duplicate",
        ),
        ({"mtp_heads": 1, "mtp_kind": "block"}, {**WIDER, **DEEPER}, "pad"),
    ],
)
@pytest.mark.parametrize("place", ["interleave", "top"])
def test_a_model_with_parts_computes_the_same(
    model: dict[str, Any], sizes: dict[str, Any], method: str, place: str
) -> None:
    old = random_model(ModelConfig(**{**LLAMA, **model}), torch.float64)
    new = grown_model(old, sizes, method, place)
    torch.testing.assert_close(logits(new), logits(old), rtol=0, atol=1e-11)
    ids = torch.randint(V, (2, T + 1), generator=torch.Generator().manual_seed(4))
    losses = [m.train()(ids[:, :-1], ids[:, 1:]).total for m in (old, new)]
    # The norms before an extra block see the padded stream, so their epsilon weighs more.
    atol = 1e-4 if model.get("mtp_kind") == "block" else 1e-10
    torch.testing.assert_close(losses[1], losses[0], rtol=0, atol=atol)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("flavour", ["llama", "gpt2"])
@pytest.mark.parametrize("method", ["pad", "duplicate"])
def test_moments_grow_as_gradients_do(method: Any, flavour: Any, tied: bool) -> None:
    """The first moment of a constant gradient is the gradient."""
    shape = {**LLAMA, "flavour": flavour, "tie_embeddings": tied, "num_kv_heads": None}
    old = random_model(ModelConfig(**shape), torch.float64)
    sizes = {"hidden_size": 16, "num_layers": 3}
    growth = plan_growth(old.config, sizes, method=method)
    new = grown_model(old, sizes, method)
    ids = torch.randint(V, (2, T + 1), generator=torch.Generator().manual_seed(4))
    for model in (old, new):
        model.train()(ids[:, :-1], ids[:, 1:]).total.backward()
    gradients = {n: p.grad for n, p in old.named_parameters() if p.grad is not None}
    state = {f"exp_avg.{name}": gradient for name, gradient in gradients.items()}
    state |= {f"exp_avg_sq.{name}": gradient**2 for name, gradient in gradients.items()}
    grown = grow_state(growth, state, seed=3)
    for name, parameter in new.named_parameters():
        assert parameter.grad is not None
        place = placement(growth, name)
        if place.begins:
            assert not grown[f"exp_avg.{name}"].any()
            continue
        known = place.known().expand_as(parameter)
        first, second = grown[f"exp_avg.{name}"], grown[f"exp_avg_sq.{name}"]
        atol = 1e-10
        if method == "pad" and flavour == "gpt2":  # the norms' mean is over more channels
            alike = torch.cosine_similarity(first[known], parameter.grad[known], dim=0)
            assert alike > 0.9
        elif method == "pad" or place.kind.role == "read":
            torch.testing.assert_close(first[known], parameter.grad[known], rtol=1e-7, atol=atol)
        else:  # the noise in what reads a copy makes its gradient differ from the others'
            folded = torch.zeros_like(gradients[place.source])
            total = place.factor * torch.where(known, parameter.grad, 0.0)
            torch.testing.assert_close(
                fold(place, folded, total), gradients[place.source], rtol=1e-7, atol=atol
            )
        torch.testing.assert_close(second[known], first[known] ** 2)
        assert (second[~known] >= 0).all()


def fold(place: Placement, into: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """The sum of the copies of every entry."""
    for dim, axis in enumerate(place.axes):
        if axis is not None:
            size = [axis.old if d == dim else n for d, n in enumerate(values.shape)]
            values = torch.zeros(size, dtype=values.dtype).index_add_(dim, axis.index(), values)
    return values.view_as(into)


@pytest.mark.parametrize(
    ("model", "sizes", "method", "words"),
    [
        ({}, {"hidden_size": 4}, "pad", "hidden_size 4 is less than the model's 8"),
        ({}, {"num_layers": 2}, "pad", "has these sizes already"),
        ({}, {"head_dim": 8, "hidden_size": 16}, "pad", "channels of a head must stay 4, not 8"),
        ({}, {"hidden_size": 12}, "duplicate", "8 can become 16 or 24, not 12"),
        (
            {"num_kv_heads": 2},
            {"num_heads": 4, "num_kv_heads": 1},
            "pad",
            "less than the model's 2",
        ),
        ({"ternary": True}, {"hidden_size": 16}, "pad", "grows in num_layers only"),
        ({"hyper_streams": 2}, {"num_layers": 3}, "pad", "grows in width only"),
        ({"lora_r": 2}, {"num_layers": 3}, "pad", "merge them first"),
        (
            {"flavour": "gpt2", "num_kv_heads": 2},
            {"hidden_size": 12, "num_heads": 2},
            "pad",
            "needs num_heads 3",
        ),
    ],
)
def test_what_cannot_grow_is_refused(
    model: dict[str, Any], sizes: dict[str, Any], method: Any, words: str
) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        plan_growth(ModelConfig(**{**LLAMA, **model}), sizes, method=method)


def test_a_stack_repeats_blocks() -> None:
    old = random_model(ModelConfig(**LLAMA), torch.float64)
    growth = plan_growth(old.config, {"num_layers": 4}, method="stack")
    assert [layer.source for layer in growth.layers] == [0, 1, 0, 1]
    assert not growth.preserves
    new = grown_model(old, {"num_layers": 4}, "stack")
    assert (logits(new) - logits(old)).abs().max() > 1e-3
