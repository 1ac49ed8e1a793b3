"""The formats that are recognised. A new one is a module and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import cast

from shared.foreign.interface import Format

#: Where each format is, in the order in which they look at a folder. A format with a folder or a
#: database of its own comes before those that only know files.
_MODULES: Mapping[str, str] = {
    "TensorBoard": "shared.foreign.tensorboard",
    "W&B": "shared.foreign.wandb",
    "trackio": "shared.foreign.trackio",
    "MLflow": "shared.foreign.mlflow",
    "Hugging Face": "shared.foreign.trainer_state",
    "CSV": "shared.foreign.csv_table",
    "JSON Lines": "shared.foreign.json_lines",
}


def formats() -> tuple[Format, ...]:
    """Every format, made anew: one may remember what it has looked at."""
    return tuple(format_named(name) for name in _MODULES)


def format_named(name: str) -> Format:
    """The format of that name."""
    make = cast("Callable[[], Format]", import_module(_MODULES[name]).make_format)
    return make()
