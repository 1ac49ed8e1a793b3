"""What a work sees of the filesystem: system files, what it may read, and a folder of its own."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from trainer.sandbox.launcher import system

#: Read-only for every work, where there.
SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/nix/store",
    "/gnu/store",
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
FOLDER = "/work"
_ROOT_OPTIONS = "size=4m,nr_inodes=4096,mode=755"
_MAX_FILES = 4096  # in a work folder


def build_root(place: str, readable: Iterable[str], folder_bytes: int, program: str) -> None:
    """Make `place` a root folder that holds nothing but what a work may see, and enter it.

    Only in a mount namespace of our own. Raises OSError.
    """
    system.mount("none", "/", None, system.MS_REC | system.MS_PRIVATE)
    hidden = system.MS_NOSUID | system.MS_NODEV
    system.mount("tmpfs", place, "tmpfs", hidden, _ROOT_OPTIONS)
    for path in _outermost([*SYSTEM, *readable]):
        _show(place, path)
    for path in DEVICES:
        _show(place, path, read_only=False)
    _add_proc(place + "/proc", program)
    os.mkdir(place + FOLDER, 0o755)
    os.makedirs(place + "/tmp", exist_ok=True)
    options = f"size={folder_bytes},nr_inodes={_MAX_FILES},mode=700"
    system.mount("tmpfs", place + FOLDER, "tmpfs", hidden, options)
    system.enter_root(place)
    system.make_read_only("/", recursive=False)


def _add_proc(path: str, program: str) -> None:
    """Mount what /proc says of the work's own processes: libraries are found with its `self/exe`.

    In a container whose own /proc is partly hidden the kernel refuses. Then the link alone is made.
    """
    os.mkdir(path, 0o755)
    flags = system.MS_NOSUID | system.MS_NODEV | system.MS_NOEXEC
    try:
        system.mount("proc", path, "proc", flags, "subset=pid,hidepid=2")
    except OSError:
        os.mkdir(path + "/self", 0o755)
        os.symlink(program, path + "/self/exe")


def _show(place: str, path: str, read_only: bool = True) -> None:
    """Make a file or folder visible below `place`; one that does not exist is left out."""
    try:
        kind = os.lstat(path).st_mode
    except OSError:
        return
    target = place + path
    if os.path.lexists(target):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    real = os.path.realpath(path)
    if real != path:  # a link, or below one
        if os.path.exists(real):
            _show(place, real, read_only)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if not os.path.lexists(target):
                os.symlink(real, target)
        return
    if stat.S_ISDIR(kind):
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    system.mount(path, target, None, system.MS_BIND | system.MS_REC)
    if read_only:
        system.make_read_only(target)


def _outermost(paths: Iterable[str]) -> list[str]:
    """The paths that lie below no other of them."""
    kept: list[str] = []
    for path in sorted({os.path.normpath(path) for path in paths}):
        if not kept or not path.startswith(kept[-1].rstrip("/") + "/"):
            kept.append(path)
    return kept


def is_open_to_all(path: str) -> bool:
    """Whether every user may reach a file or folder; also if it does not exist."""
    if not path.startswith("/"):
        return True
    path = os.path.realpath(path)
    try:
        while path != "/":
            if not os.stat(path).st_mode & 0o001:
                return False
            path = os.path.dirname(path)
    except OSError:
        pass
    return True


def write_files(folder: str, files: dict[str, bytes], owner: int | None) -> None:
    """Put files into a new folder."""
    made = {folder}
    for name, data in files.items():
        path = os.path.join(folder, name)
        parent = os.path.dirname(path)
        if parent not in made:
            os.makedirs(parent, exist_ok=True)
            made.add(parent)
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o700)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
    if owner is not None:
        for parent, _, names in os.walk(folder):
            os.chown(parent, owner, owner)
            for name in names:
                os.chown(os.path.join(parent, name), owner, owner)


def read_file(folder: str, name: str, most: int) -> bytes | None:
    """A file that a work left; None if there is no plain file of that name, or a larger one.

    No link is followed, neither in the name nor in its folders.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    at = os.open(folder, flags | os.O_DIRECTORY)
    try:
        *parents, last = os.path.normpath(name).split("/")
        for parent in parents:
            inner = os.open(parent, flags | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = inner
        with os.fdopen(os.open(last, flags, dir_fd=at), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            data = file.read(most + 1)
            return data if len(data) <= most else None
    except OSError:
        return None
    finally:
        os.close(at)
