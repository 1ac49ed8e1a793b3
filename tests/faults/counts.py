"""How often a fault is made to happen: a sample in `make test`, the full count in `make soak`."""

import os

SOAK = bool(os.environ.get("TRAINER_SOAK"))


def times(sample: int, full: int) -> int:
    """`sample` usually, `full` in a soak."""
    return full if SOAK else sample
