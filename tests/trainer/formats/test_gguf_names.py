"""Names and layouts of tensors in GGUF, there and back."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from trainer.config.model import ModelConfig
from trainer.formats.gguf_names import GGUFTensor, architecture, gguf_tensors

LLAMA = ModelConfig(vocab_size=32, hidden_size=24, num_layers=2, num_heads=6, num_kv_heads=2)
MODELS = {
    "llama": LLAMA,
    "llama, untied": LLAMA.model_copy(update={"tie_embeddings": False}),
    "llama, biased": LLAMA.model_copy(update={"attention_bias": "all"}),
    "qwen2": LLAMA.model_copy(update={"attention_bias": "qkv"}),
    "qwen3": LLAMA.model_copy(update={"qk_norm": True}),
    "gpt2": ModelConfig(flavour="gpt2", vocab_size=32, hidden_size=24, num_layers=2),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_names_are_those_of_the_architecture(model: ModelConfig) -> None:
    kind = {v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[architecture(model)]
    known = {
        gguf.TENSOR_NAMES[tensor].format(bid=layer)
        for tensor in gguf.MODEL_TENSORS[kind]
        for layer in range(model.num_layers)
    }
    tensors = gguf_tensors(model)
    names = [tensor.gguf_name for tensor in tensors]
    assert len(set(names)) == len(names)
    assert {name.rpartition(".")[0] for name in names} <= known
    assert ("output.weight" in names) == (not model.tie_embeddings)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_every_layout_comes_back(model: ModelConfig) -> None:
    for tensor in gguf_tensors(model):
        weight = np.arange(np.prod(tensor.shape)).reshape(tensor.shape)
        turned = tensor.to_gguf(weight)
        assert turned.shape == tensor.gguf_shape
        np.testing.assert_array_equal(tensor.from_gguf(turned), weight)


def test_halves_of_a_head_become_pairs() -> None:
    tensor = GGUFTensor("q", "attn_q", (8, 1), "interleaved", heads=2)
    turned = tensor.to_gguf(np.arange(8).reshape(8, 1))
    assert turned.ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_only_llama_interleaves() -> None:
    layouts = {
        name: {tensor.layout for tensor in gguf_tensors(model)} for name, model in MODELS.items()
    }
    assert layouts["llama"] == {"same", "interleaved"}
    assert layouts["qwen2"] == layouts["qwen3"] == {"same"}
    assert layouts["gpt2"] == {"same", "transposed"}
