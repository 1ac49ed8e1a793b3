"""docs/tour.md, line by line, in one shell on a terminal; only text and model are smaller."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOUR = (ROOT / "docs" / "tour.md").read_text()
SCRIPTS = Path(sys.executable).parent
#: A model that takes no time, in place of the preset's.
SMALL = " ".join(
    f"--set=model.{key}={value}"
    for key, value in {
        "num_layers": 1,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 2,
        "max_seq_len": 64,
    }.items()
)
MONITOR_ON, MONITOR_OFF = "\x1b[?1049h", "\x1b[?1049l"


def script(folder: Path) -> str:
    """All blocks in their order; those in Python as the shell's here-documents."""
    parts = []
    for language, code in re.findall(r"```(bash|python)\n(.*?)```", TOUR, re.DOTALL):
        parts.append(code if language == "bash" else f"python - <<'PYTHON'\n{code}PYTHON\n")
    text = "set -eu\n" + "echo; echo ----\n".join(parts)
    for written, here in (
        ("$PWD/.venv/bin", str(SCRIPTS)),
        ("mkdir -p tour && cd tour", f"mkdir -p {folder}/tour && cd {folder}/tour"),
        ("(cd .. &&", f"(cd {ROOT} &&"),
        ("$STDLIB/*.py", "$STDLIB/[ab]*.py"),
        ("--max-steps 1500 --threads 2", f"--max-steps 40 --seq-len 64 --threads 1 {SMALL}"),
        ("8080", str(free_port())),
        ("8090", str(free_port())),
    ):
        assert written in text, written
        text = text.replace(written, here)
    return text


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
def test_the_tour(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    environment = {
        **os.environ,
        "TERM": "xterm-256color",
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
    }
    environment.pop("HF_ENDPOINT", None)
    pid, terminal = pty.fork()
    if pid == 0:
        command = f"stty cols 100 rows 30; {script(tmp_path)}"
        os.execvpe("bash", ["bash", "-c", command], environment)
    said, pressed, deadline = "", False, time.monotonic() + 850
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                said += os.read(terminal, 1 << 16).decode("utf-8", "replace")
            except OSError:
                break
        if not pressed and MONITOR_ON in said and "overview" in said:
            os.write(terminal, b"q")
            pressed = True
    else:
        os.killpg(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code == 0, said[-4000:]
    plain = said.replace("\r\n", "\n")
    for words in (
        "vocabulary 2048",
        "is running",
        MONITOR_OFF,
        "perplexity",
        "llama.cpp: ",
        "served: ",
        "Address already in use; choose another with --port.\nexit code 1\n",
        "nowhere.txt does not exist",
        "tour.gguf already exists; --force replaces it.\nexit code 2\n",
        "There is no run 'tuor' in runs (did you mean tour?)",
        "You are not logged in to the Hub",
        "/ada/tour (private",
        "transformers: def ",
    ):
        assert words in plain, f"{words!r} was not said:\n{plain[-6000:]}"
    assert not (tmp_path / "tour").exists()
