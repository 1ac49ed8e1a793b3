"""Extra heads: their losses, exact accumulation, their file; and learned skips."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from shared.errors import UserError
from trainer.checkpoint.hf_format import hf_config, model_from_hf
from trainer.config.model import ModelConfig
from trainer.config.resolve import resolve
from trainer.model.collider import Collider
from trainer.model.differences import differences
from trainer.model.language_model import LanguageModel
from trainer.model.loss import IGNORED
from trainer.model.shapes import count_parameters, parameter_shapes
from trainer.model.training_pass import TrainingPass, over_all_tokens

SHAPE = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_layers": 2,
    "num_heads": 4,
    "max_seq_len": 40,
}
IDS = torch.randint(97, (4, 21), generator=torch.Generator().manual_seed(1))
INPUTS, TARGETS = IDS[:, :-1], IDS[:, 1:]
LINEAR, BLOCK = {"mtp_heads": 3}, {"mtp_heads": 1, "mtp_kind": "block"}


def make(training_pass: TrainingPass = over_all_tokens, **more: object) -> LanguageModel:
    model = LanguageModel(ModelConfig.model_validate(SHAPE | more), training_pass=training_pass)
    model.initialize(0)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.train()


def test_the_losses_are_the_guides() -> None:
    """Head i predicts x[t + 2 + i] from the last hidden state; weight 0.2 x 0.5^i."""
    model = make(**LINEAR)
    losses = model(INPUTS, TARGETS)
    with torch.no_grad():
        hidden = model.body(INPUTS)
        total = F.cross_entropy(model.lm_head(hidden).flatten(0, 1), TARGETS.flatten())
        assert losses.named["cross_entropy"] == pytest.approx(total.item(), abs=1e-5)
        for i in range(3):
            head = model.get_submodule(f"mtp_head_{i}")
            logits = head(hidden[:, : -1 - i]).flatten(0, 1)
            loss = F.cross_entropy(logits, IDS[:, 2 + i :].flatten())
            assert losses.named[f"mtp_loss_{i + 1}"] == pytest.approx(loss.item(), abs=1e-5)
            total = total + 0.2 * 0.5**i * loss
    torch.testing.assert_close(losses.total.detach(), total, atol=1e-5, rtol=0)
    plain = model.eval()(INPUTS, TARGETS)
    assert plain.named == {}
    torch.testing.assert_close(plain.total, losses.named["cross_entropy"])


def test_the_block_sees_the_next_token_and_not_the_one_it_predicts() -> None:
    model = make(**BLOCK)
    before = model(INPUTS, TARGETS).named["mtp_loss_1"]
    changed, targets = INPUTS.clone(), TARGETS.clone()
    # The last token is an input of nothing that predicts, and the target of the last prediction.
    targets[:, -1] = (targets[:, -1] + 1) % 97
    assert model(changed, targets).named["mtp_loss_1"] != before
    hidden = model.body(INPUTS)
    from trainer.model.parts.mtp import _of_block

    drafted = _of_block(model, hidden, TARGETS)
    other = TARGETS.clone()
    other[:, 10] = (other[:, 10] + 1) % 97
    moved = (_of_block(model, hidden, other) - drafted).abs().amax(dim=(0, 2)) > 0
    assert moved.nonzero().flatten().tolist() == list(range(10, 20))


@pytest.mark.parametrize("kind", [LINEAR, BLOCK])
@pytest.mark.parametrize("masked", [False, True])
def test_micro_batches_add_up_to_the_whole_batch(kind: dict, masked: bool) -> None:
    """The original lost the heads' gradients after the first micro-batch."""
    model = make(**kind).double()
    targets = TARGETS.clone()
    if masked:
        targets[0, 3:] = IGNORED
        targets[2, ::2] = IGNORED
    losses = model(INPUTS, targets)
    losses.total.backward()
    whole = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for row in range(4):
        part = model(INPUTS[row : row + 1], targets[row : row + 1])
        (part.total * part.counted / losses.counted).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], atol=1e-7, rtol=1e-4, msg=name)
        assert whole[name].abs().max() > 0, name


