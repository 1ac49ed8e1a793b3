"""Several sources of data: what `--source` says, how they are named, what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any

from shared.errors import UserError
from shared.text import one_line
from trainer.config.data import DataConfig

#: Files whose folder has the name of the data.
_PLAIN_NAMES = frozenset({"train.bin", "tokens.bin", "train.shards.json"})
_MOST = 64  # characters of a name


def parse_sources(texts: Sequence[str]) -> list[dict[str, Any]]:
    """The value of `data.sources` for `--source PATH=WEIGHT` or `--source PATH`, several times.

    Raises UserError for one that is neither. The values are checked with the configuration.
    """
    return [_parsed(text) for text in texts]


def _parsed(text: str) -> dict[str, Any]:
    path, sign, weight = text.rpartition("=")
    if not sign:
        path, weight = text, "1"
    try:
        found = float(weight)
    except ValueError:
        found = float("nan")
    if not path or not 0 < found <= 1e9:
        raise UserError(
            f"--source {one_line(text, 80)!r} is not understood: give PATH=WEIGHT with a weight "
            "above 0, such as data/web=0.7, or PATH alone for a weight of 1."
        )
    return {"path": path, "weight": found}


def source_names(data: DataConfig) -> list[str]:
    """The names of the sources, each another: given ones, or those of their folders."""
    names: list[str] = []
    given = {source.name for source in data.sources or ()}
    for source in data.sources or ():
        if source.name is not None:
            names.append(source.name)
            continue
        place = PurePath(source.path)
        last = place.parent.name if place.name in _PLAIN_NAMES else place.name.removesuffix(".bin")
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", last).strip("._-")[: _MOST - 5] or "source"
        name, number = plain, 1
        while name in names or name in given:
            number += 1
            name = f"{plain}-{number}"
        names.append(name)
    return names


def source_places(data: DataConfig) -> Iterator[tuple[str, str]]:
    """The key and value of each source's path."""
    for number, source in enumerate(data.sources or ()):
        yield f"data.sources.{number}.path", source.path


def source_problems(data: DataConfig) -> list[str]:
    """What cannot be with `data.sources` and `data.path`, each as a clause."""
    problems = []
    for key, value in (("data.path", data.path), ("data.sources", data.sources)):
        if value and data.dataset == "synthetic":
            problems.append(f"{key} is given, but data.dataset is synthetic")
    if data.sources is None:
        return problems
    if data.path is not None:
        problems.append("data.path and data.sources are both given; leave one of them out")
    if data.dataset == "pairs":
        problems.append("data.sources is given, but data.dataset is pairs")
    names = source_names(data)
    return problems + [
        f"data.sources has two sources of the name {name}; give each another"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
