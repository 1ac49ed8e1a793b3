"""The clean transformers folder: loaded with no difference at all, and nothing else in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import normalizers

from shared.errors import RunError, UserError
from shared.files import write_json
from tests.trainer.export.conftest import (
    SHAPES,
    backend_of,
    export_gguf,
    make_begun,
    make_model,
    make_tokenizer,
)
from trainer.checkpoint.opening import open_model
from trainer.data.tokenizer import Tokenizer
from trainer.export.hf_folder import find_dtype, prepare_hf_folder, write_hf_folder
from trainer.export.prompts import TRICKY_TEXTS

TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
FILES = [
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "merges.txt",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
]
IDS = torch.tensor([[1, 300, 7, 42, 511, 9, 88, 203]])


def make_normalized(tokenizer: Tokenizer) -> Tokenizer:
    """The same with Qwen2's normalizer."""
    backend = backend_of(tokenizer)
    backend.normalizer = normalizers.NFC()
    return Tokenizer(backend)


def test_a_qwen2_with_another_tokenizer_is_told(as_opened, bpe, tmp_path: Path) -> None:
    """AutoTokenizer has its own idea of it, whatever the files say."""
    for tokenizer in (bpe, make_tokenizer("gpt-2"), make_normalized(bpe)):
        opened = as_opened(make_model("qwen2"), tokenizer)
        ready = prepare_hf_folder(opened, tmp_path / "model").prepared
        told = any("load it with PreTrainedTokenizerFast" in note for note in ready.notes)
        assert told is not tokenizer.normalizes
    plain = prepare_hf_folder(as_opened(make_model("llama")), tmp_path / "model")
    assert plain.prepared.notes == ()
    transformers = pytest.importorskip("transformers")
    write_hf_folder(prepare_hf_folder(as_opened(make_model("qwen2"), bpe), tmp_path / "model"))
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path / "model")
    for text in TRICKY_TEXTS:
        assert theirs(text, split_special_tokens=True)["input_ids"] == bpe.encode(text)


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_loads_it_with_no_difference(
    shape: str, as_opened, bpe, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = make_normalized(bpe) if shape.startswith("qwen2") else bpe
    opened = as_opened(make_model(shape), tokenizer, chat_template=TEMPLATE)
    folder = tmp_path / "model"
    files = write_hf_folder(prepare_hf_folder(opened, folder))
    assert [name for name, _ in files] == FILES == sorted(p.name for p in folder.iterdir())
    model, about = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True
    )
    assert not any(about.values())
    with torch.inference_mode():
        assert torch.equal(model.eval()(IDS).logits, opened.model(IDS))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    for text in TRICKY_TEXTS:
        ids = tokenizer(text, split_special_tokens=True)["input_ids"]
        assert ids == opened.tokenizer.encode(text)
    said = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert said == "[user] hi\n"
    assert tokenizer.eos_token_id == model.generation_config.eos_token_id == opened.tokenizer.eos_id


