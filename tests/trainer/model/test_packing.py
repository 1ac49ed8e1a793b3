from __future__ import annotations

import pytest
import torch

from trainer.config.schema import ModelConfig
from trainer.model.inference.packing import can_pack, packed


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
