"""Options that several values may follow, as a shell's glob gives them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from typer.core import TyperCommand


class SeveralValues(TyperCommand):
    """A command without arguments, in which `--text a b` is `--text a --text b`.

    Only options that may be given several times take more than one value.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the name of an option before each of its values."""
        repeated = {
            name for parameter in self.params if parameter.multiple for name in parameter.opts
        }
        return super().parse_args(ctx, list(_repeated(args, repeated)))


def _repeated(args: Sequence[str], names: set[str]) -> Iterator[str]:
    name, has_value = "", False
    for arg in args:
        if arg.startswith("-") and arg != "-":
            option, equals, _ = arg.partition("=")
            name, has_value = (option, bool(equals)) if option in names else ("", False)
        elif name and has_value:
            yield name
        else:
            has_value = True
        yield arg
