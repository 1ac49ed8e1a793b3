"""YAML that people write: read strictly, so that nothing in it is lost without a word."""

from __future__ import annotations

from typing import Any

import yaml

from shared.text import one_line


class DuplicateKeyError(yaml.MarkedYAMLError):
    """A key stands twice in one mapping; YAML readers would keep only the last one."""


#: Values inside values. PyYAML's time grows with the square of it, and its parser recurses.
MAX_DEPTH = 64


class StrictLoader(yaml.SafeLoader):
    """Refuses repeated keys, deep nesting and aliases, of which a few lines become a gigabyte."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """As the base class."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="aliases (*) are not supported", problem_mark=self._here()
            )
        if self._depth >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"it is nested more than {MAX_DEPTH} deep", problem_mark=self._here()
            )
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def _here(self) -> yaml.Mark | None:
        return self.peek_event().start_mark  # type: ignore[no-untyped-call, no-any-return]

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        """As the base class; raises DuplicateKeyError."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, here = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise DuplicateKeyError(
                    problem=f"{one_line(key.value, 60)!r} stands twice, in lines {lines[name]} and "
                    f"{here}; keep one",
                    problem_mark=key.start_mark,
                )
            lines[name] = here
        return node


def load_yaml(text: str) -> Any:
    """The value in a YAML text. Raises yaml.YAMLError for anything that is not strict YAML."""
    return guarded(text, StrictLoader)


def guarded(text: str, loader: type[yaml.SafeLoader]) -> Any:
    """Load `text` with `loader`; whatever it raises for a bad value becomes a yaml.YAMLError."""
    try:
        return yaml.load(text, Loader=loader)
    except RecursionError as error:
        raise yaml.MarkedYAMLError(problem="it is nested too deeply") from error
    except (ValueError, OverflowError) as error:  # an impossible date, a number of 5000 digits
        raise yaml.MarkedYAMLError(problem=str(error)) from error
