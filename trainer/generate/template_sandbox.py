"""Chat templates are other people's programs: Jinja in a sandbox.

It is set up as in transformers, so it renders the same text. A template can reach only the messages
it is given, and its output is bounded. Neither its run time nor its memory is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from shared.errors import UserError
from shared.text import one_line

MAX_SOURCE = 1 << 20  # characters of a template
MAX_RENDERED = 1 << 24  # characters of output
#: Variables with the marks of where a generation block begins and ends.
GENERATION = ("_generation_begins", "_generation_ends")


def check_template(source: str) -> None:
    """Raise UserError if `source` is not a valid template."""
    _compiled(source)


def render_template(source: str, variables: Mapping[str, Any]) -> str:
    """The template's text for `variables`, which are plain JSON values.

    Raises UserError when the template refuses them, fails, or writes too much.
    """
    template = _compiled(source)
    try:
        return "".join(_bounded(template.generate(**variables)))
    except UserError:
        raise
    except Exception as error:  # a program may raise anything
        raise UserError(
            f"The model's chat template refuses these messages: {_words(error) or 'it failed'}."
        ) from error


def _words(error: Exception) -> str:
    """The error's message, for the middle of a sentence."""
    return one_line(error).rstrip(".")


def _bounded(pieces: Iterator[str]) -> Iterator[str]:
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > MAX_RENDERED:
            raise UserError(
                f"The model's chat template writes more than {MAX_RENDERED} characters; send less."
            )
        yield piece


@lru_cache(maxsize=8)
def _compiled(source: str) -> jinja2.Template:
    if len(source) > MAX_SOURCE:
        raise UserError(
            f"The model's chat template has {len(source)} characters, more than {MAX_SOURCE}."
        )
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals |= {
        "raise_exception": _refuse,
        "strftime_now": lambda pattern: datetime.now().strftime(pattern),
        "dict": _dict,
        "namespace": _Namespace,
    }
    try:
        return environment.from_string(source)
    except (jinja2.TemplateError, RecursionError) as error:
        raise UserError(
            f"The model's chat template cannot be read: {_words(error) or 'it nests too deeply'}."
        ) from error


class _Generation(Extension):
    """`{% generation %}` marks the assistant's text for training: its body is written between the
    variables `GENERATION`, which are empty where they are not given."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        begin, end = (nodes.Output([nodes.Name(name, "load")]) for name in GENERATION)
        return [begin, *body, end]


class _Namespace(jinja2.utils.Namespace):
    """A namespace without access to Python's own attributes."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"{name!r} cannot be set")
        super().__setitem__(name, value)


def _dict(*pairs: Any, **named: Any) -> dict[Any, Any]:
    return dict(*pairs, **named)


def _refuse(message: object) -> None:
    raise jinja2.TemplateError(str(message))


def _tojson(value: Any, indent: int | None = None, **options: Any) -> str:
    """JSON without the HTML escapes of Jinja's own filter."""
    known = {key: options[key] for key in ("separators", "sort_keys") if key in options}
    ascii_only = bool(options.get("ensure_ascii", False))
    return json.dumps(value, ensure_ascii=ascii_only, indent=indent, **known)
