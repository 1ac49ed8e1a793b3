"""Real runs of tiny models, through the command line."""

from __future__ import annotations

import functools
import inspect
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from shared.checkpoints.catalogue import weights_name
from shared.checkpoints.manifest import file_sha256
from shared.json_text import Json
from shared.run.directory import RunDirectory, discover_runs
from shared.run.metrics_log import MetricsReader, MetricsTable
from shared.run.record_lines import read_records
from shared.run.records import RunState
from tests.waiting import until
from trainer.cli.main import main
from trainer.loop.hooks import Hooks

TINY = {
    "model.vocab_size": 258,
    "model.hidden_size": 32,
    "model.intermediate_size": 64,
    "model.num_layers": 2,
    "model.num_heads": 4,
    "model.num_kv_heads": 2,
    "model.max_seq_len": 32,
    "train.seq_len": 16,
    "train.batch_size": 4,
    "train.max_steps": 12,
    "train.threads": 1,
    "optim.warmup_steps": 4,
    "eval.interval": 4,
    "eval.batches": 2,
    "eval.sample_interval": 0,
    "checkpoint.interval": 4,
    "log.interval": 1,
}
GPT2 = {"model.flavour": "gpt2", "model.num_kv_heads": 4, "model.dropout": 0.1}


@pytest.fixture(scope="session")
def text_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Character tokens of a piece of the standard library."""
    folder = tmp_path_factory.mktemp("tokens")
    text = folder / "text.txt"
    text.write_text(inspect.getsource(textwrap) + inspect.getsource(subprocess)[:40_000])
    arguments = ["prepare-data", "--text", str(text), "--kind", "char", "--output", str(folder)]
    assert main(arguments) == 0
    return folder


@dataclass(frozen=True)
class Trained:
    """A run that has ended, and its exit code."""

    run: RunDirectory
    code: int

    @property
    def state(self) -> RunState:
        state = self.run.read_state()
        assert state is not None
        return state

    @property
    def metrics(self) -> MetricsTable:
        return MetricsReader(self.run.metrics_path).read_all()

    @property
    def events(self) -> list[Json]:
        return list(read_records(self.run.events_path))

    @property
    def log(self) -> str:
        return self.run.log_path.read_text()

    def hashes(self, checkpoint: str) -> tuple[str, str]:
        folder = self.run.checkpoints / checkpoint
        return (
            file_sha256(folder / weights_name(folder)),
            file_sha256(folder / "optimizer.safetensors"),
        )


def as_flags(settings: dict[str, object]) -> list[str]:
    """Settings as `--set` options."""
    return [part for k, v in settings.items() for part in ("--set", f"{k}={v}")]


Train = Callable[..., Trained]


@pytest.fixture
def train(tmp_path: Path, text_data: Path) -> Train:
    """Train in this process: `train(setting=value, …)` with dots written as `__`."""
    return trainer_in(tmp_path / "runs", text_data)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, text_data: Path) -> Train:
    """The same, but each run is made once for all tests of a module, which must not change it."""
    return functools.cache(trainer_in(tmp_path_factory.mktemp("trained"), text_data))


def trainer_in(where: Path, text_data: Path) -> Train:
    """What trains in the folder `where`."""

    def run(
        name: str = "t",
        *flags: str,
        synthetic: bool = False,
        hooks: Hooks | None = None,
        **changes: object,
    ) -> Trained:
        torch.use_deterministic_algorithms(False)
        settings = {**TINY, **{k.replace("__", "."): v for k, v in changes.items()}}
        before = {r.run_id for r in discover_runs(where)} if where.is_dir() else set()
        data = ["--dataset", "synthetic"] if synthetic else ["--data-path", str(text_data)]
        code = main(
            ["train", "--name", name, "--runs-dir", str(where), *data, *as_flags(settings), *flags],
            hooks,
        )
        new = [r for r in discover_runs(where) if r.run_id not in before]
        return Trained(new[0] if new else find(where, name), code)

    return run


def find(where: Path, name: str) -> RunDirectory:
    """The newest run of that name."""
    return next(r for r in reversed(discover_runs(where)) if r.run_id.startswith(name + "_"))


def resume(run: RunDirectory, *flags: str, hooks: Hooks | None = None) -> Trained:
    """`trainer resume` in this process."""
    return Trained(run, main(["resume", str(run.path), *flags], hooks))


def start_process(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """`trainer …` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )


def wait_for(condition, what: str):  # type: ignore[no-untyped-def]
    """The first true value of `condition`."""
    return until(condition, what=lambda: what)
