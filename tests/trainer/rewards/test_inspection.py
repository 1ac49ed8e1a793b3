"""What is found out about an answer without compiling it, whatever it holds."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from tests.faults.counts import times
from tests.rust import ADD
from trainer.rewards.interface import Answer
from trainer.rewards.rust.harness import prepare_tests
from trainer.rewards.rust.inspection import Inspector
from trainer.rewards.rust.lexing import braces, tokens
from trainer.rewards.rust.program import end_of_answer
from trainer.rewards.rust.toolchain import find_toolchain
from trainer.rewards.rust.tree import TreeParser

PIECES = (
    "{", "}", "(", ")", "[", "]", "<", ">", ";", ",", "'", '"', "\\", "//", "/*", "*/", 'r#"', "#",
    "!", "::", "=>", "->", "&", "|", "?", ".", "=", "let ", "fn ", "loop ", "return ", "match ",
    "if ", "else ", "impl ", "use ", "std", "crate", "super", "self", "todo", "add", "a", "b", "x",
    "1", "\n", "é", "\u200b", "\0", "\ud800", "mod ", "#[cfg(test)]", "#[test]", "'a", "'x'",
    "for ", "in ", "0..",
)  # fmt: skip
rust_like = st.lists(st.sampled_from(PIECES), max_size=60).map("".join)
INSPECTOR = Inspector()


@settings(max_examples=times(25, 2000))
@given(st.one_of(rust_like, st.text(max_size=200)), st.booleans(), st.booleans())
def test_any_text_can_be_inspected(text: str, whole: bool, tested: bool) -> None:
    task = replace(ADD, prompt="") if whole else ADD
    found = INSPECTOR.inspect(Answer(task, text), tested=tested)
    assert 0 <= found.share <= 1
    assert found.parsed == (found.refusal is None and found.share == 1)
    found.program.source.encode()


@settings(max_examples=times(25, 2000))
@given(rust_like, st.one_of(rust_like, st.text(max_size=100)))
def test_any_prompt_can_be_answered(prompt: str, head: str) -> None:
    task = replace(ADD, prompt=prompt, signature=head, tests=head, reference=prompt)
    INSPECTOR.inspect(Answer(task, " a + b }"), tested=True)
    prepare_tests(TreeParser(), head)


@settings(max_examples=times(25, 2000))
@given(rust_like)
def test_tokens_are_the_text(text: str) -> None:
    found = list(tokens(text))
    assert "".join(text[token.start : token.end] for token in found) == text
    signs = [token.start for token in found if token.kind == "sign"]
    assert list(braces(text)) == [place for place in signs if text[place] in "{}"]


@settings(max_examples=times(25, 2000))
@given(rust_like)
def test_an_answer_ends_once(text: str) -> None:
    end = end_of_answer(text)
    if end is not None:
        assert text[:end].endswith("}")
        assert end_of_answer(text[:end]) == end
        assert all(end_of_answer(text[:cut]) is None for cut in range(end))


def test_points_grow_with_what_is_right_of_an_answer() -> None:
    lines = [f"    let v{n} = a + {n};\n" for n in range(10)]
    shares = []
    for wrong in (1, 5, 9):
        text = "".join([*lines[:wrong], "    let = ;\n", *lines[wrong:], "    a\n}\n"])
        shares.append(INSPECTOR.inspect(Answer(ADD, text), tested=False).share)
    assert 0 < shares[0] < shares[1] < shares[2] < 1


def test_without_rustc_a_sentence_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither on PATH nor in ~/\.cargo/bin"):
        find_toolchain(path=str(tmp_path), home=tmp_path)


@pytest.mark.slow
def test_behind_the_shim_of_rustup_the_real_rustc_is_used(tmp_path: Path) -> None:
    real = tmp_path / "toolchain" / "bin" / "rustc"
    shim = tmp_path / ".cargo" / "bin" / "rustc"
    for file, script in (
        (real, "echo 'rustc 1.99.0 (abc 2030-01-01)'"),
        (shim, f'[ "$1" = --print ] && echo {tmp_path}/toolchain'),
    ):
        file.parent.mkdir(parents=True)
        file.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    found = find_toolchain(path=os.devnull, home=tmp_path)
    assert (found.rustc, found.version) == (real, "rustc 1.99.0")
    real.write_text("#!/bin/sh\necho broken >&2\nexit 1\n", "utf-8")
    with pytest.raises(UserError, match="does not work"):
        find_toolchain(path=os.devnull, home=tmp_path)
