"""GGUF files made of small models, as the exporter makes them, and altered at will."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFValueType, GGUFWriter
from gguf.gguf_writer import GGUFValue

from shared.errors import UserError
from trainer.checkpoint.opening import OpenedModel, open_model
from trainer.config.model import ModelConfig
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokenizer_training import train_tokenizer
from trainer.formats.gguf_names import architecture, gguf_tensors
from trainer.formats.gguf_reading import ARCHITECTURES
from trainer.formats.gguf_tokenizer import add_tokenizer
from trainer.formats.gguf_writing import (
    StoredTensor,
    add_general,
    add_shape,
    gguf_chunks,
    rope_tensors,
)
from trainer.model.language_model import LanguageModel

VOCABULARY = 300
TEXTS = ["def main(): return don't 123 456 789\n", "  été naïve 😀 Straße", "a_b == c != d;"] * 20


def make_model(**shape: Any) -> LanguageModel:
    """A model in evaluation mode whose every parameter matters."""
    values = {
        "name": "small",
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_layers": 2,
        "num_heads": 4,
        "max_seq_len": 48,
    }
    model = LanguageModel(ModelConfig.model_validate(values | shape))
    model.initialize(0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture(scope="session")
def bpe() -> Tokenizer:
    """288 tokens at most, which split as Qwen2's do."""
    return train_tokenizer(TEXTS, vocab_size=288)


@pytest.fixture(scope="session")
def chars() -> Tokenizer:
    """One token per byte."""
    return train_tokenizer((), kind="char")


def value(number: Any, kind: GGUFValueType = GGUFValueType.UINT32, **more: Any) -> GGUFValue:
    """The value of a key as `GGUFWriter` keeps it."""
    return GGUFValue(number, kind, **more)


def opened(path: Path, **more: Any) -> OpenedModel:
    """Through the public door."""
    return open_model(path, torch.device("cpu"), **more)


def refused(path: Path) -> str:
    """The one sentence with which the file is refused."""
    with pytest.raises(UserError) as caught:
        opened(path)
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message, message
    return message


WriteGGUF = Callable[..., Path]
#: Changes the keys and tensors before they are written.
Change = Callable[[dict[str, Any], list[StoredTensor]], None]


@pytest.fixture
def write_gguf(tmp_path: Path, bpe: Tokenizer) -> WriteGGUF:
    """Write `model` as a GGUF file; returns its path."""
    return gguf_writer(tmp_path, bpe)


def gguf_writer(folder: Path, bpe: Tokenizer) -> WriteGGUF:
    """Writes small.gguf into `folder`."""

    def write(
        model: LanguageModel,
        *,
        tokenizer: Tokenizer | None = None,
        kind: str = "F32",
        kind_of_architecture: Any = None,
        change: Change = lambda keys, tensors: None,
        template: str | None = None,
        alignment: int = 32,
    ) -> Path:
        plain = model.config.model_copy(update={"hyper_streams": 0})
        writer = GGUFWriter(None, kind_of_architecture or architecture(plain))
        if alignment != 32:
            writer.add_custom_alignment(alignment)
        add_general(writer, model.config.name, kind)
        add_shape(writer, plain)
        add_tokenizer(writer, tokenizer or bpe, model.dimensions.V, template)
        weights = model.state_dict()
        tensors = [
            StoredTensor(
                tensor.gguf_name,
                tensor.gguf_shape,
                kind if len(tensor.shape) == 2 else "F32",
                lambda tensor=tensor: tensor.to_gguf(weights[tensor.name].numpy()),
            )
            for tensor in gguf_tensors(
                plain, kind_of_architecture if kind_of_architecture in ARCHITECTURES else None
            )
        ] + rope_tensors(plain)
        keys = copy.copy(writer.kv_data[0])
        change(keys, tensors)
        writer.kv_data[0] = keys
        path = folder / "small.gguf"
        path.write_bytes(b"".join(gguf_chunks(writer, tensors)))
        return path

    return write
