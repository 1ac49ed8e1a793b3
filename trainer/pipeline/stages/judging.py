"""Whether answers in a language can be judged here."""

from __future__ import annotations

from shared.errors import UserError
from trainer.rewards.registry import open_language


def why_not_judged(language: str, *, run_tests: bool | None) -> str:
    """Why no answer in `language` can be judged here, as a clause; empty if one can."""
    try:
        open_language(language, run_tests=run_tests).close()
    except UserError as error:
        return str(error).rstrip(".")
    return ""
