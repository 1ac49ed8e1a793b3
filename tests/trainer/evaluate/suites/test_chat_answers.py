"""The code of a reply, and the program it makes of a task."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluate.suites.chat_answers import as_answer, code_in, question, reply_end
from trainer.tasks.prompt import Prompt

HEAD = "pub fn twice(x: i32) -> i32 {\n"
PROMPT = Prompt("a", f"/// Twice.\n{HEAD}", "rust", signature="pub fn twice(x: i32) -> i32")
WITH_TYPES = Prompt(
    "b",
    "use std::fmt;\nuse std::io;\n\n"
    "/// A point.\n#[derive(Debug)]\npub struct P {\n    x: i32,\n}\n\n"
    f"fn helper() {{}}\n\n/// Twice.\n#[inline]\n{HEAD}",
    "rust",
    signature="pub fn twice(x: i32) -> i32",
)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("Sure:\n```rust\nfn a() {}\n```\nDone.", "fn a() {}\n"),
        ("```python\nx\n```\n```rs\nfn b() {}\n```", "fn b() {}\n"),
        ("```\nfn c() {}\n```", "fn c() {}\n"),
        ("```python\nx\n```", "x\n"),
        ("```rust\nfn d() {", "fn d() {"),
        ("<think>\n```rust\nno\n```\n</think>\n```rust\nfn e() {}\n```", "fn e() {}\n"),
        ("<think>forever", ""),
        ("fn f() {}", "fn f() {}"),
        ("````rust\n// ```\nfn g() {}\n````", "// ```\nfn g() {}\n"),
        ("~~~rust\nfn h() {}\n~~~", "fn h() {}\n"),
        ("Use `x` or ```y``` inline: fn i() {}", "Use `x` or ```y``` inline: fn i() {}"),
    ],
)
def test_code_is_what_the_fence_holds(reply: str, code: str) -> None:
    assert code_in(reply, "rust") == code


def test_a_reply_ends_with_its_first_block() -> None:
    text = "Here:\n```rust\nfn a() {}\n```\n"
    assert reply_end(text) == len(text)
    assert reply_end(text[:-5]) is None
    assert reply_end("<think>```\nx\n```\n") is None


def test_a_body_continues_the_prompt_and_a_function_replaces_it() -> None:
    answer = as_answer(PROMPT, "    2 * x\n}\n")
    assert answer.prompt is PROMPT
    code = f"/// Twice it.\n{HEAD}    2 * x\n}}\n"
    answer = as_answer(PROMPT, code)
    assert (answer.prompt.prompt, answer.completion) == ("", code)
    assert answer.prompt.signature == PROMPT.signature


def test_what_the_function_needs_and_the_reply_leaves_out_is_kept() -> None:
    code = f"use std::io;\n\nfn helper() {{ println!(); }}\n\n{HEAD}    2 * x\n}}\n"
    answer = as_answer(WITH_TYPES, code)
    kept = "use std::fmt;\n/// A point.\n#[derive(Debug)]\npub struct P {\n    x: i32,\n}\n\n"
    assert answer.prompt.prompt == kept


def test_python_keeps_its_imports() -> None:
    prompt = Prompt(
        "c", 'from typing import List\n\n\ndef f(x: List[int]) -> int:\n    """Doc."""\n', "python"
    )
    answer = as_answer(prompt, "def f(x):\n    return 1\n")
    assert answer.prompt.prompt == "from typing import List\n\n"


def test_the_question_holds_the_prompt() -> None:
    assert f"```rust\n/// Twice.\n{HEAD.rstrip()}\n```" in question(PROMPT)


@given(st.text(alphabet="`~rust<think>/\n fn{}#", max_size=200))
def test_any_reply_makes_an_answer(reply: str) -> None:
    reply_end(reply)
    answer = as_answer(WITH_TYPES, code_in(reply, "rust"))
    assert WITH_TYPES.prompt.startswith(answer.prompt.prompt[:1])
    assert answer.prompt.id == WITH_TYPES.id and answer.completion in reply + reply
