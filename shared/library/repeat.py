"""The command line that repeats a run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable

from shared.errors import UserError
from shared.run.directory import RunDirectory
from shared.text import one_line


def repeat_command(run: RunDirectory) -> list[str]:
    """The command that trains `run` again from the start, as a new run.

    Raises UserError when its configuration is not there.
    """
    if not run.config_path.is_file():
        raise UserError(f"Run {one_line(run.run_id)} has no config.yaml, so it cannot be repeated.")
    path = run.path.resolve()
    words = ["trainer", "train", "--config", str(path / run.config_path.name)]
    words += ["--runs-dir", str(path.parent)]
    if run.checkpoints.is_symlink():
        # The outside folder belongs to this run: the new run uses its own.
        words += ["--set", "checkpoint.dir=null"]
    return words


def shell_line(words: Iterable[str]) -> str:
    """The words quoted for a shell, without control characters, safe to show."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if word.isprintable() and one_line(word, len(word) + 1) == word:
        return shlex.quote(word)
    # `$'…'` of bash, zsh, ksh and POSIX 2024.
    return "$'" + "".join(_escaped(byte) for byte in os.fsencode(word)) + "'"


def _escaped(byte: int) -> str:
    plain = 32 <= byte < 127 and byte not in b"\\'"
    return chr(byte) if plain else f"\\{byte:03o}"
