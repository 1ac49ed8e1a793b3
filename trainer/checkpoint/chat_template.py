"""The chat template of a model folder, where transformers keeps it."""

from __future__ import annotations

import os
from pathlib import Path

from shared.errors import UserError
from shared.files import load_json_if_any, read_bytes
from shared.text import one_line
from trainer.data.tokenizer import CHAT_TEMPLATE, MAX_TEMPLATE

TEMPLATE_FILE = CHAT_TEMPLATE


def read_chat_template(folder: Path) -> str | None:
    """The Jinja template in `chat_template.jinja` or in `tokenizer_config.json`, or None.

    Of several named ones it is the one called `default`. Raises UserError for a file that cannot
    be read or is far larger than any template.
    """
    file = folder / TEMPLATE_FILE
    if os.path.lexists(file):
        try:
            return read_bytes(file, MAX_TEMPLATE).decode() or None
        except OSError as error:
            raise UserError(f"Cannot read {one_line(file)}: {error.strerror}.") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{one_line(file)} is not UTF-8: {one_line(error)}.") from error
    template = load_json_if_any(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        named = [entry for entry in template if isinstance(entry, dict)]
        template = next((e.get("template") for e in named if e.get("name") == "default"), None)
    return template if isinstance(template, str) and template else None
