"""Which base model the frozen weights of a model with adapters are from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Base:
    """The folder of a base model, and the SHA-256 of its weights (see `checkpoint.base_model`)."""

    path: Path
    digest: str
