"""The page of experiments: a section for each, with the command and the machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.__main__ import ROOT, replace_sections
from benchmarks.machine import machine
from benchmarks.record import Result, as_markdown

PAGE = ROOT / "docs" / "experiments.md"
HEAD = """# Experiments

What was tried and what came of it, also where nothing did. Each section names the command that
repeats it and the machine of the figures.
"""


def run(
    title: str, doc: str | None, command: str, measure: Callable[[], Result], page: Path | None
) -> int:
    """Measure, print, and write the section into `page` if there is one.

    The exit status is 1 if a number does not hold.
    """
    where, started = machine(), time.monotonic()
    result = measure()
    print(as_markdown(result), flush=True)
    if page is not None:
        paragraphs = [p for p in (doc or "").strip().split("\n\n") if "python -m" not in p]
        told = f"`python -m benchmarks.{command}` ({time.monotonic() - started:.0f} s)"
        section = "\n\n".join((f"## {title}", *paragraphs, told, where, as_markdown(result)))
        text = page.read_text(encoding="utf-8") if page.is_file() else HEAD
        page.write_text(replace_sections(text, {title: section}), encoding="utf-8")
    return 0 if result.passed else 1
