"""Commands that need the extra `trainer`: without it they say in one sentence what to install."""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

from shared.errors import UserError

#: What the extra installs, by the names that are imported.
PACKAGES = frozenset(
    {
        "gguf",
        "jinja2",
        "llguidance",
        "safetensors",
        "starlette",
        "tokenizers",
        "torch",
        "tree_sitter",
        "tree_sitter_rust",
        "uvicorn",
    }
)
#: Commands that cannot begin without it, by their words; a group stands for all of its commands.
#: The others need it at most in part, and say so where they do.
COMMANDS = (
    "prepare-data",
    "tokenizer",
    "tasks",
    "train",
    "dpo",
    "rl",
    "resume",
    "pipeline",
    "sweep",
    "profile",
    "config list",
    "demo",
    "grow",
    "generate",
    "chat",
    "eval",
    "compare",
    "export",
    "serve",
)


def check_before_they_begin(tree: Any) -> None:
    """Let each of `COMMANDS` look for the extra when it is run; its help page needs none of it."""
    for words in COMMANDS:
        command = tree
        for word in words.split():
            command = command.commands[word]
        _check(command, words)


def without_the_trainer(error: ModuleNotFoundError) -> UserError | None:
    """What to say when `error` is about a package of the extra."""
    package = (error.name or "").partition(".")[0]
    return _not_installed("This command", package) if package in PACKAGES else None


def _check(command: Any, words: str) -> None:
    for name, inner in getattr(command, "commands", {}).items():
        _check(inner, f"{words} {name}")
    if not hasattr(command, "commands"):
        command.invoke = partial(_invoke, command.invoke, words)


def _invoke(invoke: Any, words: str, context: Any) -> Any:
    for package in ("torch", "tokenizers"):
        if not _is_installed(package):
            raise _not_installed(f"trainer {words}", package)
    return invoke(context)


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _not_installed(what: str, package: str) -> UserError:
    return UserError(
        f"{what} needs {package}, which is not installed here: "
        'pip install "train-monitor[trainer]".'
    )
