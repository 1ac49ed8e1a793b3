"""The vocabulary of a GGUF file: llama.cpp's tokenizer encodes, a table decodes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from shared.errors import UserError
from shared.text import one_line
from trainer.data.byte_level import BYTE_OF_CHARACTER
from trainer.formats.gguf_parsing import GGUFFile
from trainer.serve.llama_supervisor import LlamaSupervisor

_CONTROL = 3  # the type of a token that is not text
_SPACE = "\u2581"  # how SentencePiece writes a space
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_DEFAULT_EOS = {"llama": 2, "gpt2": 11}  # llama.cpp's defaults for files that name none


class LlamaCodec:
    """Text and ids as llama.cpp has them, for every kind of vocabulary."""

    def __init__(self, file: GGUFFile, llama: LlamaSupervisor) -> None:
        tokens, kinds = (file.values.get(f"tokenizer.ggml.{k}") for k in ("tokens", "token_type"))
        if not isinstance(tokens, list) or not tokens:
            raise UserError(f"{one_line(file.path)} has no tokenizer in it.")
        if not isinstance(kinds, np.ndarray) or len(kinds) != len(tokens):
            kinds = np.ones(len(tokens), np.int32)
        kind = file.text("tokenizer.ggml.model") or ""
        spelled = _byte_level if kind == "gpt2" else _sentence_piece
        self._llama = llama
        self._bytes = [spelled(token) for token in tokens]
        self.special_ids = frozenset(np.flatnonzero(kinds == _CONTROL).tolist())
        for index in self.special_ids:
            self._bytes[index] = tokens[index].encode("utf-8", "replace")
        self.vocab_size = len(tokens)
        eos = file.values.get("tokenizer.ggml.eos_token_id", _DEFAULT_EOS.get(kind, 0))
        self.eos_id = int(eos) if isinstance(eos, int) else 0
        bos = file.values.get("tokenizer.ggml.bos_token_id")
        self.bos_id = int(bos) if isinstance(bos, int) else self.eos_id

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`, from llama.cpp. Raises RunError when it does not answer."""
        return self._ask(text, parse_special=allow_special)

    def encode_prompt(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of a prompt: with the begin token the file names, and never empty."""
        ids = self._ask(text, add_special=True, parse_special=allow_special)
        doubled = allow_special and ids[:2] == [self.bos_id] * 2
        return ids[doubled:] or [self.eos_id]

    def _ask(
        self, text: str, *, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        # JSON cannot carry a lone surrogate.
        text = text.encode("utf-8", "replace").decode("utf-8", "replace")
        request: dict[str, Any] = {"content": text, "add_special": add_special}
        answer = self._llama.ask("/tokenize", request | {"parse_special": parse_special})
        return [int(token) for token in answer["tokens"]]

    def decode_bytes(self, ids: Iterable[int], skip_special: bool = False) -> bytes:
        """The bytes of `ids`; a character may be incomplete at either end."""
        hidden = self.special_ids if skip_special else frozenset()
        return b"".join(
            self._bytes[index]
            for index in ids
            if 0 <= index < self.vocab_size and index not in hidden
        )


def _byte_level(token: str) -> bytes:
    spelled = [BYTE_OF_CHARACTER.get(character, -1) for character in token]
    return token.encode("utf-8", "replace") if -1 in spelled else bytes(spelled)


def _sentence_piece(token: str) -> bytes:
    byte = _BYTE.fullmatch(token)
    if byte:
        return bytes([int(byte[1], 16)])
    return token.replace(_SPACE, " ").encode("utf-8", "replace")
