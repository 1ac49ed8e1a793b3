"""The accelerator's memory."""

from __future__ import annotations

import torch


def peak_memory(device: torch.device) -> int | None:
    """Peak bytes allocated by torch on a CUDA device; None on others."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
