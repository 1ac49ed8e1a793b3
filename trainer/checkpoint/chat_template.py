"""The chat template of a model folder, where transformers keeps it."""

from __future__ import annotations

from pathlib import Path

from shared.files import open_file, read_json

TEMPLATE_FILE = "chat_template.jinja"


def read_chat_template(folder: Path) -> str | None:
    """The Jinja template in `chat_template.jinja` or in `tokenizer_config.json`, or None.

    Of several named ones it is the one called `default`.
    """
    try:
        with open_file(folder / TEMPLATE_FILE) as file:
            return file.read().decode() or None
    except (OSError, UnicodeDecodeError):
        pass
    template = (read_json(folder / "tokenizer_config.json") or {}).get("chat_template")
    if isinstance(template, list):
        named = [entry for entry in template if isinstance(entry, dict)]
        template = next((e.get("template") for e in named if e.get("name") == "default"), None)
    return template if isinstance(template, str) and template else None
