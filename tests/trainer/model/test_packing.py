from __future__ import annotations

import pytest
import torch

from trainer.config.model import ModelConfig
from trainer.model.inference.cache import KeyValueCache
from trainer.model.inference.packing import can_pack, for_one_client, packed
from trainer.model.inference.slot_cache import Piece, SlotCache
from trainer.model.language_model import LanguageModel


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 0.02)])
def test_packed_weights_give_the_same_logits(
    shape: ModelConfig, make_model, precision, tolerance: float
) -> None:
    if not can_pack(precision):
        pytest.skip("this processor has no such kernels")
    model = make_model(shape)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    ids = torch.arange(3 * 20).view(3, 20) % 97
    with torch.inference_mode():
        plain = model(ids)
        twin = packed(model, precision)
        for rows in (1, 3):
            found = twin(ids[:rows])
            assert (found - plain[:rows]).abs().max() <= tolerance * plain.abs().max()
        assert torch.equal(model(ids), plain)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_is_not_packed_is_shared(make_model) -> None:
    model = make_model(ModelConfig(vocab_size=97, hidden_size=48, num_layers=1, num_heads=4))
    twin = packed(model, "fp32")
    assert twin.model.embed_tokens.weight is model.model.embed_tokens.weight
    assert not any("proj" in name for name, _ in twin.named_parameters())


# One row


PARTS = {
    "ternary": {"ternary": True, "attention_bias": "qkv"},
    "ternary, plain inputs": {"ternary": True, "ternary_activations": False},
    "hyper-connections": {"hyper_streams": 2, "num_kv_heads": 2},
    "dynamic hyper-connections": {"hyper_streams": 4, "hyper_dynamic": True},
    "skips": {"parts": {"skips": {}}},
    "extra heads": {"mtp_heads": 2},
    "LoRA": {"lora_r": 2, "lora_base": "fp32"},
    "LoRA on gpt2": {"lora_r": 2, "lora_base": "fp32", "flavour": "gpt2"},
}
IDS = [(7 * i + 3) % 97 for i in range(12)]
PROMPT = 5


@torch.inference_mode()
def decoded(model: LanguageModel, *, slots: bool) -> torch.Tensor:
    """The logits (T, V) of IDS: a prompt, then token by token."""
    n = model.dimensions
    kind, sequences = (SlotCache, 3) if slots else (KeyValueCache, 1)
    cache = kind(n, sequences, n.T, torch.device("cpu"), torch.float32)
    found = []
    for ids in (IDS[:PROMPT], *([token] for token in IDS[PROMPT:])):
        if isinstance(cache, SlotCache):
            cache.plan([Piece(1, len(ids))])
        found.append(model(torch.tensor([ids]), cache=cache)[0])
    return torch.cat(found)


def check_row_by_row(model: LanguageModel, tolerance: float = 1e-4) -> None:
    with torch.inference_mode():
        expected = model(torch.tensor([IDS]))[0]
    twins = [(for_one_client(model), tolerance)]
    for precision, least in (("fp32", tolerance), ("fp16", max(tolerance, 0.02))):
        if can_pack(precision):
            twins.append((packed(model, precision), least))
    for twin, allowed in twins:
        for slots in (True, False):
            error = (decoded(twin, slots=slots) - expected).abs().max()
            assert error <= allowed * expected.abs().max()


def test_token_by_token_it_is_the_same_model(shape: ModelConfig, make_model) -> None:
    check_row_by_row(make_model(shape))


@pytest.mark.parametrize("part", PARTS)
def test_token_by_token_with_parts(part: str, make_model) -> None:
    shape = {"vocab_size": 97, "hidden_size": 48, "num_layers": 2, "num_heads": 4}
    model = make_model(ModelConfig.model_validate({**shape, "max_seq_len": 16, **PARTS[part]}))
    if "lora_r" in PARTS[part]:  # its base would be loaded from a file
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.2, generator=generator)
    # Inputs of 8 bits: a difference in the last place may round to another level.
    check_row_by_row(model, 0.03 if part == "ternary" else 1e-4)


def test_a_twin_for_one_client_follows_the_weights(make_model) -> None:
    model = make_model(ModelConfig(vocab_size=97, hidden_size=48, num_layers=1, num_heads=4))
    twin = for_one_client(model)
    before = decoded(twin, slots=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    after = decoded(twin, slots=False)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, decoded(for_one_client(model), slots=False))


def test_a_model_that_the_twin_would_not_be_stays_itself(make_model) -> None:
    model = make_model(ModelConfig(vocab_size=97, hidden_size=48, num_layers=1, num_heads=4))
    assert for_one_client(model) is not model
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert for_one_client(model) is model
    assert for_one_client(model.train()) is model
    hook = model.eval().model.layers[0].register_forward_pre_hook(lambda *call: None)
    assert for_one_client(model) is model  # as FSDP acts
    hook.remove()
    assert for_one_client(model.bfloat16()) is model
