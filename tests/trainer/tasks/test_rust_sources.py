from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from trainer.tasks.reading import read_prompts
from trainer.tasks.rust_items import foreign_paths, items_of

EXERCISE = {
    "slug": "two-fer",
    "instructions": "# Instructions\n\nSay whom it is for.\n\n- `you` by default\n",
    "stub": "pub enum Tone {\n    Kind,\n}\n\n"
    'pub fn twofer(name: &str) -> String {\n    todo!("{name}")\n}\n',
    "solution": "use std::fmt::Write;\n\n"
    "pub fn twofer(name: &str) -> String {\n    helped(name)\n}\n\n"
    'fn helped(name: &str) -> String {\n    format!("For {name}")\n}\n',
    "tests": {
        "tests/two-fer.rs": "#![allow(unused)]\nuse pretty_assertions::assert_eq;\n"
        'use twofer::twofer;\n\n#[test]\n#[ignore = "later"]\nfn one() {\n'
        '    assert_eq!(twofer("Ada"), "For Ada");\n}\n'
    },
}

RUST_FILE = """//! Numbers.
use std::collections::HashMap;
use std::fmt::Write;

const LIMIT: u32 = 10;

/// Doubles a number.
///
/// Always.
#[inline]
pub fn double(n: u32) -> u32 {
    n * 2
}

/// Counts letters.
pub fn letters(text: &str) -> HashMap<char, usize> {
    let mut found = HashMap::new();
    text.chars().for_each(|c| *found.entry(c).or_insert(0) += 1);
    found
}

/// Needs a constant of its file.
pub fn limited(n: u32) -> u32 {
    n.min(LIMIT)
}

pub fn undocumented(n: u32) -> u32 {
    n
}

/// Has no test.
pub fn untested(n: u32) -> u32 {
    n
}

fn helper() -> u32 {
    LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn works() {
        assert_eq!(double(helper()), 20);
        assert_eq!(letters("aa")[&'a'], 2);
        assert_eq!(limited(11) + undocumented(0), 10);
    }
}
"""


def _written(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_an_exercise_of_one_function_is_a_task(tmp_path: Path) -> None:
    (task,) = read_prompts(_written(tmp_path / "x", EXERCISE))
    assert task.prompt == (
        "pub enum Tone {\n    Kind,\n}\n\n"
        "/// Say whom it is for.\n///\n/// - `you` by default\n"
        "pub fn twofer(name: &str) -> String {\n"
    )
    assert (task.id, task.signature) == ("exercism/two-fer", "pub fn twofer(name: &str) -> String")
    assert (task.reference or "").startswith("    helped(name)\n}\n")
    assert "fn helped" in (task.reference or "")
    tests = task.tests or ""
    assert "mod twofer {\n    pub use super::super::*;\n}" in tests
    assert not any(word in tests for word in ("ignore", "pretty_assertions", "#!["))


def test_a_checkout_has_the_tasks_of_its_records(tmp_path: Path) -> None:
    place = tmp_path / "track" / "exercises" / "practice" / "two-fer"
    for name, content in {
        ".docs/instructions.md": EXERCISE["instructions"],
        "src/lib.rs": EXERCISE["stub"],
        ".meta/example.rs": EXERCISE["solution"],
        **EXERCISE["tests"],  # type: ignore[dict-item]
    }.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(str(content))
    (place.parent / "half" / "src").mkdir(parents=True)
    assert read_prompts(tmp_path / "track") == read_prompts(_written(tmp_path / "x", EXERCISE))


@pytest.mark.parametrize(
    "change",
    [
        {"stub": "pub struct A;\nimpl A {\n    fn a() {}\n}\n"},
        {"stub": "pub fn a() {}\npub fn b() {}\n"},
        {"stub": "pub fn a(x: ???) {}\n", "solution": ""},
        {"stub": "pub fn a(x: time::Date) {}\n"},
        {"tests": {"tests/a.rs": "use rand::Rng;\n"}},
        {"tests": ["a"]},
        {"instructions": None},
        {"stub": 7},
    ],
)
def test_an_exercise_that_is_no_task_is_left_out_or_told(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    other = EXERCISE | {"slug": "twofer"}
    path = _written(tmp_path / "x", other, EXERCISE | change)
    try:
        assert [task.id for task in read_prompts(path)] == ["exercism/twofer"]
    except UserError as error:
        assert "line 2" in str(error)


def test_a_rust_file_has_the_functions_that_stand_alone(tmp_path: Path) -> None:
    path = tmp_path / "numbers.rs"
    path.write_text(RUST_FILE)
    double, letters = read_prompts(path)
    assert double.prompt == (
        "use std::fmt::Write;\n\n/// Doubles a number.\n///\n/// Always.\n#[inline]\n"
        "pub fn double(n: u32) -> u32 {\n"
    ), "an import that no item names may be of a trait"
    assert double.reference == "    n * 2\n}\n"
    assert "HashMap;" in letters.prompt and letters.id == "numbers.rs::letters"
    hidden = double.tests or ""
    assert all(name in hidden for name in ("const LIMIT", "fn helper", "fn letters", "mod tests"))
    assert "fn untested" not in hidden and "fn double" not in hidden
    packed = tmp_path / "files.jsonl.gz"
    record = {"repo": "me/mine", "path": "src/numbers.rs", "license": "MIT", "text": RUST_FILE}
    packed.write_bytes(gzip.compress(json.dumps(record).encode()))
    assert [task.prompt for task in read_prompts(packed)] == [double.prompt, letters.prompt]
    assert [task.prompt for task in read_prompts(tmp_path / "numbers.rs")] == [
        task.prompt for task in read_prompts(packed)
    ]


@pytest.mark.parametrize(
    "foreign", ["use rand::Rng;", "fn f() { crate::g(); }", "fn f() { num_traits::one(); }"]
)
def test_what_needs_another_crate_is_no_task(tmp_path: Path, foreign: str) -> None:
    inside = f"    use super::*;\n    {foreign}\n"
    (tmp_path / "a.rs").write_text(RUST_FILE.replace("    use super::*;\n", inside))
    with pytest.raises(UserError, match="has no task"):
        read_prompts(tmp_path / "a.rs")


def test_foreign_paths_are_seen_behind_quotes_and_comments() -> None:
    source = """
    // a::b and "c::d
    const T: &str = r##"e::f " # "##; const Q: char = '"'; // "
    use std::{fmt, mem as memory};
    fn f() { fmt::x(); memory::y(); i32::max(1, 2); g::h(); let z = "i::j"; }
    """
    assert foreign_paths(source) == {"g"}
    assert foreign_paths(source, {"g"}) == set()


@settings(max_examples=300, deadline=None)
@given(cut=st.integers(0, len(RUST_FILE)), extra=st.text(max_size=8), at=st.integers(0, 400))
def test_any_text_has_items(cut: int, extra: str, at: int) -> None:
    source = (RUST_FILE[:at] + extra + RUST_FILE[at:])[:cut]
    for item in items_of(source):
        assert item.text
        assert not item.head or item.head in item.text
    foreign_paths(source)
