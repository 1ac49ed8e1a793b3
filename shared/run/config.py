"""A run's `config.yaml`: as it is written, and as values by dotted keys to show and compare."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from shared.json_text import encode_json
from shared.text import one_line

MAX_KEYS = 1000


def config_text(config: Mapping[str, Any]) -> str:
    """A resolved configuration as YAML; paths and numbers of any kind as JSON has them."""
    import yaml  # noqa: PLC0415  slow to import, rarely needed

    plain = orjson.loads(encode_json(dict(config)))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def flat_config(text: str) -> dict[str, str]:
    """A YAML mapping by dotted keys, safe to show; empty for any other text."""
    import yaml  # noqa: PLC0415  slow to import, rarely needed

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        value = yaml.load(text, loader)
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, TypeError):
        # PyYAML raises the last three for tags that do not fit, such as `!!bool x`.
        return {}
    found: dict[str, str] = {}
    waiting: list[tuple[str, Any, int]] = [("", value, 0)] if isinstance(value, dict) else []
    while waiting and len(found) < MAX_KEYS:
        prefix, value, depth = waiting.pop()
        if isinstance(value, dict) and value and depth < 8:
            inner = [
                (f"{prefix}.{k}" if prefix else str(k), v, depth + 1) for k, v in value.items()
            ]
            waiting += reversed(inner[:MAX_KEYS])
        elif prefix:
            found[one_line(prefix, 120)] = _shown(value)
    return found


def _shown(value: Any) -> str:
    if isinstance(value, (dict, list, tuple, set)):
        # YAML aliases can make a small file an endless tree: nested values are not expanded.
        items = [one_line(x, 40) if not _nested(x) else "…" for x in list(value)[:20]]
        return one_line(f"[{', '.join(items)}]", 300)
    return "" if value is None else one_line(value, 300)


def _nested(value: Any) -> bool:
    return isinstance(value, (dict, list, tuple, set))


def differences(
    first: Mapping[str, str], second: Mapping[str, str]
) -> dict[str, tuple[str | None, str | None]]:
    """The keys where two configurations differ, in file order; None where a key is missing."""
    keys = dict.fromkeys([*first, *second])
    pairs = {key: (first.get(key), second.get(key)) for key in keys}
    return {key: (here, there) for key, (here, there) in pairs.items() if here != there}
