from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from shared.errors import UserError
from trainer.cli.empty_values import refuse_empty_values
from trainer.cli.hub import hf_upload
from trainer.cli.main import app, main


def options(command: Any, path: tuple[str, ...] = ()) -> Iterator[list[str]]:
    """Every option of every command that takes a value."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from options(inner, (*path, name))
    for option in command.params:
        takes_value = option.param_type_name == "option" and not option.is_flag
        if takes_value and not {"--prompt", "--system", "--stop"} & {*option.opts}:
            yield [*path, next(name for name in option.opts if name.startswith("--"))]


EVERY = list(options(typer.main.get_command(app)))


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_no_option_takes_an_empty_value(words: list[str]) -> None:
    for given in ([*words, ""], [*words, "  "], [*words[:-1], f"{words[-1]}="]):
        with pytest.raises(UserError, match=f"The value of {words[-1]} is empty"):
            refuse_empty_values(given)


def test_the_programs_ask(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare-data", "--text", ""]) == 2
    assert main(["status", ""]) == 2
    assert hf_upload.main(["--checkpoint", ""]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 3
    assert all("is empty" in line and "variable" in line for line in errors)


@pytest.mark.parametrize(
    "words",
    [["generate", "--prompt", ""], ["runs", "note", "it", ""], ["runs", "rename", "it", ""]],
)
def test_text_may_be_empty_where_that_means_something(words: list[str]) -> None:
    refuse_empty_values(words)
