"""The README's commands, as written there."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_tour import SMALL

README = (Path(__file__).parents[1] / "README.md").read_text()
SCRIPTS = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def in_terminal(command: str, environment: dict[str, str], cwd: Path) -> str:
    """Run `command` in a pseudo-terminal, press `q` once it has drawn, return what it wrote."""
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvpe("bash", ["bash", "-c", f"stty cols 100 rows 30; {command}"], environment)
    output = b""
    deadline = time.monotonic() + 600
    pressed = False
    while time.monotonic() < deadline:
        if select.select([fd], [], [], 0.1)[0]:
            try:
                output += os.read(fd, 65536)
            except OSError:
                break
        if not pressed and b"running" in output:
            os.write(fd, b"q")
            pressed = True
    else:
        os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, output[-2000:]
    return output.decode("utf-8", "replace")


@pytest.mark.slow
def test_the_tour(tmp_path: Path) -> None:
    tour = next(block for block in blocks("bash") if "prepare-data" in block)
    for written, here in (
        ("$STDLIB/*.py", "$STDLIB/[ab]*.py"),
        ("--max-steps 20000 ", f"--max-steps 1000000000 --seq-len 64 {SMALL} "),  # until stopped
    ):
        assert written in tour
        tour = tour.replace(written, here)
    lines = tour.strip().splitlines()
    assert len(lines) == 10
    environment = {
        **os.environ,
        "PATH": f"{SCRIPTS}:{os.environ['PATH']}",
        "TERM": "xterm-256color",
    }
    assignment, *commands = lines
    said = []
    try:
        for command in commands:
            if command == "train-monitor":
                screen = in_terminal(command, environment, tmp_path)
                assert "\x1b[?1049l" in screen, "the terminal is given back"
                continue
            script = f"{assignment}\n{command}"
            done = subprocess.run(
                ["bash", "-euc", script],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            said.append(done.stdout)
    finally:
        subprocess.run(
            ["bash", "-c", "trainer stop tour"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            check=False,
        )
    prepared, started, status, saved, stopped, resumed, stopped_again, text = said
    assert "vocabulary 1024" in prepared
    assert "is running" in started
    assert re.search(r"tour_\S+ +running", status)
    assert "saved step_" in saved
    assert "stopping after step" in stopped
    assert "is running" in resumed
    assert "stopping after step" in stopped_again
    assert text.startswith("def ")
    _transformers_snippet(tmp_path)


def _transformers_snippet(folder: Path) -> None:
    """The Python block that loads the tour's checkpoint."""
    code = next(block for block in blocks("python") if "AutoModel" in block)
    run = next((folder / "runs").glob("tour_*"))
    code = code.replace("runs/tour/", f"{run}/")
    code += "\nids = tokenizer('def ', return_tensors='pt')\nprint(model(**ids).logits.shape[-1])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("1024")


def test_the_run_writer_snippet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = next(block for block in blocks("python") if "RunWriter" in block)
    exec(compile(code, "README.md", "exec"), {})
    from shared.run.finding import find_run
    from shared.run.metrics_log import MetricsReader

    run = find_run(tmp_path / "runs", "my-script")
    assert run.read_state().status == "completed"
    assert len(MetricsReader(run.metrics_path).read_all().series("loss")) == 100


def test_named_files_exist() -> None:
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (root / target).exists(), target
    makefile = (root / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
