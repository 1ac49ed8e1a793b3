"""Whether the kernel has killed a process because it was out of memory."""

from __future__ import annotations

import re
from pathlib import Path

from shared.ownership.process import boot_id
from shared.run.directory import RunDirectory
from trainer.daemon.configuration import setting

_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_CGROUPS = Path("/sys/fs/cgroup")


def oom_kills(proc: Path = Path("/proc"), cgroups: Path = _CGROUPS) -> dict[str, int]:
    """The kernel's counts of killed processes, by the file that each came from.

    The host's count is blind to nothing but may be hidden in a container; the cgroup's sees the
    limits of a container or a unit. Empty where neither can be read.
    """
    counts: dict[str, int] = {}
    for path in (proc / "vmstat", *_cgroup_files(proc, cgroups)):
        try:
            found = _COUNT.search(path.read_text())
        except OSError:
            continue
        if found:
            counts[str(path)] = int(found.group(1))
    if counts:
        counts[f"boot {boot_id()}"] = 0  # counts of another boot are meaningless
    return counts


def _cgroup_files(proc: Path, cgroups: Path) -> list[Path]:
    files = [cgroups / "memory.events", cgroups / "memory" / "memory.oom_control"]
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return files
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        inside = path.lstrip("/")
        if not inside:
            continue
        if not controllers:
            files.append(cgroups / inside / "memory.events")
        elif "memory" in controllers.split(","):
            files.append(cgroups / "memory" / inside / "memory.oom_control")
    return files


def killed_for_memory(before: dict[str, int], after: dict[str, int]) -> bool:
    """Whether a count rose between two readings."""
    same_boot = {k for k in before if k.startswith("boot ")} == {
        k for k in after if k.startswith("boot ")
    }
    return same_boot and any(after.get(k, 0) > count for k, count in before.items())


def smaller_micro_batch(micro_batch: int | None, config: Path) -> int | None:
    """Half of what the run used, or None when one sequence is all there is, or nothing is known.

    `micro_batch` is the run's own, if it has one already; else `config` (config.yaml) tells.
    """
    size = micro_batch or _configured(config)
    return size // 2 if size and size > 1 else None


def _configured(path: Path) -> int | None:
    run = RunDirectory(path.parent)
    values = (setting(run, "train", key) for key in ("micro_batch", "batch_size"))
    return next((value for value in values if type(value) is int), None)
