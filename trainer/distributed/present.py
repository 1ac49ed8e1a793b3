"""Which devices cannot be there, as far as that is known without loading torch."""

from __future__ import annotations

import ctypes
import re
import sys
from importlib import metadata

from shared.errors import UserError
from shared.text import one_line
from trainer.config.schema import DEVICES


def check_device(name: str) -> None:
    """Raise UserError for a name that no device has, and for CUDA where it cannot be used."""
    if not re.fullmatch(DEVICES, name):
        raise UserError(f"--device {one_line(name, 60)!r} is not auto, cpu, cuda, cuda:N or mps.")
    if name.startswith("cuda") and certainly_without_cuda():
        raise missing(name, 0)


def certainly_without_cuda() -> bool:
    """Whether torch is built for CPUs only, or this machine has no driver for CUDA.

    Where this is false, torch alone can tell.
    """
    try:
        version = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return False
    if version.endswith("+cpu"):
        return True
    if sys.platform != "linux" or "+rocm" in version:
        return False
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return True
    return False


def missing(name: str, count: int) -> UserError:
    """The error for a CUDA device that is not one of the `count` there are."""
    have = f"cuda:0 to cuda:{count - 1}" if count else "no CUDA device"
    return UserError(
        f"--device {name} is not available: this machine has {have}; use --device cpu or auto."
    )
