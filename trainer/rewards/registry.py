"""The languages that can be judged, by name."""

from __future__ import annotations

from collections.abc import Callable

from shared.errors import UserError
from shared.text import nearest, one_line
from trainer.rewards.interface import Language

#: Opens a language; told whether to run the tests of tasks, None: where that is safe.
Opening = Callable[[bool | None], Language]

LANGUAGES: dict[str, Opening] = {}


def open_language(name: str, *, run_tests: bool | None = None) -> Language:
    """The language of that name, ready to judge. Raises UserError when there is none."""
    opening = LANGUAGES.get(name)
    if opening is None:
        known = ", ".join(LANGUAGES) or "none"
        hint = nearest(name[:60], list(LANGUAGES))
        raise UserError(f"No language {one_line(name, 60)!r} can be judged{hint}; known: {known}.")
    return opening(run_tests)
