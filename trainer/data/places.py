"""Where the tokens of a run are, by its recorded configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def data_places(data: Mapping[str, Any]) -> list[str]:
    """The paths in the section `data`: one, or those of several sources. It may hold anything."""
    sources = data.get("sources")
    listed = [data.get("path"), *(sources if isinstance(sources, list) else ())]
    paths = [place.get("path") if isinstance(place, dict) else place for place in listed]
    return [path for path in paths if isinstance(path, str)]
