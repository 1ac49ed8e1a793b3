"""Small models of every shape, whose every parameter matters, with tokenizers of every kind."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from tokenizers import models, processors, trainers

from shared.checkpoints.catalogue import WEIGHTS
from shared.files import write_json
from trainer.checkpoint.hf_format import hf_config
from trainer.checkpoint.opening import OpenedModel
from trainer.checkpoint.saving import weight_tensors
from trainer.checkpoint.tensor_file import write_tensors
from trainer.config.model import ModelConfig
from trainer.data.byte_level import (
    CHARACTER_OF_BYTE,
    DIGITS_PATTERN,
    GPT2_PATTERN,
    LLAMA3_PATTERN,
    QWEN2_PATTERN,
    byte_level_backend,
)
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokenizer_training import train_tokenizer
from trainer.export.gguf_file import prepare_gguf, write_gguf
from trainer.formats.gguf_types import find_type
from trainer.model.language_model import LanguageModel

VOCABULARY = 520  # of the models: more than the tokenizers have
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"num_kv_heads": 2},
    "llama untied": {"tie_embeddings": False},
    "llama biased": {"attention_bias": "all", "rope_scaling": "linear", "tie_embeddings": False},
    "qwen2": {"attention_bias": "qkv", "num_kv_heads": 2},
    "qwen2 scaled": {
        "attention_bias": "qkv",
        "rope_scaling": "llama3",
        "rope_original_context": 32,
        "tie_embeddings": False,
    },
    "qwen3": {"qk_norm": True, "num_heads": 2, "head_dim": 256, "tie_embeddings": False},
    "qwen3 tied": {"qk_norm": True, "num_kv_heads": 1},
    "gpt2": {"flavour": "gpt2", "norm_eps": 1e-5},
    "gpt2 untied": {"flavour": "gpt2", "tie_embeddings": False},
}

TOKENIZERS = ("qwen2", "gpt-2", "llama-bpe", "smaug-bpe", "smollm", "char", "ascii")


def _corpus() -> list[str]:
    sources = [inspect.getsource(inspect), inspect.getsource(tokenizers)]
    words = (
        "naïve café Straße Привет мир Καλημέρα 你好世界 こんにちは 🙂👩‍👩‍👧 "
        "I'm you're IT'S 2024 31415"
    )
    return [*sources, *[f"{words}\r\n\t  {words}"] * 20]


def make_tokenizer(kind: str) -> Tokenizer:
    """One of `TOKENIZERS`, of 512 tokens where it merges."""
    if kind == "char":
        return train_tokenizer((), kind="char")
    if kind == "ascii":
        return train_tokenizer((), kind="char", charset="ascii")
    pattern = {
        "gpt-2": GPT2_PATTERN,
        "qwen2": QWEN2_PATTERN,
        "llama-bpe": LLAMA3_PATTERN,
        "smaug-bpe": LLAMA3_PATTERN,
        "smollm": DIGITS_PATTERN,
    }[kind]
    backend = byte_level_backend(models.BPE(ignore_merges=kind == "llama-bpe"), pattern)
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        initial_alphabet=list(CHARACTER_OF_BYTE.values()),
        special_tokens=["<|endoftext|>", "<|pad|>"],
        show_progress=False,
    )
    backend.train_from_iterator(_corpus(), trainer)
    return Tokenizer(backend)


def backend_of(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """The tokenizer as the library has it, to be changed."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        return tokenizers.Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))


def make_begun(tokenizer: Tokenizer) -> Tokenizer:
    """The same, but that a token is put before every text, as Llama 3's does."""
    backend = backend_of(tokenizer)
    begin = tokenizer.eos_token
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.eos_id)]
    )
    return Tokenizer(backend)


def make_model(name: str = "llama", **more: Any) -> LanguageModel:
    """One of `SHAPES` in evaluation mode, its rows whole blocks of every type."""
    shape = {
        "name": "small",
        "vocab_size": VOCABULARY,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_layers": 2,
        "num_heads": 4,
        "max_seq_len": 128,
    }
    model = LanguageModel(ModelConfig.model_validate(shape | SHAPES[name] | more))
    model.initialize(1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (0.02 if parameter.ndim > 1 else 0.1))
    return model.eval()


def make_ternary(model: LanguageModel, scale_dtype: torch.dtype = torch.bfloat16) -> LanguageModel:
    """Every matrix but those of the vocabulary becomes t * s, one s each, as absmean does it."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and not name.endswith(("tokens.weight", "lm_head.weight")):
                scale = weight.abs().mean().to(scale_dtype).float()
                weight.copy_((weight / scale).round().clamp(-1, 1) * scale)
    return model


@pytest.fixture(scope="session")
def bpe() -> Tokenizer:
    """The usual one."""
    return make_tokenizer("qwen2")


@pytest.fixture
def as_opened(bpe: Tokenizer, tmp_path: Path) -> Callable[..., OpenedModel]:
    """A model as `open_model` gives it."""

    def opened(
        model: LanguageModel, tokenizer: Tokenizer | None = None, **more: Any
    ) -> OpenedModel:
        return OpenedModel(model, tokenizer or bpe, tmp_path, **more)

    return opened


def save_folder(opened: OpenedModel, folder: Path) -> Path:
    """What a checkpoint holds that is needed to open it."""
    folder.mkdir()
    tokenizer = opened.tokenizer
    write_tensors(folder / WEIGHTS, weight_tensors(opened.model), {"format": "pt"})
    config = hf_config(opened.model.config, tokenizer.eos_id, tokenizer.pad_id)
    write_json(folder / "config.json", config)
    tokenizer.save(folder)
    return folder


def export_gguf(opened: OpenedModel, path: Path, kind: str = "F32", **more: Any) -> Path:
    """Decide, and write."""
    write_gguf(prepare_gguf(opened, path, find_type(kind), **more), force=bool(more.get("force")))
    return path
