"""Cells of a CSV file that a spreadsheet may open."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def safe_cell(text: str) -> str:
    """`text` as a cell that no spreadsheet takes for a formula.

    A leading apostrophe says that it is text, as OWASP advises; numbers stay what they are.
    """
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
