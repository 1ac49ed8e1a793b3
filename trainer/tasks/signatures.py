"""The head of the function that a prompt begins."""

from __future__ import annotations

import re

_RUST = re.compile(r"^[ \t]*((?:pub(?:\([^)]*\))? )?(?:const )?fn \w+[^{};]*?)\s*\{", re.MULTILINE)
_PYTHON = re.compile(r"^(def \w+\(.*?\)[^:\n]*):[ \t]*$", re.MULTILINE | re.DOTALL)


def signature_in(prompt: str, language: str) -> str | None:
    """The last function's head in a prompt, on one line; None where there is none."""
    pattern = {"rust": _RUST, "python": _PYTHON}.get(language)
    heads = pattern.findall(prompt) if pattern else []
    return " ".join(str(heads[-1]).split()) if heads else None
