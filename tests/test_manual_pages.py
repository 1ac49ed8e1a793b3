"""The manual pages say what the help says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("trainer.1", "train-monitor.1")


@pytest.mark.slow
def test_they_are_the_help_of_today() -> None:
    """In a process of its own: what a test has done to the commands must not count."""
    ask = "import json, runpy; print(json.dumps(runpy.run_path('docs/man.py')['pages']()))"
    done = subprocess.run(
        [sys.executable, "-c", ask],
        cwd=DOCS.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    pages = json.loads(done.stdout)
    assert tuple(pages) == PAGES
    old = [name for name, text in pages.items() if (DOCS / "man" / name).read_text() != text]
    assert not old, "run python docs/man.py"


@pytest.mark.parametrize("name", PAGES)
def test_groff_reads_them_without_a_warning(name: str) -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-Kutf8", "-P-cbou", DOCS / "man" / name],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert "SYNOPSIS" in done.stdout
