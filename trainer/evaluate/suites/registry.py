"""The suites by name. A suite is one module here with a `tasks` function, and a line below."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shared.errors import UserError
from shared.files import expand_user
from shared.text import nearest, one_line
from trainer.evaluate.suites import generated, humaneval_x, rust_tasks
from trainer.evaluate.suites.suite import Suite
from trainer.tasks.prompt import Prompt
from trainer.tasks.reading import read_prompts


@dataclass(frozen=True)
class Source:
    """Where a suite's tasks come from. `download` allows to fetch what is missing."""

    download: bool = False


#: Raises UserError where the tasks are not there.
Tasks = Callable[[Source], list[Prompt]]

SUITES: Mapping[str, Tasks] = {
    "rust": lambda _source: rust_tasks.tasks(),
    "tasks": lambda _source: generated.tasks(),
    "humaneval-x": lambda source: humaneval_x.tasks(download=source.download),
}


def open_suite(name: str, source: Source | None = None) -> Suite:
    """The suite called `name`, or the tasks in the file of that name. Loads no torch.

    Raises UserError when there is none, and for tasks in more than one language.
    """
    tasks = SUITES.get(name)
    if tasks is not None:
        return _suite(name, tasks(source or Source()))
    path = expand_user(name)
    if not path.exists():
        raise UserError(
            f"--suite {one_line(name, 200)} is none of {', '.join(SUITES)}, and no file"
            f"{nearest(name, SUITES)}."
        )
    return _suite(one_line(path.name, 80), read_prompts(path))


def _suite(name: str, prompts: list[Prompt]) -> Suite:
    languages = sorted({prompt.language for prompt in prompts})
    if len(languages) > 1:
        raise UserError(
            f"The tasks of {name} are in {', '.join(map(one_line, languages))}: give one file for "
            "each language."
        )
    return Suite(name, languages[0], tuple(prompts))
