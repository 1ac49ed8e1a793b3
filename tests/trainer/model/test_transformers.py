"""The hand-over: what we write, transformers loads, and it computes the same to the last bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from trainer.checkpoint.loading import load_model
from trainer.checkpoint.saving import (
    Progress,
    Snapshot,
    training_state,
    weight_tensors,
    write_checkpoint,
)
from trainer.config.model import ModelConfig
from trainer.config.resolve import resolve
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokenizer_training import train_tokenizer
from trainer.model.language_model import LanguageModel
from trainer.optim.registry import build_optimizer

TRICKY = [
    "def f():\n    return 1\n",
    "  two  spaces",
    "é😀 ñ\t\r\n",
    "don't, we'll",
    "1234567 a1b2",
    "",
]


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(["def main(): return don't 123 " * 20], vocab_size=280).save(folder)
    return folder


def write(model: LanguageModel, checkpoints: Path, tokenizer: Path | None = None) -> Path:
    """A checkpoint as the training loop writes it."""
    values = {f"model.{key}": value for key, value in model.config.model_dump().items()}
    config = resolve(values)
    codec = Tokenizer.load(tokenizer) if tokenizer else None
    optimizer = build_optimizer(dict(model.named_parameters()), config.optim)
    state, generators = training_state(optimizer)
    snapshot = Snapshot(
        config=config,
        progress=Progress(step=3),
        weights=weight_tensors(model),
        state=state,
        random=generators,
        tokenizer=codec,
        run_id="run",
        run_path=str(checkpoints.parent),
    )
    return write_checkpoint(checkpoints, snapshot)


def test_logits_are_those_of_transformers(shape: ModelConfig, make_model, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = make_model(shape)
    folder = write(model, tmp_path)
    theirs, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    wanted = {
        "llama": "LlamaForCausalLM",
        "qwen2": "Qwen2ForCausalLM",
        "qwen3": "Qwen3ForCausalLM",
        "gpt2": "GPT2LMHeadModel",
    }
    assert type(theirs).__name__ == wanted[shape.name.partition("-")[0]]
    assert not any(info.values()), info
    ids = torch.randint(shape.vocab_size, (2, shape.max_seq_len))
    with torch.no_grad():
        ours = model(ids)
        assert (ours - theirs.eval()(ids).logits).abs().max().item() == 0.0
        assert torch.equal(ours, load_model(folder, torch.device("cpu")).model(ids))


def test_greedy_text_is_that_of_transformers(make_model, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from trainer.generate.decoding import generate
    from trainer.generate.sampling import Sampling

    config = ModelConfig(vocab_size=97, hidden_size=48, num_heads=4, num_kv_heads=2, max_seq_len=40)
    model = make_model(config)
    theirs = AutoModelForCausalLM.from_pretrained(write(model, tmp_path))
    prompt = [5, 17, 3, 60]
    ours = list(generate(model, prompt, 20, Sampling(temperature=0)))
    full = theirs.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False)
    assert full[0].tolist() == prompt + ours


@pytest.mark.parametrize("flavour", ["llama", "gpt2"])
def test_the_tokenizer_is_theirs_too(
    flavour: str, make_model, tokenizer_folder: Path, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    config = ModelConfig(flavour=flavour, vocab_size=288, hidden_size=32, num_heads=2)
    folder = write(make_model(config), tmp_path, tokenizer_folder)
    ours, theirs = Tokenizer.load(folder), AutoTokenizer.from_pretrained(folder)
    for text in TRICKY:
        assert theirs(text)["input_ids"] == ours.encode(text)
        assert theirs.decode(ours.encode(text)) == text
    assert (theirs.eos_token_id, theirs.pad_token_id) == (ours.eos_id, ours.pad_id)
