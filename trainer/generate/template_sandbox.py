"""Chat templates are programs out of other people's files: Jinja in a sandbox.

It is set up as transformers sets it up, so that the same text comes out. A template reaches nothing
but the messages it is given, and what it writes is bounded; that it ends at all, or takes little
memory meanwhile, cannot be promised.
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
MAX_RENDERED = 1 << 24  # characters that one may write


def check_template(source: str) -> None:
    """Raise UserError when `source` is no template."""
    _compiled(source)


def render_template(source: str, variables: Mapping[str, Any]) -> str:
    """The text that the template makes of `variables`, which are plain JSON values.

    Raises UserError when it refuses them, fails, or writes without end.
    """
    template = _compiled(source)
    try:
        return "".join(_bounded(template.generate(**variables)))
    except UserError:
        raise
    except Exception as error:  # it is a program: anything may go wrong in it
        raise UserError(
            f"The model's chat template refuses these messages: {_words(error) or 'it failed'}."
        ) from error


def _words(error: Exception) -> str:
    """What it says, to stand in a sentence."""
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
    """`{% generation %}` marks what the assistant says, for training; here its body is all."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(jinja2.utils.Namespace):
    """A namespace without a way to Python's own attributes."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"{name!r} cannot be set")
        super().__setitem__(name, value)


def _dict(*pairs: Any, **named: Any) -> dict[Any, Any]:
    return dict(*pairs, **named)


def _refuse(message: object) -> None:
    raise jinja2.TemplateError(str(message))


def _tojson(value: Any, indent: int | None = None, **options: Any) -> str:
    """Without the escapes for HTML of Jinja's own filter."""
    known = {key: options[key] for key in ("separators", "sort_keys") if key in options}
    ascii_only = bool(options.get("ensure_ascii", False))
    return json.dumps(value, ensure_ascii=ascii_only, indent=indent, **known)
