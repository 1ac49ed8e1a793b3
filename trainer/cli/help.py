"""Help pages that list every command with a whole sentence, under headings, at any width."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import typer
from typer.core import TyperGroup

_REST = "Commands"  # for commands without a heading of their own
_NAME_COLUMN = 24  # columns at most
#: What help shows for a value, by the name of its type.
_VALUES = {
    "str": "TEXT",
    "int": "N",
    "int range": "N",
    "float": "NUMBER",
    "float range": "NUMBER",
    "path": "PATH",
    "file": "FILE",
    "directory": "DIR",
}


def command_groups(headings: Mapping[str, Sequence[str]]) -> type[TyperGroup]:
    """A group of commands whose help lists them under `headings`, in the order given.

    Click cuts the sentence of a command at the end of the line; here it continues on the next.
    Without a command, the help is shown.
    """

    class Group(TyperGroup):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if not args and not self.invoke_without_command:
                args = ["--help"]
            return super().parse_args(ctx, args)

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            listed = {name for names in headings.values() for name in names}
            everything = self.list_commands(ctx)
            rest = [name for name in everything if name not in listed]
            width = max(map(len, everything), default=0)  # the same under every heading
            for heading, names in (*headings.items(), (_REST, rest)):
                rows = [(name, self.get_command(ctx, name)) for name in names]
                lines = [
                    (name.ljust(width), first_sentence(command.help or ""))
                    for name, command in rows
                    if command is not None and not command.hidden
                ]
                if lines:
                    with formatter.section(heading):
                        formatter.write_dl(lines, col_max=_NAME_COLUMN)

    return Group


def command_group(sentence: str, **options: Any) -> typer.Typer:
    """A command that only has subcommands; `sentence` says what they do."""
    return typer.Typer(
        help=sentence,
        cls=command_groups({}),
        subcommand_metavar="COMMAND",
        rich_markup_mode=None,  # its table cuts long option names on a terminal of 80 columns
        **options,
    )


def name_values(command: Any) -> None:
    """Show the values of options as `N` and `TEXT`, not by the names of Python's types.

    An argument has a name that says what it is, so its type is not shown.
    """
    for inner in getattr(command, "commands", {}).values():
        name_values(inner)
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            parameter.display_type = _nothing
        elif parameter.metavar is None and not parameter.is_flag:
            kind = parameter.type_descriptor
            if not (kind.is_choice or kind.is_tuple or kind.is_datetime):
                shown = parameter.display_type(None).strip("<>")
                parameter.metavar = _VALUES.get(shown.removeprefix("list[").rstrip("]"))


def add_defaults(command: Any, keys: Mapping[str, str], recipe: str = "") -> None:
    """Show the default of each option that sets a key of a configuration; `keys` are by parameter.
    `recipe` is what the command trains by, unless told otherwise.

    Looked up when a help page is shown: the schema takes a moment to load.
    """
    for parameter in command.params:
        if parameter.name in keys:
            record, key = parameter.get_help_record, keys[parameter.name]
            parameter.get_help_record = partial(_with_default, record, key, recipe)


def _with_default(
    record: Callable[[Any], tuple[str, str] | None], key: str, recipe: str, context: Any
) -> tuple[str, str] | None:
    from trainer.config.resolve import flatten, load_source, to_plain
    from trainer.config.schema import Config

    row = record(context)
    settings, _ = load_source(recipe) if recipe else ({}, True)
    default = settings.get(key, flatten(to_plain(Config()))[key])
    # A flag is off unless it is given, and some helps say in words what takes the place of null.
    if row is None or default is None or isinstance(default, bool) or "default:" in row[1]:
        return row
    shown = f"{default:g}" if isinstance(default, float) else default
    return row[0], f"{row[1]}  [default: {shown}]"


def add_examples(command: Any, examples: Mapping[str, Sequence[str]], before: str = "") -> None:
    """Show the examples of each command at the end of its help; their keys are its words."""
    for name, inner in getattr(command, "commands", {}).items():
        words = f"{before} {name}".strip()
        if words in examples:
            # Click keeps the lines of a paragraph that begins with \b.
            inner.epilog = "\n".join(("\b", "Examples:", *(f"  {e}" for e in examples[words])))
        add_examples(inner, examples, words)


def _nothing(_context: Any) -> str:
    return ""


def first_sentence(text: str) -> str:
    """The first sentence of a help text, on one line."""
    paragraph = " ".join(text.strip().partition("\n\n")[0].split())
    sentence, stop, _ = paragraph.partition(". ")
    return sentence + stop.strip()
