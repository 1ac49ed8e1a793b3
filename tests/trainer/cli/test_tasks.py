from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import RunCli
from trainer.cli.several_values import _repeated
from trainer.tasks.reading import read_prompts


def test_make_writes_tasks_texts_and_a_table(tmp_path: Path, run_cli: RunCli) -> None:
    output = tmp_path / "tasks"
    made = run_cli("tasks", "make", "--count", 40, "--seed", 3, "--text", "--output", output)
    assert made.code == 0, made.err
    train, held = read_prompts(output / "train.jsonl"), read_prompts(output / "held-out.jsonl")
    assert len(train) == len(held) == 40
    texts = [json.loads(line)["text"] for line in (output / "text.jsonl").open()]
    assert texts == [task.prompt + (task.reference or "") for task in train]
    table = json.loads((output / "templates.json").read_text())["templates"]
    assert sum(row["tasks"] for row in table) == 80
    assert len({row["template"] for row in table}) >= 60
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    refused = run_cli("tasks", "make", "--count", 41, "--output", output)
    assert refused.code == 2 and "--force" in refused.err
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    again = run_cli(
        *("tasks", "make", "--count", 40, "--seed", 3, "--text", "--output", output, "--force")
    )
    assert again.code == 0
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_one_split_alone(tmp_path: Path, run_cli: RunCli) -> None:
    made = run_cli("tasks", "make", "--count", 5, "--split", "held-out", "--output", tmp_path / "a")
    assert made.code == 0
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "held-out.jsonl",
        "templates.json",
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--count", 0], "--count 0"),
        (["--language", "rusty"], "did you mean rust?"),
        (["--split", "test"], "--split test"),
        (["--split", "held-out", "--text"], "--text writes training tasks"),
    ],
)
def test_wrong_use_is_told_and_makes_no_folder(
    tmp_path: Path, run_cli: RunCli, arguments: list[object], told: str
) -> None:
    made = run_cli("tasks", "make", "--output", tmp_path / "a", *arguments)
    assert made.code == 2 and told in made.err
    assert not (tmp_path / "a").exists()


def test_check_tells_what_is_found_and_lists_the_documents(tmp_path: Path, run_cli: RunCli) -> None:
    tasks, text = tmp_path / "tasks", tmp_path / "text.jsonl"
    run_cli("tasks", "make", "--count", 30, "--output", tasks)
    task = read_prompts(tasks / "held-out.jsonl")[4]
    leak = task.prompt.upper() + (task.reference or "")
    text.write_text("".join(json.dumps({"text": line}) + "\n" for line in ("clean", leak)))
    command = ("tasks", "check", "--against", tasks / "train.jsonl", tasks / "held-out.jsonl")
    listing = tmp_path / "list.jsonl"
    found = run_cli(*command, "--text", text, "--list", listing)
    assert found.code == 0, found.err
    assert task.id in found.out and "1 of 2 documents with text of a task" in found.out
    assert json.loads(listing.read_text()) == {"file": str(text), "document": 2, "task": task.id}
    told = json.loads(run_cli(*command, "--text", text, "--json").out)
    assert [part["found"] for part in told["evaluations"]] == [0, 1]
    assert run_cli(*command, "--text", text, "--list", listing).code == 2, "the list exists"
    assert run_cli(*command, "--text", tmp_path / "none").code == 2


def test_decontaminate_leaves_documents_out_of_prepared_data(
    tmp_path: Path, run_cli: RunCli
) -> None:
    tasks = tmp_path / "tasks"
    run_cli("tasks", "make", "--count", 30, "--text", "--output", tasks)
    command = ("prepare-data", "--text", tasks / "text.jsonl", "--output", tmp_path / "data")
    asked = (*command, "--decontaminate", tasks / "train.jsonl", "--val-split", 0)
    refused = run_cli(*asked, "--kind", "char")
    assert refused.code == 2 and "there is no text" in refused.err, "every document is of a task"
    kept = run_cli(
        *(*command, "--decontaminate", tasks / "held-out.jsonl", "--kind", "char"),
        *("--val-split", 0),
    )
    assert kept.code == 0 and "0 of 30 tasks found" in kept.err and "30 documents" in kept.out
    both = run_cli(*asked, "--shards", 2)
    assert both.code == 2 and "--decontaminate and --shards" in both.err


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["--text", "a", "b"], ["--text", "a", "--text", "b"]),
        (["--text=a", "b", "--json"], ["--text=a", "--text", "b", "--json"]),
        (["--one", "a", "b"], ["--one", "a", "b"]),
        (["--text", "-", "--one", "b", "c"], ["--text", "-", "--one", "b", "c"]),
    ],
)
def test_values_that_follow_an_option_are_its_own(given: list[str], meant: list[str]) -> None:
    assert list(_repeated(given, {"--text"})) == meant
