"""GGUF files: read back by the gguf package, whole or absent, exact where they can be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader, TokenType
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import RunError, UserError
from tests.trainer.export.conftest import (
    SHAPES,
    VOCABULARY,
    backend_of,
    export_gguf,
    make_model,
    make_ternary,
    make_tokenizer,
)
from trainer.checkpoint.disk import Disk
from trainer.checkpoint.opening import OpenedModel, open_model
from trainer.data.tokenizer import Tokenizer
from trainer.export.gguf_file import prepare_gguf, weight_in_gguf, written_tensors
from trainer.export.table import compression, tensor_rows
from trainer.formats.gguf_names import gguf_tensors
from trainer.formats.gguf_rope import FACTORS
from trainer.formats.gguf_tokenizer import DUMMY_MERGE
from trainer.formats.gguf_types import decode, find_type

CPU = torch.device("cpu")
F16 = find_type("F16")
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"


def values(path: Path) -> dict[str, object]:
    """Every key with its value."""
    return {name: field.contents() for name, field in GGUFReader(path).fields.items()}


@given(
    shape=st.fixed_dictionaries(
        {
            "num_layers": st.integers(1, 3),
            "num_heads": st.sampled_from([1, 2, 4]),
            "head_dim": st.sampled_from([2, 6, 16]),
            "hidden_size": st.integers(1, 9).map(lambda n: 4 * n),
            "intermediate_size": st.integers(1, 40),
            "vocab_size": st.integers(512, 530),
            "tie_embeddings": st.booleans(),
            "qk_norm": st.booleans(),
            "attention_bias": st.sampled_from(["none", "qkv", "all"]),
            "rope_scaling": st.sampled_from(["none", "linear", "llama3"]),
        }
    ),
    kind=st.sampled_from(["F32", "F16", "BF16"]),
)
@settings(deadline=None, max_examples=25)
def test_every_shape_is_read_back(
    shape: dict[str, object], kind: str, bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("shape")
    if shape["qk_norm"]:  # no architecture of llama.cpp has these too
        shape = shape | {"attention_bias": "none", "rope_scaling": "linear"}
    model = make_model("llama", **{"num_kv_heads": 1} | shape)
    path = export_gguf(OpenedModel(model, bpe, folder), folder / "model.gguf", kind)
    stored = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    tensors = gguf_tensors(model.config)
    scaled = {FACTORS} if model.config.rope_scaling == "llama3" else set()
    assert stored.keys() == {tensor.gguf_name for tensor in tensors} | scaled
    for tensor in tensors:
        found = stored[tensor.gguf_name]
        assert found.tensor_type.name == ("F32" if len(tensor.shape) == 1 else kind)
        numbers = decode(found.data, found.tensor_type.name).reshape(tensor.gguf_shape)
        near = {"F32": 0, "F16": 1e-3, "BF16": 1e-2}[found.tensor_type.name]
        np.testing.assert_allclose(
            tensor.from_gguf(numbers), weight(model, tensor.name), rtol=near, atol=1e-7
        )


def weight(model: torch.nn.Module, name: str) -> np.ndarray:
    return model.get_parameter(name).detach().numpy()


@pytest.mark.parametrize("kind", ["TQ1_0", "TQ2_0"])
@pytest.mark.parametrize("shape", SHAPES)
def test_ternary_weights_are_kept_bit_by_bit(
    shape: str, kind: str, as_opened, tmp_path: Path
) -> None:
    model = make_ternary(make_model(shape))
    path = export_gguf(as_opened(model), tmp_path / "model.gguf", kind)
    stored = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    count = 0
    for tensor in gguf_tensors(model.config):
        found = stored[tensor.gguf_name]
        if found.tensor_type.name == kind:
            numbers = decode(found.data, kind)
            np.testing.assert_array_equal(numbers, weight_in_gguf(model, tensor))
            count += 1
    assert count == model.config.num_layers * (4 if model.config.flavour == "gpt2" else 7)


def test_ternary_weights_in_odd_rows_too(as_opened, tmp_path: Path) -> None:
    model = make_ternary(make_model(intermediate_size=544))
    path = export_gguf(as_opened(model), tmp_path / "model.gguf", "TQ1_0")
    stored = {tensor.name: tensor for tensor in GGUFReader(path).tensors}["blk.1.ffn_down.weight"]
    assert stored.tensor_type.name == "Q4_0"
    np.testing.assert_array_equal(
        decode(stored.data, "Q4_0"), weight(model, "model.layers.1.mlp.down_proj.weight")
    )


def test_everything_that_would_be_guessed_is_written(as_opened, tmp_path: Path, bpe) -> None:
    model = make_model("llama")
    opened = as_opened(model, chat_template=TEMPLATE)
    found = values(export_gguf(opened, tmp_path / "model.gguf", "Q8_0"))
    assert found["general.architecture"] == "llama" and found["general.name"] == "small"
    assert found["llama.rope.freq_base"] == 10000.0
    assert found["llama.attention.head_count_kv"] == 2
    assert found["llama.vocab_size"] == VOCABULARY
    ids = [found[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos", "padding")]
    assert ids == [bpe.eos_id, bpe.eos_id, bpe.pad_id]
    assert found["tokenizer.ggml.add_bos_token"] is found["tokenizer.ggml.add_eos_token"] is False
    assert found["tokenizer.chat_template"] == TEMPLATE
    tokens, types = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == VOCABULARY > bpe.vocab_size
    assert set(types[bpe.vocab_size :]) == {TokenType.UNUSED}
    assert {i for i, kind in enumerate(types) if kind == TokenType.CONTROL} == bpe.special_ids


def test_a_vocabulary_without_merges_has_one_that_never_happens(as_opened, tmp_path: Path) -> None:
    opened = as_opened(make_model(), make_tokenizer("char"))
    found = values(export_gguf(opened, tmp_path / "model.gguf"))
    assert found["tokenizer.ggml.merges"] == [DUMMY_MERGE]
    assert found["tokenizer.ggml.pre"] == "gpt-2"


def test_a_split_that_llama_cpp_has_no_name_for_is_refused(as_opened, tmp_path: Path, bpe) -> None:
    import tokenizers

    backend = backend_of(bpe)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(use_regex=False)
    with pytest.raises(UserError, match="no name for the way this tokenizer splits"):
        export_gguf(as_opened(make_model(), Tokenizer(backend)), tmp_path / "model.gguf")
    assert list(tmp_path.glob("*")) == []


@pytest.mark.parametrize(
    ("more", "lacks"),
    [
        ({"attention_bias": "all"}, "biases of attention"),
        ({"rope_scaling": "llama3"}, "rotary scaling of the kind llama3"),
    ],
)
def test_a_shape_that_llama_cpp_does_not_have_is_refused(
    more: dict[str, str], lacks: str, as_opened, tmp_path: Path
) -> None:
    opened = as_opened(make_model("qwen3", **more))
    with pytest.raises(UserError, match=f"llama.cpp's qwen3 has no {lacks}; --hf writes it"):
        export_gguf(opened, tmp_path / "m.gguf")


def test_text_that_is_normalized_first_is_told(as_opened, tmp_path: Path, bpe) -> None:
    import tokenizers

    backend = backend_of(bpe)
    backend.normalizer = tokenizers.normalizers.NFC()
    opened = as_opened(make_model(), Tokenizer(backend))
    ready = prepare_gguf(opened, tmp_path / "model.gguf", find_type("F16"))
    assert "llama.cpp does not" in ready.notes[0]


def test_a_file_is_not_replaced_unasked(as_opened, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_text("mine")
    with pytest.raises(UserError, match="--force"):
        export_gguf(as_opened(make_model()), path)
    assert path.read_text() == "mine"
    export_gguf(as_opened(make_model()), path, force=True)
    assert path.read_bytes()[:4] == b"GGUF"


def test_a_write_that_fails_leaves_what_was_there(as_opened, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_text("mine")
    opened = as_opened(make_model())
    opened.model.get_parameter("model.norm.weight").data[0] = torch.nan
    with pytest.raises(UserError, match=r"tensor output_norm\.weight cannot be written: .*finite"):
        export_gguf(opened, path, force=True)
    assert path.read_text() == "mine"
    assert [found.name for found in tmp_path.iterdir()] == ["model.gguf"]


def test_no_room_is_told_before_anything_is_written(as_opened, tmp_path: Path) -> None:
    disk = Disk(free_bytes=lambda _: 1 << 20)
    with pytest.raises(UserError, match=r"needs 5\.\d MiB, but only 1\.0 MiB is free"):
        export_gguf(as_opened(make_model()), tmp_path / "model.gguf", disk=disk)


def test_a_type_of_llama_cpp_says_what_to_install(as_opened, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install llama-cpp-python"):
        export_gguf(as_opened(make_model()), tmp_path / "model.gguf", "q4_k_m")


@pytest.mark.parametrize("kind", ["Q4_K_M", "Q6_K", "IQ4_XS"])
def test_llama_cpp_makes_its_own_types(kind: str, as_opened, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    path = export_gguf(as_opened(make_model()), tmp_path / "model.gguf", kind)
    found = {tensor.name: tensor.kind for tensor in written_tensors(path)}
    assert found["blk.0.attn_q.weight"] == kind.removesuffix("_M")
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.gguf"]


def test_the_table_has_a_row_for_alike_tensors_of_all_layers(as_opened, tmp_path: Path) -> None:
    path = export_gguf(as_opened(make_model()), tmp_path / "model.gguf", "Q8_0")
    written = written_tensors(path)
    rows = {row[0]: row[1:] for row in tensor_rows(written)}
    assert rows["blk.*.attn_k.weight"] == ["2", "128 x 256", "Q8_0", "68.0 KiB"]
    assert rows["output_norm.weight"] == ["1", "256", "F32", "1.0 KiB"]
    assert rows["total"][0] == str(len(written))
    assert compression(written).startswith("1.88x smaller than in F16 (2.5 MiB), 8.5")


@pytest.mark.parametrize("streams", [2, 4])
def test_hyper_connections_go_into_a_file_of_their_own(
    streams: int, as_opened, tmp_path: Path
) -> None:
    model = make_model(hyper_streams=streams)
    path, mhc = tmp_path / "model.gguf", tmp_path / "model.mhc"
    opened = as_opened(model)
    with pytest.raises(UserError, match=r"cannot be folded away.*--mhc"):
        export_gguf(opened, path)
    export_gguf(opened, path, mhc=mhc)
    assert values(path)["general.architecture"] == "trainer-hyper"
    again = open_model(path, CPU).model
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    with torch.inference_mode():
        assert torch.equal(model(ids), again(ids))


def test_connections_of_another_export_are_refused(as_opened, tmp_path: Path) -> None:
    path, mhc = tmp_path / "model.gguf", tmp_path / "model.mhc"
    export_gguf(as_opened(make_model(hyper_streams=2)), path, mhc=mhc)
    other = make_model(hyper_streams=2)
    other.get_parameter("model.layers.0.attn_hyper.pre_bias").data += 1
    export_gguf(as_opened(other), tmp_path / "other.gguf", mhc=tmp_path / "other.mhc")
    open_model(path, CPU)
    (tmp_path / "other.mhc").replace(mhc)
    with pytest.raises(UserError, match=r"model\.mhc is not the file that was written with"):
        open_model(path, CPU)


def test_a_full_tmpdir_is_named(as_opened, tmp_path: Path) -> None:
    disk = Disk(free_bytes=lambda _: 1 << 20)
    with pytest.raises(UserError, match="point TMPDIR"):
        export_gguf(as_opened(make_model()), tmp_path / "m.gguf", disk=disk, temporary=True)


def test_ends_for_which_there_is_no_key_are_told(as_opened, tmp_path: Path) -> None:
    backend = backend_of(make_tokenizer("qwen2"))
    backend.add_special_tokens(["<|im_end|>", "<|over|>", "<|out|>", "<|done|>"])
    tokenizer = Tokenizer(backend)
    ends = frozenset(tokenizer.encode("<|im_end|><|over|><|out|>", allow_special=True))
    opened = as_opened(make_model(num_layers=1), tokenizer, other_ends=ends)
    path = tmp_path / "model.gguf"
    # llama.cpp knows <|im_end|> by its spelling, so the keys are for the others.
    assert not any("stop at" in note for note in prepare_gguf(opened, path, F16).notes)
    (done,) = tokenizer.encode("<|done|>", allow_special=True)
    opened = dataclasses.replace(opened, other_ends=ends | {done})
    assert any("stop at <|done|>:" in note for note in prepare_gguf(opened, path, F16).notes)


def test_every_end_of_a_text_is_in_the_file(as_opened, tmp_path: Path) -> None:
    opened = as_opened(make_model(num_layers=1), other_ends=frozenset({5, 7}))
    path = export_gguf(opened, tmp_path / "model.gguf")
    assert open_model(path, CPU).end_ids == opened.end_ids == {opened.tokenizer.eos_id, 5, 7}


def test_one_stream_is_folded_away(as_opened, tmp_path: Path) -> None:
    model = make_model(hyper_streams=1)
    with torch.no_grad():
        for name, scalars in model.named_parameters():
            if "_hyper." in name:
                scalars.zero_()
    path = tmp_path / "model.gguf"
    ready = prepare_gguf(as_opened(model), path, find_type("F32"), mhc=tmp_path / "model.mhc")
    assert "no .mhc file" in " ".join(ready.notes)
    export_gguf(as_opened(model), path)
    assert values(path)["general.architecture"] == "llama"
    again = open_model(path, CPU).model
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    with torch.inference_mode():
        torch.testing.assert_close(again(ids), model(ids), rtol=1e-3, atol=1e-3)


def test_extra_heads_are_left_out_with_a_note(as_opened, tmp_path: Path) -> None:
    (tmp_path / "mtp.safetensors").write_bytes(b"")
    ready = prepare_gguf(as_opened(make_model()), tmp_path / "model.gguf", find_type("F16"))
    assert ready.notes[0].startswith("The multi-token heads are left out")


def test_a_folder_without_room_or_right_is_refused(as_opened, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder"):
        export_gguf(as_opened(make_model()), tmp_path / "none" / "model.gguf")
    with pytest.raises(UserError, match="is a folder"):
        export_gguf(as_opened(make_model()), tmp_path)
    with pytest.raises((UserError, RunError)):
        export_gguf(as_opened(make_model()), Path("-"))
