"""A filter of system calls: those that only an attack on the kernel or other processes needs fail.

It stands behind the other layers. What a compiler, its output or Python needs stays allowed.
"""

from __future__ import annotations

import errno
import os
import struct

_LOAD, _EQUAL, _AT_LEAST, _ALL_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000
_AF_UNIX = 1
_NEW_NAMESPACES = 0x7E020000  # every CLONE_NEW flag that clone takes

#: Name: (x86_64, the numbers that aarch64 and riscv64 share).
_DENIED = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "bpf": (321, 280),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "unshare": (272, 97),
    "setns": (308, 268),
    "personality": (135, 92),
    "syslog": (103, 116),
    "quotactl": (179, 60),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "adjtimex": (159, 171),
    "vmsplice": (278, 75),
    "move_pages": (279, 239),
    # Memory that belongs to no process, so that nothing counts it.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
}
_MACHINES = {  # machine: (its audit architecture, column, clone, clone3, socket, socketpair)
    "x86_64": (0xC000003E, 0, 56, 435, 41, 53),
    "aarch64": (0xC00000B7, 1, 220, 435, 198, 199),
    "riscv64": (0xC00000F3, 1, 220, 435, 198, 199),
}


def program(machine: str | None = None) -> bytes:
    """The filter for a machine, by default this one. Raises OSError if it is not known."""
    machine = machine or os.uname().machine
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"no list of system calls for {machine}")
    architecture, column, clone, clone3, socket, socketpair = _MACHINES[machine]
    code = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, architecture, 1, 0),
        _step(_RETURN, _KILL),
        _step(_LOAD, _NUMBER),
    ]
    if machine == "x86_64":  # the same calls under other numbers
        code += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, _KILL)]
    for numbers in _DENIED.values():
        code += [_step(_EQUAL, numbers[column], 0, 1), _step(_RETURN, _ERROR | errno.EPERM)]
    # Its flags are in memory, which a filter cannot read; C libraries then use clone.
    code += [_step(_EQUAL, clone3, 0, 1), _step(_RETURN, _ERROR | errno.ENOSYS)]
    code += [
        _step(_EQUAL, clone, 0, 4),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_ALL_BITS, _NEW_NAMESPACES, 0, 1),
        _step(_RETURN, _ERROR | errno.EPERM),
        _step(_RETURN, _ALLOW),
    ]
    # No socket at all: vsock reaches the host of a virtual machine, and a Unix socket with a name
    # is not Landlock's matter. Pairs reach nobody.
    code += [
        _step(_EQUAL, socket, 0, 1),
        _step(_RETURN, _ERROR | errno.EAFNOSUPPORT),
        _step(_EQUAL, socketpair, 0, 3),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(_EQUAL, _AF_UNIX, 1, 0),
        _step(_RETURN, _ERROR | errno.EAFNOSUPPORT),
        _step(_RETURN, _ALLOW),
    ]
    return b"".join(code)


def _step(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, value)
