"""`trainer rl`: a run on judged answers, like any other. The language judged is a tiny one."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.run.directory import RunDirectory, discover_runs
from tests.conftest import Output, RunCli
from tests.trainer.loop.test_exact_resume import stop_at
from trainer.loop.hooks import Hooks
from trainer.rewards.interface import Answer, Verdict

SHAPE = ("hidden_size=16", "num_layers=1", "num_heads=2", "max_seq_len=64", "vocab_size=258",
         "num_kv_heads=1", "intermediate_size=16")  # fmt: skip
SHORT = ("--device", "cpu", "--threads", 1)


@dataclass
class Letters:
    """Judges how many characters of an answer are ASCII, and how many of these are letters."""

    name: str = "rust"
    compiler: str = "none"
    runs_tests: bool = False
    parts: tuple[str, ...] = ("parse", "compile")
    closed: int = 0

    def stops(self, completion: str) -> int | None:
        end = completion.find("\n")
        return None if end < 0 else end

    def judge(self, answers: Sequence[Answer]) -> list[Verdict]:
        return [self._verdict(answer.completion) for answer in answers]

    def _verdict(self, text: str) -> Verdict:
        known = sum(letter.isascii() for letter in text) / max(1, len(text))
        letters = sum(letter.isascii() and letter.isalpha() for letter in text) / max(1, len(text))
        parts = {"parse": 0.3 * known, "compile": 0.7 * letters}
        return Verdict(sum(parts.values()), parts, known > 0.5, letters > 0.5, None, ("no",), text)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(scope="module")
def base(run_cli: RunCli, token_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that has seen nothing yet."""
    runs = tmp_path_factory.mktemp("base")
    shape = [word for key in SHAPE for word in ("--set", f"model.{key}")]
    output = run_cli("train", "--config", "tiny-cpu", "--data-path", token_data, "--max-steps", 1,
                     "--runs-dir", runs, *SHORT, "--seq-len", 16, "--batch-size", 2, *shape)  # fmt: skip
    assert output.code == 0, output.err
    return discover_runs(runs)[0].checkpoints / "final"


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    tasks = [{"id": f"t{n}", "prompt": f"say {n}:", "language": "rust"} for n in range(5)]
    file.write_text("\n".join(map(json.dumps, tasks)))
    return file


Rl = Callable[..., tuple[Output, RunDirectory]]


@pytest.fixture
def rl(run_cli: RunCli, base: Path, prompts: Path, tmp_path: Path) -> Rl:
    """Four iterations, in `tmp_path/runs`."""

    def run(*flags: object, **hooks: Any) -> tuple[Output, RunDirectory]:
        known = {r.run_id for r in discover_runs(tmp_path / "runs")}
        output = run_cli(
            "rl", "--prompts", prompts, "--checkpoint", base, "--runs-dir", tmp_path / "runs",
            *SHORT, "--iterations", 4, "--prompts-per-iteration", 2, "--group-size", 4,
            "--max-new-tokens", 6, "--learning-rate", 1e-2, "--deterministic",
            "--eval-interval", 2, "--checkpoint-interval", 2,
            *flags, hooks=Hooks(language=Letters(), **hooks),
        )  # fmt: skip
        (new,) = [r for r in discover_runs(tmp_path / "runs") if r.run_id not in known]
        return output, new

    (tmp_path / "runs").mkdir()
    return run


def records(run: RunDirectory) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.metrics_path.read_text().splitlines()]


def test_it_records_its_answers(rl: Rl, prompts: Path) -> None:
    output, run = rl("--val-prompts", prompts)
    assert output.code == 0, output.err
    print(run.log_path.read_text())
    print(*records(run), sep="\n")
