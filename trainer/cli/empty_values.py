"""Empty values on a command line, most often from a shell variable that is not set."""

from __future__ import annotations

from collections.abc import Sequence

from shared.errors import UserError

#: Options whose text may be empty.
_MAY_BE_EMPTY = frozenset({"--prompt", "--system", "--stop"})
#: Commands whose argument after the run may be empty: it removes what was set.
_AFTER_RUN_MAY_BE_EMPTY = frozenset({("runs", "note"), ("runs", "rename")})

_AT_RUN = 2  # in `runs note RUN TEXT`


def refuse_empty_values(arguments: Sequence[str]) -> None:
    """Raise UserError for an empty value. As a path it would mean the current folder."""
    words = tuple(arguments[:2])
    for index, argument in enumerate(arguments):
        option, sign, value = argument.partition("=")
        named = bool(sign) and option.startswith("--")
        if (value if named else argument).strip():
            continue
        if not named:
            before = arguments[index - 1] if index else ""
            option = before if before.startswith("-") and before != "--" else ""
        text = not option and words in _AFTER_RUN_MAY_BE_EMPTY and index > _AT_RUN
        if option in _MAY_BE_EMPTY or text:
            continue
        what = f"The value of {option}" if option else f"Argument {index + 1}"
        raise UserError(f"{what} is empty. Is a shell variable not set?")
