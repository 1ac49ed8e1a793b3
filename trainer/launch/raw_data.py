"""What training straight from files has in common: what is prepared once is kept."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from trainer.data.inputs import find_inputs

if TYPE_CHECKING:
    from trainer.config.schema import Config

_WARMUP_SHARE = 10  # at most a tenth of the steps


def kept_folder(runs_dir: Path, kind: str, paths: Sequence[str], parts: Sequence[Any]) -> Path:
    """The folder, below the runs directory, for what is prepared from `paths`: another one as soon
    as an input changes, or one of `parts`, which are all else that it depends on."""
    data = orjson.dumps([_stamps(paths), *parts])
    return runs_dir / ".data" / f"{kind}{hashlib.sha256(data).hexdigest()[:16]}"


def _stamps(paths: Sequence[str]) -> list[tuple[str, int, int]]:
    """By what a change of the inputs is noticed: names, sizes and times."""
    files = [file.path for file in find_inputs(paths).files]
    # A path need not be UTF-8.
    names = [os.fsencode(p.resolve()).decode("utf-8", "backslashreplace") for p in files]
    return [
        (name, p.stat().st_size, p.stat().st_mtime_ns) for name, p in zip(names, files, strict=True)
    ]


def fitted_warmup(config: Config, steps: float) -> int:
    """Warmup steps for epochs of so many steps: the configured ones, but at most a tenth of all."""
    from trainer.loop.sources import EPOCHS

    total = config.train.max_steps or math.ceil(steps * (config.train.epochs or EPOCHS))
    return min(config.optim.warmup_steps, total // _WARMUP_SHARE)
