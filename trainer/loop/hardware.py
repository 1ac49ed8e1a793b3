"""The accelerator's peak performance, for model FLOPs utilization, and its memory."""

from __future__ import annotations

import re

import torch

#: Dense bf16 tensor-core peak in FLOP/s, from the vendor's data sheets.
_BF16_PEAKS = {
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "A6000": 155e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 5090": 210e12,
    "RTX 4090": 165e12,
    "RTX 4080": 97e12,
    "RTX 3090": 71e12,
}


def bf16_peak(device: torch.device) -> float | None:
    """FLOP/s of the device; None if it is not in the table, so that no MFU is shown."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    known = (x for x in _BF16_PEAKS if re.search(rf"\b{x}\b", name))
    return next((_BF16_PEAKS[x] for x in known), None)


def peak_memory(device: torch.device) -> int | None:
    """Peak bytes allocated by torch on a CUDA device; None on others."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
