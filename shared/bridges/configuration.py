"""What another trainer was told, as values for `config.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from shared.checkpoints.resumable import TRAINED_BY
from shared.json_text import Json

_DEPTH = 8


def config_of(library: str, **parts: object) -> Json:
    """The configuration of a run that `library` trains; parts that are None or empty are left out.

    Its first key names the library: our `trainer resume` refuses such a run.
    """
    try:
        name = f"{library} {version(library)}"
    except PackageNotFoundError:
        name = library
    return {TRAINED_BY: name, **{k: as_plain(v) for k, v in parts.items() if v not in (None, {})}}


def as_plain(value: object, depth: int = 0) -> Any:
    """`value` of mappings, lists, numbers and texts; anything else as its text."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, Enum):
        return as_plain(value.value, depth)
    if isinstance(value, Path):
        return str(value)
    if depth < _DEPTH and isinstance(value, Mapping):
        return {str(k): as_plain(v, depth + 1) for k, v in value.items()}
    if depth < _DEPTH and isinstance(value, (list, tuple, set, frozenset)):
        return [as_plain(item, depth + 1) for item in value]
    return str(value)
