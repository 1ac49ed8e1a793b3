"""A tiny trained model of bytes, opened, and the text it is measured on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import RunCli
from trainer.checkpoint.opening import OpenedModel, open_model
from trainer.distributed.device import Compute

CPU = Compute(torch.device("cpu"), bf16=False, compile=False)
TEXT = "def rounded(x):\n    return round(x)  # naïve ½ 😀\n\n\n"


@pytest.fixture(scope="session")
def run_path(tmp_path_factory: pytest.TempPathFactory, token_data: Path, run_cli: RunCli) -> Path:
    """The run directory of a model trained for a moment; its context is twice its sequences."""
    runs = tmp_path_factory.mktemp("evaluated")
    sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_seq_len": 64}
    flags = [part for k, v in sizes.items() for part in ("--set", f"model.{k}={v}")]
    output = run_cli(
        "train", "--name", "tiny", "--runs-dir", runs, "--data-path", token_data, *flags,
        "--max-steps", 10, "--batch-size", 4, "--seq-len", 32, "--device", "cpu",
    )  # fmt: skip
    assert output.code == 0, output.err
    [run] = runs.iterdir()
    return run


@pytest.fixture(scope="session")
def opened(run_path: Path) -> OpenedModel:
    return open_model(run_path, torch.device("cpu"))
