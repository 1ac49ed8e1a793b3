"""What the daemon sees of its machine: GPUs, and processes killed when out of memory."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from trainer.daemon.gpus import GpuDevice, list_gpus
from trainer.daemon.memory import killed_for_memory, oom_kills, smaller_micro_batch


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A driver with three GPUs, of which the last tells nothing of its memory."""

    class NVMLError(Exception):
        pass

    def memory(index: int) -> types.SimpleNamespace:
        if index == 2:
            raise NVMLError
        return types.SimpleNamespace(used=1000 * index)

    fake = types.SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 3,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUUID=lambda index: f"GPU-{index}abc",
        nvmlDeviceGetName=lambda index: b"H200",
        nvmlDeviceGetMemoryInfo=memory,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_every_gpu_by_its_own_name(driver: types.SimpleNamespace) -> None:
    assert list_gpus({}) == (
        GpuDevice("GPU-0abc", "H200", 0),
        GpuDevice("GPU-1abc", "H200", 1000),
        GpuDevice("GPU-2abc", "H200", 0),
    )


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("", []),
        ("-1", []),
        ("1", ["1"]),
        ("2, 0", ["2", "0"]),
        ("0,7,1", ["0"]),
        ("GPU-1", ["GPU-1"]),
        ("GPU-", []),
        ("GPU-9", []),
        ("MIG-xyz", ["MIG-xyz"]),
    ],
)
def test_only_those_that_are_visible(
    driver: types.SimpleNamespace, visible: str, expected: list[str]
) -> None:
    found = list_gpus({"CUDA_VISIBLE_DEVICES": visible})
    assert [gpu.visible for gpu in found] == expected


def test_without_a_driver_there_is_none(driver: types.SimpleNamespace) -> None:
    def fail() -> None:
        raise driver.NVMLError

    driver.nvmlInit = fail
    assert list_gpus({}) == ()
    driver.nvmlInit, driver.nvmlDeviceGetCount = (lambda: None), fail
    assert list_gpus({}) == ()


def test_the_kernels_counts(tmp_path: Path) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    for folder in (proc / "self", cgroups / "unit.service", cgroups / "memory" / "box"):
        folder.mkdir(parents=True)
    assert oom_kills(proc, cgroups) == {}
    (proc / "vmstat").write_text("oom_kill_other 9\noom_kill 3\npgfault 1\n")
    (proc / "self" / "cgroup").write_text("0::/unit.service\n4:cpu,memory:/box\nrubbish\n")
    events = cgroups / "unit.service" / "memory.events"
    events.write_text("oom 1\noom_kill 0\n")
    (cgroups / "memory" / "box" / "memory.oom_control").write_text("under_oom 0\noom_kill 1\n")
    before = oom_kills(proc, cgroups)
    assert sorted(before.values()) == [0, 0, 1, 3]
    assert not killed_for_memory(before, oom_kills(proc, cgroups))
    events.write_text("oom 1\noom_kill 1\n")
    after = oom_kills(proc, cgroups)
    assert killed_for_memory(before, after)
    other_boot = {k: v for k, v in before.items() if not k.startswith("boot")} | {"boot x": 0}
    assert not killed_for_memory(other_boot, after), "the counts of another boot say nothing"
    assert not killed_for_memory({}, after)


@pytest.mark.parametrize(
    ("known", "config", "expected"),
    [
        (None, "train: {batch_size: 12}", 6),
        (None, "train: {batch_size: 12, micro_batch: 5}", 2),
        (None, "train: {batch_size: 12, micro_batch: auto}", 6),
        (3, "train: {batch_size: 12}", 1),
        (1, "train: {batch_size: 12}", None),
        (None, "train: {batch_size: 1}", None),
        (None, "train: 3", None),
        (None, ": [", None),
        (None, None, None),
    ],
)
def test_the_next_attempt_takes_half(
    tmp_path: Path, known: int | None, config: str | None, expected: int | None
) -> None:
    path = tmp_path / "config.yaml"
    if config is not None:
        path.write_text(config)
    assert smaller_micro_batch(known, path) == expected
