"""What a program in the sandbox tries and does not get, with all layers and with some of them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.sandbox import TIGHT, attack, got, needs, python, shell
from trainer.sandbox.interface import Limits
from trainer.sandbox.interpreter import python_readable
from trainer.sandbox.sandbox import Sandbox


def test_files_outside_are_neither_read_nor_listed(sandbox: Sandbox, secret: Path):
    home = [
        path
        for path in Path.home().iterdir()
        if not any(shown.is_relative_to(path) for shown in python_readable())
    ]
    code = """
        for path in sys.argv[1:]:
            attempt(f"read {path}", lambda: open(path).read())
            attempt(f"list {path}", lambda: os.listdir(path))
    """
    paths = (secret, secret.parent, "/etc/passwd", "/etc/shadow", "/etc/hostname", *home[:20])
    assert got(sandbox.run(attack(code, *paths))) == []


def test_nothing_is_written_outside(sandbox: Sandbox, secret: Path):
    code = """
        folder = sys.argv[1]
        secret = f"{folder}/secret"
        attempt("write", lambda: os.open(secret, os.O_WRONLY))
        attempt("truncate", lambda: os.open(secret, os.O_WRONLY | os.O_TRUNC))
        attempt("truncate", lambda: os.truncate(secret, 0))
        attempt("create", lambda: os.open(f"{folder}/new", os.O_RDWR | os.O_CREAT))
        attempt("remove", lambda: os.remove(secret))
        attempt("make", lambda: os.mkdir(f"{folder}/made"))
        attempt("move out", lambda: os.rename(secret, "stolen"))
        attempt("move in", lambda: os.rename("mine", secret))
        attempt("link", lambda: os.link(secret, "linked"))
        attempt("link", lambda: os.symlink("/", f"{folder}/link"))
        for place in ("/usr", "/usr/bin", "/lib", "/dev/shm", "/dev", "/var/tmp"):
            attempt(place, lambda: os.mkdir(f"{place}/made"))
        attempt("disk", lambda: os.mknod("disk", 0o60600, os.makedev(254, 0)))
        attempt("memory", lambda: os.open("/dev/mem", os.O_RDWR))
    """
    assert got(sandbox.run(attack(code, secret.parent, files={"mine": b"mine"}))) == []
    assert secret.read_text() == "password"
    assert [path.name for path in secret.parent.iterdir()] == ["secret"]


def test_rights_of_files_outside_stay(whole: Sandbox, secret: Path):
    needs(whole, "mount namespace")  # Landlock does not know chmod
    code = """
        attempt("chmod", lambda: os.chmod(sys.argv[1], 0))
        attempt("chown", lambda: os.chown(sys.argv[1], os.getuid(), os.getgid()))
        attempt("utime", lambda: os.utime(sys.argv[1]))
        attempt("look", lambda: os.stat(sys.argv[1]))
    """
    assert got(whole.run(attack(code, secret))) == []


def test_links_and_pipes_are_not_outputs(sandbox: Sandbox, secret: Path):
    script = f"ln -s {secret} link; ln -s {secret.parent} folder; mkfifo pipe; mkdir real; cat link"
    names = ("link", "folder/secret", "pipe", "real", "real/missing")
    outcome = sandbox.run(shell(script, outputs=names))
    assert outcome.failure is None
    assert (outcome.stdout, outcome.files) == (b"", {})


def test_no_environment_is_seen(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    code = """
        names = set(os.environ) - {"PATH", "HOME", "TMPDIR", "LANG", "LC_CTYPE"}
        print(*names, end="")
        for pid in ("self", 1, os.getppid(), *sys.argv[1:]):
            for name in ("environ", "mem", "maps", "cmdline", "cwd/x", "root/etc/passwd"):
                attempt(f"{pid} {name}", lambda: open(f"/proc/{pid}/{name}").read(1))
    """
    needs(sandbox, *(["landlock"] if "landlock" in sandbox.layers.active else ["pid namespace"]))
    found = got(sandbox.run(attack(code, os.getpid(), sandbox.launcher_pid)))
    if "landlock" in sandbox.layers.active:
        assert found == []
    else:  # it may look at itself, in a /proc of its own
        assert all(line.startswith("self ") for line in found)


@pytest.mark.parametrize(("family", "address"), [("AF_INET", "127.0.0.1"), ("AF_INET6", "::1")])
def test_loopback_is_out_of_reach(sandbox: Sandbox, family: str, address: str):
    with socket.socket(getattr(socket, family)) as listening:
        try:
            listening.bind((address, 0))
        except OSError:
            pytest.skip(f"no {address} here")
        listening.listen()
        if "network namespace" not in sandbox.layers.active:
            version = sandbox.layers.versions.get("landlock", 0)
            if version < 4:
                pytest.skip(f"Landlock {version} does not know TCP")
        code = """
            family, address, port = sys.argv[1:]
            there = (address, int(port))
            attempt("connect", lambda: socket.socket(getattr(socket, family)).connect(there))
        """
        port = listening.getsockname()[1]
        assert got(sandbox.run(attack(code, family, address, port))) == []


def test_no_datagram_leaves(whole: Sandbox, namespaces: Sandbox):
    code = """
        there = ("127.0.0.1", int(sys.argv[1]))
        attempt("send", lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", there))
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind(("127.0.0.1", 0))
        for sandbox in (whole, namespaces):
            needs(sandbox, "network namespace")
            assert got(sandbox.run(attack(code, listening.getsockname()[1]))) == []


def test_no_socket_reaches_the_host(whole: Sandbox):
    needs(whole, "seccomp")
    code = """
        for name in ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_VSOCK", "AF_ALG"):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
                attempt(name, lambda: socket.socket(getattr(socket, name), kind).fileno())
        left, right = socket.socketpair()
        left.send(b"a pair is fine")
    """
    assert got(whole.run(attack(code))) == []


def test_abstract_unix_sockets_are_out_of_reach(sandbox: Sandbox):
    if "network namespace" not in sandbox.layers.active:
        version = sandbox.layers.versions.get("landlock", 0)
        if version < 6:
            pytest.skip(f"Landlock {version} does not know abstract sockets")
    name = f"train-monitor-{os.getpid()}"
    code = """
        attempt("connect", lambda: socket.socket(socket.AF_UNIX).connect("\\0" + sys.argv[1]))
    """
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("\0" + name)
        listening.listen()
        assert got(sandbox.run(attack(code, name))) == []


def test_unix_sockets_with_a_path_are_out_of_reach(
    whole: Sandbox, namespaces: Sandbox, secret: Path
):
    code = """
        attempt("connect", lambda: socket.socket(socket.AF_UNIX).connect(sys.argv[1]))
    """
    path = secret.parent / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o777)
        listening.listen()
        for sandbox in (whole, namespaces):
            needs(sandbox, "mount namespace")
            assert got(sandbox.run(attack(code, path))) == []


