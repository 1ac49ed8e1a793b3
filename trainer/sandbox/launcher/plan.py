"""Which layers are used, and what one work asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from trainer.sandbox.launcher import system

#: Layer: the flag that makes it when a process is cloned.
NAMESPACES = {
    "user namespace": system.CLONE_NEWUSER,
    "mount namespace": system.CLONE_NEWNS,
    "pid namespace": system.CLONE_NEWPID,
    "network namespace": system.CLONE_NEWNET,
    "ipc namespace": system.CLONE_NEWIPC,
    "uts namespace": system.CLONE_NEWUTS,
    "cgroup namespace": system.CLONE_NEWCGROUP,
}
OWN_USER = "own user"
LANDLOCK = "landlock"
SECCOMP = "seccomp"
ALWAYS = ("empty environment", "limits", "own session")
NOBODY = 65534


@dataclass(frozen=True)
class Plan:
    """The layers that a work gets. `own_user`: started by root, it runs as nobody."""

    layers: frozenset[str]

    def __contains__(self, layer: str) -> bool:
        return layer in self.layers

    def without(self, layer: str) -> Plan:
        """The plan less one layer."""
        return replace(self, layers=self.layers - {layer})

    @property
    def flags(self) -> int:
        """The flags of clone."""
        return sum(flag for name, flag in NAMESPACES.items() if name in self.layers)


@dataclass(frozen=True)
class Order:
    """A work as the launcher got it. `command` is empty in a trial of the layers."""

    command: list[str]
    environment: dict[str, str]
    files: dict[str, bytes]
    outputs: list[str]
    readable: list[str]
    limits: dict[str, Any]
