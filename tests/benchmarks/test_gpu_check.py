"""The check for CUDA machines, gone through on a CPU: none of its code waits for a GPU to break."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_smoke_run_goes_through_every_section(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    done = run("--smoke", "--out", str(page))
    assert done.returncode == 0, done.stdout + done.stderr
    text = page.read_text()
    for section in ("Machine", "Throughput", "Attention", "Resume", "Learning", "Generation"):
        assert f"### {section}" in text
    assert "### Failures" not in text
    assert text.count("bit-identical") == 2
    assert "goes down" in text


@pytest.mark.slow
def test_sections_beyond_the_time_budget_are_left_out_and_told(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    done = run("--smoke", "--minutes", "0.001", "--only", "throughput", "--out", str(page))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| throughput | not run |" in page.read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_it_says_so_in_a_sentence() -> None:
    done = run()
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("There is no CUDA device")
    assert len(done.stderr.strip().splitlines()) == 1
