"""The same against a real sshd on loopback, where there is one."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shared.remote.address import parse_address
from shared.remote.watching import remote_runs
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from tests.waiting import until

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
SSH = shutil.which("ssh")


@pytest.fixture
def port(tmp_path, monkeypatch):
    """The port of a running sshd that lets us in; `ssh` on the path knows its key."""
    keygen = shutil.which("ssh-keygen")
    if SSHD is None or SSH is None or keygen is None:
        pytest.skip("sshd is not installed (package openssh-server)")
    for name in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        number: int = free.getsockname()[1]
    (tmp_path / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{number}\nHostKey {tmp_path}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {tmp_path}/user.pub\nStrictModes no\nPermitRootLogin yes\n"
    )
    key = (tmp_path / "host.pub").read_text()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{number} {key}")
    (tmp_path / "ssh_config").write_text(
        f"IdentityFile {tmp_path}/user\nIdentitiesOnly yes\nUserKnownHostsFile {tmp_path}/known\n"
        "StrictHostKeyChecking yes\n"
    )
    wrapper = tmp_path / "bin" / "ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {SSH} -F {tmp_path}/ssh_config "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    command = [SSHD, "-D", "-e", "-f", str(tmp_path / "sshd_config")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as daemon:
        try:
            until(lambda: daemon.poll() is not None or _answers(number))
            if daemon.poll() is not None:
                assert daemon.stderr is not None
                pytest.skip(f"sshd does not start here: {daemon.stderr.read().decode()[:200]}")
            yield number
        finally:
            daemon.terminate()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="sshd is configured for Linux")
def test_a_run_is_followed_through_a_real_sshd(tmp_path: Path, port: int) -> None:
    with RunWriter(tmp_path / "it's runs", name="live", max_steps=10) as writer:
        writer.log(1, loss=2.0)
        where = f"ssh://127.0.0.1:{port}{writer.run.path.parent}".replace(" ", "%20")
        with remote_runs([parse_address(where)]) as elsewhere:
            elsewhere.start()
            copy = RunDirectory(elsewhere.folder / writer.run.run_id).metrics_path
            writer.log(2, loss=1.0)
            same = lambda: copy.read_bytes() == writer.run.metrics_path.read_bytes()  # noqa: E731
            until(same)
            elsewhere.hosts[0].break_link()
            writer.log(3, loss=1.0)
            until(same)
