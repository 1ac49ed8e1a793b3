from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from trainer.tasks.generator.making import make_tasks
from trainer.tasks.reading import read_prompts
from trainer.tasks.writing import task_lines

HUMANEVAL_X_RUST = {
    "task_id": "Rust/0",
    "prompt": "\n/*\n Adds one.\n*/\n",
    "declaration": "\nuse std::cmp::max;\nuse rand::Rng;\nuse md5;\n\nfn add_one(n: i32) -> i32{\n",
    "canonical_solution": "\n    n + 1\n}\n",
    "test": "\n#[cfg(test)]\nmod tests {\n    use super::*;\n}\n",
    "example_test": "None",
}
HUMANEVAL_X_PYTHON = {
    "task_id": "Python/0",
    "prompt": 'from typing import List\n\n\ndef add_one(n: int) -> int:\n    """Adds one."""\n',
    "declaration": "from typing import List\n\n\ndef add_one(n: int) -> int:\n",
    "canonical_solution": "    return n + 1\n",
    "test": "\ndef check(add_one):\n    assert add_one(1) == 2\n\ncheck(add_one)",
}
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": '\n\ndef add_one(n: int) -> int:\n    """Adds one."""\n',
    "entry_point": "add_one",
    "canonical_solution": "    return n + 1\n",
    "test": "\ndef check(candidate):\n    assert candidate(1) == 2\n\n",
}
MULTIPL_E = {
    "name": "HumanEval_0_add_one",
    "language": "rs",
    "prompt": "/// Adds one.\nfn add_one(n: isize) -> isize {\n",
    "doctests": "transform",
    "tests": "}\n\nfn main() {\n    let candidate = add_one;\n    assert!(candidate(1) == 2);\n}\n",
    "stop_tokens": ["\n}"],
}


def _written(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_tasks_are_read_as_they_were_written(tmp_path: Path) -> None:
    tasks = make_tasks("rust", "train", 50, seed=1).tasks
    plain, packed = tmp_path / "tasks.jsonl", tmp_path / "tasks.jsonl.gz"
    plain.write_bytes(b"".join(task_lines(tasks)))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_prompts(plain) == tasks == read_prompts(packed)


def test_humaneval_x(tmp_path: Path) -> None:
    path = _written(tmp_path / "x", HUMANEVAL_X_RUST, HUMANEVAL_X_PYTHON)
    rust, python = read_prompts(path)
    assert rust.prompt == (
        "/*\n Adds one.\n*/\nuse std::cmp::max;\n\nfn add_one(n: i32) -> i32{\n"
    ), "crates that are not there are not imported"
    assert (rust.language, rust.signature) == ("rust", "fn add_one(n: i32) -> i32")
    assert rust.reference == HUMANEVAL_X_RUST["canonical_solution"]
    assert (python.language, python.signature) == ("python", "def add_one(n: int) -> int")
    assert python.tests == HUMANEVAL_X_PYTHON["test"]


def test_humaneval(tmp_path: Path) -> None:
    (task,) = read_prompts(_written(tmp_path / "x", HUMANEVAL))
    assert task.prompt.startswith("def add_one") and task.prompt.endswith('"""\n')
    scope: dict[str, Any] = {}
    exec(task.prompt + str(task.reference) + str(task.tests), scope)
    with pytest.raises(AssertionError):
        exec(task.prompt + "    return n\n" + str(task.tests), scope)


def test_multipl_e_as_lines_and_as_a_list(tmp_path: Path) -> None:
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps([MULTIPL_E], indent=2))
    (task,) = read_prompts(listed)
    assert [task] == read_prompts(_written(tmp_path / "lines.jsonl", MULTIPL_E))
    assert task.prompt.endswith("-> isize {\n")
    assert (task.language, task.signature) == ("rust", "fn add_one(n: isize) -> isize")
    assert (task.tests or "").lstrip().startswith("fn main()"), "the answer has the brace"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "has no task"),
        ("[]", "has no task"),
        ("nonsense\n", "line 1 is not JSON"),
        ('{"id": "a", "prompt": "fn f() {"}\n{"id": "b"\n', "line 2 is not JSON"),
        ('{"id": "a", "prompt": "fn f() {"}\n[]\n', "line 2 is not a JSON object"),
        ('{"id": "a", "prompt": 3}\n', "line 1: field 'prompt' is 3, not text"),
        ('{"id": "a", "prompt": " "}\n', "line 1: field 'prompt' is empty"),
        ('{"id": 7, "prompt": "x"}\n', "line 1: field 'id' is 7, not text"),
        ('{"id": "a", "prompt": "x", "tests": []}\n', "line 1: field 'tests' is .., not text"),
        ('{"text": "x"}\n', "line 1 is no task of a known format"),
        ('{"id": "a", "prompt": "x"}\n' * 2, "line 2 has the id of an earlier task: a"),
        ('[{"id": "a", "prompt": "x"}, 4]', "record 2 is not a JSON object"),
        ('[{"id": "a", ', "begins like a JSON list, but is not JSON"),
    ],
)
def test_what_is_no_task_is_told_in_one_sentence(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "bad\x1b[2J.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=told) as error:
        read_prompts(path)
    message = str(error.value)
    assert "bad" in message and message.isprintable() and message.count(".") < 8


WHOLE = b"".join(task_lines(make_tasks("rust", "train", 6, seed=4).tasks)) + b"".join(
    json.dumps(record).encode() + b"\n"
    for record in (HUMANEVAL_X_RUST, HUMANEVAL_X_PYTHON, HUMANEVAL, MULTIPL_E)
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks") / "tasks.jsonl.gz"


@settings(max_examples=400, deadline=None)
@given(
    cut=st.integers(0, len(WHOLE)),
    flips=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(1, 255)), max_size=4),
    packed=st.booleans(),
)
def test_a_damaged_file_gives_tasks_or_a_sentence(
    place: Path, cut: int, flips: list[tuple[int, int]], packed: bool
) -> None:
    data = bytearray(gzip.compress(WHOLE, mtime=0) if packed else WHOLE)
    for where, mask in flips:
        data[where % len(data)] ^= mask
    del data[cut:]
    path = place if packed else place.with_suffix("")
    path.write_bytes(data)
    try:
        tasks = read_prompts(path)
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 700
    else:
        assert all(task.id and task.prompt for task in tasks)
