"""llama.cpp itself loads what is written, and computes and splits as we do."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from shared.errors import RunError
from tests.faults.counts import times
from tests.trainer.export.conftest import (
    SHAPES,
    TOKENIZERS,
    VOCABULARY,
    export_gguf,
    make_begun,
    make_model,
    make_ternary,
    make_tokenizer,
)
from trainer.checkpoint.opening import open_model
from trainer.export.comparison import compare_predictions
from trainer.export.llama_client import LlamaModel, llama_model
from trainer.export.prompts import TRICKY_TEXTS
from trainer.export.verification import bounds_for
from trainer.formats.gguf_types import TERNARY, WRITTEN_HERE, find_type

pytest.importorskip("xllamacpp")

PROMPT = [5, 400, 17, 3, 511, 64, 250, 99]
SAME_NUMBERS = 1e-3  # nats of divergence where both have the file's own numbers
FUZZED = times(500, 3000)  # texts per tokenizer


def ask(server: LlamaModel):
    """What llama.cpp predicts, of every token of the vocabulary."""

    def predict(prompt: list[int], tokens: list[int]):
        return [
            server.next_logprobs([*prompt, *tokens[:place]], VOCABULARY)
            for place in range(len(tokens))
        ]

    return predict


@pytest.mark.parametrize("shape", SHAPES)
def test_f32_gives_the_same_numbers_and_64_greedy_tokens(
    shape: str, as_opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model(shape)
    path = export_gguf(as_opened(model), tmp_path / "model.gguf")
    if model.config.flavour == "gpt2":
        # As llama.cpp computes it: from a table of float16 numbers.
        exact = F.gelu
        monkeypatch.setattr(
            F, "gelu", lambda x, **more: exact(x.half().float(), **more).half().float()
        )
    with llama_model(path, 128) as server:
        found = compare_predictions(model, [PROMPT], 64, ask(server))
    assert found.places == 64
    assert found.agreeing >= 63  # of two tokens that are as likely either may be taken
    assert found.difference < 1e-3


@pytest.mark.parametrize("kind", WRITTEN_HERE)
@pytest.mark.parametrize("shape", ["llama", "qwen3", "gpt2"])
def test_every_type_of_every_architecture_is_run(
    shape: str, kind: str, as_opened, tmp_path: Path
) -> None:
    model = make_model(shape)
    if kind in TERNARY:
        make_ternary(model)
    path = export_gguf(as_opened(model), tmp_path / "model.gguf", kind)
    stored = open_model(path, torch.device("cpu")).model
    with llama_model(path, 128) as server:
        loss = compare_predictions(model, [PROMPT], 12, ask(server))
        rounding = compare_predictions(stored, [PROMPT], 12, ask(server))
    assert loss.problems(bounds_for(kind, model.config)) == []
    assert rounding.divergence < SAME_NUMBERS


def test_ternary_weights_of_odd_rows_and_a_narrow_vocabulary(as_opened, tmp_path: Path) -> None:
    model = make_ternary(make_model(intermediate_size=544))
    path = tmp_path / "model.gguf"
    export_gguf(as_opened(model), path, "TQ1_0", vocabulary=find_type("Q8_0"))
    with llama_model(path, 128) as server:
        found = compare_predictions(model, [PROMPT], 12, ask(server))
    assert found.problems(bounds_for("TQ1_0", model.config)) == []


@pytest.mark.parametrize("kind", TERNARY)
def test_a_ternary_model_is_bit_for_bit_what_was_trained(
    kind: str, as_opened, tmp_path: Path
) -> None:
    model = make_model(ternary=True)
    path = export_gguf(as_opened(model), tmp_path / "model.gguf", kind)
    stored = open_model(path, torch.device("cpu")).model
    for layer, plain in zip(model.model.layers, stored.model.layers, strict=True):
        assert torch.equal(layer.self_attn.q_proj.rounded(), plain.self_attn.q_proj.weight)
        assert torch.equal(layer.mlp.down_proj.rounded(), plain.mlp.down_proj.weight)
    with llama_model(path, 128) as server:
        loss = compare_predictions(model, [PROMPT], 12, ask(server))
        rounding = compare_predictions(stored, [PROMPT], 12, ask(server))
    assert loss.problems(bounds_for(kind, model.config)) == []
    assert rounding.divergence < SAME_NUMBERS


def fuzzed_texts(count: int) -> list[str]:
    """Texts of pieces on which tokenizers stumble, the same every time."""
    generator = random.Random(5)
    pieces = [
        *" \t\n\r.,;:!?'\"-_/\\()[]{}<>|@#$%^&*=+~`", "\r\n", "  ", "\n\n", "'s", "'LL", "n't",
        "a", "Z", "word", "CamelCase", "0", "42", "1234567", "½", "é", "e\u0301", "ß", "ﬁ", "мир",
        "λ", "中文", "한국", "こん", "ع", "🙂", "👩‍👩‍👧", "\u00a0", "\u200b", "\u3000",
        "\u2028", "\ufeff",
        "<|endoftext|>", "\x00", "\x7f", "\U0010ffff",
    ]  # fmt: skip
    return ["".join(generator.choices(pieces, k=generator.randint(1, 14))) for _ in range(count)]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_texts_become_the_same_tokens(kind: str, as_opened, tmp_path: Path) -> None:
    tokenizer = make_tokenizer(kind)
    assert tokenizer.pre == {"char": "gpt-2", "ascii": "gpt-2"}.get(kind, kind)
    model = make_model(num_layers=1)
    path = export_gguf(as_opened(model, tokenizer), tmp_path / "model.gguf", "F16")
    texts = [t for t in (*TRICKY_TEXTS, *fuzzed_texts(FUZZED)) if not tokenizer.outside(t)]
    with llama_model(path, 128) as server:
        different = [text for text in texts if server.tokenize(text) != tokenizer.encode(text)]
        assert different == []
        assert len(texts) > 20
        for text in TRICKY_TEXTS:
            if not tokenizer.outside(text) and kind == "qwen2":
                assert server.detokenize(tokenizer.encode(text)) == text


def test_a_text_begins_as_it_does_here(as_opened, tmp_path: Path) -> None:
    begun = make_begun(make_tokenizer("llama-bpe"))
    model = make_model(num_layers=1)
    for tokenizer in (begun, make_tokenizer("llama-bpe")):
        path = export_gguf(as_opened(model, tokenizer), tmp_path / "model.gguf", force=True)
        assert open_model(path, torch.device("cpu")).tokenizer.begin_ids == tokenizer.begin_ids
        with llama_model(path, 128) as server:
            whole = server.tokenize("a b", add_special=True)
        assert whole == tokenizer.encode_prompt("a b")
    assert len(begun.begin_ids) == 1


def test_hyper_connections_are_refused_by_llama_cpp(as_opened, tmp_path: Path) -> None:
    model = make_model(hyper_streams=2)
    path, mhc = tmp_path / "model.gguf", tmp_path / "model.mhc"
    export_gguf(as_opened(model), path, mhc=mhc)
    with pytest.raises(RunError, match="cannot load"), llama_model(path, 128):
        pass


def test_a_file_that_is_none_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF, but not really")
    with pytest.raises(RunError, match=r"llama\.cpp cannot load"), llama_model(path, 128):
        pass
