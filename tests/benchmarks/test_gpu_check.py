"""The check for CUDA machines, gone through on a CPU: none of its code waits for a GPU to break."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_check.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sets a variable for the whole process."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.mark.slow
def test_the_smoke_run_goes_through_every_section(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", "--smoke", "--out", str(page)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text()
    for section in (
        *("Machine", "Throughput", "Attention", "Resume", "Learning", "Generation"),
        *("Variants", "Kernels"),
    ):
        assert f"### {section}" in text
    assert "### Failures" not in text
    assert text.count("bit-identical") == 2
    assert "goes down" in text


def test_sections_beyond_the_time_budget_are_left_out_and_told(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    options = ["--smoke", "--minutes", "0.0", "--only", "throughput", "--out", str(page)]
    assert main(options) == 0
    assert "| throughput | not run |" in page.read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_it_says_so_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said, complained = capsys.readouterr()
    assert said == ""
    assert complained.startswith("There is no CUDA device")
    assert len(complained.strip().splitlines()) == 1
