"""Answers in Rust, judged: what they are worth, and that they do not change each other's worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.counts import SOAK
from tests.rust import ADD, needs_rustc, rust_judge
from trainer.rewards.interface import Answer, Verdict
from trainer.rewards.rust.language import Rust
from trainer.rewards.rust.toolchain import Toolchain
from trainer.sandbox.sandbox import Sandbox
from trainer.tasks.prompt import Prompt

__all__ = ["needs_rustc", "rust_judge"]

pytestmark = pytest.mark.slow  # starts rustc

#: Programs by name: each is below its heading.
PROGRAMS = dict(
    part.split("\n", 1)
    for part in Path(__file__).with_name("programs.txt").read_text("utf-8").split("==== ")[1:]
)
WHOLE = replace(ADD, prompt="")
SORT = Prompt(
    id="sorted",
    prompt="",
    language="rust",
    signature="fn sorted<T: Ord + Clone>(items: &[T]) -> Vec<T>",
    tests="assert_eq!(sorted(&[3, 1]), vec![1, 3]);\nassert!(sorted::<u8>(&[]).is_empty());",
)
COUNT = Prompt(  # as MultiPL-E has it: the tests are a main function
    id="count",
    prompt="use rand::Rng;\nuse std::collections::HashMap;\nfn count(text: &str) -> usize {\n",
    language="rust",
    signature="fn count(text: &str) -> usize",
    tests='fn main() {\n    assert_eq!(count("a b"), 2);\n}\n',
)
METHOD = Prompt(
    id="area",
    prompt="pub struct Square(pub u32);\n\nimpl Square {\n    pub fn area(&self) -> u32 {\n",
    language="rust",
    tests="use shapes::Square;\n#[test]\n#[ignore]\nfn area() -> Result<(), String> {\n"
    "    if Square(3).area() == 9 { Ok(()) } else { Err(String::new()) }\n}\n"
    "#[test]\n#[should_panic]\nfn overflow() {\n    Square(70000).area();\n}\n",
)
ANSWERS = {
    "right": Answer(ADD, "\n    a + b\n}\n"),
    "right, with more after it": Answer(ADD, " a + b }\nfn main() { garbage"),
    "right, with a helper": Answer(ADD, " fn sum(x: i32, y: i32) -> i32 { x + y }\n sum(a, b) }"),
    "right, without style": Answer(ADD, " let mut c = a; Some(c + b).unwrap() }"),
    "right, generic helper": Answer(ADD, " fn same<T>(x: T) -> T { x }\n same(a) + b }"),
    "half of the tests": Answer(ADD, " a.abs() * 2 + b / 2 }"),
    "no test": Answer(ADD, " a - b }"),
    "one kind of errors": Answer(ADD, " a + c + d }"),
    "three kinds of errors": Answer(ADD, " fn f(s: String) { drop(s); drop(s); } f(a); a + c }"),
    "a syntax error": Answer(ADD, "\n    let c = a + b;\n    let d = = c;\n    d\n}"),
    "no end": Answer(ADD, "\n    let c = a + b;\n    let d = c"),
    "a parse error of rustc's": Answer(ADD, " if a < 1 < 2 { a } else { b } }"),
    "an unknown macro": Answer(ADD, " sum!(a, b) }"),
    "too deep a recursion": Answer(ADD, " if b == i32::MAX { 0 } else { 1 + add(a, b + 1) } }"),
    "program": Answer(WHOLE, PROGRAMS["program"]),
    "program in words": Answer(WHOLE, PROGRAMS["program in words"]),
    "program with tests": Answer(WHOLE, PROGRAMS["program with tests"]),
    "program with a wrong type": Answer(WHOLE, PROGRAMS["program with a wrong type"]),
    "program for any type": Answer(WHOLE, PROGRAMS["program for any type"]),
    "generic": Answer(SORT, PROGRAMS["generic"]),
    "generic, other bounds": Answer(SORT, PROGRAMS["generic, other bounds"]),
    "a crate that is not there": Answer(COUNT, "    text.split(' ').count()\n}\n"),
    "tests without a test": Answer(replace(ADD, tests="fn helper() {}"), " a + b }"),
    "a method": Answer(METHOD, "        self.0 * self.0\n    }\n"),
}  # fmt: skip


@pytest.fixture(scope="module")
def verdicts(rust_judge: Rust) -> Mapping[str, Verdict]:
    """All of them judged in one call."""
    return dict(zip(ANSWERS, rust_judge.judge(list(ANSWERS.values())), strict=True))


def test_a_right_answer_is_worth_everything(verdicts: Mapping[str, Verdict]) -> None:
    for name in (
        "right", "right, with more after it", "right, with a helper", "right, generic helper",
        "program", "program in words", "program with tests", "generic",
        "a crate that is not there", "a method",
    ):  # fmt: skip
        verdict = verdicts[name]
        assert (name, verdict.reward, verdict.messages) == (name, 1.0, ())
        assert verdict.parsed and verdict.compiled and verdict.tested


def test_points_are_given_part_by_part(verdicts: Mapping[str, Verdict]) -> None:
    parts = {name: tuple(verdict.parts.values()) for name, verdict in verdicts.items()}
    assert parts["right, without style"] == (0.25, 0.4, 0.3, 0.025)
    assert parts["half of the tests"] == (0.25, 0.4, 0.075, 0)
    assert parts["no test"] == (0.25, 0.4, 0, 0)
    assert parts["one kind of errors"] == (0.25, 0.16, 0, 0)
    assert parts["three kinds of errors"] == (0.25, 0.08, 0, 0)
    assert parts["program with a wrong type"] == (0.25, 0.16, 0, 0)
    assert parts["program for any type"] == (0.25, 0.16, 0, 0)
    assert parts["generic, other bounds"] == (0.25, 0.16, 0, 0)
    assert parts["too deep a recursion"] == (0.25, 0.4, 0, 0)
    # An error that ends rustc early is worth as little as many.
    assert parts["a parse error of rustc's"] == (0.25, 0, 0, 0)
    assert parts["an unknown macro"] == (0.25, 0, 0, 0)
    assert 0 < parts["a syntax error"][0] < 0.125
    assert 0 < parts["no end"][0] < 0.125
    for verdict in verdicts.values():
        assert verdict.reward == pytest.approx(sum(verdict.parts.values()))
        assert 0 <= verdict.reward <= 1
        assert list(verdict.parts) == ["parse", "compile", "tests", "style"]


def test_messages_say_what_is_wrong(verdicts: Mapping[str, Verdict]) -> None:
    assert "error[E0425]: cannot find value `c`" in verdicts["one kind of errors"].messages[0]
    assert verdicts["no test"].messages == (
        "test tests::small failed",
        "test tests::negative failed",
    )
    assert "signature" in verdicts["program for any type"].messages[0]
    assert verdicts["tests without a test"].tested is None
    assert verdicts["tests without a test"].messages == ("no test was found in the task's tests",)
    assert "syntax error" in verdicts["a syntax error"].messages[0]
    assert "signal" in verdicts["too deep a recursion"].messages[0]
    assert all(len(m) <= 200 for verdict in verdicts.values() for m in verdict.messages)


def test_answers_are_judged_once(rust_judge: Rust, verdicts: Mapping[str, Verdict]) -> None:
    before = rust_judge.compilations
    again = rust_judge.judge([ANSWERS["right"], ANSWERS["no test"], ANSWERS["right"]])
    assert again == [verdicts["right"], verdicts["no test"], verdicts["right"]]
    assert rust_judge.compilations == before


def test_stops_behind_the_functions_own_brace(rust_judge: Rust) -> None:
    assert rust_judge.stops(' if a { "}" } else { b } } fn') == len(' if a { "}" } else { b } }')
    assert rust_judge.stops(" // }\n '}' /* } */ r#\"}\"# { ") is None


def test_a_verdict_does_not_depend_on_the_neighbours(needs_rustc: Toolchain) -> None:
    """Modules of a crate reach others by names, by traits on foreign types, by ending rustc."""
    neighbours = [text for name, text in PROGRAMS.items() if name.startswith("neighbour: ")]
    answers = [Answer(replace(WHOLE, tests=None), text) for text in neighbours]
    with Sandbox() as sandbox:
        together = Rust(needs_rustc, sandbox, runs_tests=False, remembered=0)
        alone = Rust(needs_rustc, sandbox, runs_tests=False, batch=1, remembered=0)
        each = alone.judge(answers)
        assert together.judge(answers) == each
        if SOAK:
            assert together.judge(answers[::-1]) == each[::-1]
            assert together.judge(answers[::2]) == each[::2]
    assert [verdict.compiled for verdict in each] == [
        True, True, True, False, False, False, False, False, True, *[False] * 6
    ]  # fmt: skip
