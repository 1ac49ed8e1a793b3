"""LoRA adapters: what they compute, what is trained, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from shared.errors import UserError
from trainer.config.lora import lora_targets, parse_lora
from trainer.config.model import ModelConfig
from trainer.config.resolve import resolve
from trainer.model.estimates import estimate_memory, flops_per_token
from trainer.model.language_model import LanguageModel
from trainer.model.parts.lora import merge
from trainer.model.parts.registry import PARTS, base_of
from trainer.model.shapes import describe, parameter_count, trained_shapes
from trainer.optim.registry import build_optimizer

SMALL = {"vocab_size": 61, "hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_seq_len": 32}
IDS = torch.arange(24).view(2, 12) * 5 % 61
PART = PARTS["lora"]


def shape(**changes: Any) -> ModelConfig:
    return ModelConfig(**{**SMALL, "lora_r": 4, **changes})


def on_base(config: ModelConfig) -> tuple[LanguageModel, LanguageModel]:
    """A model with fresh adapters, and its base."""
    base, model = LanguageModel(base_of(config)), LanguageModel(config)
    base.initialize(1)
    model.initialize(2)
    model.load_state_dict(base.state_dict(), strict=False)
    return model.eval(), base.eval()


def trained(model: LanguageModel) -> LanguageModel:
    """With adapters that do something."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.1, generator=generator)
    return model


@pytest.mark.parametrize("flavour", ["llama", "gpt2"])
def test_fresh_adapters_change_nothing(flavour: str) -> None:
    """B is 0, and A is uniform within 1 / sqrt(inputs), the same for a seed."""
    model, base = on_base(shape(flavour=flavour, lora_base="fp32"))
    assert torch.allclose(model(IDS), base(IDS), atol=1e-6)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            assert not parameter.any()
        elif ".lora_A." in name:
            bound = parameter.shape[1] ** -0.5
            assert 0.8 * bound < parameter.abs().max() <= bound
    again = LanguageModel(model.config)
    again.initialize(2)
    for name in trained_shapes(model.config):
        assert torch.equal(again.get_parameter(name), model.get_parameter(name))


def test_a_base_of_another_run_is_named() -> None:
    for place, told in (("/runs/a/checkpoints/final", True), ("/models/a", False)):
        config = resolve({"model.lora_r": 2, "checkpoint.begin_from": place})
        assert any(f"base, {place}: keep it" in note for note in PART.notes(config)) is told


@pytest.mark.slow
def test_the_compiled_model_has_the_same_loss_and_gradients() -> None:
    """The graph is traced whole, widened weights included; the code generation is torch's
    business."""
    model = trained(on_base(shape(num_layers=1, tie_embeddings=True))[0]).train()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    found = []
    for forward in (model, compiled):
        model.zero_grad()
        losses = forward(IDS[:, :-1], IDS[:, 1:])
        losses.total.backward()
        found.append((losses.total, {n: p.grad for n, p in model.named_parameters()}))
    (ours, mine), (theirs, compiled_grads) = found
    assert torch.allclose(ours, theirs)
    for name, gradient in mine.items():
        if gradient is None:
            assert compiled_grads[name] is None
        else:
            assert torch.allclose(gradient, compiled_grads[name], atol=1e-6)


@pytest.mark.parametrize("flavour", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
def test_merged_they_compute_the_same(flavour: str, tied: bool) -> None:
    config = shape(flavour=flavour, tie_embeddings=tied, lora_base="fp32", lora_alpha=5.5)
    model, _ = on_base(config)
    logits = trained(model)(IDS)
    plain = PART.fold(config, dict(model.named_parameters()))
    assert plain is not None and plain.config == base_of(config)
    merged = LanguageModel(plain.config)
    merged.load_state_dict(plain.weights, strict=not tied)
    assert torch.allclose(merged.eval()(IDS), logits, atol=1e-5)
    weights = dict(model.named_parameters())
    changed = {name for name, _ in merge(config, weights, weights)}
    assert len(changed) == 2 * len(lora_targets(config))


@pytest.mark.parametrize("flavour", ["llama", "gpt2"])
def test_a_base_in_bf16_has_the_arithmetic_of_its_activations(flavour: str) -> None:
    """Loss and gradients are those of an fp32 base with the same rounded weights."""
    results = []
    for kept in ("bf16", "fp32"):
        model = trained(on_base(shape(flavour=flavour, lora_base=kept))[0])
        if kept == "fp32":
            for parameter in model.parameters():
                if not parameter.requires_grad and parameter.ndim > 1:
                    parameter.data = parameter.data.bfloat16().float()
        loss = model.train()(IDS, IDS.roll(-1, 1)).total
        loss.backward()
        results.append((loss, [p.grad for p in model.parameters() if p.requires_grad]))
    (loss, gradients), (expected, wanted) = results
    assert torch.allclose(loss, expected, atol=1e-6)
    for one, other in zip(gradients, wanted, strict=True):
        assert one is not None and one.dtype == torch.float32
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "lion", "muon"])
def test_only_adapters_are_trained(name: str) -> None:
    model, _ = on_base(shape())
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert {n: tuple(p.shape) for n, p in parameters.items()} == trained_shapes(model.config)
    before = {n: p.clone() for n, p in model.named_parameters()}
    config = resolve({"optim.name": name, "optim.learning_rate": 0.01})
    optimizer = build_optimizer(parameters, config.optim)
    for _ in range(3):
        model.train()(IDS, IDS.roll(-1, 1)).total.backward()
        optimizer.step(0.01)
        optimizer.zero_grad()
    for n, parameter in model.named_parameters():
        assert torch.equal(parameter, before[n]) != (n in parameters), n
    assert all(".lora_" in key for key in optimizer.tensors())
    if name == "muon":  # both matrices are its, none is left for AdamW
        assert [type(group.rule).__name__ for group in optimizer.groups] == ["Muon"]
    with torch.no_grad():
        assert 0 < PART.measure(model, IDS)["lora_change"] < 1


