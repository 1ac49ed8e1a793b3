from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from trainer.checkpoint.hf_format import hf_config, model_from_hf
from trainer.config.model import ModelConfig
from trainer.config.resolve import load_source, preset_names, resolve
from trainer.model.attention import causal_attention
from trainer.model.dimensions import complete
from trainer.model.language_model import LanguageModel


def random_ids(config: ModelConfig, batch: int, length: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (batch, length), generator=generator)


# The first loss


def first_loss(config: ModelConfig) -> float:
    model = LanguageModel(config)
    model.initialize(1337)
    ids = random_ids(config, 8, 65)
    with torch.no_grad():
        return model.eval()(ids[:, :-1], ids[:, 1:]).total.item()


@pytest.mark.parametrize("name", preset_names())
def test_the_first_loss_of_every_preset_is_near_ln_v(name: str) -> None:
    """At the preset's depth and proportions, narrower."""
    given = resolve(load_source(name)[0]).model
    full = complete(given.model_copy(update={"vocab_size": 512}))
    heads = 8
    kv_heads = heads * (full.num_kv_heads or full.num_heads) // full.num_heads
    small = {"vocab_size": 512, "hidden_size": 128, "num_heads": heads, "num_kv_heads": kv_heads}
    small["intermediate_size"] = 128 * full.intermediate_size // full.hidden_size
    small |= {"max_seq_len": 64, "head_dim": given.head_dim}
    assert first_loss(full.model_copy(update=small)) == pytest.approx(math.log(512), rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("flavour", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_first_loss_of_a_wide_model_is_near_ln_v(flavour: str, tied: bool) -> None:
    config = ModelConfig(
        flavour=flavour,
        vocab_size=8192,
        hidden_size=1024,
        intermediate_size=1024,
        num_layers=1,
        num_heads=8,
        max_seq_len=64,
        tie_embeddings=tied,
    )
    assert first_loss(config) == pytest.approx(math.log(8192), rel=0.03)


def test_fresh_weights_follow_from_the_seed_alone(shape: ModelConfig) -> None:
    one, two, other = (LanguageModel(shape) for _ in range(3))
    one.initialize(5)
    torch.rand(100)  # the global generator does not matter
    two.initialize(5)
    other.initialize(6)
    pairs = zip(one.parameters(), two.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)


# What the model sees


def test_a_later_token_does_not_change_earlier_logits(shape: ModelConfig, make_model) -> None:
    model = make_model(shape)
    ids = random_ids(shape, 2, 24)
    with torch.no_grad():
        before = model(ids)
        for place in (1, 12, 23):
            changed = ids.clone()
            changed[:, place] = (changed[:, place] + 1) % shape.vocab_size
            after = model(changed)
            assert torch.allclose(after[:, :place], before[:, :place], atol=1e-5)
            assert not torch.allclose(after[:, place:], before[:, place:], atol=1e-2)


def test_an_earlier_token_changes_every_later_logit(shape: ModelConfig, make_model) -> None:
    model = make_model(shape)
    ids = random_ids(shape, 1, 24)
    changed = ids.clone()
    changed[:, 3] = (changed[:, 3] + 1) % shape.vocab_size
    with torch.no_grad():
        difference = (model(ids) - model(changed)).abs().amax(dim=-1)[0]
    assert (difference[3:] > 1e-4).all()


def test_the_order_of_tokens_matters(shape: ModelConfig, make_model) -> None:
    model = make_model(shape)
    ids = random_ids(shape, 1, 12)
    swapped = ids[:, [1, 0, *range(2, 12)]]
    with torch.no_grad():
        assert not torch.allclose(model(ids)[:, -1], model(swapped)[:, -1], atol=1e-4)


@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 8), (8, 4), (8, 2), (8, 1), (6, 3)])
@pytest.mark.parametrize("queries", [7, 3, 1])
def test_query_head_h_uses_key_value_head_h_over_h_per_k(
    heads: int, kv_heads: int, queries: int
) -> None:
    torch.manual_seed(0)
    T, S, C = queries, 7, 4  # noqa: N806
    q = torch.randn(2, heads, T, C)
    k, v = torch.randn(2, 2, kv_heads, S, C)
    expected = torch.empty_like(q)
    for b in range(2):
        for h in range(heads):
            source = h // (heads // kv_heads)
            for t in range(T):
                seen = S - T + t + 1
                scores = k[b, source, :seen] @ q[b, h, t] / math.sqrt(C)
                expected[b, h, t] = scores.softmax(0) @ v[b, source, :seen]
    assert torch.allclose(causal_attention(q, k, v), expected, atol=1e-6)


