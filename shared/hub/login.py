"""The access token of the Hub: from a file, HF_TOKEN, or `hf auth login`."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import get_token

from shared.errors import UserError
from shared.hub.problems import not_logged_in
from shared.text import one_line

_MAX_TOKEN = 4096


def read_token(file: Path | None = None) -> tuple[str, str]:
    """The token and where it is from. Raises UserError when there is none."""
    if file is None:
        token, where = token_if_any()
        if not token:
            raise not_logged_in()
        return token, where
    try:
        with file.open(encoding="utf-8") as stream:
            token = stream.read(_MAX_TOKEN).strip()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "it holds no text"
        raise UserError(f"The token file {one_line(file)} cannot be read: {reason}.") from None
    return _one_word(token, one_line(file)), one_line(file)


def token_if_any() -> tuple[str, str]:
    """The token of this machine and where it is from; empty for somebody who is not logged in."""
    token = get_token() or ""
    named = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
    where = "HF_TOKEN" if named else "`hf auth login`"
    return (_one_word(token, where) if token else ""), where


def _one_word(token: str, where: str) -> str:
    if len(token.split()) != 1 or not (token.isascii() and token.isprintable()):
        raise UserError(f"{where} does not contain a token: a token is one word.")
    return token
