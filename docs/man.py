"""Writes the manual pages of docs/man from the help of both commands.

python docs/man.py
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monitor.__main__ import build_parser
from shared import __version__
from trainer.cli.main import command_tree

FOLDER = Path(__file__).parent / "man"


def pages() -> dict[str, str]:
    """The text of every page, by the name of its file."""
    tree = command_tree()
    context = tree.context_class(tree, info_name="trainer")
    return {
        "trainer.1": "".join(_trainer(tree, context)),
        "train-monitor.1": "".join(_monitor(build_parser())),
    }


def _head(name: str, sentence: str) -> str:
    return (
        f'.TH {name.upper()} 1 "" "train-monitor {__version__}" "User Commands"\n'
        f".SH NAME\n{_text(name)} \\- {_text(sentence)}\n"
    )


def _trainer(tree: Any, context: Any) -> Iterator[str]:
    yield _head("trainer", tree.help.rstrip(".").replace("Train", "train", 1))
    yield ".SH SYNOPSIS\n.B trainer\nCOMMAND [OPTIONS]\n"
    yield ".SH DESCRIPTION\nEach command explains itself with\n.BR \\-\\-help .\n"
    yield ".SH OPTIONS\n"
    yield from _options(tree, context)
    yield ".SH COMMANDS\n"
    yield from _commands(tree, context)
    yield ".SH SEE ALSO\n.BR train\\-monitor (1)\n"


def _commands(group: Any, context: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        inner = command.context_class(command, info_name=name, parent=context)
        pieces = " ".join(command.collect_usage_pieces(inner))
        yield f'.SS "{_text(inner.command_path)} {_text(pieces)}"\n'
        yield _paragraphs(command.help or "")
        yield from _options(command, inner)
        yield _paragraphs(command.epilog or "")
        if hasattr(command, "commands"):
            yield from _commands(command, inner)


def _options(command: Any, context: Any) -> Iterator[str]:
    for parameter in command.get_params(context):
        row = parameter.get_help_record(context)
        if row is not None:
            yield f".TP\n.B {_text(row[0])}\n{_text(' '.join(row[1].split())) or '.br'}\n"


def _monitor(parser: argparse.ArgumentParser) -> Iterator[str]:
    description = parser.description or ""
    yield _head(parser.prog, description.partition(". ")[0].replace("Watch", "watch", 1))
    places = "".join(f" [{a.metavar} ...]" for a in parser._actions if not a.option_strings)
    yield f".SH SYNOPSIS\n.B {_text(parser.prog)}\n{_text(f'[OPTIONS]{places}')}\n"
    yield f".SH DESCRIPTION\n{_text(description)}\n.SH OPTIONS\n"
    for action in parser._actions:
        if action.help == argparse.SUPPRESS:
            continue
        value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
        names = ", ".join(action.option_strings)
        given = " ".join((action.help or "").split())
        yield f".TP\n.B {_text(f'{names}{value}'.strip())}\n{_text(given)}\n"
    yield f".SH KEYS AND SETTINGS\n.nf\n{_lines(parser.epilog or '')}.fi\n"
    yield ".SH SEE ALSO\n.BR trainer (1)\n"


def _paragraphs(text: str) -> str:
    """Paragraphs of a help text; click keeps the lines of one that begins with \\b."""
    written = []
    for paragraph in filter(None, map(str.strip, text.split("\n\n"))):
        if paragraph.startswith("\b"):
            kept = paragraph[1:].strip("\n")
            written.append(f".PP\n.nf\n{_lines(kept)}.fi\n")
        else:
            written.append(f".PP\n{_text(' '.join(paragraph.split()))}\n")
    return "".join(written)


def _lines(text: str) -> str:
    return "".join(f"{_text(line)}\n" for line in text.splitlines())


def _text(text: str) -> str:
    """`text` as roff prints it: no request and no escape in it."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
