"""Saving and restoring every random generator a run may draw from."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def random_tensors() -> dict[str, Tensor]:
    """The states of torch's generators: the CPU's, one per CUDA device, MPS's."""
    tensors = {"rng.cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        for i, state in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"rng.cuda.{i}"] = state
    if torch.backends.mps.is_available():
        tensors["rng.mps"] = torch.mps.get_rng_state()
    return tensors


def random_json() -> dict[str, Any]:
    """The states of Python's and numpy's global generators."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, cached],
    }


def restore(tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
    """Restore all of them. Generators that this machine does not have are skipped."""
    if "rng.cpu" in tensors:
        torch.set_rng_state(tensors["rng.cpu"])
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            if f"rng.cuda.{i}" in tensors:
                torch.cuda.set_rng_state(tensors[f"rng.cuda.{i}"], i)
    if "rng.mps" in tensors and torch.backends.mps.is_available():
        torch.mps.set_rng_state(tensors["rng.mps"])
    if "python" in plain:
        version, words, gauss = plain["python"]
        random.setstate((version, tuple(words), gauss))
    if "numpy" in plain:
        kind, keys, position, has_gauss, cached = plain["numpy"]
        np.random.set_state((kind, np.array(keys, np.uint32), position, has_gauss, cached))
