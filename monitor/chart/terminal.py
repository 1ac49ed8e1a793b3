"""What a terminal can show."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from shared.text import one_line

#: The smallest terminal in cells; the screens are designed for 80 by 24.
MIN_WIDTH, MIN_HEIGHT = 60, 16


def needs_ascii(encoding: str, term: str) -> bool:
    """Whether a terminal needs ASCII: `Plot.ascii`.

    `encoding` is that of its output, `term` its TERM. The Linux console accepts UTF-8 but has only
    256 or 512 glyphs and no braille.
    """
    try:
        unicode = codecs.lookup(encoding or "ascii").name.startswith("utf")
    except LookupError:
        unicode = False
    return not unicode or term in ("linux", "dumb")


def why_unfit(term: str, addressing: Callable[[str], bytes | None] | None = None) -> str:
    """Why a screen cannot be shown on a terminal with this TERM; empty if it can.

    `addressing` looks up how the terminal moves its cursor: None for one it does not know, which
    is tried all the same, because new terminals come before their description does.
    """
    if term.lower() in ("", "dumb", "unknown"):
        kind = f"TERM={one_line(term, 40)}" if term else "TERM is not set, so it"
        return f"{kind} means a terminal without cursor movement"
    moves = (addressing or _addressing)(term)
    if moves is not None and not moves.startswith(b"\x1b["):
        return f"TERM={one_line(term, 40)} means a terminal without ANSI cursor movement"
    return ""


def _addressing(term: str) -> bytes | None:
    """How terminfo says that this terminal moves its cursor: empty if it cannot."""
    try:
        import curses
    except ImportError:
        return None
    try:
        curses.setupterm(term, 1)
    except (curses.error, ValueError):
        return None
    return curses.tigetstr("cup") or b""
