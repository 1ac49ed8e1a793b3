"""`trainer rl --probe`: files, tasks, and what is wrong with them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.conftest import RunCli
from tests.rust import ADD, needs_rustc
from trainer.rewards.rust.toolchain import Toolchain

__all__ = ["needs_rustc"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with two tasks, and with answers."""
    other = {**asdict(ADD), "id": "math/other", "tests": None}
    lines = [json.dumps(task) for task in (asdict(ADD), other)]
    (tmp_path / "tasks.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    (tmp_path / "add.rs").write_text(" a + b }", "utf-8")
    (tmp_path / "add-2.rs").write_text("pub fn add(a: i32, b: i32) -> i32 { a - b }", "utf-8")
    (tmp_path / "math_other.rs").write_text(f"{ADD.prompt} a + b }}", "utf-8")
    (tmp_path / "bytes.rs").write_bytes(b"\xff\x00\x1b[2J }")
    return tmp_path


@pytest.mark.slow
def test_prints_the_reward_of_files(run_cli: RunCli, place: Path, needs_rustc: Toolchain) -> None:
    files = [place / name for name in ("add.rs", "add-2.rs", "math_other.rs")]
    prompts = ("--prompts", place / "tasks.jsonl", "--language", "rust", "--no-tests")
    done = run_cli("rl", "--probe", *files, *prompts, "--json")
    assert (done.code, done.err) == (0, "")
    records = [json.loads(line) for line in done.out.splitlines()]
    assert [record["prompt_id"] for record in records] == ["add", "add", "math/other"]
    for file, record in zip(files, records, strict=True):
        assert record["file"] == str(file)
        assert record["reward"] == pytest.approx(0.7)
        assert record["parts"] == {"parse": 0.25, "compile": 0.4, "tests": 0.0, "style": 0.05}
        assert (record["parsed"], record["compiled"], record["tested"]) == (True, True, None)
    done = run_cli("rl", "--probe", place / "bytes.rs", *prompts, "--id", "add")
    assert done.code == 0
    assert "(task add): reward 0.000" in done.out
    assert "\x1b" not in done.out and "not run" in done.out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--probe", "--prompts", "tasks.jsonl"), "needs the files to judge"),
        (("--probe", "add.rs"), "needs the tasks"),
        (("--probe", "no.rs", "--prompts", "tasks.jsonl", "--id", "add"), "Cannot read"),
        (("--probe", "tasks.jsonl", "--prompts", "tasks.jsonl"), "give --id, or name the file"),
        (("--probe", "add.rs", "--prompts", "add.rs"), "add.rs"),
        (
            ("--probe", "add.rs", "--prompts", "tasks.jsonl", "--id", "ad"),
            "'ad' (did you mean add?)",
        ),
        (("--probe", "add.rs", "--prompts", "tasks.jsonl", "--as", "file"), "--as is auto"),
        (("--probe", "add.rs", "--prompts", "tasks.jsonl", "--language", "go"), "no task in go"),
        (("add.rs", "--prompts", "tasks.jsonl"), "with --probe only"),
        (("--json", "--prompts", "tasks.jsonl"), "with --probe only"),
    ],
)
def test_wrong_use_is_told_in_a_sentence(
    run_cli: RunCli,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(place)
    done = run_cli("rl", *arguments)
    assert (done.code, done.out) == (2, "")
    assert sentence in done.err and done.err.count("\n") == 1
