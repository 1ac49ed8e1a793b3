"""Verification passes what is right and fails what is not."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tokenizers import normalizers

from shared.errors import UserError
from shared.files import write_json
from tests.trainer.export.conftest import (
    backend_of,
    export_gguf,
    make_model,
    make_tokenizer,
)
from trainer.data.tokenizer import Tokenizer
from trainer.export.comparison import compare_predictions, logprobs
from trainer.export.hf_folder import prepare_hf_folder, write_hf_folder
from trainer.export.prompts import prompts_for
from trainer.export.verification import (
    bounds_for,
    verify_gguf,
    verify_hf_folder,
    verify_written,
)

FEW = 6  # tokens after each prompt


verify = partial(verify_gguf, new_tokens=FEW)


@pytest.fixture(params=["llama.cpp", "this program"])
def program(request: pytest.FixtureRequest) -> str:
    """Which one computes what is in the file."""
    if request.param == "llama.cpp":
        pytest.importorskip("xllamacpp")
    return request.param


def test_a_sound_file_passes(program: str, as_opened, tmp_path: Path) -> None:
    opened = as_opened(make_model(num_layers=1))
    path = export_gguf(opened, tmp_path / "model.gguf")
    found = verify(opened, path, "F32", with_llama_cpp=program == "llama.cpp")
    assert found.problems == []
    assert found.lines[-1].strip() == "passed" and program in found.lines[0]
    assert found.figures.places == found.figures.greedy_equal >= 6 * FEW
    assert found.figures.difference < 1e-3


def test_another_models_file_fails(program: str, as_opened, tmp_path: Path) -> None:
    opened = as_opened(make_model(num_layers=1))
    path = export_gguf(opened, tmp_path / "model.gguf")
    other = make_model(num_layers=1)
    other.get_parameter("model.layers.0.mlp.up_proj.weight").data *= 1.5
    found = verify(as_opened(other), path, "F32", with_llama_cpp=program == "llama.cpp")
    assert "log-probabilities differ" in found.problems[0]
    assert "failed" in found.lines[-1]


def test_another_tokenizer_fails(program: str, as_opened, tmp_path: Path) -> None:
    opened = as_opened(make_model(num_layers=1), make_tokenizer("gpt-2"))
    path = export_gguf(opened, tmp_path / "model.gguf")
    found = verify(as_opened(opened.model), path, "F32", with_llama_cpp=program == "llama.cpp")
    assert "texts become other tokens" in "; ".join(found.problems)


@pytest.mark.parametrize(
    "normalizer", [normalizers.NFC(), normalizers.Lowercase(), normalizers.Prepend("_")]
)
def test_a_tokenizer_that_normalizes_passes(
    normalizer: normalizers.Normalizer, program: str, as_opened, tmp_path: Path
) -> None:
    """llama.cpp has no normalizer: what ours leaves of a text becomes the same tokens."""
    backend = backend_of(make_tokenizer("qwen2"))
    backend.normalizer = normalizer
    opened = as_opened(make_model(num_layers=1), Tokenizer(backend))
    path = export_gguf(opened, tmp_path / "model.gguf")
    found = verify(opened, path, "F32", with_llama_cpp=program == "llama.cpp", new_tokens=1)
    assert found.problems == [] and ", normalized" in "".join(found.lines)


def test_a_file_from_before_tells_its_type(as_opened, tmp_path: Path) -> None:
    opened = as_opened(make_model(num_layers=1))
    path = export_gguf(opened, tmp_path / "model.gguf", "Q8_0")
    found = verify_written(opened, path, new_tokens=FEW)
    assert found.problems == [] and found.bounds == bounds_for("Q8_0", opened.model.config)
    other = make_model(num_layers=1)
    other.get_parameter("model.layers.0.mlp.up_proj.weight").data *= 1.5
    assert "diverge" in verify_written(as_opened(other), path, new_tokens=FEW).problems[0]
    with pytest.raises(UserError, match="holds another model"):
        verify_written(as_opened(make_model(num_layers=1, vocab_size=530)), path)


@pytest.mark.parametrize(("number", "words"), [(19, "the type IQ2_XXS"), (999, "does not name")])
def test_a_type_without_a_bound_is_not_passed(
    number: int, words: str, as_opened, tmp_path: Path
) -> None:
    opened = as_opened(make_model(num_layers=1))
    path = export_gguf(opened, tmp_path / "model.gguf")
    data, key = bytearray(path.read_bytes()), b"general.file_type"
    place = data.index(key) + len(key) + 4  # behind the type of the value
    data[place : place + 4] = number.to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(UserError, match=words):
        verify_written(opened, path, new_tokens=FEW)


def test_garbage_in_a_coarse_type_fails(as_opened, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    opened = as_opened(make_model(num_layers=1))
    path = export_gguf(opened, tmp_path / "model.gguf", "TQ2_0", lossy=True)
    assert "diverge" in verify(opened, path, "TQ2_0").problems[0]


def test_hyper_connections_are_read_by_this_program(as_opened, tmp_path: Path) -> None:
    opened = as_opened(make_model(hyper_streams=4, num_layers=1))
    path = export_gguf(opened, tmp_path / "model.gguf", mhc=tmp_path / "model.mhc")
    found = verify(opened, path, "F32", ours=True)
    assert found.problems == [] and found.figures.difference == 0


@pytest.mark.parametrize(
    ("installed", "shape"), [(True, "qwen3"), (True, "qwen2"), (False, "qwen3")]
)
def test_a_transformers_folder(installed: bool, shape: str, as_opened, tmp_path: Path) -> None:
    if installed:
        pytest.importorskip("transformers")
    check = partial(verify_hf_folder, with_transformers=installed, new_tokens=FEW)
    opened = as_opened(make_model(shape, num_layers=1))
    folder = tmp_path / "model"
    write_hf_folder(prepare_hf_folder(opened, folder))
    found = check(opened, folder, "F32")
    assert found.problems == [] and found.figures.difference < 1e-5
    assert (found.program == "transformers") == installed
    other = make_model(shape, num_layers=1)
    other.get_parameter("lm_head.weight").data *= 1.1
    assert check(as_opened(other), folder, "F32").problems


def test_numbers_that_are_not_finite_fail(program: str, as_opened, tmp_path: Path) -> None:
    opened = as_opened(make_model(num_layers=1))
    broken = make_model(num_layers=1)
    broken.get_parameter("model.norm.weight").data.fill_(3e38)
    path = export_gguf(as_opened(broken), tmp_path / "model.gguf")
    assert (
        "not finite"
        in verify(opened, path, "F32", with_llama_cpp=program == "llama.cpp").problems[0]
    )


def test_the_runs_validation_data_is_asked_where_it_is(as_opened, tmp_path: Path) -> None:
    opened = as_opened(make_model(num_layers=1))
    without = prompts_for(opened)
    tokens = np.arange(500, dtype="<u4")
    tokens.tofile(tmp_path / "val.bin")
    write_json(
        tmp_path / "meta.json", {"config": {"data": {"val_path": str(tmp_path / "val.bin")}}}
    )
    windows = prompts_for(opened)[len(without) :]
    assert windows == [list(range(start, start + 64)) for start in (0, 125, 250, 375)]
    # Of several sources, the first that has any: one is gone, one has none.
    for name in ("other/train.bin", "train.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tokens.tofile(tmp_path / name)
    sources = [{"path": str(tmp_path / name)} for name in ("gone/train.bin", "other", "train.bin")]
    write_json(tmp_path / "meta.json", {"config": {"data": {"sources": sources}}})
    assert prompts_for(opened)[len(without) :] == windows
    for meta in (
        {"config": 3},
        {"config": {"data": {"val_path": "gone"}}},
        {"config": {"data": 0}},
    ):
        write_json(tmp_path / "meta.json", meta)
        assert prompts_for(opened) == without


def test_prompts_leave_room_and_are_few(as_opened) -> None:
    opened = as_opened(make_model(num_layers=1, max_seq_len=16))
    assert all(len(prompt) == 1 for prompt in prompts_for(opened))
    restricted = dataclasses.replace(opened, tokenizer=make_tokenizer("ascii"))
    assert len(prompts_for(restricted)) >= 5


def test_the_divergence_of_the_likeliest_tokens_is_not_more_than_that_of_all() -> None:
    model = make_model(num_layers=1)
    other = make_model(num_layers=1)
    other.get_parameter("model.norm.weight").data *= 1.2

    def likeliest(count: int):
        def predict(prompt: list[int], tokens: list[int]) -> list[dict[int, float]]:
            rows = logprobs(other, prompt, tokens).sort(descending=True)
            return [
                dict(zip(ids[:count], values[:count], strict=True))
                for ids, values in zip(rows.indices.tolist(), rows.values.tolist(), strict=True)
            ]

        return predict

    few, all_of_them = (
        compare_predictions(model, [[1, 2]], 5, likeliest(count)).divergence for count in (40, 520)
    )
    assert 0 < few <= all_of_them


def test_the_largest_difference_counts_wherever_it_is() -> None:
    model = make_model(num_layers=1)
    off = iter([0.0, 0.5, 0.0, 0.0])

    def predict(prompt: list[int], tokens: list[int]) -> list[dict[int, float]]:
        rows = [dict(enumerate(row)) for row in logprobs(model, prompt, tokens).tolist()]
        for row in rows:
            row[0] += next(off)
        return rows

    assert compare_predictions(model, [[1, 2]], 4, predict).difference == pytest.approx(0.5)
