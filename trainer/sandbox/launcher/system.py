"""The system calls that Python's standard library has no name for."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

# PyDLL keeps the interpreter's lock: a clone must come back in a process that holds it.
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# The same numbers on every architecture, as for all system calls since 2019.
_CLONE3 = 435
_MOUNT_SETATTR = 442

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x00020000, 0x02000000, 0x04000000
CLONE_NEWIPC, CLONE_NEWUSER = 0x08000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x2, 0x4, 0x8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
_MNT_DETACH = 2
_ATTR_RDONLY, _ATTR_NOSUID = 0x1, 0x2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 1, 4, 24
_PR_SET_SECCOMP, _PR_SET_SECUREBITS, _PR_SET_CHILD_SUBREAPER = 22, 28, 36
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 38, 47
_LAST_CAPABILITY = 63
# NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE, each with its lock; KEEP_CAPS only locked.
_SECUREBITS = 0b11101111


class _CloneArguments(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
        )
    ]


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns_fd")]


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def syscall(number: int, what: str, *arguments: object) -> int:
    """The result of a system call. Raises OSError with `what` as its file name."""
    values = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *values), what)


def fork(flags: int) -> int:
    """Fork into new namespaces; 0 in the child. Only for a process with one thread."""
    if not flags:
        return os.fork()
    arguments = _CloneArguments(flags=flags, exit_signal=signal.SIGCHLD)
    return syscall(_CLONE3, "clone", ctypes.byref(arguments), ctypes.sizeof(arguments))


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    what = f"mount {target}"
    kind_bytes = kind.encode() if kind else None
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind_bytes,
        ctypes.c_ulong(flags),
        options.encode(),
    )
    _check(result, what)


def make_read_only(path: str, recursive: bool = True) -> None:
    """Make a mount, and all below it, read-only and without setuid programs."""
    attributes = _MountAttributes(set=_ATTR_RDONLY | _ATTR_NOSUID)
    syscall(
        _MOUNT_SETATTR,
        f"mount read-only {path}",
        _AT_FDCWD,
        ctypes.c_char_p(os.fsencode(path)),
        _AT_RECURSIVE if recursive else 0,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
    )


def enter_root(path: str) -> None:
    """Make `path`, a mount, the root folder, and detach the old one."""
    os.chdir(path)
    _check(_libc.syscall(ctypes.c_long(_pivot_root()), b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _MNT_DETACH), "umount")
    os.chdir("/")


def _pivot_root() -> int:
    return 155 if os.uname().machine == "x86_64" else 41


def prctl(option: int, what: str, *arguments: int) -> int:
    """prctl(2) with up to four numbers."""
    values = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return _check(_libc.prctl(ctypes.c_int(option), *values), what)


def die_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends."""
    prctl(_PR_SET_PDEATHSIG, "die with parent", signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ended."""
    prctl(_PR_SET_CHILD_SUBREAPER, "adopt orphans", 1)


def hide_memory() -> None:
    """Keep processes of the same user out of this one's memory and /proc entry."""
    prctl(_PR_SET_DUMPABLE, "hide memory", 0)


def give_up_privileges() -> None:
    """Lose all capabilities, for good, through any program that is executed."""
    prctl(_PR_SET_NO_NEW_PRIVS, "no new privileges", 1)
    for capability in range(_LAST_CAPABILITY + 1):
        try:
            prctl(_PR_CAPBSET_DROP, "drop capabilities", capability)
        except OSError:  # no such capability, or no right to drop it: then there is nothing to gain
            break
    with contextlib.suppress(OSError):  # no right to: then there are no privileges either
        prctl(_PR_SET_SECUREBITS, "secure bits", _SECUREBITS)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _check(_libc.capset(header, nothing), "drop capabilities")


def filter_calls(program: bytes) -> None:
    """Install a seccomp filter, an array of `struct sock_filter`."""
    code = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    filters = Program(len(program) // 8, ctypes.addressof(code))
    result = _libc.prctl(ctypes.c_int(_PR_SET_SECCOMP), ctypes.c_ulong(2), ctypes.byref(filters))
    _check(result, "seccomp")
