"""The machine this monitor runs on: GPUs, processor, memory, the disk of the runs.

What is not there, or does not answer, is absent. A driver that hangs or a disk on a dead server
holds up a thread here, never the one who asks.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import psutil

from shared.ownership.process import host_name
from shared.text import one_line

EVERY = 1.0  # minimum seconds between two reads
FORGOTTEN = 10.0  # seconds after which an old value is no longer shown
_FIRST_LOOK = 0.1  # seconds

T = TypeVar("T")
Clock = Callable[[], float]


@dataclass(frozen=True)
class GpuView:
    """One GPU. Shares are 0 to 1, memory is in bytes, power in watts, temperature in °C."""

    index: int
    name: str = ""
    use: float | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    temperature: float | None = None
    power: float | None = None
    power_limit: float | None = None


@dataclass(frozen=True)
class HostView:
    """Processor and memory. `cpu` is the share in use since the last look, of all cores."""

    cpu: float | None = None
    cores: int | None = None
    ram_used: int | None = None
    ram_total: int | None = None


@dataclass(frozen=True)
class DiskView:
    """The disk of the runs directory, in bytes: what may still be used without being root, and that
    with what is in use. Blocks kept for root are in neither, as in `df`.
    """

    free: int | None = None
    total: int | None = None


@dataclass(frozen=True)
class MachineView:
    """A host now; None means not available. `unknown` says why nothing is known of it."""

    host: str = ""
    host_use: HostView = field(default_factory=HostView)
    disk: DiskView = field(default_factory=DiskView)
    gpus: tuple[GpuView, ...] = ()
    unknown: str = ""


class Watched(Generic[T]):
    """A value that a thread refreshes when it is requested and old."""

    def __init__(
        self, look: Callable[[], T], nothing: T, clock: Clock, *, every: float = EVERY
    ) -> None:
        """`look` is called at most once in `every` seconds."""
        self._every = every
        self._look, self._nothing, self._clock = look, nothing, clock
        self._value = nothing
        self._seen_at = self._tried_at = float("-inf")
        self._thread: threading.Thread | None = None

    def get(self) -> T:
        """The last value; None if it is too old."""
        now = self._clock()
        if not self._busy and now - self._tried_at >= self._every:
            self._tried_at = now
            self._thread = threading.Thread(target=self._refresh, name="machine", daemon=True)
            self._thread.start()
        return self._value if now - self._seen_at < FORGOTTEN else self._nothing

    def wait(self, timeout: float) -> None:
        """Wait until the running read, if any, has ended."""
        if self._thread is not None:
            self._thread.join(max(0.0, timeout))

    @property
    def _busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _refresh(self) -> None:
        try:
            value = self._look()
        except Exception:  # any driver error means "not available"
            value = self._nothing
        self._value, self._seen_at = value, self._clock()


class Machine:
    """Reads this host, at most once a second and only on request."""

    def __init__(
        self,
        runs_dir: Path,
        *,
        clock: Clock = time.monotonic,
        gpus: Callable[[], tuple[GpuView, ...]] | None = None,
        host: Callable[[], HostView] | None = None,
        disk: Callable[[], DiskView] | None = None,
    ) -> None:
        no_gpus: tuple[GpuView, ...] = ()
        self._gpus = Watched(gpus or NvidiaDriver().read, no_gpus, clock)
        self._host = Watched(host or HostReader().read, HostView(), clock)
        self._disk = Watched(disk or (lambda: read_disk(runs_dir)), DiskView(), clock)

    def view(self) -> MachineView:
        """The last values; all empty the first time. Returns at once."""
        host, disk, gpus = self._host.get(), self._disk.get(), self._gpus.get()
        return MachineView(one_line(host_name(), 80), host, disk, gpus)

    def wait(self, timeout: float = 2.0) -> MachineView:
        """As `view`, but waits up to `seconds` for reads that are due."""
        deadline = time.monotonic() + timeout
        self.view()
        for watched in (self._host, self._disk, self._gpus):
            watched.wait(deadline - time.monotonic())
        return self.view()


# -- what is looked at -------------------------------------------------------------------------


class HostReader:
    """Processor and memory by psutil."""

    def __init__(self) -> None:
        self._before: tuple[float, float] | None = None

    def read(self) -> HostView:
        """The use since the last call; the first call measures for a tenth of a second."""
        if self._before is None:
            self._before = _processor_times()
            time.sleep(_FIRST_LOOK)
        before, self._before = self._before, _processor_times()
        whole, idle = (now - then for now, then in zip(self._before, before, strict=True))
        cpu = min(1.0, max(0.0, 1.0 - idle / whole)) if whole > 0 else None
        memory = psutil.virtual_memory()
        return HostView(cpu, psutil.cpu_count(), memory.total - memory.available, memory.total)


def _processor_times() -> tuple[float, float]:
    """Seconds since the boot, of all cores together: all, and those without work."""
    times = psutil.cpu_times()
    # `user` and `nice` already include guest time.
    whole = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return whole, times.idle + getattr(times, "iowait", 0.0)


def read_disk(folder: Path) -> DiskView:
    """The disk of `folder`, which need not exist. Raises OSError."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    usage = shutil.disk_usage(folder)
    return DiskView(usage.free, usage.used + usage.free)


class NvidiaDriver:
    """The GPUs, from the driver's library, which is loaded on first use."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._handles: list[Any] = []
        self._missing = False

    def read(self) -> tuple[GpuView, ...]:
        """Every GPU of the host; none without a driver."""
        if self._missing:
            return ()
        if self._nvml is None and not self._open():
            return ()
        views = tuple(self._describe(i, handle) for i, handle in enumerate(self._handles))
        if views and all(view == GpuView(view.index, view.name) for view in views):
            self._close()  # a reset driver invalidates old handles
        return views

    def _open(self) -> bool:
        try:
            import pynvml
        except Exception:  # not available for the rest of this session
            self._missing = True
            return False
        try:
            pynvml.nvmlInit()
            count = pynvml.nvmlDeviceGetCount()
            self._handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
        except Exception as error:
            # Without the library there is no driver; other errors may be temporary.
            self._missing = isinstance(
                error, getattr(pynvml, "NVMLError_LibraryNotFound", pynvml.NVMLError)
            )
            return False
        self._nvml = pynvml
        return True

    def _close(self) -> None:
        with contextlib.suppress(Exception):
            self._nvml.nvmlShutdown()
        self._nvml, self._handles = None, []

    def _describe(self, index: int, handle: Any) -> GpuView:
        nvml = self._nvml

        def ask(question: str, *more: Any) -> Any:
            try:
                return getattr(nvml, question)(handle, *more)
            except Exception:  # not available on this GPU, driver or container
                return None

        name = ask("nvmlDeviceGetName")
        use, memory = ask("nvmlDeviceGetUtilizationRates"), ask("nvmlDeviceGetMemoryInfo")
        power, limit = ask("nvmlDeviceGetPowerUsage"), ask("nvmlDeviceGetEnforcedPowerLimit")
        return GpuView(
            index=index,
            name=one_line(name.decode() if isinstance(name, bytes) else name or "", 60),
            use=None if use is None else use.gpu / 100,
            memory_used=None if memory is None else int(memory.used),
            memory_total=None if memory is None else int(memory.total),
            temperature=ask("nvmlDeviceGetTemperature", 0),  # 0: the sensor of the chip
            power=None if power is None else power / 1000,  # from milliwatts
            power_limit=None if limit is None else limit / 1000,
        )
