"""What a set of shards is made from: by this an interrupted command finds its work again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from shared.errors import UserError
from shared.files import load_json_if_any
from shared.text import one_line, plural
from trainer.data.inputs import InputSet
from trainer.data.shards.manifest import FOLDER
from trainer.data.tokens import PLAN

_SHOWN = 3


@dataclass(frozen=True)
class ShardPlan:
    """The options by their flags, and the input files with their sizes and times."""

    options: Mapping[str, Any]
    inputs: tuple[tuple[str, int, int], ...]
    #: How many shards there are: fewer than asked for where the inputs cannot be cut so often.
    shards: int = 0

    @property
    def key(self) -> str:
        """16 hex digits that tell plans apart."""
        data = orjson.dumps([dict(self.options), self.inputs], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(data).hexdigest()[:16]

    @property
    def folder(self) -> str:
        """The name of the folder of its shards."""
        return FOLDER + self.key

    def to_json(self) -> bytes:
        """The content of its file."""
        content = {
            "schema_version": 1,
            "shards": self.shards,
            "options": dict(self.options),
            "inputs": self.inputs,
        }
        return orjson.dumps(content) + b"\n"

    def changes_since(self, folder: Path) -> str:
        """How it differs from the plan of which `folder` holds shards."""
        content = load_json_if_any(folder / PLAN)
        told = []
        before = content.get("options")
        if isinstance(before, dict):
            for flag, value in self.options.items():
                if before.get(flag) != value:
                    told.append(
                        f"{flag} was {one_line(before.get(flag), 40)} and is {one_line(value, 40)}"
                    )
        with_times = content.get("inputs")
        if isinstance(with_times, list):
            told += self._changed_inputs(with_times)
        return "; ".join(told[:_SHOWN]) or "other options or inputs"

    def _changed_inputs(self, before: list[Any]) -> list[str]:
        known = {entry[0]: entry[1:] for entry in before if isinstance(entry, list) and entry}
        here = {name: [size, time] for name, size, time in self.inputs}
        changed = [name for name, stamp in here.items() if known.get(name, stamp) != stamp]
        told = [f"{one_line(name, 80)} has changed" for name in changed[:1]]
        if more := len(changed) - 1 if changed else 0:
            told.append(f"{plural(more, 'more input')} changed")
        for names, what in ((here.keys() - known, "is new"), (known.keys() - here, "is missing")):
            if names:
                rest = f" (and {len(names) - 1:,} more)" if len(names) > 1 else ""
                told.append(f"{one_line(min(names), 80)}{rest} {what}")
        return told


def plan_of(options: Mapping[str, Any], inputs: InputSet) -> ShardPlan:
    """The plan for these options and inputs. Raises UserError for a file that is gone."""
    return ShardPlan(options, tuple(_stamp(file.path) for file in inputs.files))


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(f"cannot read {one_line(path)}: {error.strerror}") from error
    # A path need not be UTF-8.
    name = os.fsencode(path.resolve()).decode("utf-8", "backslashreplace")
    return name, found.st_size, found.st_mtime_ns
