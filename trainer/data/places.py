"""Where the tokens of a run are, by its recorded configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from shared.errors import UserError
from trainer.data.tokens import find_tokens, validation_path


def data_places(data: Mapping[str, Any]) -> list[str]:
    """The paths in the section `data`: one, or those of several sources. It may hold anything."""
    sources = data.get("sources")
    listed = [data.get("path"), *(sources if isinstance(sources, list) else ())]
    paths = [place.get("path") if isinstance(place, dict) else place for place in listed]
    return [path for path in paths if isinstance(path, str)]


def validation_files(data: Mapping[str, Any]) -> Iterator[Path]:
    """The validation files beside these paths, where there are any."""
    for path in data_places(data):
        try:
            found = validation_path(find_tokens(path))
        except UserError:
            continue
        if found is not None:
            yield found
