"""Which metric of a run to show first."""

from __future__ import annotations

import re
from collections.abc import Iterable

from shared.run.metrics_columns import TIME

_LOSS = re.compile(r"loss", re.IGNORECASE)
_EVALUATED = re.compile(r"(?:^|[_./ -])(?:val|valid|validation|eval|test|dev)(?=[_./ -])", re.I)


def main_key(keys: Iterable[str]) -> str:
    """The metric to show first: the loss, else what is called so, else the first."""
    known = [key for key in keys if key != TIME]
    return loss_key(known) or next(iter(known), "loss")


def loss_key(keys: Iterable[str]) -> str | None:
    """`loss`, or what else is called so, the training's before an evaluation's."""
    losses = [key for key in keys if _LOSS.search(key)]
    if "loss" in losses:
        return "loss"
    return next((key for key in losses if not _EVALUATED.search(key)), next(iter(losses), None))
