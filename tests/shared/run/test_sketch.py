"""Lines that stand for a file of which the beginning is here."""

from __future__ import annotations

from pathlib import Path

from shared.run.sketch import MOST, Sketch, read_sketch, write_sketch


def test_long_lines_leave_a_sketch_that_can_be_read(tmp_path: Path) -> None:
    line = b'{"step": 1, "note": "' + b"x" * 2_000 + b'"}'
    lines = [(at * 10_000, line) for at in range(2_200)]
    sketch = Sketch(0, 1, ()).joined(1 << 30, lines, 2_700)
    write_sketch(tmp_path / "metrics.jsonl", sketch)
    found = read_sketch(tmp_path / "metrics.jsonl")
    assert found is not None
    assert found.lines == sketch.lines
    assert sum(len(line) for _, line in found.lines) < MOST
    assert found.lines[0] == lines[0] and found.lines[-1] == lines[-1]
