"""GGUF files of any origin as our model: the same logits and tokens, or a sentence."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGUFValueType
from gguf.gguf_writer import GGUFValue

from shared.errors import UserError
from tests.trainer.formats.conftest import VOCABULARY, make_model, opened, refused, value
from trainer.checkpoint.finding import find_checkpoint, is_gguf
from trainer.formats.gguf_parsing import open_gguf
from trainer.formats.gguf_types import WRITTEN_HERE, decode, encode
from trainer.formats.gguf_writing import StoredTensor
from trainer.model.parts.hyper_connections.mhc import mhc_of_weights, write_mhc

CPU = torch.device("cpu")
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"num_kv_heads": 2, "rope_theta": 50_000.0},
    "llama-wide-heads": {"head_dim": 24, "num_kv_heads": 1, "tie_embeddings": False},
    "llama-biased": {"attention_bias": "all", "num_kv_heads": 2, "rope_scaling": "linear"},
    "llama-scaled": {
        "rope_scaling": "llama3",
        "rope_original_context": 24,
        "rope_factor": 3.0,
        "rope_low_freq_factor": 1.5,
    },
    "qwen2": {"attention_bias": "qkv", "num_kv_heads": 2},
    "qwen2-scaled": {"attention_bias": "qkv", "rope_scaling": "llama3", "rope_factor": 4.0},
    "qwen3": {"qk_norm": True, "num_kv_heads": 2, "tie_embeddings": False, "norm_eps": 1e-5},
    "gpt2": {"flavour": "gpt2", "norm_eps": 1e-5},
    "gpt2-untied": {"flavour": "gpt2", "norm_eps": 1e-5, "tie_embeddings": False},
}
LLAMA = SHAPES["llama"]
STRING, FLOAT, BOOL = GGUFValueType.STRING, GGUFValueType.FLOAT32, GGUFValueType.BOOL


def ids(length: int = 40) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(VOCABULARY, (2, length), generator=generator)


def difference(one: torch.nn.Module, other: torch.nn.Module) -> float:
    with torch.no_grad():
        return (one(ids()) - other(ids())).abs().max().item()


# The same model


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_logits_are_those_of_the_model_written(shape: dict[str, Any], write_gguf) -> None:
    model = make_model(**shape)
    path = write_gguf(model, template="{{ messages }}")
    got = opened(path)
    assert difference(got.model, model) <= 1e-5
    ours, theirs = got.model.state_dict(), model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    filled = dataclasses.asdict(model.dimensions)
    assert dataclasses.asdict(got.model.dimensions) == filled
    assert not got.model.training
    assert (got.path, got.chat_template) == (path, "{{ messages }}")
    assert got.context == 48


@pytest.mark.parametrize("kind", WRITTEN_HERE)
def test_every_type_is_read_as_the_numbers_it_holds(kind: str, write_gguf) -> None:
    model = make_model(hidden_size=256, intermediate_size=256, num_layers=1)
    got = opened(write_gguf(model, kind=kind)).model.state_dict()
    for name, weight in model.state_dict().items():
        if weight.ndim == 2 and not name.endswith(("q_proj.weight", "k_proj.weight")):
            held = decode(encode(weight.numpy(), kind), kind)
            np.testing.assert_array_equal(got[name].numpy(), held)


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "IQ2_XXS"])
def test_types_that_only_llama_cpp_writes_are_read(kind: str, write_gguf) -> None:
    """Blocks of random bytes: what counts is that they are taken for that type."""
    type_ = gguf.GGMLQuantizationType[kind]
    numbers, size = gguf.GGML_QUANT_SIZES[type_]
    shape = (VOCABULARY, 256 // numbers * size)
    stored = np.random.default_rng(0).integers(0, 255, shape, np.uint8)

    def change(_: dict[str, Any], tensors: list[StoredTensor]) -> None:
        place = [tensor.name for tensor in tensors].index("token_embd.weight")
        embedding = tensors[place]
        tensors[place] = dataclasses.replace(embedding, kind=kind, encode=lambda _: stored)

    path = write_gguf(make_model(hidden_size=256, num_layers=1), change=change)
    got = opened(path).model.state_dict()["model.embed_tokens.weight"]
    with np.errstate(all="ignore"):
        held = gguf.quants.dequantize(stored, type_)
    np.testing.assert_array_equal(got.numpy(), held)
    assert got.count_nonzero() > got.numel() / 2


def test_what_others_leave_out_has_the_default_of_llama_cpp(write_gguf) -> None:
    model = make_model(rope_theta=10_000.0)
    optional = (
        "llama.vocab_size",
        "llama.attention.head_count_kv",
        "llama.attention.key_length",
        "llama.attention.value_length",
        "llama.rope.dimension_count",
        "llama.rope.freq_base",
        "general.type",
        "general.file_type",
        "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.padding_token_id",
    )

    def change(keys: dict[str, Any], _: list[StoredTensor]) -> None:
        for key in optional:
            del keys[key]
        keys["llama.rope.scaling.type"] = value("none", STRING)
        heads = value([4, 4], GGUFValueType.ARRAY, sub_type=GGUFValueType.UINT32)
        keys["llama.attention.head_count"] = heads

    got = opened(write_gguf(model, change=change))
    assert difference(got.model, model) <= 1e-5


def test_tensors_may_lie_at_other_multiples(write_gguf) -> None:
    model = make_model()
    assert difference(opened(write_gguf(model, alignment=256)).model, model) <= 1e-5


def test_a_model_is_called_as_the_file_when_it_has_no_name(write_gguf) -> None:
    path = write_gguf(make_model(), change=lambda keys, _: keys.pop("general.name"))
    assert opened(path).model.config.name == "small"


def test_a_file_is_known_by_its_first_bytes(write_gguf, tmp_path: Path) -> None:
    path = write_gguf(make_model())
    blob = path.rename(tmp_path / "sha256-0123")
    assert is_gguf(blob)
    assert opened(blob).path == blob
    assert not is_gguf(tmp_path) and not is_gguf(tmp_path / "none.gguf")


def test_no_checkpoint_is_a_gguf_file(write_gguf) -> None:
    with pytest.raises(UserError, match="is a GGUF file, which can be run but is not a checkpoint"):
        find_checkpoint(write_gguf(make_model()))


# Hyper-connections


def write_hyper(write_gguf, streams: int, **shape: Any) -> tuple[Path, torch.nn.Module]:
    model = make_model(hyper_streams=streams, **shape)

    def change(keys: dict[str, Any], _: list[StoredTensor]) -> None:
        keys["trainer-hyper.hyper_streams"] = value(streams)

    return write_gguf(model, kind_of_architecture="trainer-hyper", change=change), model


@pytest.mark.parametrize("streams", [2, 4])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_hyper_connections_come_from_the_file_beside(
    streams: int, qk_norm: bool, write_gguf
) -> None:
    path, model = write_hyper(write_gguf, streams, qk_norm=qk_norm)
    write_mhc(path.with_suffix(".mhc"), mhc_of_weights(model.state_dict(), streams))
    got = opened(path).model
    assert (got.config.hyper_streams, got.config.qk_norm) == (streams, qk_norm)
    assert difference(got, model) <= 1e-5


def test_without_the_right_file_beside_they_are_refused(write_gguf) -> None:
    path, model = write_hyper(write_gguf, 2)
    with pytest.raises(UserError, match=r"small\.mhc with their parameters is missing"):
        opened(path)
    layers = mhc_of_weights(model.state_dict(), 2)
    write_mhc(path.with_suffix(".mhc"), [*layers, *layers])
    with pytest.raises(UserError, match=r"has 8 sub-layers of 2 streams, and .* 4 of 2"):
        opened(path)
    path.with_suffix(".mhc").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"is not a valid \.mhc file"):
        opened(path)


# What would be computed wrongly


@pytest.mark.parametrize(
    ("key", "wrong", "problem"),
    [
        ("general.architecture", value("mamba", STRING), "has the architecture 'mamba'"),
        ("general.architecture", value(3), "has the architecture 'None'"),
        ("general.type", value("adapter", STRING), "is not a model; its general.type is 'adapter'"),
        ("split.count", value(3), "is one part of 3"),
        ("llama.rope.scaling.type", value("yarn", STRING), "llama.rope.scaling.type = yarn"),
        ("llama.rope.scaling.factor", value(0.5, FLOAT), "rope_factor is 0.5, but must be"),
        ("llama.rope.scale_linear", value("x", STRING), "scale_linear = x, but it must be"),
        ("llama.attention.sliding_window", value(16), "llama.attention.sliding_window = 16"),
        ("llama.attention.causal", value(False, BOOL), "llama.attention.causal = False"),
        ("llama.expert_count", value(8), "llama.expert_count = 8"),
        (
            "llama.attention.scale",
            value(0.5, FLOAT),
            "the key llama.attention.scale, which is unknown",
        ),
        ("llama.rope.dimension_count", value(8), "rope.dimension_count = 8, but it must be 16"),
        ("llama.attention.value_length", value(8), "value_length = 8, but it must be 16"),
        ("llama.vocab_size", value(9), "llama.vocab_size = 9, but it must be 300"),
        ("llama.block_count", value(3), "has no tensor blk.2.attn_q.weight"),
        ("llama.block_count", value(1), "has the tensor blk.1.attn_k.weight, which is unknown"),
        ("llama.block_count", value(2**32 - 1), "says 4,294,967,295 layers, but has 20 tensors"),
        ("llama.block_count", value(0), "block_count = 0, but it must be a positive number"),
        ("llama.block_count", value("2", STRING), "block_count = 2, but it must be a positive"),
        ("llama.context_length", value(2**31), "at most 1048576 is supported"),
        ("llama.feed_forward_length", value(97), r"ffn_gate.weight .* is \(96, 64\), but by"),
        (
            "llama.attention.head_count",
            value(3),
            "describes an unsupported model|is \\(64, 64\\), but by",
        ),
        ("llama.rope.freq_base", value(float("nan"), FLOAT), "freq_base = nan, but it must be"),
        ("llama.rope.freq_base", value(float("inf"), FLOAT), "describes an unsupported model"),
        (
            "llama.attention.head_count_kv",
            value([2, 1], GGUFValueType.ARRAY, sub_type=GGUFValueType.UINT32),
            "the same for every layer",
        ),
        (
            "llama.rope.scaling.type",
            value([1, 2], GGUFValueType.ARRAY, sub_type=GGUFValueType.UINT32),
            "which is not supported",
        ),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(
    key: str, wrong: GGUFValue, problem: str, write_gguf
) -> None:
    import re

    message = refused(
        write_gguf(make_model(**LLAMA), change=lambda keys, _: keys.update({key: wrong}))
    )
    assert re.search(problem, message), message


@pytest.mark.parametrize(
    "key",
    [
        "general.architecture",
        "llama.context_length",
        "llama.embedding_length",
        "llama.block_count",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
    ],
)
def test_a_missing_key_is_named(key: str, write_gguf) -> None:
    message = refused(write_gguf(make_model(), change=lambda keys, _: keys.pop(key)))
    assert key in message or "architecture" in message


def change_tensors(work) -> Any:
    def change(_: dict[str, Any], tensors: list[StoredTensor]) -> None:
        work(tensors)

    return change


def test_tensors_that_do_not_fit_are_refused(write_gguf) -> None:
    model = make_model(**LLAMA)
    one = StoredTensor("rope_freqs.weight", (8,), "F32", lambda: np.ones(8, np.float32))
    bias = StoredTensor("blk.0.ffn_up.bias", (96,), "F32", lambda: np.ones(96, np.float32))
    other = StoredTensor("blk.1.ffn_up.bias", (96,), "F32", lambda: np.ones(96, np.float32))
    more = write_gguf(model, change=change_tensors(lambda ts: ts.extend([one, bias, other])))
    assert "has the tensor blk.0.ffn_up.bias, which is unknown here (and 1" in refused(more)
    query = StoredTensor("blk.0.attn_q.bias", (64,), "F32", lambda: np.ones(64, np.float32))
    lone = write_gguf(model, change=change_tensors(lambda ts: ts.append(query)))
    assert "has no tensor blk.0.attn_k.bias" in refused(lone)
    fewer = write_gguf(model, change=change_tensors(lambda ts: ts.pop()))
    assert "has no tensor output_norm.weight" in refused(fewer)
    none = write_gguf(model, change=change_tensors(lambda ts: ts.pop(0)))
    assert "has no token_embd.weight" in refused(none)


def factors(numbers: Any) -> StoredTensor:
    array = np.asarray(numbers, np.float32)
    return StoredTensor("rope_freqs.weight", array.shape, "F32", lambda: array)


def test_factors_of_frequencies_are_read_or_told(write_gguf) -> None:
    def written(numbers: Any, keys: dict[str, GGUFValue] | None = None, **shape: Any) -> Path:
        def change(values: dict[str, Any], tensors: list[StoredTensor]) -> None:
            values.update(keys or {})
            tensors.append(factors(numbers))

        return write_gguf(make_model(**shape), change=change)

    plain = make_model()
    assert opened(written(np.ones(8))).model.config == plain.config.model_copy(
        update=dict(opened(write_gguf(plain)).model.config)
    )
    otherwise = "scales its rotary positions otherwise than Llama 3 (rope_freqs.weight)"
    assert otherwise in refused(written(np.linspace(1, 9, 8)))
    assert otherwise in refused(written(np.ones(7)))
    linear = {"llama.rope.scaling.factor": value(2.0, FLOAT)}
    assert "beside a linear scaling" in refused(written(np.ones(8), linear))
    for shape in ({"attention_bias": "qkv"}, {"qk_norm": True}):
        assert "which llama.cpp does not read there" in refused(written(np.ones(8), **shape))
    assert "has the tensor rope_freqs.weight" in refused(written(np.ones(8), flavour="gpt2"))


def test_layouts_are_those_of_the_files_architecture(write_gguf) -> None:
    """A `llama` with biases of queries, keys and values is written as `qwen2` here."""
    model = make_model(attention_bias="qkv", num_kv_heads=2)
    path = write_gguf(model, kind_of_architecture="llama")
    assert difference(opened(path).model, model) <= 1e-5
    assert open_gguf(path).text("general.architecture") == "llama"


@pytest.mark.parametrize("qk_norm", [False, True])
def test_norms_of_queries_must_be_where_the_architecture_has_them(
    qk_norm: bool, write_gguf
) -> None:
    other = "llama" if qk_norm else "qwen3"
    path = write_gguf(make_model(qk_norm=qk_norm), kind_of_architecture=other)
    wanted = "has norms of queries" if qk_norm else "has no norms of queries"
    assert wanted in refused(path)


def test_the_guides_own_files_are_told_apart(tmp_path: Path, write_gguf) -> None:
    path = tmp_path / "guide.gguf"
    path.write_bytes(struct.pack("<IIQQ", 0x46475547, 3, 0, 0))
    assert "begins with GUGF: the nanochat guide's exporter" in refused(path)
    data = write_gguf(make_model()).read_bytes()
    place = data.index(b"token_embd.weight") + len(b"token_embd.weight") + 4 + 16
    assert data[place : place + 4] == bytes(4)
    path.write_bytes(data[:place] + struct.pack("<I", 100) + data[place + 4 :])
    assert "type 100, the nanochat guide's own Q1_58" in refused(path)
    path.write_bytes(data[:place] + struct.pack("<I", 24) + data[place + 4 :])
    assert "has the type I8, which is not read here" in refused(path)
