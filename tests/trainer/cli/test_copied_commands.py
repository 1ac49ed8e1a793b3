"""Commands that a message shows to be copied work when a folder has a space in its name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path


def test_commands_to_copy_are_quoted(
    run_cli, finished: Callable[[str], Path], tmp_path: Path
) -> None:
    runs = finished("done").parent.rename(tmp_path / "my runs")
    told = run_cli("status", "--runs-dir", runs).out
    told += run_cli("runs", "delete", "done", "--yes", "--runs-dir", runs).out
    commands = re.findall(r"trainer (?:daemon|runs [a-z-]+) --runs-dir .*", told)
    assert len(commands) == 3, told
    for command in commands:
        assert shlex.split(command)[-1] == str(runs)


def test_a_hint_for_text_in_place_of_tokens_is_one_command(run_cli, tmp_path: Path) -> None:
    text = tmp_path / "my text.txt"
    text.write_text("to be or not to be\n")
    said = run_cli("train", "--config", "tiny-cpu", "--data-path", text).err
    command = said.partition("`")[2].partition("`")[0]
    assert shlex.split(command)[:4] == ["trainer", "prepare-data", "--text", str(text)]
