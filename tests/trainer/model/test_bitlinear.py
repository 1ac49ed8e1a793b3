"""Ternary layers: the formula by hand, the gradients, the scale's bits, the model around them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from shared.errors import UserError
from trainer.checkpoint.hf_format import hf_config, model_from_hf
from trainer.config.model import ModelConfig
from trainer.config.resolve import resolve
from trainer.formats.gguf_types import TERNARY, decode, encode, encode_ternary
from trainer.model.differences import differences
from trainer.model.inference.packing import can_pack, packed
from trainer.model.language_model import LanguageModel
from trainer.model.parts.bitlinear import BEGUN, BitLinear, Ternary, eight_bits, scales, ternary
from trainer.model.shapes import count_parameters, describe, parameter_shapes

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "max_seq_len": 40,
    "ternary": True,
}
IDS = torch.randint(97, (2, 24), generator=torch.Generator().manual_seed(1))


def make(**more: object) -> LanguageModel:
    model = LanguageModel(ModelConfig.model_validate(SHAPE | more))
    model.initialize(0)
    return model


def fill_biases(model: LanguageModel) -> None:
    """Give every bias a value, which changes the logits."""
    with torch.no_grad():
        before = model(IDS)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.copy_(torch.linspace(-0.3, 0.3, len(parameter)))
        assert (model(IDS) - before).abs().max() > 0.01


def bit_linear(group: int | None = None, *, activations: bool = True) -> BitLinear:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(48, 64))
    return BitLinear(weight, group, activations=activations, begun=None)


# One layer


@pytest.mark.parametrize("group", [None, 32])
def test_a_layer_computes_the_written_formula(group: int | None) -> None:
    layer = bit_linear(group)
    x = torch.randn(3, 64)
    weight = layer.weight.detach().numpy().astype(np.float64)
    rounded = np.empty_like(weight)
    size = group or weight.size
    flat, out = weight.reshape(-1, size), rounded.reshape(-1, size)
    for row in range(len(flat)):
        scale = float(torch.tensor(np.abs(flat[row]).mean()).to(torch.bfloat16))
        out[row] = scale * np.clip(np.rint(flat[row] / scale), -1, 1)
    step = np.abs(x.numpy()).max(axis=1, keepdims=True) / 127
    expected = (np.rint(x.numpy() / step) * step) @ rounded.T
    torch.testing.assert_close(layer(x), torch.tensor(expected, dtype=torch.float32))
    assert set(np.unique(np.sign(layer.rounded().numpy()))) == {-1.0, 0.0, 1.0}


def test_gradients_pass_straight_through() -> None:
    layer = bit_linear()
    x = torch.randn(3, 64, requires_grad=True)
    seed = torch.randn(3, 48)
    (layer(x) * seed).sum().backward()
    rounded_x, rounded = eight_bits(x.detach()), layer.rounded()
    torch.testing.assert_close(layer.weight.grad, seed.T @ rounded_x)
    torch.testing.assert_close(x.grad, seed @ rounded)


def test_inputs_may_stay_as_they_are() -> None:
    layer, x = bit_linear(activations=False), torch.randn(3, 64)
    assert torch.equal(layer(x), F.linear(x, layer.rounded()))


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1e-8, 1e3),
    st.sampled_from([None, 256]),
    st.sampled_from([torch.float16, torch.bfloat16]),
    st.sampled_from(TERNARY),
)
def test_every_stored_form_is_exact(
    size: float, group: int | None, narrow: torch.dtype, kind: str
) -> None:
    """Whatever the size of the weights: float16, bf16, TQ1_0, TQ2_0 and Q4_0."""
    weight = torch.randn(8, 512, generator=torch.Generator().manual_seed(3)) * size
    rounded = ternary(weight, group)
    assert torch.equal(rounded.to(narrow).float(), rounded)
    array = rounded.numpy()
    assert np.array_equal(decode(encode(array, kind), kind), array)
    assert np.array_equal(decode(encode_ternary(array), "Q4_0"), array)


def test_a_rounded_weight_rounds_to_itself() -> None:
    """But for its scale, which the zeros make smaller: so an export must not round again."""
    weight = torch.randn(16, 256)
    once = ternary(weight, None)
    twice = ternary(once, None)
    assert torch.equal(once.sign(), twice.sign())
    assert scales(once, None) < scales(weight, None)


# The model


def test_only_the_blocks_are_ternary() -> None:
    model = make()
    names = [name for name, module in model.named_modules() if isinstance(module, BitLinear)]
    assert len(names) == 2 * 7
    assert all(name.startswith("model.layers.") for name in names)
    plain = ModelConfig.model_validate(SHAPE | {"ternary": False})
    assert parameter_shapes(model.config) == parameter_shapes(plain)
    assert count_parameters(model.config) == count_parameters(plain)
    known = resolve({f"model.{key}": value for key, value in SHAPE.items()})
    assert ", ternary weights, " in describe(known)


def test_every_parameter_gets_a_gradient_and_the_loss_falls() -> None:
    model = make().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = model(IDS[:, :-1], IDS[:, 1:]).total
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


class Roundings(TorchDispatchMode):
    """Counts what is rounded: the number of values of each tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if call.overloadpacket is torch.ops.aten.round:
            self.sizes.append(args[0].numel())
        return call(*args, **(kwargs or {}))


