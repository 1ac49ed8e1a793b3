"""Landlock: what a process may open, connect to and signal, without any privilege."""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable

from trainer.sandbox.launcher import system

_CREATE, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1  # flag of _CREATE
_PATH_BENEATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK = 1 << 6, 1 << 11
_REFER, _TRUNCATE, _IOCTL_DEVICE = 1 << 13, 1 << 14, 1 << 15  # from versions 2, 3 and 5
_FIRST_VERSION = (1 << 13) - 1
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | _TRUNCATE | _IOCTL_DEVICE

READ = EXECUTE | READ_FILE | READ_DIR
_BIND_TCP, _CONNECT_TCP = 1, 2
_SCOPE_ABSTRACT_SOCKETS, _SCOPE_SIGNALS = 1, 2


class _Ruleset(ctypes.Structure):
    _fields_ = [
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("access", ctypes.c_uint64), ("fd", ctypes.c_int32)]


def version() -> int:
    """The kernel's version of Landlock. Raises OSError if there is none."""
    return system.syscall(_CREATE, "landlock", None, 0, _VERSION)


def _handled(abi: int) -> int:
    rights = _FIRST_VERSION
    for least, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEVICE)):
        rights |= right if abi >= least else 0
    return rights


def restrict(readable: Iterable[str], writable: str, devices: Iterable[str]) -> None:
    """Confine this process and its children: they may read and execute what is beneath `readable`,
    do anything but make devices beneath `writable`, and read and write `devices`.

    Where the kernel knows how, TCP is denied, and so are abstract sockets and signals to processes
    outside. Paths that do not exist are left out. Raises OSError.
    """
    abi = version()
    handled = _handled(abi)
    rules = _Ruleset(
        handled,
        _BIND_TCP | _CONNECT_TCP if abi >= 4 else 0,
        _SCOPE_ABSTRACT_SOCKETS | _SCOPE_SIGNALS if abi >= 6 else 0,
    )
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = system.syscall(_CREATE, "landlock", ctypes.byref(rules), size, 0)
    _allow(ruleset, writable, handled & ~(_MAKE_CHAR | _MAKE_BLOCK))
    for path in readable:
        _allow(ruleset, path, READ)
    for path in devices:
        _allow(ruleset, path, READ_FILE | WRITE_FILE)
    system.syscall(_RESTRICT_SELF, "landlock", ruleset, 0)
    os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            access &= _OF_FILES
        rule = _Beneath(access, fd)
        system.syscall(_ADD_RULE, "landlock", ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(fd)
