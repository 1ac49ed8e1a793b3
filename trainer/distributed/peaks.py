"""Peak arithmetic of GPUs, for model FLOPs utilization (MFU).

Dense matrix products (no structured sparsity) with fp32 accumulation, at the vendor's boost clock,
in TFLOP/s. Data sheets that state figures "with sparsity" state twice as much. GeForce cards
accumulate in fp32 at half the speed of their fp16 figure, and training accumulates in fp32.

A device is found by its whole name: "NVIDIA H100 80GB HBM3 MIG 1g.10gb" is a seventh of an H100,
and "NVIDIA GeForce RTX 4090 Laptop GPU" is another chip. What is not in the table has no peak.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from trainer.distributed.device import Compute


@dataclass(frozen=True)
class Peaks:
    """FLOP/s by precision, in units of 10^12; None where the device has no unit for it. `source`
    is what the vendor published them in."""

    bf16: float | None
    fp16: float | None
    tf32: float | None
    fp32: float
    source: str

    def of(self, precision: str) -> float | None:
        """FLOP/s in "bf16", "fp16", "tf32" or "fp32"."""
        peak: float | None = getattr(self, precision)
        return None if peak is None else peak * 1e12


_HOPPER = "NVIDIA H100 Tensor Core GPU data sheet"
_AMPERE = "NVIDIA A100 Tensor Core GPU data sheet"
_GA102 = "NVIDIA Ampere GA102 GPU Architecture white paper, appendix"
_ADA = "NVIDIA Ada GPU Architecture white paper, appendix"
_BLACKWELL = "NVIDIA Blackwell data sheet (HGX B200, GB200 NVL72), a GPU's share, half of sparse"
_RTX_BLACKWELL = "NVIDIA RTX Blackwell GPU Architecture white paper, appendix"
_VOLTA = "NVIDIA V100 data sheet"
_CDNA3 = "AMD Instinct MI300X and MI325X data sheets"

_SXM_H100 = Peaks(989.4, 989.4, 494.7, 66.9, _HOPPER)

#: By the device's name without the words "NVIDIA", "Tesla" and "GeForce": regular expressions for
#: the whole of it.
PEAKS: dict[str, Peaks] = {
    r"B200": Peaks(2250, 2250, 1100, 75, _BLACKWELL),
    r"GB200": Peaks(2500, 2500, 1250, 80, _BLACKWELL),
    r"H200": Peaks(989.4, 989.4, 494.7, 66.9, "NVIDIA H200 Tensor Core GPU data sheet"),
    r"H200 NVL": Peaks(835.5, 835.5, 417.5, 60, "NVIDIA H200 Tensor Core GPU data sheet"),
    r"GH200 (480GB|144G HBM3e)": Peaks(989.4, 989.4, 494.7, 66.9, "NVIDIA GH200 data sheet"),
    r"H100 80GB HBM3|H100 SXM5": _SXM_H100,
    r"H100 PCIe": Peaks(756.5, 756.5, 378, 51.2, _HOPPER),
    r"H100 NVL": Peaks(835.5, 835.5, 417.5, 60, _HOPPER),
    r"A100-(SXM4|PCIE)-[48]0GB|A100 80GB PCIe": Peaks(312, 312, 156, 19.5, _AMPERE),
    r"A30": Peaks(165, 165, 82, 10.3, "NVIDIA A30 data sheet"),
    r"A40": Peaks(149.7, 149.7, 74.8, 37.4, "NVIDIA A40 data sheet"),
    r"A10": Peaks(125, 125, 62.5, 31.2, "NVIDIA A10 data sheet"),
    r"RTX A6000": Peaks(154.8, 154.8, 77.4, 38.7, _GA102),
    r"RTX 3090": Peaks(71, 71, 35.6, 35.6, _GA102),
    r"RTX 3090 Ti": Peaks(80, 80, 40, 40, _ADA),
    r"L4": Peaks(121, 121, 60, 30.3, "NVIDIA L4 data sheet, half of sparse"),
    r"L40": Peaks(181, 181, 90.5, 90.5, "NVIDIA L40 data sheet"),
    r"L40S": Peaks(362, 362, 183, 91.6, "NVIDIA L40S data sheet"),
    r"RTX 6000 Ada Generation": Peaks(364.2, 364.2, 182.1, 91.1, _ADA),
    r"RTX 4090": Peaks(165.2, 165.2, 82.6, 82.6, _ADA),
    r"RTX 4080": Peaks(97.5, 97.5, 48.7, 48.7, _ADA),
    r"RTX 5090": Peaks(209.5, 209.5, 104.8, 104.8, _RTX_BLACKWELL),
    r"V100-SXM2-(16|32)GB": Peaks(None, 125, None, 15.7, _VOLTA),
    r"V100-PCIE-(16|32)GB": Peaks(None, 112, None, 14, _VOLTA),
    r"T4": Peaks(None, 65, None, 8.1, "NVIDIA T4 data sheet"),
    # TF32 needs a switch of the library on AMD: fp32 is what is in use.
    r"AMD Instinct MI300X( OAM)?": Peaks(1307.4, 1307.4, None, 163.4, _CDNA3),
    r"AMD Instinct MI325X( OAM)?": Peaks(1307.4, 1307.4, None, 163.4, _CDNA3),
}

_VENDOR = re.compile(r"^(NVIDIA|Tesla|GeForce)\s+", re.IGNORECASE)


def peaks_of(name: str) -> Peaks | None:
    """The row of the device with this name; None if there is none."""
    name = " ".join(name.split())
    while _VENDOR.match(name):
        name = _VENDOR.sub("", name)
    matching = (row for pattern, row in PEAKS.items() if re.fullmatch(pattern, name))
    return next(matching, None)


def precision_of(*, bf16: bool, tf32: bool) -> str:
    """What matrix products are computed in."""
    return "bf16" if bf16 else "tf32" if tf32 else "fp32"


def peak_flops(compute: Compute) -> float | None:
    """FLOP/s of the device in the precision that is in use; None if it is not in the table, so
    that no MFU is shown. CPUs and MPS have none."""
    if compute.device.type != "cuda":
        return None
    row = peaks_of(torch.cuda.get_device_name(compute.device))
    if row is None:
        return None
    # "high" lets products of fp32 matrices use TF32, where the device has it.
    tf32 = torch.get_float32_matmul_precision() != "highest" and row.tf32 is not None
    return row.of(precision_of(bf16=compute.bf16, tf32=tf32))


def utilization(rate: float, flops_per_token: float, peak: float | None) -> float | None:
    """MFU: the share of the peak that `rate` tokens per second are; None where it is unknown."""
    return None if peak is None else rate * flops_per_token / peak
