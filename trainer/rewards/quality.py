"""What code looks like, in figures that every language fills in its own way."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Quality:
    """What an answer wrote.

    `functions` are those whose body it wrote or ended; `complexity` and `nesting` are sums over
    them. `own_functions` are those it also began, `documented` how many of these have a doc
    comment. The others say whether the answer uses them at all.
    """

    functions: int
    own_functions: int
    documented: int
    complexity: int
    nesting: int
    iterators: bool
    closures: bool
    match: bool
    error_handling: bool
