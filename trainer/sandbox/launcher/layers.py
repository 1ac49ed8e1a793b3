"""Which layers this machine has, found out by trying each of them."""

from __future__ import annotations

import os
import select
from typing import Any

from trainer.sandbox.launcher import inside, system
from trainer.sandbox.launcher import plan as plans
from trainer.sandbox.launcher.job import Job
from trainer.sandbox.launcher.plan import Order, Plan
from trainer.sandbox.launcher.workplace import Workplace

_TRIAL = Order(
    command=[],
    environment={},
    files={"trial": b"x"},
    outputs=["trial"],
    readable=[],
    limits={
        "cpu_seconds": 10,
        "wall_seconds": 30,
        "memory_bytes": 1 << 30,
        "file_bytes": 1 << 16,
        "folder_bytes": 1 << 20,
        "processes": 8,
        "open_files": 64,
    },
)


def find(
    workplace: Workplace, refused: frozenset[str] = frozenset()
) -> tuple[Plan, dict[str, str]]:
    """The plan with all layers that work here, and for each other layer why it does not.

    Layers in `refused` are treated as missing, for tests.
    """
    missing = dict.fromkeys(sorted(refused), "turned off")
    plan = _namespaces(missing)
    if os.geteuid() == 0:
        plan = Plan(plan.layers | {plans.OWN_USER})
    plan = Plan((plan.layers | {plans.LANDLOCK, plans.SECCOMP}) - refused)
    while True:
        plan = _consistent(plan, missing)
        header, _ = try_out(plan, workplace)
        failure = header.get("failure")
        if failure is None:
            return plan, missing
        layer = header.get("layer")
        if layer not in plan.layers:
            raise OSError(f"nothing can be run: {failure}")
        missing[layer] = failure
        plan = plan.without(layer)


def try_out(plan: Plan, workplace: Workplace) -> tuple[dict[str, Any], bytes]:
    """How a work that does nothing ends under `plan`."""
    job = Job(0, _TRIAL, plan, workplace)
    ready, _, _ = select.select([job.pidfd], [], [], _TRIAL.limits["wall_seconds"])
    if not ready:
        job.kill("time")
    return job.finish(set)


def _namespaces(missing: dict[str, str]) -> Plan:
    """The namespaces that can be made, each tried with the user namespace if there is that."""
    found = Plan(frozenset())
    for name in plans.NAMESPACES:
        if name in missing:
            continue
        trial = Plan(found.layers & {"user namespace"} | {name})
        try:
            pid = system.fork(trial.flags)
        except OSError as error:
            missing[name] = error.strerror or str(error)
            continue
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        found = Plan(found.layers | {name})
    return found


def _consistent(plan: Plan, missing: dict[str, str]) -> Plan:
    """A root folder of its own has no /proc, which ending orphans needs without a pid namespace."""
    if "mount namespace" in plan and "pid namespace" not in plan:
        missing["mount namespace"] = "needs the pid namespace"
        plan = plan.without("mount namespace")
    return plan


__all__ = ["find", "inside", "try_out"]
