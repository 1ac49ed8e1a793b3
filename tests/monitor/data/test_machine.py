"""The machine: what is absent is absent, and nothing that hangs holds up who asks."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from monitor.data.machine import (
    FORGOTTEN,
    DiskView,
    GpuView,
    HostReader,
    HostView,
    Machine,
    NvidiaDriver,
    read_disk,
)
from shared.ownership.process import host_name
from tests.waiting import SECONDS


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def machine(**readers: object) -> tuple[Machine, Clock]:
    clock = Clock()
    readers = {"gpus": tuple, "host": HostView, "disk": DiskView} | readers
    return Machine(Path("/"), clock=clock, **readers), clock  # type: ignore[arg-type]


def test_this_machine(tmp_path: Path) -> None:
    view = Machine(tmp_path / "not" / "there" / "yet").wait(SECONDS)
    assert view.host == host_name()
    assert view.host_use.cores == psutil.cpu_count()
    assert view.host_use.ram_total == psutil.virtual_memory().total
    assert view.host_use.ram_used is not None
    assert 0 < view.host_use.ram_used < psutil.virtual_memory().total
    assert view.host_use.cpu is not None
    assert 0 <= view.host_use.cpu <= 1
    assert view.disk.total == pytest.approx(read_disk(tmp_path).total, rel=0.05)
    assert view.disk.free is not None


def test_it_looks_at_most_once_a_second_and_only_when_asked() -> None:
    looks: list[int] = []

    def gpus() -> tuple[GpuView, ...]:
        looks.append(len(looks))
        return (GpuView(len(looks)),)

    watched, clock = machine(gpus=gpus)
    assert watched.wait().gpus == (GpuView(1),)
    clock.now += 0.9
    assert watched.wait().gpus == (GpuView(1),)
    clock.now += 0.2
    assert watched.wait().gpus == (GpuView(2),)
    clock.now += 5
    assert len(looks) == 2


def test_what_hangs_holds_nobody_up_and_is_forgotten() -> None:
    hold, began = threading.Event(), threading.Event()
    looks: list[int] = []

    def disk() -> DiskView:
        looks.append(1)
        if len(looks) > 1:
            began.set()
            assert hold.wait(120)  # whoever waits for it gets an absent disk in the end
        return DiskView(5, 10)

    watched, clock = machine(disk=disk)
    assert watched.wait().disk == DiskView(5, 10)
    clock.now += 2
    assert watched.view().disk == DiskView(5, 10), "the last one seen, for now"
    assert began.wait(SECONDS)
    clock.now += FORGOTTEN
    assert watched.view().disk == DiskView()
    assert watched.wait(0.01).host_use == HostView()
    assert len(looks) == 2, "no second one is sent after it"
    hold.set()
    watched.wait()
    assert watched.view().disk == DiskView(5, 10)


def test_what_fails_is_absent() -> None:
    def broken() -> DiskView:
        raise OSError("gone")

    assert machine(disk=broken)[0].wait().disk == DiskView()


def test_the_processor_is_looked_at_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([(10, 0, 90), (10, 0, 90), (40, 20, 130), (40, 20, 130)])

    def cpu_times() -> object:
        user, system, idle = next(times)
        return SimpleNamespaceTuple(user=user, system=system, idle=idle)

    class SimpleNamespaceTuple(SimpleNamespace):
        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter(vars(self).values())

    monkeypatch.setattr(psutil, "cpu_times", cpu_times)
    reader = HostReader()
    assert reader.read().cpu is None, "no time has passed"
    assert reader.read().cpu == pytest.approx(50 / 90)
    assert reader.read().cpu is None


# -- the driver --------------------------------------------------------------------------------


class FakeNvml:
    """The library, with two GPUs of which the second tells nothing but its name."""

    class NVMLError(Exception):
        pass

    class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801, N818  (its name)
        pass

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem, self.opened = problem, 0

    def nvmlInit(self) -> None:  # noqa: N802
        self.opened += 1
        if self.problem:
            raise self.problem

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetName(self, handle: int) -> object:  # noqa: N802
        return b"NVIDIA \x1b[31mH200" if handle == 0 else "Other"

    def __getattr__(self, name: str) -> object:
        known = {
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=75),
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=3 << 30, total=80 << 30),
            "nvmlDeviceGetTemperature": 61,
            "nvmlDeviceGetPowerUsage": 350_500,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
        }

        def ask(handle: int, *_: object) -> object:
            if handle or self.problem or name not in known:
                raise self.NVMLError("Not Supported")
            return known[name]

        return ask


def test_the_gpus_of_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", library)
    driver = NvidiaDriver()
    assert library.opened == 0, "it is loaded when it is asked"
    first = GpuView(0, "NVIDIA [31mH200", 0.75, 3 << 30, 80 << 30, 61, 350.5, 700.0)
    assert driver.read() == driver.read() == (first, GpuView(1, "Other"))
    assert library.opened == 1
    library.problem = library.NVMLError("GPU is lost")
    assert driver.read() == (GpuView(0, first.name), GpuView(1, "Other"))
    assert driver.read() == ()
    library.problem = None
    assert driver.read()[0] == first, "it is opened anew"


def test_no_library_is_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeNvml(FakeNvml.NVMLError_LibraryNotFound("no"))
    monkeypatch.setitem(sys.modules, "pynvml", library)
    driver = NvidiaDriver()
    assert driver.read() == driver.read() == ()
    assert library.opened == 1
    library.problem = FakeNvml.NVMLError("driver not loaded")
    other = NvidiaDriver()
    assert other.read() == other.read() == ()
    assert library.opened == 3
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert NvidiaDriver().read() == ()


def test_the_module_loads_neither_the_driver_nor_a_screen() -> None:
    code = (
        "import sys, monitor.data.machine; "
        "print([m for m in ('pynvml', 'textual', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_disk_is_as_full_as_df_says(tmp_path: Path) -> None:
    found, disk = os.statvfs(tmp_path), read_disk(tmp_path)
    used = (found.f_blocks - found.f_bfree) * found.f_frsize
    assert disk.free is not None and disk.total is not None
    assert disk.total - disk.free == pytest.approx(used, rel=0.05, abs=1 << 28)
