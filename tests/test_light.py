"""What works without the extra `trainer`: only what the base requires can be imported here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from trainer.cli import needs
from trainer.cli.main import command_tree

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: Hides every installed package that the base does not require, then runs the code after it.
LIGHT = """
import importlib.abc, json, re, runpy, sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from packaging.requirements import Requirement

def plain(name):
    return re.sub("[-_.]+", "-", name).lower()

kept, ahead = set(), [Requirement(line) for line in json.loads(sys.argv[1])]
while ahead:
    wanted = ahead.pop()
    if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
        if plain(wanted.name) not in kept:
            kept.add(plain(wanted.name))
            try:
                ahead += [Requirement(line) for line in requires(wanted.name) or ()]
            except PackageNotFoundError:
                pass
own = {"shared", "trainer", "monitor", "tests"}
hidden = {
    package
    for package, owners in packages_distributions().items()
    if package not in own and not kept & {plain(owner) for owner in owners}
}
assert {"torch", "tokenizers", "safetensors", "starlette"} <= hidden, hidden

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in [name for name in sys.modules if name.partition(".")[0] in hidden]:
    del sys.modules[name]
sys.meta_path.insert(0, Hidden())
"""


def light(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `code` where only the base is installed."""
    line = [sys.executable, "-c", LIGHT + code, json.dumps(PROJECT["dependencies"]), *arguments]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    return subprocess.run(
        line, capture_output=True, text=True, timeout=240, cwd=cwd, env=environment, check=False
    )


def test_the_monitor_the_readers_and_the_writer_need_only_the_base(tmp_path: Path) -> None:
    code = """
import contextlib, io, pkgutil
import monitor, shared
for package in (shared, monitor):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        __import__(module.name)

from shared.run_writer import RunWriter
with RunWriter("runs", name="light", max_steps=2) as run:
    run.log(1, loss=2.0)
    run.log(2, loss=1.0)
with open("runs/theirs.jsonl", "w") as file:
    for step in range(5):
        file.write(json.dumps({"step": step, "loss": 1.0}) + "\\n")
from monitor.__main__ import main as watch
said = io.StringIO()
with contextlib.redirect_stderr(said):
    assert watch(["--web"]) == 2
assert 'needs textual-serve: pip install "train-monitor[web]".' in said.getvalue()
raise SystemExit(watch(["--json"]))
"""
    done = light(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = {run["name"] for run in json.loads(done.stdout)["runs"]}
    assert "light" in names
    assert len(names) == 2, names


LINES = {
    "prepare-data": "--text book.txt --output data",
    "tokenizer train": "--input book.txt --output-dir tokenizer",
    "tasks make": "--output tasks.jsonl",
    "tasks check": "--against tasks.jsonl --text book.txt",
    "train": "--config tiny-cpu --data-path data",
    "dpo": "",
    "rl": "",
    "resume": "light",
    "pipeline": "--config pipeline.yaml",
    "sweep": "--config tiny-cpu",
    "sweep status": "group",
    "sweep retry": "group",
    "sweep stop": "group",
    "profile": "",
    "config list": "",
    "demo": "",
    "grow": "light --to nano",
    "generate": "--checkpoint light --prompt a",
    "chat": "--checkpoint light",
    "eval": "--checkpoint light",
    "compare": "light other --prompt a",
    "export": "light --gguf model.gguf",
    "serve": "--checkpoint light",
}


def test_the_trainer_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    """Commands that need it say so in one sentence; the others work."""
    code = """
import contextlib, io
from shared.run_writer import RunWriter
from trainer.cli.main import main
with RunWriter("runs", name="light", max_steps=1) as run:
    run.log(1, loss=2.0)
answers = []
for line in json.loads(sys.argv[2]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(line.split())
    answers.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""
    working = [
        "--help",
        "train --help",
        "status",
        "runs list",
        "logs light",
        "config show tiny-cpu",
    ]
    needing = [f"{command} {rest}" for command, rest in LINES.items()]
    done = light(code, json.dumps(working + needing), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    for line, (code, _, said) in zip(working, answers, strict=False):
        assert code == 0, (line, said)
    for line, (code, printed, said) in zip(needing, answers[len(working) :], strict=True):
        assert code == 2, (line, printed, said)
        assert 'pip install "train-monitor[trainer]"' in said, (line, said)
        assert said.count("\n") == 1, said


def test_every_command_that_needs_the_extra_is_tried() -> None:
    def leaves(command: object, words: str) -> list[str]:
        inner = getattr(command, "commands", None)
        if inner is None:
            return [words]
        return [leaf for name in inner for leaf in leaves(inner[name], f"{words} {name}".strip())]

    gated = {
        leaf
        for leaf in leaves(command_tree(), "")
        for words in needs.COMMANDS
        if f"{leaf} ".startswith(f"{words} ")
    }
    assert gated <= set(LINES), gated - set(LINES)


def test_the_extra_is_what_the_commands_look_for() -> None:
    """A package added to the extra is named in the sentence too."""
    names = {
        requirement.partition(">")[0].lower().replace("-", "_")
        for requirement in PROJECT["optional-dependencies"]["trainer"]
    }
    assert names == needs.PACKAGES


@pytest.mark.parametrize("package", ["shared", "monitor", "trainer"])
def test_each_package_says_that_it_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
