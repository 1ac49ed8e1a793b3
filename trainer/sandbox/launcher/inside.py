"""What the processes of a work do: the first one prepares and tidies up, the second is the program.

The first is the init process of the work's namespaces. It waits for the program, ends whatever that
left running, and writes how it ended, with the files that were asked for, for the launcher to read.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import signal
import sys
from collections.abc import Iterator
from typing import Any

from trainer.sandbox.launcher import (
    filesystem,
    frames,
    landlock,
    orphans,
    seccomp,
    system,
)
from trainer.sandbox.launcher import (
    plan as layers,
)
from trainer.sandbox.launcher.plan import Order, Plan

FAILED = 125
_PATH = "/usr/local/bin:/usr/bin:/bin"


class LayerError(Exception):
    """A layer could not be put in place."""

    def __init__(self, layer: str, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.layer = layer
        self.reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)


@contextlib.contextmanager
def _layer(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LayerError(name, error) from error


class Descriptors:
    """What the first process of a work has open."""

    def __init__(self, nothing: int, output: int, errors: int, result: int, start: int) -> None:
        self.nothing = nothing
        self.output = output
        self.errors = errors
        self.result = result
        self.start = start

    def close_others(self) -> None:
        """Close everything else: the launcher's pipes and the files of other works."""
        kept = sorted((self.nothing, self.output, self.errors, self.result, self.start))
        for low, high in zip([-1, *kept], [*kept, 1 << 20], strict=True):
            os.closerange(low + 1, high)


def run(order: Order, plan: Plan, place: str, open_: Descriptors) -> None:
    """The life of the first process. `place` is an empty folder. Does not return."""
    try:
        system.die_with_parent()
        open_.close_others()
        # The launcher writes a byte when the user namespace has its names.
        if not os.read(open_.start, 1):
            os._exit(FAILED)
        system.adopt_orphans()
        # If the machine's memory runs out, end this and not the trainer.
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
        owner = layers.NOBODY if layers.OWN_USER in plan else None
        folder = place
        if "mount namespace" in plan:
            with _layer("mount namespace"):
                program_path = order.command[0] if order.command else "/"
                size = order.limits["folder_bytes"]
                filesystem.build_root(place, order.readable, size, program_path)
                folder = filesystem.FOLDER
        filesystem.write_files(folder, order.files, owner)
        system.hide_memory()
        program = os.fork()
        if program == 0:
            _become(order, plan, folder, open_)
        _finish(program, order, plan, folder, open_)
    except LayerError as error:
        _report(open_.result, {"layer": error.layer, "failure": error.reason})
    except BaseException as error:
        _report(open_.result, {"failure": f"{type(error).__name__}: {error}"})
    os._exit(FAILED)


def _report(result: int, header: dict[str, Any], body: bytes = b"") -> None:
    os.write(result, frames.pack(header, body))


def _become(order: Order, plan: Plan, folder: str, open_: Descriptors) -> None:
    """Turn into the program. Does not return."""
    try:
        os.setsid()
        os.chdir(folder)
        for number, fd in enumerate((open_.nothing, open_.output, open_.errors)):
            os.dup2(fd, number)
        os.set_inheritable(open_.result, False)
        os.umask(0o077)
        _restrict(order, plan, folder)
        system.die_with_parent()  # again: a change of the user clears it
        for number in signal.valid_signals():
            with contextlib.suppress(OSError):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if not order.command:
            os._exit(0)
        given = {"PATH": _PATH, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"}
        memory = order.limits["memory_bytes"]
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        os.execve(order.command[0], order.command, given | order.environment)
    except LayerError as error:
        _report(open_.result, {"layer": error.layer, "failure": error.reason})
    except BaseException as error:
        command = order.command[0] if order.command else "nothing"
        _report(open_.result, {"failure": f"{command} cannot be started: {error}"})
    os._exit(FAILED)


def _restrict(order: Order, plan: Plan, folder: str) -> None:
    processes = order.limits["processes"]
    if layers.OWN_USER in plan:
        with _layer(layers.OWN_USER):
            os.setgroups([])
            os.setresgid(*[layers.NOBODY] * 3)
            os.setresuid(*[layers.NOBODY] * 3)
    elif "user namespace" in plan:
        processes += 1  # the first process has the same user
    else:
        processes += _processes_of(os.getuid())
    cpu = math.ceil(order.limits["cpu_seconds"])
    for kind, soft, hard in (
        (resource.RLIMIT_CPU, cpu, cpu + 1),  # SIGXCPU first, which may be caught, then SIGKILL
        (resource.RLIMIT_FSIZE, order.limits["file_bytes"], order.limits["file_bytes"]),
        (resource.RLIMIT_NPROC, processes, processes),
        (resource.RLIMIT_NOFILE, order.limits["open_files"], order.limits["open_files"]),
        # Not 0: a core size of 1 also keeps the kernel from starting a program that takes cores.
        (resource.RLIMIT_CORE, 1, 1),
        (resource.RLIMIT_MEMLOCK, 0, 0),
        (resource.RLIMIT_MSGQUEUE, 0, 0),
    ):
        _lower(kind, soft, hard)
    with _layer("privileges"):
        system.give_up_privileges()
    if layers.LANDLOCK in plan:
        with _layer(layers.LANDLOCK):
            readable = [*filesystem.SYSTEM, *order.readable]
            landlock.restrict(readable, folder, filesystem.DEVICES)
    if layers.SECCOMP in plan:
        with _layer(layers.SECCOMP):
            system.filter_calls(seccomp.program())


def _lower(kind: int, soft: int, hard: int) -> None:
    """Set a limit, or a lower one that holds already."""
    most = resource.getrlimit(kind)[1]
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(kind, (soft, hard))


def _processes_of(user: int) -> int:
    """How many threads a user has now, all processes together."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == user:
                    count += len(os.listdir(f"/proc/{name}/task"))
    return count


def _finish(program: int, order: Order, plan: Plan, folder: str, open_: Descriptors) -> None:
    """Wait for the program, end what it left, and write down how it ended."""
    status = None
    while status is None:
        pid, ended = os.waitpid(-1, 0)
        if pid == program:
            status = ended
    if "pid namespace" in plan:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
    else:
        with contextlib.suppress(OSError):
            os.killpg(program, signal.SIGKILL)
        orphans.end_all(spared=set())
    if os.fstat(open_.result).st_size:  # the program could not be started, and said why
        os._exit(FAILED)
    most = order.limits["file_bytes"]
    files = {}
    for name in order.outputs:
        data = filesystem.read_file(folder, name, most)
        if data is not None:
            files[name] = data
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    sizes, body = frames.pack_files(files)
    code = os.waitstatus_to_exitcode(status)
    header = {
        "exit_code": code if code >= 0 else None,
        "signal": -code if code < 0 else None,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "files": sizes,
    }
    with os.fdopen(open_.result, "wb") as file:
        file.write(frames.pack(header, body))
    sys.stdout = None  # nothing of the launcher's is flushed here
    os._exit(0)
