"""A complete configuration as YAML, with the description, range and default of every key."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import Any

from trainer.config.resolve import to_plain, yaml_entry
from trainer.config.schema import SECTIONS, Config
from trainer.config.section import Section

WIDTH = 96  # columns
#: Larger limits only keep computed sizes within 64 bits; nobody needs to read them.
_LARGEST_LIMIT = 10**6
_KINDS = {
    "boolean": ["true", "false"],
    "integer": ["integer"],
    "number": ["number"],
    "string": ["text"],
    "object": ["mapping"],
    "array": ["list"],
    "null": ["null"],
}


def commented_yaml(config: Config, heading: Sequence[str] = ()) -> str:
    """The configuration with every key explained; `parse_settings` reads the same one back."""
    values, defaults = to_plain(config), to_plain(Config())
    lines = [f"# {line}" for line in heading]
    lines += _entry("name", values["name"], _properties(Config)["name"], defaults["name"])
    for name, section in SECTIONS.items():
        lines += ["", f"# {section.__doc__}", f"{name}:"]
        for key, field in _properties(section).items():
            default = defaults[name].get(key, field.get("default"))  # empty parts are not dumped
            entry = _entry(key, values[name].get(key, default), field, default)
            lines += [f"  {line}" for line in entry]
    return "\n".join(lines) + "\n"


@functools.cache
def _properties(section: type[Section]) -> dict[str, Any]:
    """The JSON schema of each key."""
    properties: dict[str, Any] = section.model_json_schema()["properties"]
    return properties


def _entry(key: str, value: Any, field: dict[str, Any], default: Any) -> Iterator[str]:
    """The lines of one key: what it means; then its value, what else it may be, its default."""
    yield from (f"# {line}" for line in wrap(field["description"], WIDTH))
    *most, last = _alternatives(field)
    allowed = f"{', '.join(most)} or {last}" if most else last
    yield f"{yaml_entry(key, value)}  # {allowed}; {yaml_entry('default', default)}"


def _alternatives(field: dict[str, Any]) -> list[str]:
    """The values a key may have: `["llama", "gpt2"]`, `["integer >= 1", "null"]`."""
    if "anyOf" in field:
        return [text for option in field["anyOf"] for text in _alternatives(option)]
    if "const" in field or "enum" in field:
        return [str(value) for value in field.get("enum", [field.get("const")])]
    return [kind + _range(field) for kind in _KINDS[field["type"]]]


def _range(field: dict[str, Any]) -> str:
    """The limits of a number: ` >= 1`, ` >= 0 and < 1`."""
    limits = (
        (">=", "minimum"),
        (">", "exclusiveMinimum"),
        ("<=", "maximum"),
        ("<", "exclusiveMaximum"),
    )
    said = [
        f"{sign} {field[key]:g}"
        for sign, key in limits
        if key in field and field[key] < _LARGEST_LIMIT
    ]
    return f" {' and '.join(said)}" if said else ""