@pytest.mark.parametrize("dtype", ["BF16", "F16"])
def test_narrower_weights_are_loaded_as_such(dtype: str, as_opened, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    opened = as_opened(make_model())
    folder = tmp_path / "model"
    sizes = dict(write_hf_folder(prepare_hf_folder(opened, folder, dtype)))
    numbers = sum(p.numel() for p in opened.model.parameters())
    assert sizes["model.safetensors"] == pytest.approx(2 * numbers, rel=0.01)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert model.dtype == {"BF16": torch.bfloat16, "F16": torch.float16}[dtype]
    again = open_model(folder, torch.device("cpu"))
    for ours, theirs in zip(opened.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(ours.to(model.dtype).float(), theirs)


def test_a_template_is_found_where_folders_have_it(as_opened, tmp_path: Path) -> None:
    opened = as_opened(make_model(num_layers=1), chat_template=TEMPLATE)
    folder = tmp_path / "model"
    write_hf_folder(prepare_hf_folder(opened, folder))
    cpu = torch.device("cpu")
    assert open_model(folder, cpu).chat_template == TEMPLATE
    (folder / "chat_template.jinja").unlink()
    assert open_model(folder, cpu).chat_template is None
    named = [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]
    for given, found in (("one", "one"), (named, "yes"), (7, None)):
        write_json(folder / "tokenizer_config.json", {"chat_template": given})
        assert open_model(folder, cpu).chat_template == found


def test_only_an_exported_model_is_replaced_and_only_by_force(as_opened, tmp_path: Path) -> None:
    opened = as_opened(make_model(num_layers=1))
    folder = tmp_path / "model"
    write_hf_folder(prepare_hf_folder(opened, folder))
    with pytest.raises(UserError, match="not empty; --force"):
        prepare_hf_folder(opened, folder)
    write_hf_folder(prepare_hf_folder(opened, folder, "F16", force=True), force=True)
    (folder / "trainer_state.json").write_text("{}")
    with pytest.raises(UserError, match="not an exported model"):
        prepare_hf_folder(opened, folder, force=True)
    (folder / "trainer_state.json").rename(folder / "notes.md")
    with pytest.raises(UserError, match=r"not an exported model \(it has notes\.md\)"):
        prepare_hf_folder(opened, folder, force=True)
    other = tmp_path / "photos"
    (other / "2024").mkdir(parents=True)
    with pytest.raises(UserError, match="not an exported model"):
        prepare_hf_folder(opened, other, force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "photos"]


class Unsaved(Tokenizer):
    """A tokenizer whose files cannot be written."""

    def save(self, directory: str | Path, context: int | None = None) -> None:
        raise ZeroDivisionError


def test_a_failure_leaves_nothing_behind(as_opened, tmp_path: Path) -> None:
    opened = as_opened(make_model(num_layers=1), Unsaved(backend_of(make_tokenizer("qwen2"))))
    export = prepare_hf_folder(opened, tmp_path / "model")
    with pytest.raises(ZeroDivisionError):
        write_hf_folder(export)
    assert list(tmp_path.iterdir()) == []


def test_the_old_model_stays_when_the_new_one_cannot_take_its_place(
    as_opened, tmp_path: Path, monkeypatch
) -> None:
    opened = as_opened(make_model(num_layers=1))
    folder = tmp_path / "model"
    write_hf_folder(prepare_hf_folder(opened, folder))
    before = (folder / "model.safetensors").read_bytes()
    export = prepare_hf_folder(opened, folder, "F16", force=True)
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if ".part-" in path.name:
            raise PermissionError(1, "Not now")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(RunError, match="Not now"):
        write_hf_folder(export, force=True)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_stands_before_texts_goes_along(as_opened, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    opened = as_opened(make_model(num_layers=1), make_begun(make_tokenizer("llama-bpe")))
    write_hf_folder(prepare_hf_folder(opened, tmp_path / "model"))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    assert theirs.model_max_length == opened.context and theirs.padding_side == "left"
    ids = opened.tokenizer.encode_prompt("a b")
    assert theirs("a b")["input_ids"] == ids != opened.tokenizer.encode("a b")


def test_every_end_of_a_text_goes_along(as_opened, tmp_path: Path) -> None:
    opened = as_opened(make_model(num_layers=1), other_ends=frozenset({7, 5}))
    write_hf_folder(prepare_hf_folder(opened, tmp_path / "model"))
    assert open_model(tmp_path / "model", torch.device("cpu")).end_ids == opened.end_ids
    transformers = pytest.importorskip("transformers")
    loaded = transformers.GenerationConfig.from_pretrained(tmp_path / "model")
    assert loaded.eos_token_id == [opened.tokenizer.eos_id, 5, 7]


def test_what_transformers_cannot_compute_is_refused(as_opened, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be folded away"):
        prepare_hf_folder(as_opened(make_model(hyper_streams=2)), tmp_path / "model")


def test_types_are_named_in_any_case() -> None:
    assert find_dtype("bf16") == "BF16" and find_dtype("fp32") == "F32"
    with pytest.raises(UserError, match="--dtype is 'Q8_0'; it must be one of F32, BF16, F16"):
        find_dtype("Q8_0")


def test_mlx_computes_the_same_from_the_folder(as_opened, tmp_path: Path) -> None:
    pytest.importorskip("mlx.core")
    mlx_lm = pytest.importorskip("mlx_lm")
    import mlx.core
    import numpy as np

    opened = as_opened(make_model("llama"))
    folder = tmp_path / "model"
    write_hf_folder(prepare_hf_folder(opened, folder))
    model, _ = mlx_lm.load(str(folder))
    theirs = np.array(model(mlx.core.array(IDS.numpy())).astype(mlx.core.float32))
    with torch.inference_mode():
        ours = opened.model(IDS).numpy()
    np.testing.assert_allclose(theirs, ours, atol=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused_as_for_gguf(
    value: float, as_opened, tmp_path: Path
) -> None:
    model = make_model()
    with torch.no_grad():
        next(iter(model.parameters()))[0, 0] = value
    with pytest.raises(UserError, match=r"tensor .* not finite"):
        prepare_hf_folder(as_opened(model), tmp_path / "model")
    with pytest.raises(UserError, match=r"tensor .* not finite"):
        export_gguf(as_opened(model), tmp_path / "model.gguf")
    assert not list(tmp_path.iterdir())


def test_numbers_beyond_float16_are_refused(as_opened, tmp_path: Path) -> None:
    model = make_model()
    with torch.no_grad():
        next(iter(model.parameters()))[0, 0] = 1e6
    with pytest.raises(UserError, match=r"beyond F16's range; use --dtype BF16 or F32"):
        prepare_hf_folder(as_opened(model), tmp_path / "model", "F16")
    prepare_hf_folder(as_opened(model), tmp_path / "model", "BF16")
