"""What is run in the sandbox, within which limits, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from shared.errors import UserError

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """How much a work may use.

    CPU seconds count per process. `memory_bytes` limits the address space of each process and the
    resident memory of all together. `file_bytes` limits each file, and also standard output and
    standard error; `folder_bytes` limits the work folder where it is a filesystem of its own.
    `processes` counts threads, too.
    """

    cpu_seconds: float = 5.0
    wall_seconds: float = 10.0
    memory_bytes: int = 2048 * MIB
    file_bytes: int = 8 * MIB
    folder_bytes: int = 64 * MIB
    processes: int = 32
    open_files: int = 64


@dataclass(frozen=True)
class Work:
    """A program to run in a folder of its own, which is removed afterwards.

    `command` starts with the path of the program, absolute or as `./NAME` in the folder. `files`
    are put into the folder by relative name; `outputs` names files to be returned. `readable` are
    files and folders that the program may read and execute, beside the system's own under /usr and
    /lib. Its environment is `environment`, a short PATH, and HOME and TMPDIR in the folder. Set
    `executes_generated_code` if the program is, or runs, code that a model wrote.
    """

    command: tuple[str, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    readable: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    executes_generated_code: bool = False

    def __post_init__(self) -> None:
        for name in (*self.files, *self.outputs):
            path = PurePosixPath(name)
            if path.is_absolute() or not path.parts or ".." in path.parts or "\0" in name:
                raise ValueError(f"A file of a work has a relative name without '..', not {name!r}")
        if not self.command or not self.command[0].startswith(("/", "./")):
            raise ValueError(f"A work's command starts with / or ./, not {self.command}")


@dataclass(frozen=True)
class Outcome:
    """How a work ended.

    `exit_code` is None if a signal ended it, `signal` is None otherwise. `exceeded` is what it used
    up and was ended for: "time" (wall or CPU), "memory" or "processes". `stdout`, `stderr` and
    `files` were written by the program and may hold anything. `failure` says why it could not be
    run at all: a mistake on our side, not the program's. `lost`: because the launcher died or hung
    while it had the work, each time it was tried.
    """

    exit_code: int | None = None
    signal: int | None = None
    exceeded: str | None = None
    stdout: bytes = b""
    stderr: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    failure: str | None = None
    lost: bool = False

    @property
    def timed_out(self) -> bool:
        """Whether its time was up."""
        return self.exceeded == "time"

    @property
    def succeeded(self) -> bool:
        """Whether the program ran and ended with exit code 0."""
        return self.failure is None and self.exit_code == 0 and self.exceeded is None


@dataclass(frozen=True)
class Layers:
    """Which protections are active, found out by trying each.

    `missing` has a reason for each layer that is not active. `versions` has Landlock's.
    """

    active: Sequence[str]
    missing: Mapping[str, str]
    versions: Mapping[str, int]

    #: Without these no generated code is executed.
    NEEDED = ("landlock", "network namespace")

    @property
    def lacking(self) -> str | None:
        """Why generated code must not be executed; None if it may."""
        lacking = [name for name in self.NEEDED if name not in self.active]
        if not lacking:
            return None
        return " and ".join(f"no {name} ({self.missing.get(name, 'unknown')})" for name in lacking)

    def line(self) -> str:
        """The layers in one line."""
        active = ", ".join(
            f"{name} {self.versions[name]}" if name in self.versions else name
            for name in self.active
        )
        missing = ", ".join(f"{name} ({reason})" for name, reason in self.missing.items())
        return f"sandbox: {active}" + (f"; missing: {missing}" if missing else "")


class ExecutionRefusedError(UserError):
    """Generated code would be executed without the protections that this needs."""

    def __init__(self, lacking: str) -> None:
        super().__init__(
            f"Generated code is not executed here: the sandbox has {lacking}. Set run_tests to "
            "false to judge answers without running their tests, or to true if this machine holds "
            "nothing that they may harm."
        )
