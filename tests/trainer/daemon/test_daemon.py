"""The daemon as a process, with real trainers: started, killed, replaced."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.checkpoints.manifest import file_sha256
from shared.control.daemons import DaemonDirectory, is_watching, watching
from shared.run.directory import RunDirectory, discover_runs
from tests.trainer.daemon.conftest import ask, events_of, state_of
from tests.waiting import until
from trainer.daemon.service import service_unit

TINY = (
    "--dataset", "synthetic",
    "--seq-len", "8",
    "--batch-size", "2",
    "--device", "cpu",
    "--threads", "1",
    "--deterministic",
    "--log-interval", "100",
    "--eval-interval", "1000",
    "--checkpoint-interval", "100",
    "--set", "model.vocab_size=11",
    "--set", "model.hidden_size=8",
    "--set", "model.num_layers=1",
    "--set", "model.num_heads=2",
    "--set", "model.max_seq_len=16",
    "--set", "eval.sample_interval=0",
    "--set", "optim.schedule=constant",
)  # fmt: skip


class Site:
    """A runs directory and the daemons started for it."""

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir
        self.directory = DaemonDirectory.of(runs_dir)
        self.daemons: list[subprocess.Popen[str]] = []

    def trainer(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "trainer", *map(str, arguments)]

    def start(self, *options: object) -> subprocess.Popen[str]:
        """A daemon in the foreground, once it is at work."""
        process = subprocess.Popen(
            self.trainer("daemon", "--runs-dir", self.runs_dir, *options),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.daemons.append(process)
        while_alive(lambda: any(v.pid == process.pid for v in watching(self.runs_dir)), process)
        return process

    def runs(self) -> list[RunDirectory]:
        return discover_runs(self.runs_dir)


def while_alive(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """Wait until `condition` holds; fail when `process` ends before."""

    def held() -> Any:
        assert process.poll() is None, process.communicate()
        return condition()

    return until(held)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("TRAINER_ALERTS", "")  # nobody's own settings
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    made = Site(runs_dir)
    yield made
    for process in made.daemons:
        process.kill()
        process.communicate()
    for run in made.runs():
        state = state_of(run)
        if state.pid and state.pid != os.getpid() and Path(f"/proc/{state.pid}").exists():
            command = Path(f"/proc/{state.pid}/cmdline").read_bytes()
            if str(run.path).encode() in command:
                os.kill(state.pid, signal.SIGKILL)


def weights(run: RunDirectory, checkpoint: str) -> tuple[str, str]:
    folder = run.checkpoints / checkpoint
    return tuple(file_sha256(folder / f"{n}.safetensors") for n in ("model", "optimizer"))  # type: ignore[return-value]


def test_a_run_survives_its_workers_and_its_daemons_death(
    site: Site, run_cli, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    """Queued; the worker is killed, then the daemon; the last bytes are those of a quiet run."""
    endless = (*TINY, "--max-steps", 10**9)  # it cannot end before it is killed
    queued = run_cli("train", *endless, "--name", "q", "--runs-dir", site.runs_dir, "--queue")
    assert queued.code == 0, queued.err
    assert "no daemon watches" in queued.out
    [run] = site.runs()
    assert state_of(run).status == "queued"
    daemon = site.start()
    while_alive(lambda: state_of(run).latest_checkpoint, daemon)
    assert while_alive(ask(run, "pause"), daemon)["ok"]
    first = state_of(run)
    os.kill(first.pid, signal.SIGKILL)
    # Paused it was, and paused it is again: nobody has said that it may go on.
    while_alive(lambda: state_of(run).attempt == 2 and state_of(run).status == "paused", daemon)
    second = state_of(run)
    assert second.pid != first.pid
    [crashed] = events_of(run, "crashed")
    assert re.fullmatch(r"killed by SIGKILL at step \d+", crashed["message"])

    daemon.kill()
    daemon.wait()
    assert not watching(site.runs_dir)
    assert "no daemon" in run_cli("status", "--runs-dir", site.runs_dir).out
    daemon = site.start()
    while_alive(lambda: run.run_id in watching(site.runs_dir)[0].runs, daemon)
    assert state_of(run).pid == second.pid, "the worker outlived its daemon"
    stood_at = state_of(run).current_step
    assert while_alive(ask(run, "resume"), daemon)["ok"]
    while_alive(lambda: state_of(run).current_step > stood_at, daemon)
    assert while_alive(ask(run, "stop"), daemon)["ok"]
    while_alive(lambda: state_of(run).status == "cancelled", daemon)
    while_alive(lambda: not watching(site.runs_dir)[0].runs, daemon)
    assert state_of(run).attempt == 2
    steps = state_of(run).current_step
    quiet = ("--name", "q", "--runs-dir", tmp_path / "quiet", "--max-steps", steps)
    assert run_cli("train", *TINY, *quiet).code == 0
    [reference] = discover_runs(tmp_path / "quiet")
    assert weights(run, f"step_{steps}") == weights(reference, "final")


def test_a_second_daemon_is_refused_and_the_first_stopped(site: Site, run_cli) -> None:  # type: ignore[no-untyped-def]
    first = site.start("--max-runs", 3)
    for more in ([], ["--detach"]):
        second = run_cli("daemon", "--runs-dir", site.runs_dir, *more)
        assert second.code == 2
        who = f"process {first.pid} on {os.uname().nodename}, since 20"
        assert f"A daemon watches {site.runs_dir} already: {who}" in second.err
    told = run_cli("daemon", "--runs-dir", site.runs_dir, "status")
    assert told.code == 0
    assert f"process {first.pid}" in told.out
    assert "at most 3 runs" in told.out
    [value] = json.loads(run_cli("daemon", "status", "--runs-dir", site.runs_dir, "--json").out)
    assert (value["alive"], value["pid"]) == (True, first.pid)
    assert run_cli("daemon", "stop", "--runs-dir", site.runs_dir).code == 0
    assert first.wait(timeout=240) == 0
    again = run_cli("daemon", "stop", "--runs-dir", site.runs_dir)
    assert again.code == 2
    assert "No daemon of this host" in again.err
    assert run_cli("daemon", "status", "--runs-dir", site.runs_dir).code == 1


def test_one_in_the_background_is_stopped_by_a_signal(site: Site, run_cli) -> None:  # type: ignore[no-untyped-def]
    output = run_cli("daemon", "--runs-dir", site.runs_dir, "--detach")
    assert output.code == 0, output.err
    pid = int(re.search(r"process (\d+)", output.out).group(1))  # type: ignore[union-attr]
    try:
        assert is_watching(site.directory)
        assert os.getsid(pid) == pid, "a session of its own"
        [line] = site.directory.log_path.read_text().splitlines()
        assert f"watching {site.runs_dir}" in line
    finally:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not is_watching(site.directory))
    assert "ending on SIGTERM" in site.directory.log_path.read_text()
    value = json.loads(site.directory.state_path.read_text())
    assert value["ended_at"] is not None


def test_a_sweep_survives_its_daemons_death_and_failed_runs_are_queued_again(
    site: Site, run_cli
) -> None:  # type: ignore[no-untyped-def]
    place = ("--runs-dir", site.runs_dir)
    rates = ("--set", "optim.learning_rate=1e-3,1e-2")
    steps = ("--max-steps", 30, "--eval-interval", 30)
    queued = run_cli(
        "sweep", *TINY, *steps, *rates, "--group", "rates", "--max-parallel", 1, *place
    )
    assert queued.code == 0, queued.err
    first, last = sorted(site.runs(), key=lambda run: state_of(run).started_at or 0.0)
    whole = last.config_path.read_text()
    last.config_path.write_text("spoilt: [")
    daemon = site.start("--max-runs", 3)
    while_alive(lambda: state_of(first).attempt == 1, daemon)
    assert len(watching(site.runs_dir)[0].runs) == 1, "the group's limit"
    daemon.kill()
    daemon.wait()
    daemon = site.start("--max-runs", 3)
    while_alive(lambda: state_of(last).status == "failed", daemon)
    while_alive(lambda: not watching(site.runs_dir)[0].runs, daemon)

    def results() -> Any:
        return json.loads(run_cli("sweep", "status", "rates", *place, "--json").out)

    found = results()
    assert [len(setting["runs"]) for setting in found["settings"]] == [1, 1]
    statuses = {r["status"]: r["note"] for s in found["settings"] for r in s["runs"]}
    assert set(statuses) == {"completed", "failed"}
    assert "is not valid YAML" in statuses["failed"]
    assert "config.yaml" in run_cli("sweep", "retry", "rates", *place).err, "still spoilt"
    last.config_path.write_text(whole)
    again = run_cli("sweep", "retry", "rates", *place)
    assert (again.code, f"{last.run_id} is queued" in again.out) == (0, True), again
    while_alive(lambda: state_of(last).status == "completed", daemon)
    found = results()
    means = [setting["mean"] for setting in found["settings"]]
    assert found["metric"] == "val_loss"
    assert means == sorted(means)
    assert [setting["best"] for setting in found["settings"]] == [True, False]
    assert "no run of rates has failed" in run_cli("sweep", "retry", "rates", *place).out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max-runs", "0"], "--max-runs"),
        (["--per-gpu", "-1"], "--per-gpu"),
        (["--max-restarts", "x"], "--max-restarts"),
        (["--detach", "--max-runs", "0"], "--max-runs"),
        (["explode"], "explode"),
    ],
)
def test_wrong_use(site: Site, run_cli, options: list[str], words: str) -> None:  # type: ignore[no-untyped-def]
    output = run_cli("daemon", "--runs-dir", site.runs_dir, *options)
    assert output.code == 2
    assert words in output.err
    assert not site.directory.path.exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path, run_cli) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "file").touch()
    for more in ([], ["--detach"]):
        output = run_cli("daemon", "--runs-dir", tmp_path / "file", *more)
        assert output.code == 2
        assert "Not a directory" in output.err
        assert output.err.count("\n") == 1
    assert run_cli("daemon", "status", "--runs-dir", tmp_path / "none").code == 2


def test_the_unit_is_one_that_systemd_understands(tmp_path: Path) -> None:
    place = tmp_path / "50% of $HOME" / 'a "b"'
    text = service_unit([sys.executable, "-m", "trainer", "daemon", str(place)], place)
    assert "KillMode=process" in text
    assert "OOMPolicy=continue" in text
    assert "systemctl --user enable" in text
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("there is no systemd-analyze")
    (tmp_path / "run").mkdir()
    unit = tmp_path / "trainer-daemon.service"
    unit.write_text(text)
    done = subprocess.run(
        [verify, "verify", "--user", str(unit)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "run")},
        capture_output=True,
        text=True,
        check=False,
    )
    if "Failed to initialize manager" in done.stderr:
        pytest.skip("systemd-analyze does not work here")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_daemon_loads_nothing_heavy() -> None:
    code = (
        "import sys, trainer.daemon.daemon, trainer.cli.fleet.daemon, trainer.launch.queued\n"
        "print([m for m in ('torch', 'tokenizers', 'safetensors') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_happens_is_told_by_the_daemon(site: Site, run_cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A queued run whose data is gone by the time it is started fails, and somebody hears of it."""
    heard = tmp_path / "heard"
    settings = tmp_path / "alerts.yaml"
    settings.write_text(f"command: {{run: 'cat >> {heard}', shell: true}}\n")
    wrong = run_cli("daemon", "--runs-dir", site.runs_dir, "--alerts", tmp_path / "none.yaml")
    assert wrong.code == 2
    assert "none.yaml" in wrong.err
    flags = (*TINY, "--max-steps", 9, "--name", "q", "--runs-dir", site.runs_dir, "--queue")
    assert run_cli("train", *flags).code == 0
    [run] = site.runs()
    text = run.config_path.read_text()
    run.config_path.write_text(
        text.replace("  path: null", "  path: /nowhere").replace("synthetic", "tokens")
    )
    daemon = site.start("--alerts", settings)
    while_alive(lambda: state_of(run).status == "failed", daemon)
    assert watching(site.runs_dir)[0].alerts
    while_alive(lambda: heard.exists() and run.run_id in heard.read_text(), daemon)
    assert '"failed"' in heard.read_text()
    assert "/nowhere" in heard.read_text()
