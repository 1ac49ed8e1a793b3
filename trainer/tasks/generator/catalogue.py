"""All templates, by language."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

from shared.errors import UserError
from shared.text import nearest, one_line
from trainer.tasks.generator.draw import Draw
from trainer.tasks.generator.python import assembly as python_assembly
from trainer.tasks.generator.python import lists, numbers, texts
from trainer.tasks.generator.rust import (
    arithmetic,
    iterators,
    matching,
    options,
    slices,
    strings,
    structs,
)
from trainer.tasks.generator.rust import assembly as rust_assembly
from trainer.tasks.generator.sketch import Template
from trainer.tasks.prompt import Prompt

#: The families of a language, and the module that makes tasks of their sketches.
_FAMILIES: dict[str, tuple[ModuleType, ...]] = {
    "rust": (arithmetic, strings, slices, iterators, options, structs, matching),
    "python": (numbers, lists, texts),
}
_ASSEMBLIES: dict[str, ModuleType] = {"rust": rust_assembly, "python": python_assembly}

LANGUAGES = tuple(_FAMILIES)


def templates(language: str) -> list[Template]:
    """The templates of a language. Raises UserError for one that has none."""
    if language not in _FAMILIES:
        raise UserError(
            f"--language {one_line(language, 60)} has no tasks{nearest(language, LANGUAGES)}: "
            f"choose {' or '.join(LANGUAGES)}."
        )
    return list(_templates(_FAMILIES[language]))


def make(template: Template, language: str, seed: int, number: int) -> Prompt:
    """The task with this number: the same for the same arguments, whatever else is made."""
    draw = Draw(language, template.id, seed, number)
    name = f"{language}/{template.id}/{seed}-{number}"
    task: Prompt = _ASSEMBLIES[language].assemble(template, template.draw(draw), draw, name)
    return task


def solutions(template: Template, language: str, seed: int, number: int) -> list[str]:
    """Every solution that the template has for this task, each as what follows the prompt."""
    sketch = template.draw(Draw(language, template.id, seed, number))
    assembly = _ASSEMBLIES[language]
    return [assembly.completion_of(sketch, body) for body in dict.fromkeys(sketch.bodies)]


def _templates(families: tuple[ModuleType, ...]) -> Iterator[Template]:
    for family in families:
        for draw in family.TRAIN:
            yield Template(family.FAMILY, draw.__name__, "train", draw)
        for draw in family.HELD_OUT:
            yield Template(family.FAMILY, draw.__name__, "held-out", draw)
