"""The study of reinforcement learning counts, compares and continues rightly, without a model."""

from __future__ import annotations

import json

import pytest

from benchmarks import rl_rust
from benchmarks.commands import Commands, Done
from benchmarks.record import as_markdown
from benchmarks.rl_rust_stages import EXERCISM, REAL, Answer, Arm, Point, Sizes, Stages


def arm(cpu: float, compiled: int, passed: int, curve: tuple[Point, ...] = ()) -> Arm:
    """Ten answers to tasks of five templates, which all parse."""
    answers = [
        Answer(f"t{n % 5}", True, n < compiled, n < passed, f"fn f{n}() {{}}\n") for n in range(10)
    ]
    return Arm(cpu, answers, curve)


class MadeUp:
    """Stages that need no time."""

    def __init__(self) -> None:
        self.done = {"tasks": Done(["tasks", "make"], 1.0, 1.0)}
        self.asked: list[tuple[int, float, float]] = []

    def supervised(self, seed: int) -> Arm:
        return arm(60.0, 6, 4)

    def rl(self, seed: int) -> Arm:
        return arm(30.0, 9, 5 + seed, (Point(1, 0.5, 0.6), Point(2, 0.75, 0.8)))

    def longer(self, seed: int, cpu: float, before: float) -> Arm:
        self.asked.append((seed, cpu, before))
        return arm(30.0, 6, 6)

    def exercism(self, seed: int, name: str) -> Arm | None:
        return arm(1.0, 0, 0) if name == "RL" else None

    def gguf_bytes(self, seed: int) -> int:
        return 4_000_000

    def milliseconds(self, seed: int) -> float:
        return 120.0

    def notes(self) -> list[str]:
        return ["What was run."]


def test_rates_are_pooled_over_seeds_and_differences_are_paired(tmp_path) -> None:
    stages, log = MadeUp(), tmp_path / "log.jsonl"
    found = rl_rust.measure(stages, 2, log)  # type: ignore[arg-type]
    rows = {row.what.partition(" (")[0]: row.value for row in found.rows}
    assert rows["before: compile"] == 60 and rows["RL: compile"] == 90
    assert rows["RL: pass their tests"] == 65 and rows["before: time"] == 1
    text = as_markdown(found)
    assert "RL against before, compile: +30.0 points" in text
    assert "RL against supervised, equal time, pass their tests: +5.0 points" in text
    assert "better in 1 of 2" in text  # a draw is not better
    assert "guide 95 to 100 %" in text and "size holds, and its speed does not." in text
    assert (
        "iteration 1: 0.500 and 60 %, 2: 0.750 and 80 %." in text
        and "```rust\nfn f0() {}\n```" in text
    )
    assert stages.asked == [(1, 30.0, 60.0), (2, 30.0, 60.0)]
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[0]["arguments"] == ["tasks", "make"]
    assert lines[1]["of each template: answers, parsed, compiled, passed"]["t0"] == [2, 2, 2, 1]
    assert [line["arm"] for line in lines[1:]][-1] == "exercism, RL"


class Pretended:
    """Writes what the trainer's commands would leave."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.calls: dict[str, list[str]] = {}

    def run(self, stage: str, arguments: list[str]) -> Done:
        self.calls[stage] = list(arguments)
        if arguments[0] in ("train", "rl"):
            run = self.folder / stage / f"{stage}_1"
            run.mkdir(parents=True)
            (run / "metrics.jsonl").write_text(
                '{"iteration": 1, "reward_mean": 0.25, "compile_rate": 0.5}\n{}\n'
            )
        elif arguments[0] == "eval":
            (self.folder / stage).mkdir()
            judged = {"task": "a", "parsed": True, "compiled": True, "tested": None}
            lines = [{"suite": "x"}, {**judged, "completion": "}\n", "ending": "no room"}]
            path = self.folder / stage / "answers.jsonl"
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        elif arguments[0] == "tasks":
            (self.folder / "tasks").mkdir(exist_ok=True)
            task = {"id": "a", "prompt": "pub fn f() {\n", "language": "rust", "template": "t"}
            for name in ("train", "held-out"):
                (self.folder / "tasks" / f"{name}.jsonl").write_text(json.dumps(task) + "\n")
        return Done(list(arguments), 20.0 if arguments[0] == "rl" else 50.0, 1.0)


def test_what_the_commands_are_asked_for(tmp_path) -> None:
    commands = Pretended(tmp_path)
    stages = Stages(commands, tmp_path / "data", Sizes())
    before = stages.supervised(1)
    assert before.answers == [Answer("t", True, True, False, "pub fn f() {\n}\n")]
    assert "--data-path" in commands.calls["supervised-1"]
    assert "alone (no real Rust was given)" in stages.notes()[0]
    learned = stages.rl(1)
    assert learned.curve == [Point(1, 0.25, 0.5)]
    stages.longer(1, learned.cpu, before.cpu)
    longer = commands.calls["longer-1"]
    assert longer[longer.index("--steps") + 1] == str(round(Sizes().steps * 20 / 50))
    assert stages.exercism(1, "RL") is None
    trained = {stage for stage in commands.calls if "held-out" in " ".join(commands.calls[stage])}
    assert trained == {"answers-supervised-1", "answers-rl-1", "answers-longer-1"}


def test_real_rust_is_mixed_in_and_real_tasks_are_kept_out_of_it(tmp_path) -> None:
    (tmp_path / "data").mkdir()
    for name in (REAL, EXERCISM):
        (tmp_path / "data" / name).touch()
    commands = Pretended(tmp_path)
    stages = Stages(commands, tmp_path / "data", Sizes())
    stages.supervised(1)
    assert commands.calls["supervised-1"].count("--source") == 2
    assert commands.calls["real"].count("--decontaminate") == 2
    assert "TheAlgorithms" in stages.notes()[0]


def test_what_was_done_is_not_done_again(tmp_path) -> None:
    commands = Commands(tmp_path)
    first = commands.run("version", ["--version"])
    (tmp_path / "version" / "kept").touch()
    assert Commands(tmp_path).run("version", ["--version"]) == first
    assert (tmp_path / "version" / "kept").exists()
    with pytest.raises(SystemExit, match="version ended with 2"):
        commands.run("version", ["--no-such-option"])
    assert not (tmp_path / "version" / "kept").exists()
