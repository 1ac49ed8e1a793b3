"""The GPUs of this host that the daemon may use. Asks the driver, never CUDA."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class GpuDevice:
    """`visible` is its name in CUDA_VISIBLE_DEVICES; `used` is in bytes."""

    visible: str
    name: str = "GPU"
    used: int = 0


def list_gpus(environment: Mapping[str, str]) -> tuple[GpuDevice, ...]:
    """The GPUs that a process with `environment` would use; none without a driver."""
    with _driver() as nvml:
        if nvml is None:
            return ()
        present = [_describe(nvml, handle) for handle in _handles(nvml)]
    asked = environment.get(VISIBLE)
    if asked is None:
        return tuple(present)
    found: list[GpuDevice] = []
    for entry in (part.strip() for part in asked.split(",")):
        known = _named(entry, present)
        if known is None:  # like CUDA: everything after an invalid entry is ignored
            break
        # Keep its spelling: with different GPUs, CUDA's numbers may differ from the driver's.
        found.append(GpuDevice(entry, known.name, known.used))
    return tuple(found)


def _named(entry: str, present: list[GpuDevice]) -> GpuDevice | None:
    if entry.isdecimal():
        return present[int(entry)] if int(entry) < len(present) else None
    if entry.startswith("MIG-"):
        return GpuDevice(entry, "MIG device")
    matches = [gpu for gpu in present if entry and gpu.visible.startswith(entry)]
    return matches[0] if len(matches) == 1 else None


@contextlib.contextmanager
def _driver() -> Iterator[Any]:
    """The module for the driver, or None without a driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no library, no driver, no permission: all mean no GPU
        yield None
        return
    try:
        yield pynvml
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _handles(nvml: Any) -> list[Any]:
    try:
        return [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:
        return []


def _describe(nvml: Any, handle: Any) -> GpuDevice:
    def ask(question: Any, default: Any) -> Any:
        try:
            value = question(handle)
        except nvml.NVMLError:
            return default
        return value.decode() if isinstance(value, bytes) else value

    memory = ask(nvml.nvmlDeviceGetMemoryInfo, None)
    return GpuDevice(
        visible=ask(nvml.nvmlDeviceGetUUID, ""),
        name=ask(nvml.nvmlDeviceGetName, "GPU"),
        used=int(memory.used) if memory is not None else 0,
    )
