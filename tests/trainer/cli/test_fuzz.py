"""Every option of every command with odd values: a sentence and an exit code, never a traceback.

The options come from the application itself, so a new one is covered as soon as it exists.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from shared.run.directory import RunDirectory
from shared.run.state import StateFile
from tests.faults.counts import SOAK
from trainer.cli.main import app

SEED = 20
SAMPLE = 400  # cases in `make test`; all of them in `make soak`
ALLOWED = {0, 1, 2, 75}
#: What would start a process, a server, a daemon or a training.
NOT_GIVEN = {"--detach", "--queue", "--watch", "--help", "--follow"}
#: `--prompt-file <(command)` is a pipe: a named one without a writer is waited for.
READS_PIPES = {"--prompt-file", "--prompts"}
#: `-` writes an image to the standard output, which is read as text here.
WRITES_IMAGES = {"--png"}

VALUES = [
    "", " ", "-", "--", "nan", "inf", "-inf", "-1", "0", "1", "1.5", "1e999", "5e21", "1_000",
    "500000000", "99999999999999999999", "9" * 5000, "-9223372036854775809", "0x10", "None", "true",
    "$UNSET", "${UNSET}", "~", "~nobody-of-this-name/x", "/", ".", "..", "/dev/null", "/dev/full",
    "no/such/file", "text.txt", "text.txt/below", "folder", "fifo", "loop", "run", "run:99",
    "latest", "latest:1", "\udcff\udcfe", "bad-\udcff.txt", "x" * 300, "x" * 5000, "a/" * 3000,
    "[", "{", "*", "**", "[a-", "é😀\u202e", "\x1b[31mred", "line\nline", "a=b", "=", "train.seed=",
    "model=1", "model.parts={a: 1}", "cuda:99", "http://[", "%s%n", "'", '"', "\\",
]  # fmt: skip

SMALL = [
    "--dry-run", "--dataset", "synthetic", "--seq-len", "8", "--batch-size", "2",
    "--set", "model.vocab_size=11", "--set", "model.hidden_size=8", "--set", "model.num_layers=1",
    "--set", "model.num_heads=2", "--set", "model.max_seq_len=16",
]  # fmt: skip

#: What a command needs besides the option under test, so that it gets as far as it can without
#: training, serving or sending anything.
BASES: dict[str, list[list[str]]] = {
    "train": [["--dry-run", "--data-path", "nothing"], SMALL],
    "rl": [
        ["--dry-run", "--checkpoint", "run", "--prompts", "tasks.jsonl"],
        ["--probe", "--checkpoint", "run", "--prompts", "tasks.jsonl"],
    ],
    "sweep": [[*SMALL, "--config", "tiny-cpu", "--set", "optim.learning_rate=1e-3,2e-3"]],
    "profile": [["--config", "tiny-cpu", "--data-path", "nothing"]],
    "grow": [["run", "--to", "num_layers=2", "--dry-run"]],
    "pipeline": [["--dry-run"], ["--config", "pipeline.yaml", "--dry-run"]],
    "tasks make": [["--output", "made.jsonl", "--count", "3"]],
    "tasks check": [["tasks.jsonl"], ["tasks.jsonl", "--against", "text.txt"]],
    "runs import": [["metrics.csv"], ["metrics.csv", "--name", "imported"]],
    "runs export": [["run"], ["run", "--csv", "figures.csv"], ["run", "--svg", "figures.svg"]],
    "resume": [["nothing"], ["run", "--max-steps", "0"]],
    "demo": [["--max-steps", "0"]],
    "prepare-data": [["--text", "nothing"], ["--text", "text.txt", "--output", "out"]],
    "tokenizer train": [
        ["--files", "nothing", "--output-dir", "out"],
        ["--files", "text.txt", "--output-dir", "out"],
    ],
    "upload": [["nothing", "--dry-run"], ["run", "--dry-run"]],
    "alerts test": [["--alerts", "nothing"]],
    "daemon": [["status"]],
}  # fmt: skip


class Case(NamedTuple):
    """A command line."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return ascii(" ".join(word[:40] for word in self.words))


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that call it."""
    commands = getattr(command, "commands", None)
    if commands is None or (path and command.invoke_without_command):
        yield path, command
    for name, inner in (commands or {}).items():
        yield from leaves(inner, (*path, name))


def cases() -> list[Case]:
    """Every option and argument with every value, on every base of its command."""
    found = []
    for path, command in leaves(typer.main.get_command(app)):
        name = " ".join(path)
        for base in BASES.get(name, [[], ["nothing"], ["run"]]):
            for parameter in command.params:
                option = max(parameter.opts, key=len) if parameter.opts else ""
                if option in NOT_GIVEN:
                    continue
                values = [v for v in VALUES if v != "fifo" or option not in READS_PIPES]
                values = [v for v in values if v != "-" or option not in WRITES_IMAGES]
                if name == "daemon":  # its options stand before the subcommand
                    found += [Case((*path, option, value, *base)) for value in values]
                elif getattr(parameter, "is_flag", False):
                    found.append(Case((*path, *base, option)))
                elif option.startswith("-"):
                    rest = without(base, option)
                    found += [
                        Case((*path, *rest, option, value))
                        for value in values
                        if not (name == "demo" and option == "--max-steps" and trains(value))
                    ]
                else:
                    found += [Case((*path, *base, "--", value)) for value in values]
                    found += [Case((*path, value)) for value in values if name not in BASES]
    return found


def trains(value: str) -> bool:
    """Whether the demo would take `value` for a number of steps, and begin."""
    try:
        return int(value) > 0
    except ValueError:
        return False


def without(base: list[str], option: str) -> list[str]:
    """The base without its own value for the option, unless it may be repeated."""
    if option not in base or option in ("--set", "--max-steps"):
        return base
    at = base.index(option)
    return base[:at] + base[at + 2 :]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with odd files and a run whose checkpoint is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers
    monkeypatch.setenv("HF_TOKEN", "hf_none")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "text.txt").write_text("a text of words, again and again\n" * 100)
    (tmp_path / "folder").mkdir()
    (tmp_path / "metrics.csv").write_text("step,loss\n1,2.5\n2,2.25\n")
    (tmp_path / "tasks.jsonl").write_text('{"id": "a", "prompt": "Say a.", "answer": "a"}\n')
    (tmp_path / "pipeline.yaml").write_text("name: p\nsupervised: {data: {path: nothing}}\n")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    Path(os.fsdecode(b"bad-\xff.txt")).write_text("text\n" * 50)
    for name in ("run_20260101_000000", "other_20260101_000000"):
        run = RunDirectory(tmp_path / "runs" / name)
        run.path.mkdir(parents=True)
        StateFile(run).update(run_name=name.partition("_")[0], status="completed", started_at=1.0)
        run.config_path.write_text("name: run\n")
        run.metrics_path.write_text('{"step": 1, "loss": 2.0}\n')
        run.checkpoints.mkdir()
    return tmp_path


def chosen() -> list[Case]:
    everything = cases()
    return everything if SOAK else random.Random(SEED).sample(everything, SAMPLE)


@pytest.mark.slow
def test_odd_values_never_give_a_traceback(run_cli, place: Path) -> None:
    wrong = []
    for case in chosen():
        try:
            code, out, err = run_cli(*case.words)
        except BaseException as error:
            wrong.append(f"{case}: {type(error).__name__}: {str(error)[:200]!a}")
            continue
        if code not in ALLOWED or "Traceback" in out + err or "Errno" in out + err:
            wrong.append(f"{case}: {code} {err[-300:]!a}")
    assert not wrong, f"{len(wrong)} cases:\n" + "\n".join(wrong[:100])


def test_every_command_is_covered() -> None:
    """The cases reach every command and every option that may be given."""
    commands = dict(leaves(typer.main.get_command(app)))
    reached = {case.words[: len(path)] for case in cases() for path in commands}
    assert set(commands) <= reached
