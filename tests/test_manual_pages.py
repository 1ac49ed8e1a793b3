"""The manual pages say what the help says."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("trainer.1", "train-monitor.1")


def test_they_are_the_help_of_today() -> None:
    spec = importlib.util.spec_from_file_location("manual_pages", DOCS / "man.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    pages = made.pages()
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
