"""Ranks that do not write take the same calls as the one that does."""

from __future__ import annotations

import re
from pathlib import Path

import trainer
from shared.run.directory import RunDirectory
from shared.run.records import RunState
from shared.run_writer import RunWriter
from trainer.loop.silent_writer import SilentWriter


def test_it_has_whatever_the_loop_asks_of_a_writer(tmp_path: Path) -> None:
    root = Path(trainer.__file__).parent
    code = "".join(path.read_text() for path in [*root.glob("loop/*.py"), root / "launch/here.py"])
    asked = set(re.findall(r"\bwriter\.(\w+)", code))
    assert {"log", "event", "say"} <= asked
    silent = SilentWriter(RunDirectory(tmp_path), RunState(run_id="x").to_json())
    for name in asked:
        assert hasattr(RunWriter, name) or hasattr(silent, name), name
        assert hasattr(silent, name), name
