"""Style sheets that apps share: each app under test would parse the same text again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.css.stylesheet import Stylesheet


def remembering(parse: Callable[..., Any]) -> Callable[..., Any]:
    """`Stylesheet._parse_rules`, which remembers what any app has parsed with the same colours."""
    parsed: dict[Any, Any] = {}

    def parse_rules(sheet: Stylesheet, css: str, *where: Any, **how: Any) -> Any:
        key = (css, where, tuple(how.items()), tuple(sheet._variables.items()))
        if key not in parsed:
            parsed[key] = parse(sheet, css, *where, **how)
        return parsed[key]

    return parse_rules
