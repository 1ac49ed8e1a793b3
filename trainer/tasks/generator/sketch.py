"""What a template draws: a task whose texts still have holes, and how to compute its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from trainer.tasks.generator.draw import Draw

Split = Literal["train", "held-out"]


@dataclass(frozen=True)
class Struct:
    """A struct of the task: its name, and the name and type of each field."""

    name: str
    fields: tuple[tuple[str, str], ...]


class Raw(str):
    """A value that is written as it is, such as a variant of an enum."""

    __slots__ = ()


def code(*lines: str) -> str:
    """Lines of code."""
    return "\n".join(lines)


@dataclass(frozen=True)
class Sketch:
    """One task of a template. `$name` in a text stands for the entry of `words`.

    `bodies` all solve the task, in different styles; lines are indented relative to the function.
    `answer` computes in Python what the function returns for each of `inputs`. `items` is code
    before the function, with which the types in `structs` are defined.
    """

    name: str
    signature: str
    doc: str
    bodies: tuple[str, ...]
    answer: Callable[..., Any]
    inputs: Sequence[tuple[Any, ...]]
    words: Mapping[str, object] = field(default_factory=dict)
    items: str = ""
    structs: tuple[Struct, ...] = ()


@dataclass(frozen=True)
class Template:
    """A way to make tasks. Its split is part of it: what is held out is never trained on."""

    family: str
    name: str
    split: Split
    draw: Callable[[Draw], Sketch]

    @property
    def id(self) -> str:
        """`family/name`."""
        return f"{self.family}/{self.name}"
