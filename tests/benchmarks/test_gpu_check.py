"""The check for CUDA machines, gone through on a CPU: none of its code waits for a GPU to break."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_check.__main__ import INTERRUPT, Section, main, run, time_budget
from benchmarks.gpu_check.check import Check, Report, TimeUpError

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
        *("Machine", "Training throughput", "Attention", "Resume", "Peak memory", "Ways"),
        *("The guides", "Kernels", "Learning", "Generation", "Variants"),
    ):
        assert f"### {section}" in text
    assert "### Failures" not in text
    assert "failed" not in text
    assert text.count("bit-identical") == 3
    assert "goes down" in text


def check_until(seconds: float, page: Path) -> Check:
    return Check(torch.device("cpu"), True, page.parent, Report(page, "t"), seconds)


def test_a_section_that_does_not_end_is_interrupted_and_the_rest_is_told(tmp_path: Path) -> None:
    """The alarm comes while the section waits for ever; what was measured before is written."""
    page = tmp_path / "gpu.md"
    check = check_until(time.monotonic() + INTERRUPT + 0.2, page)

    def endless(check: Check) -> None:
        check.report.add("First", "measured", "1 s")
        threading.Event().wait(timeout=240)

    sections = {"first": Section(endless, 0), "second": Section(endless, 0)}
    with time_budget(check):
        assert run(check, list(sections), sections) == 0
    text = page.read_text()
    assert "| measured | 1 s |" in text
    assert "| the rest from first on | not run | time is up |" in text
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_section_that_cannot_be_interrupted_ends_the_process(tmp_path: Path) -> None:
    left: list[int] = []
    gone = threading.Event()

    def leave(code: int) -> None:
        left.append(code)
        gone.set()

    page = tmp_path / "gpu.md"
    check = check_until(time.monotonic() + INTERRUPT + 0.2, page)
    with contextlib.suppress(TimeUpError), time_budget(check, leave, last=INTERRUPT + 0.1):
        assert gone.wait(timeout=240)
    assert left == [3]
    assert "| ended by force |" in page.read_text()


def test_sections_that_are_measured_alone_leave_the_others_in_the_file(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    first = Report(page, "t")
    first.add("Speed", "old", "1 s")
    first.add("Memory", "kept", "2 GiB")
    second = Report(page, "t")
    second.keep_others()
    second.add("Speed", "new", "3 s")
    text = page.read_text()
    assert text.count("### ") == 2
    assert "| kept | 2 GiB |" in text
    assert "| new | 3 s |" in text
    assert "old" not in text


def test_a_goal_says_whether_it_is_reached(tmp_path: Path) -> None:
    report = Report(tmp_path / "gpu.md", "t")
    report.settle("Speed", "124M: MFU", "51.0%", goal=0.5, reached=0.51)
    report.settle("Speed", "350M: MFU", "54.9%", goal=0.55, reached=0.549)
    text = report.markdown()
    assert "| 124M: MFU | 51.0% | goal ≥ 50%: reached |" in text
    assert "| 350M: MFU | 54.9% | goal ≥ 55%: NOT reached |" in text


def test_sections_beyond_the_time_budget_are_left_out_and_told(tmp_path: Path) -> None:
    page = tmp_path / "gpu.md"
    options = ["--smoke", "--minutes", "0.0", "--only", "train_throughput", "--out", str(page)]
    assert main(options) == 0
    assert "| train_throughput | not run |" in page.read_text()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_it_says_so_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said, complained = capsys.readouterr()
    assert said == ""
    assert complained.startswith("There is no CUDA device")
    assert len(complained.strip().splitlines()) == 1
