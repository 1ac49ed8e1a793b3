from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from shared import __version__
from tests.conftest import RunCli
from trainer.cli.options import SETTINGS
from trainer.config.resolve import flatten, load_source, to_plain
from trainer.config.schema import Config
from trainer.loop.sources import EPOCHS

COMMANDS = [
    "",
    "train",
    "dpo",
    "rl",
    "resume",
    "pipeline",
    "profile",
    "sweep",
    "sweep status",
    "sweep retry",
    "sweep stop",
    "config",
    "config list",
    "config show",
    "generate",
    "chat",
    "compare",
    "eval",
    "export",
    "prepare-data",
    "tokenizer",
    "tokenizer train",
    "tasks",
    "tasks make",
    "tasks check",
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
    "grow",
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
    "runs plot",
    "runs export",
    "runs import",
    "runs command",
    "runs diff",
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


def listed(page: str) -> list[str]:
    """The commands of a help page in its order: what stands in the first column after Options."""
    _, _, commands = page.partition("--help")
    return re.findall(r"^  ([a-z-]+) ", commands, re.MULTILINE)


GROUPS = sorted({command.partition(" ")[0] for command in COMMANDS if " " in command})


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("group", ["", *GROUPS])
def test_a_help_page_lists_every_command_once_with_a_whole_sentence(
    run_cli, monkeypatch: pytest.MonkeyPatch, group: str, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    page = run_cli(*group.split(), "--help").out
    inside = [c.removeprefix(group).strip() for c in COMMANDS if c.startswith(f"{group} ".lstrip())]
    expected = [name for name in inside if name and " " not in name]
    assert sorted(listed(page)) == sorted(expected)
    assert max(map(len, page.splitlines())) <= columns
    assert not re.search(r"(…|\.\.\.)$", page, re.MULTILINE)
    commands = page.partition("--help")[2].partition("  Examples:")[0]
    sentences = re.split(r"^  (?=[a-z])|^\S.*$", commands, flags=re.MULTILINE)[1:]
    for sentence in filter(None, map(str.strip, sentences)):
        assert sentence.endswith("."), sentence


def test_the_commands_are_grouped_by_what_a_person_wants_to_do(run_cli) -> None:
    page = run_cli("--help").out
    headings = re.findall(r"^([A-Z][a-z ]+):$", page, re.MULTILINE)
    assert headings[-6:] == [
        "Data", "Train", "Watch and control", "Checkpoints", "Use a model", "Publish",
    ]  # fmt: skip


def test_the_list_above_is_every_command() -> None:
    from trainer.cli.main import app

    def names(app: typer.Typer, before: str = "") -> Iterator[str]:
        for command in app.registered_commands:
            name = command.name or command.callback.__name__.replace("_", "-")
            yield f"{before}{name}"
        for group in app.registered_groups:
            yield f"{before}{group.name}"
            yield from names(group.typer_instance, f"{before}{group.name} ")

    assert sorted(names(app)) == sorted(filter(None, COMMANDS))


@pytest.mark.parametrize("group", ["runs", "checkpoints", "config", "tokenizer", "alerts"])
def test_a_group_without_a_command_shows_its_help(run_cli, group: str) -> None:
    assert run_cli(group) == run_cli(group, "--help")


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


def test_no_type_of_python_is_shown(run_cli) -> None:
    for words in (["train"], ["upload"], ["eval"], ["checkpoints", "prune"], ["runs", "export"]):
        shown = run_cli(*words, "--help").out
        assert not re.search(r"<[a-z]", shown), shown
    assert "--max-steps, --steps N " in run_cli("train", "--help").out


def commands_of(command: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, inner in getattr(command, "commands", {}).items():
        words = f"{before} {name}".strip()
        yield from commands_of(inner, words)
        if not getattr(inner, "commands", None) or inner.invoke_without_command:
            yield words, inner


def test_an_option_that_sets_a_key_shows_the_default_of_the_schema(run_cli) -> None:
    page = " ".join(run_cli("train", "--help").out.split())
    for key, option in (
        ("train.batch_size", "--batch-size N"),
        ("optim.name", "--optimizer adamw|muon|muon+lion|lion"),
        ("optim.learning_rate", "--learning-rate NUMBER"),
        ("checkpoint.keep_last", "--keep-last-checkpoints N"),
    ):
        default = flatten(to_plain(Config()))[key]
        entry = page.partition(option)[2].partition(" --")[0]
        assert f"[default: {default}]" in entry, option
    assert f"Passes over the data; default: {EPOCHS:g}," in page


@pytest.mark.parametrize(
    ("recipe", "key", "option"),
    [
        ("rl", "rl.iterations", "--iterations N"),
        ("rl", "rl.group_size", "--group-size N"),
        ("rl", "optim.learning_rate", "--learning-rate NUMBER"),
        ("dpo", "preference.beta", "--beta NUMBER"),
        ("dpo", "optim.learning_rate", "--learning-rate NUMBER"),
    ],
)
def test_a_command_with_a_recipe_shows_its_defaults(
    run_cli: RunCli, recipe: str, key: str, option: str
) -> None:
    default = {**flatten(to_plain(Config())), **load_source(recipe)[0]}[key]
    page = " ".join(run_cli(recipe, "--help").out.split())
    assert f"[default: {default:g}]" in page.partition(option)[2].partition(" --")[0]


def test_every_option_of_train_sets_a_key_that_exists() -> None:
    keys = flatten(to_plain(Config()))
    assert set(SETTINGS.values()) <= {*keys, "name"}


def test_every_command_shows_two_examples_that_it_accepts(run_cli) -> None:
    from trainer.cli.main import command_tree

    for words, command in commands_of(command_tree()):
        page = run_cli(*words.split(), "--help").out
        examples = re.findall(r"^ +(trainer .*)$", page.partition("Examples:")[2], re.MULTILINE)
        assert len(examples) == 2, words
        for example in examples:
            assert example.startswith(f"trainer {words}"), example
            # Parses the options, without running the command.
            given = shlex.split(example.removeprefix(f"trainer {words}"))
            assert not command.make_context(words, given).args, example
