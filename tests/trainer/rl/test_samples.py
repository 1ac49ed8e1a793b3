"""Samples of an iteration: which, how large, and safe to show."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.json_text import parse_json
from trainer.rewards.interface import Verdict
from trainer.rl import samples
from trainer.rl.sampled import Sampled
from trainer.rl.samples import ANSWERS, Example, chosen, lines, shown, surplus
from trainer.tasks.prompt import Prompt


def example(
    name: str = "p", text: str = "a}", reward: float = 0.5, messages: tuple[str, ...] = ()
) -> Example:
    return Example(
        Prompt(id=name, prompt="fn a() {", language="rust"),
        "",
        Sampled((1, 2), (-0.1, -0.2), text, truncated=False),
        Verdict(reward, {"parse": reward}, True, False, None, messages),
    )


def test_the_best_and_the_worst_of_prompts_from_all_over() -> None:
    groups = [[example(f"p{p}", reward=r / 10) for r in range(5)] for p in range(20)]
    found = chosen(groups)
    assert [one.verdict.reward for one in found] == [0.4, 0.0] * (ANSWERS // 2)
    assert [one.prompt.id for one in found[::2]] == ["p0", "p5", "p10", "p15"]
    assert len(chosen([[example()] * 4])) == 1, "answers of one worth: one is enough"
    assert chosen([]) == [] and chosen([[]]) == []


def test_files_are_bounded_and_lie_evenly() -> None:
    kept: set[int] = set()
    for iteration in (1, *range(10, 2001, 10)):
        kept.add(iteration)
        kept -= set(surplus(kept, 8))
    assert len(kept) == 8 and {1, 2000} <= kept
    gaps = np.diff(sorted(kept))
    assert gaps.max() <= 2 * 2000 / 7, "no stretch of the run is without samples"
    assert surplus([3, 1], 2) == surplus([], 2) == []
    many = surplus(range(1, 50_001), 8)
    assert len(many) == 50_000 - 8 and not {1, 50_000} & set(many)


def test_a_line_holds_what_was_agreed() -> None:
    (line,) = lines([example(messages=("error[E0308]: mismatched types",))]).splitlines()
    record = parse_json(line)
    assert record["prompt_id"] == "p" and record["prompt"] == "fn a() {"
    assert record["completion"] == "a}" and record["reward"] == 0.5
    assert record["parts"] == {"parse": 0.5}
    assert (record["parsed"], record["compiled"], record["tested"]) == (True, False, None)
    assert record["messages"] == ["error[E0308]: mismatched types"]


def test_what_was_given_is_part_of_the_answer() -> None:
    one = Example(**{**vars(example()), "given": "let x = 1; "})
    record = parse_json(lines([one]))
    assert record["completion"] == "let x = 1; a}" and record["given"] == "let x = 1; "


_HOSTILE = st.text(
    st.characters(codec=None, categories=None) | st.sampled_from("\x1b\x9b\r\ud800\u202e\x00")
)


@given(text=_HOSTILE, message=_HOSTILE, name=_HOSTILE)
@settings(max_examples=40, deadline=None)
def test_any_text_is_written_and_nothing_in_it_reaches_a_terminal(
    text: str, message: str, name: str
) -> None:
    some = [example(name, text, messages=(message,))]
    data = lines(some).decode()
    assert data.count("\n") == 1
    record = parse_json(data.encode())
    for told in (shown(some), record["completion"], record["messages"][0], record["prompt_id"]):
        assert not any(c in told for c in "\x1b\x9b\x00\x07\x7f")


def test_a_file_is_small_however_much_was_said() -> None:
    flood = example(text="x" * 1_000_000, messages=("m" * 1_000_000,) * 100)
    data = lines([flood] * ANSWERS)
    most = samples.COMPLETION + samples.PROMPT + samples.MESSAGES * samples.MESSAGE + 1_000
    assert len(data) < ANSWERS * most
    assert len(shown([flood] * ANSWERS)) <= 2_000