def test_only_the_standard_descriptors_are_open(sandbox: Sandbox):
    code = """
        for fd in range(64):
            attempt("open", lambda: fd if os.fstat(fd) else -1)
    """
    assert got(sandbox.run(attack(code))) == ["open 0", "open 1", "open 2"]


def test_a_program_cannot_read_or_rewrite_what_it_said(sandbox: Sandbox):
    code = """
        print("a mark", flush=True)
        attempt("read", lambda: os.pread(1, 10, 0))
        attempt("open", lambda: os.open("/proc/self/fd/1", os.O_RDWR))
        os.lseek(1, 0, 0)
        os.pwrite(1, b"A MARK\\n", 0)
    """
    outcome = sandbox.run(attack(code))
    assert outcome.stdout.startswith(b"a mark\n")
    assert got(outcome) == ["a mark", "A MARK"] or "landlock" not in sandbox.layers.active


def test_signals_reach_nobody_outside(sandbox: Sandbox):
    if "pid namespace" not in sandbox.layers.active:
        version = sandbox.layers.versions.get("landlock", 0)
        if version < 6:
            pytest.skip(f"Landlock {version} does not know signals")
    code = """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for pid in (os.getppid(), *map(int, sys.argv[1:])):
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGSTOP, signal.SIGKILL):
                attempt(f"kill {pid}", lambda: os.kill(pid, number))
    """
    launcher = sandbox.launcher_pid
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as bystander:
        found = got(sandbox.run(attack(code, bystander.pid, launcher)))
        assert bystander.poll() is None
    # The first process of a pid namespace may be sent signals; it has no ears for them.
    assert found == [] or "pid namespace" in sandbox.layers.active
    assert sandbox.run(shell("exit 7")).exit_code == 7
    assert sandbox.launcher_pid == launcher


def test_nobody_outside_is_traced(sandbox: Sandbox):
    code = """
        own = ctypes.create_string_buffer(8)
        vector = (ctypes.c_void_p * 2)(ctypes.addressof(own), 8)
        for pid in (os.getppid(), *map(int, sys.argv[1:])):
            attempt(f"trace {pid}", lambda: libc.ptrace(16, pid, 0, 0))
            attempt(f"read {pid}", lambda: libc.process_vm_readv(pid, vector, 1, vector, 1, 0))
            attempt(f"write {pid}", lambda: libc.process_vm_writev(pid, vector, 1, vector, 1, 0))
    """
    assert got(sandbox.run(attack(code, os.getpid(), sandbox.launcher_pid))) == []


def test_no_privilege_is_left(sandbox: Sandbox):
    code = """
        attempt("mount", lambda: libc.mount(b"x", b"/tmp", b"tmpfs", 0, None))
        attempt("mount", lambda: libc.umount2(b"/usr", 2))
        attempt("chroot", lambda: libc.chroot(b"."))
        attempt("name", lambda: libc.sethostname(b"x", 1))
        attempt("nice", lambda: os.nice(-5))
        attempt("limits", lambda: __import__("resource").setrlimit(7, (4096, 4096)))
        attempt("give away", lambda: os.chown(".", 12345, 12345))
        attempt("io", lambda: libc.iopl(3))
    """
    assert got(sandbox.run(attack(code))) == []


