"""Peaks of GPUs: by the whole name, in the precision in use, and none rather than a wrong one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainer.distributed.device import Compute
from trainer.distributed.peaks import PEAKS, peak_flops, peaks_of, precision_of, utilization


@pytest.mark.parametrize(
    ("name", "bf16"),
    [
        ("NVIDIA H100 80GB HBM3", 989.4),
        ("NVIDIA H100 PCIe", 756.5),
        ("NVIDIA H200", 989.4),
        ("NVIDIA H200 NVL", 835.5),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("A100-PCIE-40GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("NVIDIA GeForce RTX 3090", 71),
        ("NVIDIA B200", 2250),
        ("AMD Instinct MI300X", 1307.4),
        ("AMD Instinct MI300X OAM", 1307.4),
    ],
)
def test_devices_are_found_by_the_name_that_torch_gives_them(name: str, bf16: float) -> None:
    row = peaks_of(name)
    assert row is not None
    assert row.bf16 == bf16


@pytest.mark.parametrize(
    "name",
    [
        "",
        "NVIDIA",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "GRID A100-10C",
        "NVIDIA A10G",
        "NVIDIA A100X",
        "NVIDIA H20",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4080 SUPER",
        "NVIDIA RTX A6000 Laptop GPU",
        "Quadro RTX 6000",
        "Tesla V100S-PCIE-32GB",
        "NVIDIA GeForce GTX 1080",
        "AMD Instinct MI300A",
        "Apple M3",
        "cpu",
    ],
)
def test_a_device_that_only_sounds_like_another_has_no_peak(name: str) -> None:
    assert peaks_of(name) is None


@given(st.sampled_from(["H100 PCIe", "A100-SXM4-80GB", "RTX 4090", "L4", "B200", "T4"]), st.text())
def test_no_addition_to_a_name_is_overlooked(name: str, more: str) -> None:
    """Only other rows of the table, and white space, may follow."""
    row = peaks_of(f"NVIDIA {name}{more}")
    assert row is None or not more.strip() or f"{name}{more}".strip() in {"L40", "L40S"}


def test_a_device_without_a_unit_for_a_precision_has_no_peak_in_it() -> None:
    row = peaks_of("Tesla V100-SXM2-16GB")
    assert row is not None
    assert row.of("bf16") is None
    assert row.of("fp16") == pytest.approx(125e12)
    assert row.of("fp32") == pytest.approx(15.7e12)


def test_the_precision_is_that_of_the_matrix_products() -> None:
    assert precision_of(bf16=True, tf32=True) == "bf16"
    assert precision_of(bf16=False, tf32=True) == "tf32"
    assert precision_of(bf16=False, tf32=False) == "fp32"


def test_rows_are_plausible_and_say_where_they_are_from() -> None:
    for name, row in PEAKS.items():
        assert row.source, name
        assert 1 < row.fp32 < 1000, name
        if row.bf16 is not None:
            assert row.bf16 == row.fp16, name
            assert row.bf16 > row.fp32, name
        if row.tf32 is not None:
            # The tensor cores of every NVIDIA GPU do TF32 at half the speed of bf16.
            assert math.isclose(2 * row.tf32, row.bf16 or 0, rel_tol=0.03), name


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_cpus_and_macs_have_no_peak(device: str) -> None:
    assert peak_flops(Compute(torch.device(device), bf16=True, compile=False)) is None


def test_utilization_is_a_share_of_the_peak_or_nothing() -> None:
    assert utilization(1e6, 1e9, 2e15) == pytest.approx(0.5)
    assert utilization(1e6, 1e9, None) is None
