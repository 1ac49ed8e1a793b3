"""`trainer demo` without a terminal: progress, the loss before and after, a sample."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trainer.cli.main import main


@pytest.mark.slow
def test_demo_prints_what_it_learnt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("trainer.cli.training.demo.standard_library", lambda: [textwrap_file()])
    assert main(["demo", "--runs-dir", str(tmp_path), "--max-steps", "120"]) == 0
    out = capsys.readouterr().out
    before, after = map(float, re.findall(r"loss before ([\d.]+), after ([\d.]+)", out)[0])
    assert before > 5
    assert after < 3.5
    assert "A sample after 120 steps" in out
    assert "\ndef " in out
    assert "trainer generate --checkpoint" in out


def textwrap_file() -> str:
    import argparse

    return argparse.__file__
