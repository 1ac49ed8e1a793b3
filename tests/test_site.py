"""The documentation as a site, and the commands of its first page."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from trainer.cli.main import command_tree

ROOT = Path(__file__).parents[1]
FIRST_RUN = (ROOT / "docs" / "first-run.md").read_text()


@pytest.mark.skipif(find_spec("mkdocs") is None, reason="mkdocs is not installed")
def test_it_is_built_without_a_warning(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", tmp_path / "site"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    landing = (tmp_path / "site" / "index.html").read_text()
    assert 'src="monitor.svg"' in landing
    assert (tmp_path / "site" / "monitor.svg").is_file()
    loaded = re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="(https?://[^"]+)"', landing)
    assert not loaded, "a page loads nothing from other servers"


def test_the_commands_of_the_first_run_are_commands_of_today() -> None:
    lines = re.findall(r"^trainer (.*)$", FIRST_RUN, re.MULTILINE)
    assert len(lines) >= 8
    for line in lines:
        name, *words = shlex.split(line)
        assert command_tree().commands[name].make_context(name, words)
