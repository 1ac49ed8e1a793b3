"""Ranks that do not write take the same calls as the one that does."""

from __future__ import annotations

import re
from pathlib import Path

import trainer
from shared.run.directory import RunDirectory
from shared.run.records import RunState
from trainer.loop.silent_writer import SilentWriter


def test_it_has_whatever_the_loop_asks_of_a_writer(tmp_path: Path) -> None:
    root = Path(trainer.__file__).parent
    code = "".join(path.read_text() for path in [*root.glob("loop/*.py"), root / "launch/here.py"])
    asked = set(re.findall(r"\b_?writer\.(\w+)", code))
    assert {"log", "event", "say", "eta_seconds", "alarm_over"} <= asked
    silent = SilentWriter(RunDirectory(tmp_path), RunState(run_id="x").to_json())
    for name in asked:
        assert hasattr(silent, name), name