def test_doors_into_the_kernel_are_shut(whole: Sandbox):
    needs(whole, "seccomp")
    code = """
        names = ("userfaultfd", "io_uring", "bpf", "perf_event_open", "keyctl", "memfd_create")
        numbers = (323, 425, 321, 298, 250, 319)
        if os.uname().machine == "aarch64":
            numbers = (282, 425, 280, 241, 219, 279)
        for name, number in zip(names, numbers):
            attempt(name, lambda: libc.syscall(number, 0, 0, 0, 0, 0, 0))
        for flag in (0x20000, 0x10000000, 0x40000000):
            attempt("unshare", lambda: libc.unshare(flag))
            attempt("clone", lambda: libc.syscall(56, flag | 17, 0, 0, 0, 0))
        attempt("shared memory", lambda: libc.shmget(0, 1 << 20, 0o1600))
    """
    assert got(whole.run(attack(code))) == []


def test_a_fork_bomb_is_limited_and_leaves_nobody(sandbox: Sandbox):
    script = "for n in $(seq 200); do sleep 100 & echo $n; done"
    outcome = sandbox.run(shell(script, limits=Limits(processes=8)))
    if "user namespace" in sandbox.layers.active or "own user" in sandbox.layers.active:
        assert len(outcome.stdout.split()) < 8
    else:  # the user's other processes count, too, and change
        assert len(outcome.stdout.split()) < 200
    assert _children(sandbox) == []


def test_a_fork_bomb_that_goes_on_ends_with_its_time(sandbox: Sandbox):
    limits = Limits(wall_seconds=0.3, processes=8)
    outcome = sandbox.run(shell("b() { b | b & b; }; b", limits=limits))
    assert outcome.failure is None
    assert _children(sandbox) == []


@pytest.mark.parametrize("way", ["setsid", "double fork", "stopped"])
def test_nobody_outlives_the_time_limit(sandbox: Sandbox, way: str):
    code = """
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            attempt("", lambda: signal.signal(number, signal.SIG_IGN) and -1 or -1)
        if os.fork() == 0:
            os.setsid()
            if sys.argv[1] == "double fork" and os.fork():
                os._exit(0)
            if sys.argv[1] == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(100)
        print("begun", flush=True)
        time.sleep(100)
    """
    outcome = sandbox.run(attack(code, way, limits=Limits(wall_seconds=0.3, processes=8)))
    assert outcome.timed_out
    assert _children(sandbox) == []


def test_nobody_outlives_the_program(sandbox: Sandbox):
    outcome = sandbox.run(shell("setsid sleep 100 & (setsid setsid sleep 100 &) ; exit 5"))
    assert outcome.exit_code == 5
    assert _children(sandbox) == []


def test_output_without_end_is_cut(sandbox: Sandbox):
    outcome = sandbox.run(shell("exec yes >&2"))
    assert outcome.signal == signal.SIGXFSZ
    assert len(outcome.stderr) == TIGHT.file_bytes


def test_cpu_time_ends(whole: Sandbox):
    outcome = whole.run(python("while True: pass", limits=Limits(cpu_seconds=1, wall_seconds=60)))
    assert outcome.timed_out
    assert outcome.signal == signal.SIGXCPU


def test_memory_ends(sandbox: Sandbox):
    assert got(sandbox.run(attack("attempt('memory', lambda: len(bytearray(1 << 30)))"))) == []


def test_memory_of_all_processes_ends(sandbox: Sandbox):
    code = """
        for _ in range(4):
            if os.fork() == 0:
                held = b"x" * (100 << 20)
                time.sleep(100)
        time.sleep(100)
    """
    limits = Limits(memory_bytes=300 << 20, wall_seconds=60, processes=8)
    assert sandbox.run(attack(code, limits=limits)).exceeded == "memory"


def test_a_full_folder_is_an_error_of_the_program(whole: Sandbox):
    needs(whole, "mount namespace")
    script = "for n in 1 2 3 4 5 6 7 8; do head -c 900000 /dev/zero > $n || exit 9; done"
    limits = Limits(folder_bytes=4 << 20, file_bytes=1 << 20)
    assert whole.run(shell(script, limits=limits)).exit_code == 9


def test_no_core_is_left(sandbox: Sandbox):
    outcome = sandbox.run(shell("kill -SEGV $$", outputs=("core", f"core.{os.getpid()}")))
    assert outcome.signal == signal.SIGSEGV
    assert outcome.files == {}


def test_deep_trees_and_closed_folders_are_removed(bare: Sandbox):
    needs(bare, "landlock")
    code = """
        os.mkdir("closed")
        open("closed/file", "w")
        os.chmod("closed", 0)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        os.chmod(".", 0)
    """
    assert got(bare.run(attack(code))) == []
    assert [str(path) for path in bare.workplace.iterdir()] == []


def _children(sandbox: Sandbox) -> list[int]:
    """The processes that the sandbox's launcher has started or adopted."""
    pid = sandbox.launcher_pid
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("this kernel does not list children")
    return [int(child) for child in path.read_text().split()]