def test_a_grouped_model_is_the_ungrouped_one_with_repeated_heads(make_model) -> None:
    grouped = ModelConfig(vocab_size=31, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2)
    small = make_model(grouped)
    large = LanguageModel(grouped.model_copy(update={"num_kv_heads": 4})).eval()
    weights = dict(small.state_dict())
    for name, value in weights.items():
        if name.endswith(("k_proj.weight", "v_proj.weight")):
            heads = value.view(2, 8, 32)
            weights[name] = heads[[0, 0, 1, 1]].reshape(32, 32)
    large.load_state_dict(weights)
    ids = random_ids(grouped, 2, 20)
    with torch.no_grad():
        assert torch.allclose(small(ids), large(ids), atol=1e-5)


@pytest.mark.parametrize("flavour", ["llama", "gpt2"])
def test_dropout_acts_in_training_only(make_model, flavour: str) -> None:
    config = ModelConfig(
        flavour=flavour, vocab_size=31, hidden_size=32, num_heads=2, max_seq_len=16, dropout=0.5
    )
    model = make_model(config)
    without = make_model(config.model_copy(update={"dropout": 0.0}))
    ids = random_ids(config, 2, 16)
    with torch.no_grad():
        assert torch.equal(model(ids), model(ids))
        assert torch.equal(model(ids), without(ids))
        model.train()
        assert not torch.allclose(model(ids), model(ids), atol=1e-3)
        assert torch.equal(model.eval()(ids), without(ids))


class Drops(TorchFunctionMode):
    """Every dropout of a forward pass, by its probability."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if func is F.dropout:
            self.seen.append(kwargs["p"])
        if func is F.scaled_dot_product_attention:
            self.seen.append(kwargs["dropout_p"])
        return func(*args, **kwargs)


@pytest.mark.parametrize("flavour", ["llama", "gpt2"])
def test_dropout_has_the_same_places_in_both_flavours(make_model, flavour: str) -> None:
    """After the embedding, on the attention weights, and before both residual additions."""
    config = ModelConfig(
        flavour=flavour, vocab_size=31, num_heads=2, num_layers=3, max_seq_len=16, dropout=0.5
    )
    with Drops() as drops:
        make_model(config).train()(random_ids(config, 2, 16))
    assert drops.seen == [0.5] * (1 + 3 * 3)
    words = hf_config(config, None, None)
    assert model_from_hf(words, "custom").dropout == 0.5


# The loss


def test_the_loss_is_the_mean_cross_entropy(shape: ModelConfig, make_model) -> None:
    model = make_model(shape)
    ids = random_ids(shape, 3, 21)
    inputs, targets = ids[:, :-1], ids[:, 1:]
    plain = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    assert model(inputs, targets).total.item() == pytest.approx(plain.item(), abs=1e-6)
    assert torch.allclose(model.last_logits(inputs), model(inputs)[:, -1], atol=1e-5)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_explicit_bf16_attention_is_attention(kv_heads: int) -> None:
    """What a CPU trains with in bf16 agrees with fp32 SDPA, gradients included."""
    generator = torch.Generator().manual_seed(0)
    q, k, v, upstream = (
        torch.randn(2, heads, 24, 16, generator=generator).bfloat16()
        for heads in (4, kv_heads, kv_heads, 4)
    )
    exact = [x.float().requires_grad_() for x in (q, k, v)]
    ours = [x.clone().requires_grad_() for x in (q, k, v)]
    wanted = causal_attention(*exact)
    got = causal_attention(*ours)
    torch.testing.assert_close(got.float(), wanted, atol=0.03, rtol=0.03)
    wanted.backward(upstream.float())
    got.backward(upstream)
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a.grad.float(), b.grad, atol=0.1, rtol=0.05)
    dropped = causal_attention(q, k, v, dropout=0.5)
    assert not torch.equal(dropped, got)
