"""`trainer chat`: through a pipe and at a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Output, RunCli

TEMPLATE = "{% for m in messages %}{{ m.role + ':' + m.content + ';' }}{% endfor %}answer:"
IN_TERMINAL = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # Ctrl-C is for the terminal's own session
from trainer.cli.main import main
sys.exit(main())
"""
DEADLINE = 60.0  # seconds for torch to load on a busy machine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, token_data: Path, run_cli: RunCli) -> Path:
    """A base model of bytes that sees 256 of them."""
    runs = tmp_path_factory.mktemp("chat")
    sizes = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "max_seq_len": 256}
    flags = [part for k, v in sizes.items() for part in ("--set", f"model.{k}={v}")]
    output = run_cli(
        "train", "--name", "tiny", "--runs-dir", runs, "--data-path", token_data, *flags,
        "--max-steps", 4, "--batch-size", 2, "--seq-len", 32, "--device", "cpu",
    )  # fmt: skip
    assert output.code == 0, output.err
    [run] = runs.iterdir()
    return run / "checkpoints" / "step_4"


@pytest.fixture(scope="module")
def taught(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a chat template beside it."""
    folder = tmp_path_factory.mktemp("taught") / "model"
    shutil.copytree(model, folder)
    (folder / "manifest.json").unlink()
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def say(run_cli: RunCli, model: Path, text: str, *arguments: object) -> Output:
    flags = ["--max-new-tokens", 12, "--seed", 1, "--device", "cpu"]
    return run_cli("chat", "--model", model, *flags, *arguments, stdin=text.encode())


def test_a_line_in_an_answer_out(taught: Path, run_cli: RunCli, tmp_path: Path) -> None:
    place = tmp_path / "talk.json"
    output = say(run_cli, taught, f"one\n\ntwo\n//three\n/save {place}\n")
    assert output.code == 0, output.err
    said = json.loads(place.read_bytes())["messages"]
    assert [m["content"] for m in said if m["role"] == "user"] == ["one", "two", "/three"]
    answers = [m["content"] for m in said if m["role"] == "assistant"]
    assert all(answers)
    shown = "".join(a if a.endswith("\n") else a + "\n" for a in answers)
    assert output.out == re.sub("[\x00-\x08\x0b-\x1f\x7f]", "", shown)
    assert "6 messages saved" in output.err


def test_the_same_seed_says_the_same_and_turns_count(taught: Path, run_cli: RunCli) -> None:
    first = say(run_cli, taught, "one\n")
    assert first.out == say(run_cli, taught, "one\n").out
    with_system = say(run_cli, taught, "one\n", "--system", "Be brief.")
    assert with_system.code == 0
    typed = say(run_cli, taught, "/system Be brief.\none\n")
    assert typed.out == with_system.out
    again = say(run_cli, taught, "x\n/reset\none\n")
    assert again.out.endswith(first.out)


def test_a_full_context_is_told(taught: Path, run_cli: RunCli) -> None:
    output = say(run_cli, taught, ("word " * 12 + "\n") * 5)
    assert output.code == 0
    assert "oldest messages no longer fit and were dropped" in output.err


def test_no_command_reaches_the_terminal_from_the_model(taught: Path, run_cli: RunCli) -> None:
    output = say(run_cli, taught, "one\ntwo\n", "--max-new-tokens", 100, "--temperature", 3)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", output.out)


def test_a_base_model_completes_each_text(model: Path, run_cli: RunCli) -> None:
    one, two = say(run_cli, model, "def one\n"), say(run_cli, model, "x = 1\n")
    both = say(run_cli, model, "def one\nx = 1\n")
    assert both.out == one.out + two.out
    chat = say(run_cli, model, "hello\n", "--mode", "chat")
    assert chat.code == 0 and chat.out.strip()


def test_what_goes_wrong_is_told_and_the_chat_goes_on(model: Path, run_cli: RunCli) -> None:
    lines = ["/nope", "/temperature hot", "/temperature -1", "/seed x", "/save", "y" * 500, "x = "]
    output = say(run_cli, model, "\n".join(lines))
    assert output.code == 2
    told = output.err.splitlines()
    assert len(told) == 6
    assert told[0].startswith("There is no command /nope")
    assert "not a number from 0 to 100" in told[1] and "not a number from 0 to 100" in told[2]
    assert "not a 64-bit integer" in told[3] and "a file name" in told[4]
    assert told[5].startswith("The text has 500 tokens")
    assert output.out.strip()


def test_commands(model: Path, run_cli: RunCli, tmp_path: Path) -> None:
    there = tmp_path / "there.txt"
    there.write_text("mine")
    text = (
        f"/help\n/seed\n/seed 5\n/temperature 0\nx = \n/save {there}\n/save {there}2\n/quit\nmore"
    )
    output = say(run_cli, model, text)
    for command in ("/reset", "/system", "/temperature", "/seed", "/save", "/quit"):
        assert command in output.err
    assert "already exists; choose another name" in output.err and there.read_text() == "mine"
    assert Path(f"{there}2").read_text().startswith("User: x = \n\nAssistant: ")
    assert "/system" not in output.out
    assert "no system message" in say(run_cli, model, "/system Be brief.\n").err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--mode", "talk"], "--mode 'talk' is not one of auto, chat, complete"),
        (["--system", "x"], "give --mode chat as well"),
        (["--template", "no-such-file"], "--template no-such-file cannot be read"),
        (["--max-new-tokens", "0"], "--max-new-tokens is 0"),
        (["--top-p", "0"], "--top-p is 0.0"),
    ],
)
def test_wrong_use_is_a_sentence(
    model: Path, run_cli: RunCli, arguments: list[str], told: str
) -> None:
    output = say(run_cli, model, "", *arguments)
    assert output.code == 2
    assert told in output.err
    assert output.err.count("\n") == 1


def test_a_template_that_is_broken_is_told_before_the_first_line(
    model: Path, run_cli: RunCli, tmp_path: Path
) -> None:
    (tmp_path / "t.jinja").write_text("{% for %}")
    output = say(run_cli, model, "", "--template", tmp_path / "t.jinja")
    assert output.code == 2
    assert "chat template cannot be read" in output.err


# -- at a terminal -----------------------------------------------------------------------------


class Terminal:
    """A chat in a terminal of its own."""

    def __init__(self, *arguments: object) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_TERMINAL, "chat", *map(str, arguments)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, pattern: str) -> None:
        """Until `pattern` is to be seen; what was shown up to its end is forgotten."""
        deadline = time.monotonic() + DEADLINE
        while not (found := re.search(pattern, self.shown)):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} did not come: {self.shown!r}"
            if select.select([self._master], [], [], left)[0]:
                self.shown += os.read(self._master, 4096).decode("utf-8", "replace")
        self.shown = self.shown[found.end() :]

    def interrupt(self, pattern: str) -> None:
        """Ctrl-C until `pattern` is to be seen.

        Python's readline waits for a key without looking for a signal that came since its prompt,
        so that the first one may take effect with the second.
        """
        deadline = time.monotonic() + DEADLINE
        while not re.search(pattern, self.shown) and time.monotonic() < deadline:
            self.type("\x03")
            while select.select([self._master], [], [], 1.0)[0]:
                self.shown += os.read(self._master, 4096).decode("utf-8", "replace")
                if re.search(pattern, self.shown):
                    break
        self.wait_for(pattern)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(model: Path) -> Iterator[Terminal]:
    found = Terminal("--model", model, "--max-new-tokens", 100_000, "--device", "cpu")
    yield found
    found.close()


def test_ctrl_c_stops_the_answer_and_ctrl_d_ends_the_chat(terminal: Terminal) -> None:
    terminal.wait_for(r"continues\s+each")
    terminal.wait_for("> ")
    terminal.interrupt(r"\(Ctrl-D or /quit ends the chat\)")
    terminal.wait_for("> ")
    terminal.type("def one\n")
    terminal.wait_for(r"def one\r\n\s*\S")  # the answer has begun
    terminal.interrupt(r"\(stopped\)")
    terminal.wait_for("> ")
    terminal.type("\x04")
    assert terminal.process.wait(DEADLINE) == 0


def test_a_closed_terminal_ends_it(terminal: Terminal) -> None:
    terminal.wait_for("> ")
    os.kill(terminal.process.pid, signal.SIGHUP)
    assert terminal.process.wait(DEADLINE) != 0
