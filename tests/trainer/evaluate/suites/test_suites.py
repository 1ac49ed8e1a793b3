"""The suites: their tasks are whole, and what is missing is a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.errors import UserError
from tests.faults.counts import SOAK
from tests.rust import needs_rustc, rust_judge  # noqa: F401 - fixtures
from trainer.evaluate.suites import humaneval_x, rust_tasks
from trainer.evaluate.suites.registry import open_suite
from trainer.rewards.interface import Answer
from trainer.rewards.rust.language import Rust

PACKED = {
    "task_id": "Rust/0",
    "prompt": "\nfn main(){\n}\n\nuse rand::Rng;\n\n/*\n Adds one.\n*/\n"
    "fn add_one(n: i32) -> i32{\n",
    "declaration": "\nfn main(){\n}\n\nuse rand::Rng;\n\nfn add_one(n: i32) -> i32{\n",
    "canonical_solution": "    n + 1\n}\n",
    "test": "\n#[cfg(test)]\nmod tests {\n    use super::*;\n    #[test]\n"
    "    fn it() { assert!(add_one(1) == 2); }\n}\n",
}


def test_the_tasks_of_our_own_are_whole() -> None:
    suite = open_suite("rust")
    assert len({prompt.id for prompt in suite.prompts}) == 30
    for prompt in suite.prompts:
        assert prompt.prompt.endswith("{") and "//: " not in prompt.prompt
        assert prompt.reference and prompt.reference.endswith("}\n")
        assert prompt.tests and "assert" in prompt.tests
        assert (prompt.signature is None) == ("\nimpl" in prompt.prompt)


def test_their_answers_are_right(rust_judge: Rust) -> None:  # noqa: F811
    prompts = rust_tasks.tasks()
    for prompt in prompts:
        assert rust_judge.stops(prompt.reference or "") == len((prompt.reference or "").rstrip())
    some = prompts if SOAK else prompts[::10]
    for prompt, verdict in zip(
        some, rust_judge.judge([Answer(p, p.reference or "") for p in some]), strict=True
    ):
        assert verdict.tested and verdict.reward > 0.95, (prompt.id, verdict.messages)


def test_the_first_tasks_are_another_suite() -> None:
    suite = open_suite("tasks")
    assert len(suite.prompts) == 240 and all(prompt.tests for prompt in suite.prompts)
    assert suite.first(3).prompts == suite.prompts[:3]
    assert suite.first(3).sha256 != suite.sha256


def test_humaneval_x_is_read_where_it_lies(tmp_path: Path) -> None:
    (tmp_path / "humanevalpack.jsonl").write_text(json.dumps(PACKED) + "\n")
    [task] = humaneval_x.tasks(folder=tmp_path)
    assert task.prompt.count("fn add_one") == 1 and "rand" not in task.prompt
    assert task.signature == "fn add_one(n: i32) -> i32"


def test_a_file_in_two_languages_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    tasks = [{"id": name, "prompt": "x", "language": name} for name in ("rust", "python")]
    path.write_text("".join(json.dumps(task) + "\n" for task in tasks))
    with pytest.raises(UserError, match="are in python, rust: give one file for each language"):
        open_suite(str(path))
