"""A little about style: what a reviewer would name first. It is asked only of answers that work."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.rewards.rust.words import code_of

LONGEST_LINE = 100
DEEPEST_LINE = 24  # columns of white space: six levels


def style_of(completion: str, warnings: Sequence[str]) -> float:
    """The share of four rules that an answer follows. `warnings` are codes of the compiler's.

    No warnings, no panics where there is an `Option` or a `Result`, lines of at most 100 columns,
    and not deeply nested.
    """
    words = code_of(completion)
    lines = completion.splitlines()
    kept = (
        not warnings,
        not {"unwrap", "expect", "panic", "unreachable"} & set(words),
        all(len(line) <= LONGEST_LINE for line in lines),
        all(len(line) - len(line.lstrip()) <= DEEPEST_LINE for line in lines if line.strip()),
    )
    return sum(kept) / len(kept)
