"""What is counted in an answer: what it wrote, by its syntax and not by its words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.rewards.python.inside.quality import measure as measure_python
from trainer.rewards.quality import Quality
from trainer.rewards.rust.quality import MAX_BYTES, measure_rust


def quality(program: str, begin: int = 0) -> Quality:
    found = measure_rust(program, begin)
    assert found is not None
    return found


def of_body(body: str) -> Quality:
    return quality("fn f() { " + body + "\n}")


@pytest.mark.parametrize(
    ("body", "complexity", "nesting"),
    [
        ("", 1, 0),
        ("if a { 1 } else { 2 }", 2, 1),
        ("if a { 1 } else if b { 2 } else if c { 3 } else { 4 }", 4, 1),
        ("if a && b || c { }", 4, 1),
        ("match x { 1 => 2, 3 => 4, _ => 5 }", 3, 1),
        ("match x { _ => 5 }", 1, 1),
        ("for i in 0..3 { while a { if b { } } }", 4, 3),
        ("loop { break; }", 1, 1),
        ("let y = x?; y", 1, 0),
        ("v.iter().for_each(|x| { if x > 1 { } });", 2, 1),
        ("if let Some(x) = y { }", 2, 1),
        ('println!("if a && b"); // if c && d { }', 1, 0),
        ("if a { } if b { for x in y { } }", 4, 2),
    ],
)
def test_complexity_and_nesting(body: str, complexity: int, nesting: int) -> None:
    found = of_body(body)
    assert (found.complexity, found.nesting, found.functions) == (complexity, nesting, 1)


def test_each_function_has_its_own_and_a_test_has_none() -> None:
    found = quality(
        "fn f() { if a { fn g() { if b { if c { } } } } }\n"
        "impl X { fn h(&self) { for a in b { } } }\n"
        "#[test]\nfn t() { if a { } }"
    )
    assert (found.functions, found.complexity, found.nesting) == (3, 2 + 3 + 2, 1 + 2 + 1)


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ("v.iter().map(|x| x + 1).collect::<Vec<_>>()", {"iterators", "closures"}),
        ("(1..=n).sum()", {"iterators"}),
        ("x.map(|y| y)", {"closures"}),
        ("p.count", set()),
        ("match x { _ => 1 }", {"match"}),
        ("Some(x?)", {"error_handling"}),
        ("let x: Option<u8> = y; x", {"error_handling"}),
        ("let x = Ok(1);", {"error_handling"}),
        ("x.parse()?", {"error_handling"}),
        ('"Some(v.iter().rev()) |x| match x { }"', set()),
        ("/* Result match */ 1 // Option", set()),
    ],
)
def test_idioms(body: str, seen: set[str]) -> None:
    found = of_body(body)
    names = {"iterators", "closures", "match", "error_handling"}
    assert {name for name in names if getattr(found, name)} == seen


def test_only_what_the_answer_wrote_counts() -> None:
    prompt = (
        "/// Half of it: naïve.\nfn helper() -> u8 { if a { } match b { _ => 1 } }\n"
        "/// The first.\npub fn first(v: &[u8]) -> Option<u8> {\n"
        "    if v.is_empty() { return None; }"
    )
    answer = "\n    let x = v[0];\n    x\n}\n\n/// Another.\nfn other() {}\n\nfn bare() {}\n"
    found = quality(prompt + answer, len(prompt))
    assert found.functions == 3
    assert (found.own_functions, found.documented) == (2, 1)
    assert not found.match and not found.error_handling
    assert found.complexity == 3, "the prompt's own branches are not the model's"


@pytest.mark.parametrize(
    ("before", "documented"),
    [
        ("/// It.\n", 1),
        ("/** It. */\n", 1),
        ("/// It.\n#[inline]\n", 1),
        ('#[doc = "It."]\n', 1),
        ("// It.\n", 0),
        ("//! It.\n", 0),
        ("", 0),
    ],
)
def test_documentation(before: str, documented: int) -> None:
    assert quality(f"{before}pub fn f() {{}}").documented == documented


def test_hostile_programs() -> None:
    deep = "fn f() { " + "if a {" * 3000 + "(" * 3000 + ")" * 3000 + "}" * 3000 + " }"
    assert quality(deep).nesting == 3000
    assert measure_rust("x" * (MAX_BYTES + 1)) is None
    assert quality("").functions == 0


@given(st.text(), st.integers(0, 50))
def test_any_text_has_a_quality(program: str, begin: int) -> None:
    assert measure_rust(program, begin) is not None


def python(program: str, given: int = 0) -> Quality:
    found = measure_python({"source": program, "given": given})
    assert found is not None
    return Quality(**found)


@pytest.mark.parametrize(
    ("body", "complexity", "nesting"),
    [
        ("pass", 1, 0),
        ("if a: b\n    elif c: d\n    else: e", 3, 1),
        ("if a: b\n    else:\n        if c: d", 3, 2),
        ("return 1 if a and b or c else 2", 4, 0),
        ("for x in y:\n        while x:\n            if x: break", 4, 3),
        ("return [x for x in y if x if y for z in x]", 5, 0),
        ("try: a\n    except A: b\n    except B: c\n    finally: d", 3, 1),
        ("match a:\n        case 1: b\n        case _: c", 2, 1),
        ("'if a and b'  # if c", 1, 0),
        ("return lambda x: x if x else 0", 2, 0),
    ],
)
def test_complexity_and_nesting_of_python(body: str, complexity: int, nesting: int) -> None:
    found = python(f"def f():\n    {body}\n")
    assert (found.complexity, found.nesting, found.functions) == (complexity, nesting, 1)


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        ("return sum(x)", {"iterators"}),
        ("return {x: 1 for x in y}", {"iterators"}),
        ("yield 1", {"iterators"}),
        ("return x.sum()", set()),
        ("return sorted(x, key=lambda y: -y)", {"iterators", "closures"}),
        ("def g(): return 1\n    return g", {"closures"}),
        ("match x:\n        case _: pass", {"match"}),
        ("raise ValueError", {"error_handling"}),
        ("return 'try: sum([x for x in y])'", set()),
    ],
)
def test_idioms_of_python(body: str, seen: set[str]) -> None:
    found = python(f"def f(x):\n    {body}\n")
    names = {"iterators", "closures", "match", "error_handling"}
    assert {name for name in names if getattr(found, name)} == seen


def test_only_what_a_python_answer_wrote_counts() -> None:
    given = (
        'def helper(x):\n    """Naïve."""\n    return sum(x) if x else 0\n\n\n'
        'def first(v):\n    """The first."""\n    if not v: return None\n'
    )
    answer = (
        '    return v[0]\n\ndef other():\n    """Another."""\n\ndef test_it(): assert first([1])\n'
    )
    found = python(given + answer, len(given))
    assert (found.functions, found.own_functions, found.documented) == (2, 1, 1)
    assert not found.iterators
    assert found.complexity == 2, "the prompt's own branches are not the model's"


@given(st.text(), st.integers(0, 50))
def test_any_text_is_measured_or_is_no_python(program: str, given: int) -> None:
    measure_python({"source": program, "given": given})