@pytest.mark.parametrize("kind", [LINEAR, BLOCK])
def test_filtered_tokens_leave_the_heads_too(kind: dict) -> None:
    model = make(Collider(0.5), **kind)
    seen: list[torch.Tensor] = []

    def watch(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
        inputs[0].register_hook(seen.append)

    model.model.layers[0].input_layernorm.register_forward_pre_hook(watch)
    losses = model(INPUTS, TARGETS)
    losses.total.backward()
    assert ((seen[0].abs().sum(dim=-1) > 0).sum(dim=1) == 10).all()
    assert {"cross_entropy", "collider_kept", "mtp_loss_1"} <= set(losses.named)


@pytest.mark.parametrize("kind", [LINEAR, BLOCK])
def test_without_its_heads_the_model_is_the_same(kind: dict) -> None:
    model = make(**kind).eval()
    words = json.loads(json.dumps(hf_config(model.config, 0, 0)))
    assert words["model_type"] == "llama"
    assert differences(model_from_hf(words, "it"), model.config) == []
    (part,) = model.parts
    found = part.fold(model.config, model.state_dict())
    plain = LanguageModel(found.config)
    plain.load_state_dict(found.weights)
    with torch.no_grad():
        assert torch.equal(plain(INPUTS), model(INPUTS))
    assert "extra heads are left out" in found.note
    assert set(parameter_shapes(model.config)) - set(parameter_shapes(plain.config)) == {
        name for name, _ in model.named_parameters() if part.owns(name)
    }


def test_heads_are_counted() -> None:
    plain = count_parameters(ModelConfig.model_validate(SHAPE))
    linear = count_parameters(ModelConfig.model_validate(SHAPE | LINEAR))
    assert linear == plain + 3 * (97 * 48 + 97)


def test_what_they_measure() -> None:
    model = make(**LINEAR).eval()
    with torch.no_grad():
        model.mtp_head_0.weight.zero_()
        model.mtp_head_0.bias.zero_()
        model.mtp_head_0.bias[5] = 1.0
        said = model(INPUTS[:1]).argmax(dim=-1)[0]
        measured = model.parts[0].measure(model, INPUTS[:1])
    assert measured["mtp_acceptance_1"] == pytest.approx((said[1:] == 5).double().mean().item())
    assert set(measured) == {f"mtp_acceptance_{i}" for i in (1, 2, 3)}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"mtp_heads": 2, "mtp_kind": "block"}, r"mtp_heads 2 must be 1 with"),
        ({"mtp_heads": 17}, r"model\.mtp_heads is 17"),
        ({"mtp_heads": 3, "max_seq_len": 3}, r"mtp_heads 3 must be below"),
        ({**BLOCK, "flavour": "gpt2"}, r"mtp_kind block is not available in the gpt2"),
    ],
)
def test_wrong_settings_are_told(values: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        resolve({f"model.{key}": value for key, value in (SHAPE | values).items()})


# Learned skips


def test_skips_start_as_the_plain_model_and_average_earlier_outputs() -> None:
    shape = SHAPE | {"num_layers": 3}
    plain = LanguageModel(ModelConfig.model_validate(shape))
    model = LanguageModel(ModelConfig.model_validate(shape | {"parts": {"skips": {}}}))
    for one in (plain, model):
        one.initialize(0)
    with torch.no_grad():
        assert torch.equal(model(INPUTS), plain(INPUTS))
    model(INPUTS, TARGETS).total.backward()
    for name, parameter in model.named_parameters():
        if name.endswith("skip_weights"):
            assert (parameter.grad != 0).all(), name
    weights = [torch.randn(i + 2) for i in range(3)]
    with torch.no_grad():
        for layer, values in zip(model.model.layers, weights, strict=True):
            layer.skip_weights.copy_(values)
        rotary = (plain.model.cos[:20], plain.model.sin[:20])
        outputs = [plain.model.embed_tokens(INPUTS)]
        for block, values in zip(plain.model.layers, weights, strict=True):
            outputs.append(block(outputs[-1], rotary, None))
            outputs[-1] = sum(w * output for w, output in zip(values, outputs, strict=True))
        expected = plain.lm_head(plain.model.norm(outputs[-1]))
        torch.testing.assert_close(model(INPUTS), expected, atol=1e-5, rtol=1e-5)


def test_skips_and_streams_exclude_each_other() -> None:
    both = ModelConfig.model_validate(SHAPE | {"parts": {"skips": {}}, "hyper_streams": 2})
    with pytest.raises(UserError, match="both replace the residual"):
        LanguageModel(both)
