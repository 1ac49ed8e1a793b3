"""The languages whose code can be judged. Another one is a module and a line here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from shared.errors import UserError
from shared.text import nearest, one_line

if TYPE_CHECKING:
    from trainer.rewards.interface import Language

#: Name: the module with its `open_language`. Modules are imported when they are needed.
LANGUAGES = {
    "rust": "trainer.rewards.rust.opening",
    "python": "trainer.rewards.python.opening",
}


def open_language(
    name: str, *, run_tests: bool | None = None, parallel: int | None = None
) -> Language:
    """A judge of the language `name`; close it after use.

    Tests are run where the sandbox can contain them; `run_tests` says that they are run wherever
    (True) or nowhere (False). `parallel` processes judge at once, by default one per core. Raises
    UserError for a language that is not known, and where its compiler is missing.
    """
    if name not in LANGUAGES:
        known = ", ".join(LANGUAGES)
        raise UserError(
            f"No code is judged in {one_line(name, 40)}{nearest(name, LANGUAGES)}: {known}."
        )
    opened: Callable[..., Language] = import_module(LANGUAGES[name]).open_language
    return opened(run_tests=run_tests, parallel=parallel)
