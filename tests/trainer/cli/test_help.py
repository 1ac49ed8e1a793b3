from __future__ import annotations

import re
import subprocess
import sys

import pytest

from shared import __version__

COMMANDS = [
    "",
    "train",
    "resume",
    "generate",
    "chat",
    "compare",
    "eval",
    "export",
    "prepare-data",
    "tokenizer",
    "tokenizer train",
    "status",
    "logs",
    "daemon",
    "daemon stop",
    "daemon status",
    "daemon install-service",
    "stop",
    "pause",
    "continue",
    "checkpoint",
    "checkpoints",
    "checkpoints list",
    "checkpoints verify",
    "checkpoints prune",
    "checkpoints compress",
    "checkpoints decompress",
    "alerts",
    "alerts test",
    "demo",
    "runs",
    "runs list",
    "runs tag",
    "runs note",
    "runs rename",
    "runs archive",
    "runs unarchive",
    "runs delete",
    "runs restore",
    "runs empty-trash",
    "runs export",
    "runs command",
    "upload",
    "serve",
]
# fmt: off
TRAIN_OPTIONS = [
    "--config", "--name", "--runs-dir", "--dataset", "--data-path", "--val-data-path",
    "--n-samples", "--max-steps", "--epochs", "--batch-size", "--accumulation-steps", "--seq-len",
    "--learning-rate", "--seed", "--device", "--threads", "--dtype", "--deterministic",
    "--compile", "--log-interval", "--eval-interval", "--checkpoint-interval",
    "--keep-last-checkpoints", "--save-top-k", "--checkpoint-dir", "--resume", "--set",
    "--micro-batch", "--detach", "--queue",
]
# fmt: on
HEAVY = ["torch", "transformers", "numpy", "tokenizers", "safetensors", "textual", "trainer.model"]
ASK = """
import sys
from trainer.cli.main import main
codes = [main([*command.split(), "--help"]) for command in sys.argv[1].split(",")]
print(codes, [name for name in sys.argv[2].split(",") if name in sys.modules], file=sys.stderr)
"""


def test_help_of_every_command_loads_nothing_heavy() -> None:
    arguments = [sys.executable, "-c", ASK, ",".join(COMMANDS), ",".join(HEAVY)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == f"{[0] * len(COMMANDS)} []"
    assert done.stdout.count("Usage: trainer") == len(COMMANDS)


def test_the_list_above_is_every_command(run_cli) -> None:
    from trainer.cli.main import app

    names = {command.name for command in app.registered_commands}
    groups = {group.name for group in app.registered_groups}
    assert names | groups == {command for command in COMMANDS if command and " " not in command}


def test_without_arguments_it_shows_its_help(run_cli) -> None:
    bare, asked = run_cli(), run_cli("--help")
    assert bare.code == asked.code == 0
    assert bare.out == asked.out
    assert bare.err == ""
    for command in ("train", "resume", "generate", "prepare-data", "status"):
        assert re.search(rf"\b{command}\b", bare.out)


def test_every_option_is_named_whole_on_a_narrow_terminal(
    run_cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = run_cli("train", "--help").out
    assert max(map(len, text.splitlines())) <= 80
    for option in TRAIN_OPTIONS:
        assert option in text


def test_version(run_cli) -> None:
    assert run_cli("--version") == (0, f"trainer {__version__}\n", "")


def test_it_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "trainer: No such command 'nonsense'; see trainer --help\n"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (["trian"], "train"),
        (["train", "--lerning-rate", "1"], "--learning-rate"),
        (["train", "--batchsize", "1"], "--batch-size"),
        (["generate", "--temprature", "1"], "--temperature"),
        (["resume", "x", "--max-step", "1"], "--max-steps"),
        (["prepare-data", "--vocabsize", "9"], "--vocab-size"),
    ],
)
def test_what_is_misspelt_is_told_with_the_nearest(run_cli, wrong: list[str], right: str) -> None:
    output = run_cli(*wrong)
    assert output.code == 2
    assert right in output.err
    assert output.err.count("\n") == 1