def test_evaluation_rounds_once_and_sees_new_weights() -> None:
    model = make().eval()
    with torch.no_grad():
        before = model(IDS)
        assert torch.equal(model(IDS), before)
        layer = model.model.layers[0].mlp.down_proj
        x = torch.randn(3, layer.in_features)
        with Roundings() as roundings:
            layer(x)
        assert roundings.sizes == [x.numel()], "of the input alone"
        layer.weight.add_(0.1 * torch.randn(layer.weight.shape))
        assert not torch.equal(model(IDS), before)
        layer.weight.copy_(2 * layer.weight)
        assert torch.equal(layer(x), F.linear(eight_bits(x), layer.rounded()))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_packed_weights_are_the_rounded_ones(precision: str) -> None:
    if not can_pack(precision):
        pytest.skip("no such kernels here")
    model = make(attention_bias="all").eval()
    with torch.inference_mode():
        fill_biases(model)
        torch.testing.assert_close(packed(model, precision)(IDS), model(IDS), atol=5e-3, rtol=0)


def test_it_begins_at_its_share_of_the_steps_and_stays() -> None:
    part, model = Ternary(), make(ternary_from=0.3)
    plain = LanguageModel(ModelConfig.model_validate(SHAPE | {"ternary": False}))
    plain.initialize(0)
    told = [part.before_step(model, step, 10) for step in range(1, 4)]
    assert told == [None, None, None]
    with torch.no_grad():
        assert torch.equal(model(IDS), plain(IDS))
    assert part.before_step(model, 4, 10) == "The weights are ternary from step 4 on"
    always = make()
    with torch.no_grad():
        assert torch.equal(model(IDS), always(IDS))
    # Its own state, in the weights, so that a longer run or a resume goes on with ternary weights.
    part.before_step(model, 5, 1000)
    again = make(ternary_from=0.3)
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again(IDS), always(IDS))
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p is not model.get_parameter(BEGUN) for p in trained)
    assert count_parameters(model.config) == sum(p.numel() for p in trained)


def test_what_it_measures() -> None:
    model = make()
    zeros, scale = Ternary().measure(model, IDS[:1]).values()
    layers = [module for module in model.modules() if isinstance(module, BitLinear)]
    rounded = torch.cat([layer.rounded().flatten() for layer in layers])
    assert zeros == pytest.approx((rounded == 0).float().mean().item(), abs=1e-6)
    assert 0.2 < zeros < 0.4  # normal weights: P(|w| < mean|w| / 2) = 0.31
    assert scale > 0


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"ternary_group": 32, "ternary_activations": False},
        {"attention_bias": "qkv", "rope_scaling": "llama3", "rope_original_context": 32},
        {"attention_bias": "all", "rope_scaling": "linear"},
    ],
)
def test_config_json_tells_it(more: dict[str, object]) -> None:
    model = make(**more).config
    words = json.loads(json.dumps(hf_config(model, 0, 0)))
    assert words["model_type"] == "trainer_ternary"
    assert differences(model_from_hf(words, "it"), model) == []
    with pytest.raises(UserError, match="lacks 'ternary_group'"):
        model_from_hf({k: v for k, v in words.items() if k != "ternary_group"}, "it")


@pytest.mark.parametrize("begun", [True, False])
def test_folded_it_is_a_plain_model(begun: bool) -> None:
    model = make(ternary_activations=False, ternary_from=0.5, attention_bias="qkv")
    fill_biases(model)
    Ternary().before_step(model, 6 if begun else 1, 10)
    found = Ternary().fold(model.config, model.state_dict())
    plain = LanguageModel(found.config)
    plain.load_state_dict(found.weights)
    with torch.no_grad():
        assert torch.equal(plain(IDS), model(IDS))
    assert ("not ternary yet" in found.note) is not begun


# What is refused, and what is told


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"ternary": False, "ternary_from": 0.3}, r"ternary_from 0\.3 needs model\.ternary"),
        ({"ternary": False, "ternary_group": 32}, r"ternary_group 32 needs model\.ternary"),
        ({"ternary_from": 1.0}, r"model\.ternary_from is 1\.0"),
        ({"flavour": "gpt2", "num_kv_heads": None}, r"model\.ternary is not available in the gpt2"),
    ],
)
def test_wrong_settings_are_told(values: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        resolve({f"model.{key}": value for key, value in (SHAPE | values).items()})


def test_a_group_has_to_divide_the_rows() -> None:
    with pytest.raises(UserError, match=r"ternary_group 64 does not divide rows of 96 \(intermed"):
        make(ternary_group=64)


def test_rows_that_tq_cannot_hold_and_decay_are_told() -> None:
    def notes(**more: object) -> list[str]:
        values = {f"model.{key}": value for key, value in (SHAPE | more).items()}
        return list(Ternary().notes(resolve({"optim.weight_decay": 0.0}, values)))

    fitting = {"hidden_size": 256, "intermediate_size": 512}
    assert notes(**fitting) == []
    (rows,) = notes(**fitting | {"intermediate_size": 544})
    assert rows.startswith("Rows of 544 (intermediate_size) are not multiples of 256")
    (group,) = notes(**fitting, ternary_group=128)
    assert "exported as Q4_0, exactly" in group
    decaying = resolve({f"model.{k}": v for k, v in (SHAPE | fitting).items()})
    (decay,) = Ternary().notes(decaying)
    assert decay.startswith("optim.weight_decay 0.1 pulls")