def test_sizes_tell_what_is_trained_and_what_is_frozen() -> None:
    model, base = on_base(shape())
    count = parameter_count(model.config)
    whole = sum(p.numel() for p in base.parameters())
    assert count.total - count.trained == whole
    assert count.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = [p for p in model.parameters() if not p.requires_grad]
    assert count.frozen_bytes == sum(p.nbytes for p in frozen)
    assert {p.dtype for p in frozen if p.ndim > 1} == {torch.bfloat16}
    assert {p.dtype for p in frozen if p.ndim == 1} == {torch.float32}
    config = resolve(
        {f"model.{key}": value for key, value in {**SMALL, "lora_r": 4}.items()},
        {"checkpoint.begin_from": "base"},
    )
    assert f"({count.trained / 1e3:.4g}k trained)" in describe(config)
    estimate = estimate_memory(config, bf16=False)
    assert estimate.weights == sum(p.nbytes for p in model.parameters())
    assert estimate.gradients == 4 * count.trained
    # A frozen weight costs a product forward and one backward.
    plain = flops_per_token(base.config, 8)
    assert flops_per_token(model.config, 8) - plain == 6 * count.trained - 2 * whole


@pytest.mark.parametrize(
    ("flavour", "targets", "found"),
    [
        ("llama", ["q_proj", "mlp.up_proj"], ("self_attn.q_proj", "mlp.up_proj")),
        ("gpt2", ["c_proj"], ("attn.c_proj", "mlp.c_proj")),
        ("gpt2", ["attn.c_proj", "c_attn"], ("attn.c_attn", "attn.c_proj")),
    ],
)
def test_targets_are_named_as_peft_names_them(
    flavour: str, targets: list[str], found: tuple[str, ...]
) -> None:
    model = LanguageModel(shape(flavour=flavour, lora_targets=targets))
    adapted = [name for name, _ in model.named_modules() if name.endswith(".lora_A")]
    assert [name.split(".", 3)[3].removesuffix(".lora_A") for name in adapted] == [*found, *found]


def test_the_option_sets_the_keys() -> None:
    assert parse_lora("r=16, alpha=32 ,targets=q_proj+v_proj,dropout=0.1,base=fp32") == {
        "model.lora_r": 16,
        "model.lora_alpha": 32,
        "model.lora_targets": ["q_proj", "v_proj"],
        "model.lora_dropout": 0.1,
        "model.lora_base": "fp32",
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "'' is not understood"),
        ("alpha=32", "has no rank"),
        ("r=0", "r=0 is no adapter"),
        ("r=8,r=9", "sets r twice"),
        ("r=8,aplha=3", "did you mean alpha"),
        ("r=", "'r=' is not understood"),
        ("16", "'16' is not understood"),
    ],
)
def test_a_wrong_option_is_told(text: str, told: str) -> None:
    with pytest.raises(UserError, match="--lora") as error:
        parse_lora(text)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"model.lora_r": 4}, "model.lora_r needs checkpoint.begin_from"),
        ({"model.lora_r": "four"}, "must be a valid integer"),
        ({"model.lora_r": 4, "model.lora_targets": ["lm_head"]}, "'lm_head', which is no linear"),
        ({"model.lora_r": 4, "model.ternary": True}, "does not work with model.ternary"),
        ({"model.lora_r": 4, "model.hyper_streams": 2}, "with model.hyper_streams"),
        ({"model.lora_r": 4, "model.mtp_heads": 1}, "with model.mtp_heads"),
        ({"model.lora_r": 4, "model.parts": {"skips": {}}}, "with model.parts.skips"),
        ({"model.lora_r": 4, "train.collider": True}, "train.collider does not work with"),
        ({"model.lora_dropout": 0.1}, "model.lora_dropout 0.1 needs model.lora_r"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as error:
        resolve({"model.vocab_size": 61, **settings})
    assert told in str(error.value)


def test_it_is_switched_on_by_its_key() -> None:
    with pytest.raises(UserError, match=r"set model\.lora_r instead"):
        PART.settings(ModelConfig(**SMALL, parts={"lora": {}}))
