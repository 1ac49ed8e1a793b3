"""A small trained model and a server of it, for other programs to look at."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunCli

CONTEXT = 64  # tokens


@pytest.fixture(scope="session")
def checkpoint(run_cli: RunCli, token_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The last checkpoint of a byte model trained for a moment."""
    runs = tmp_path_factory.mktemp("runs")
    trained = run_cli(
        "train",
        "--config", "minigpt-small",
        "--runs-dir", runs,
        "--name", "peer",
        "--data-path", token_data,
        "--max-steps", 100,
        "--seq-len", CONTEXT,
        "--eval-interval", 1000,
        "--set", "model.hidden_size=32",
        "--set", "model.intermediate_size=64",
        "--set", "model.num_layers=1",
        "--set", f"model.max_seq_len={CONTEXT}",
        "--device", "cpu",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    (run,) = runs.glob("peer_*")
    return run / "checkpoints" / "final"


@pytest.fixture(scope="session")
def address(checkpoint: Path) -> Iterator[str]:
    """Where `trainer serve` answers for it."""
    command = ["serve", "--model", checkpoint, "--served-name", "peer", "--precision", "fp32"]
    command += ["--port", 0, "--threads", 1]
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if found := re.search(r" at (http://\S+) ", line):
                threading.Thread(target=process.stdout.read, daemon=True).start()
                yield found[1]
                break
        else:
            pytest.fail(f"the server did not start:\n{''.join(said)}")
    finally:
        process.kill()
        process.wait()
