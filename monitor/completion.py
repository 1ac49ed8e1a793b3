"""Scripts with which a shell completes `train-monitor`, made from its parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True)
class _Option:
    names: Sequence[str]  # with their dashes, the shortest first
    help: str
    value: str  # empty for a flag
    words: Sequence[str]  # of which the value is one; without any, it is completed as a path


def script(shell: str, parser: argparse.ArgumentParser, words: Mapping[str, Sequence[str]]) -> str:
    """The script for `shell`; `words` are the values of options that take one of a few."""
    options = list(_options(parser, words))
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](parser.prog, options)


def _options(
    parser: argparse.ArgumentParser, words: Mapping[str, Sequence[str]]
) -> Iterator[_Option]:
    for action in parser._actions:
        if action.option_strings and action.help != argparse.SUPPRESS:
            names = sorted(action.option_strings, key=len)
            value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
            yield _Option(names, action.help or "", value, tuple(words.get(names[-1], ())))


def _bash(program: str, options: Sequence[_Option]) -> str:
    cases = "".join(
        f'    {"|".join(one.names)}) COMPREPLY=($(compgen -W "{" ".join(one.words)}" -- "$word"));'
        " return ;;\n"
        for one in options
        if one.value
    )
    every = " ".join(name for one in options for name in one.names)
    name = _function(program)
    return (
        f"{name}() {{\n"
        '  local word="${COMP_WORDS[COMP_CWORD]}"\n'
        '  case "${COMP_WORDS[COMP_CWORD - 1]}" in\n'
        f"{cases}"
        "  esac\n"
        f'  COMPREPLY=($(compgen -W "{every}" -- "$word"))\n'
        "}\n"
        # Without an answer, as for folders, bash completes names of files.
        f"complete -o default -F {name} {program}\n"
    )


def _zsh(program: str, options: Sequence[_Option]) -> str:
    lines = []
    for one in options:
        given = "".join(c if c not in "[]:\\" else f"\\{c}" for c in one.help)
        takes = f"({' '.join(one.words)})" if one.words else "_files"
        value = f":{one.value}:{takes}" if one.value else ""
        lines += [_quoted(f"{name}[{given}]{value}") for name in one.names]
    name = _function(program)
    body = " \\\n    ".join(["_arguments", *lines, "'*:place:_files'"])
    return f"#compdef {program}\n{name}() {{\n  {body}\n}}\ncompdef {name} {program}\n"


def _fish(program: str, options: Sequence[_Option]) -> str:
    lines = []
    for one in options:
        names = " ".join(
            f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in one.names
        )
        takes = f" -x -a {_quoted(' '.join(one.words))}" if one.words else " -r -F"
        value = takes if one.value else ""
        lines.append(f"complete -c {program} {names}{value} -d {_quoted(one.help)}\n")
    return "".join(lines)


def _function(program: str) -> str:
    return "_" + program.replace("-", "_")


def _quoted(text: str) -> str:
    """`text` in single quotes, for each of the three shells."""
    return "'" + text.replace("'", "'\\''") + "'"
