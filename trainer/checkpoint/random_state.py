"""Saving and restoring every random generator a run may draw from, those of each rank by rank.

A rank restores its own states. One that the checkpoint does not know, because fewer ranks trained
then, begins with states that follow from the checkpoint and its number.
"""

from __future__ import annotations

import json
import random
import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.data.permutation import key_of
from trainer.distributed.group import ALONE, Group


def generator_seed(seed: int, rank: int) -> int:
    """What a rank's generators begin with: the run's seed on rank 0, another on each other one."""
    return seed if rank == 0 else key_of(seed, rank) >> 1


def all_states(group: Group = ALONE) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Of all ranks: the states of torch's generators, and of Python's and numpy's for JSON.

    To be called by every rank; those that do not write get nothing of the others.
    """
    tensors, plain = _tensors(every_device=group.alone), _plain()
    if group.alone:
        return tensors, plain
    own = {"tensors": {k: _numbers(v) for k, v in tensors.items()}, "plain": plain}
    told = group.gather(json.dumps(own).encode())
    others: dict[str, Any] = {}
    for rank, data in enumerate(told[1:], start=1):
        theirs = json.loads(data)
        others[str(rank)] = theirs["plain"]
        for name, numbers in theirs["tensors"].items():
            tensors[_of_rank(name, rank)] = torch.tensor(numbers, dtype=torch.uint8)
    return tensors, {**plain, "ranks": others}


def _of_rank(name: str, rank: int) -> str:
    """`rng.cpu` of rank 2 as `rng.rank_2.cpu`; rank 0's are those of a single process."""
    return name if rank == 0 else name.replace("rng.", f"rng.rank_{rank}.", 1)


def _numbers(state: Tensor) -> list[int]:
    return [int(x) for x in state.tolist()]


def _tensors(*, every_device: bool) -> dict[str, Tensor]:
    """The states of torch's generators: the CPU's, one per CUDA device, MPS's.

    A rank has one CUDA device, whatever its number is.
    """
    tensors = {"rng.cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        if every_device:
            for i, state in enumerate(torch.cuda.get_rng_state_all()):
                tensors[f"rng.cuda.{i}"] = state
        else:
            tensors["rng.cuda.0"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        tensors["rng.mps"] = torch.mps.get_rng_state()
    return tensors


def _plain() -> dict[str, Any]:
    """The states of Python's and numpy's global generators."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, cached],
    }


def restore(tensors: dict[str, Tensor], plain: dict[str, Any], group: Group = ALONE) -> None:
    """Restore this rank's generators. Those that this machine does not have are skipped."""
    rank = group.world.rank
    if rank and _of_rank("rng.cpu", rank) not in tensors:
        _begin(tensors, rank)
        return
    if rank:
        plain = (plain.get("ranks") or {}).get(str(rank)) or {}
    if (state := tensors.get(_of_rank("rng.cpu", rank))) is not None:
        torch.set_rng_state(state)
    if torch.cuda.is_available():
        here = range(torch.cuda.device_count()) if group.alone else [0]
        for i in here:
            if (state := tensors.get(_of_rank(f"rng.cuda.{i}", rank))) is not None:
                torch.cuda.set_rng_state(state, i if group.alone else torch.cuda.current_device())
    if "rng.mps" in tensors and torch.backends.mps.is_available():
        torch.mps.set_rng_state(tensors["rng.mps"])
    if "python" in plain:
        version, words, gauss = plain["python"]
        random.setstate((version, tuple(words), gauss))
    if "numpy" in plain:
        kind, keys, position, has_gauss, cached = plain["numpy"]
        np.random.set_state((kind, np.array(keys, np.uint32), position, has_gauss, cached))


def _begin(tensors: dict[str, Tensor], rank: int) -> None:
    """Begin this rank's generators by the states of rank 0, from which they must differ."""
    known = tensors.get("rng.cpu")
    sum_of_known = zlib.crc32(known.numpy().tobytes()) if known is not None else 0
    seed = key_of(sum_of_known, rank) >> 1
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
