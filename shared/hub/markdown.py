"""Text that anybody may have written, put into Markdown so that it stays text."""

from __future__ import annotations

from collections.abc import Iterable

from shared.text import one_line

LIMIT = 200  # characters of one value


def code(value: object) -> str:
    """A value as inline code: in it nothing is markup, HTML, a link or mathematics. None is ""."""
    text = one_line("" if value is None else value, LIMIT).replace("`", "'").strip()
    return f"`{text}`" if text else ""


def table(rows: Iterable[tuple[str, str]], head: tuple[str, str] = ("", "")) -> str:
    """A table of two columns out of our own words and what `code` made; empty cells go."""
    # A bar ends a cell even inside of code, unless it is escaped.
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows if value]
    return "\n".join([f"| {head[0]} | {head[1]} |", "|---|---|", *lines]) if lines else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
