"""The tokenizer: lossless byte-level BPE, or one token per byte, in the Hugging Face format.

Both kinds cover all 256 bytes, so any text survives a round trip. The `ascii` character set is the
exception: 99 tokens, and text outside it is refused or replaced.

`merges.txt` has no place for the pattern that splits text, so its version line names it; a pair of
files without that name is read as GPT-2's.
"""

from __future__ import annotations

import array
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import orjson
import tokenizers
from tokenizers import models

from shared.errors import UserError
from shared.files import load_json_if_any, replace_file
from shared.json_text import encode_json
from shared.text import one_line, plural
from trainer.data.byte_level import (
    ASCII_PADDING,
    BYTE_OF_CHARACTER,
    CHARACTER_OF_BYTE,
    END_OF_TEXT,
    GPT2_PATTERN,
    PADDING,
    QWEN2_PATTERN,
    byte_level_backend,
)
from trainer.data.special_tokens import KNOWN_ENDS, KNOWN_PADS, refuse_huge, special_token
from trainer.data.split_name import name_of_split, steps_of
from trainer.data.tokenizer_place import gpt2_pair, why_other_kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["bpe", "char"]
Charset = Literal["bytes", "ascii"]

#: Where transformers keeps the chat template of a model folder, if not in its tokenizer_config.
CHAT_TEMPLATE = "chat_template.jinja"
MAX_TEMPLATE = 1 << 20  # bytes
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")

_SURROGATES = re.compile("[\ud800-\udfff]")


class Tokenizer:
    """Text to token ids and back.

    `decode(encode(text)) == text` for every str if `lossless`; lone surrogates, which UTF-8 cannot
    hold, become U+FFFD. `<|endoftext|>` in a text is encoded as ordinary characters, unless the
    caller passes `allow_special`.
    """

    def __init__(self, backend: tokenizers.Tokenizer, config: dict[str, Any] | None = None) -> None:
        """Wrap `backend`; `config` is a `tokenizer_config.json`, kept when saving.

        Raises UserError when the vocabulary has no end-of-text token.
        """
        backend.no_padding()
        backend.no_truncation()
        backend.encode_special_tokens = True
        self._backend = backend
        self._config = dict(config or {})
        self._state: dict[str, Any] = orjson.loads(backend.to_str())
        vocabulary = backend.get_vocab(with_added_tokens=True)
        self.vocab_size: int = max(vocabulary.values(), default=-1) + 1
        eos_token = special_token(self._config, "eos_token", vocabulary, KNOWN_ENDS)
        if eos_token is None:
            raise UserError(
                "the tokenizer has no end-of-text token: add one named <|endoftext|>, or name its "
                "own as eos_token in a tokenizer_config.json beside it"
            )
        self.eos_token = eos_token
        self.pad_token = (
            special_token(self._config, "pad_token", vocabulary, KNOWN_PADS) or self.eos_token
        )
        self.bos_token = special_token(self._config, "bos_token", vocabulary, ()) or self.eos_token
        self.eos_id: int = vocabulary[self.eos_token]
        self.pad_id: int = vocabulary[self.pad_token]
        begin = special_token(self._config, "bos_token", vocabulary, ())
        self.bos_id: int = vocabulary[begin or self.eos_token]

    # Loading and saving

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """The tokenizer in a `tokenizer.json`, or in a directory that holds one or GPT-2's pair of
        files.

        Raises UserError when there is none or it cannot be read.
        """
        path = Path(path)
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            if pair := gpt2_pair(path):
                return cls.from_vocab_merges(*pair)
            if why := why_other_kind(path):
                raise UserError(why)
            raise UserError(
                f"no tokenizer at {path}: give a tokenizer.json or its directory; `trainer "
                "tokenizer train` and `trainer prepare-data` make one"
            )
        refuse_huge(file)
        try:
            backend = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises bare Exception for anything it cannot read
            raise UserError(f"{file} is not a Hugging Face tokenizer: {one_line(error)}") from error
        config = load_json_if_any(file.parent / "tokenizer_config.json")
        template = file.parent / CHAT_TEMPLATE
        if template.is_file() and template.stat().st_size <= MAX_TEMPLATE:
            # Kept with the rest, so that the template goes where the tokenizer goes.
            config = {**config, "chat_template": template.read_text("utf-8", "replace")}
        return cls(backend, config)

    @classmethod
    def from_vocab_merges(cls, vocab: str | Path, merges: str | Path) -> Tokenizer:
        """Byte-level BPE from the GPT-2 file pair `vocab.json` and `merges.txt`.

        Splits with the pattern that `merges.txt` names in its first line, or else GPT-2's. An
        end-of-text token is added after the vocabulary when it has none.
        """
        vocab, merges = Path(vocab), Path(merges)
        refuse_huge(vocab, merges)
        try:
            with merges.open(encoding="utf-8") as file:
                pattern = QWEN2_PATTERN if "pre=qwen2" in file.readline() else GPT2_PATTERN
            model = models.BPE.from_file(str(vocab), str(merges))
        except OSError as error:
            raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
        except Exception as error:  # as in load
            raise UserError(
                f"{vocab} and {merges} are not a GPT-2 vocabulary and its merges: {one_line(error)}"
            ) from error
        backend = byte_level_backend(model, pattern)
        known = backend.get_vocab()
        ends = [token for token in KNOWN_ENDS if token in known] or [END_OF_TEXT]
        pads = [token for token in (PADDING, ASCII_PADDING) if token in known]
        backend.add_special_tokens(ends + pads)
        return cls(backend)

    def save(self, directory: str | Path, context: int | None = None) -> None:
        """Write `files` to a folder, which then loads with `transformers.AutoTokenizer`, with the
        same ids."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in self.files(context).items():
            replace_file(directory / name, data)

    def files(self, context: int | None = None) -> dict[str, bytes]:
        """`tokenizer.json`, `tokenizer_config.json` and for BPE the GPT-2 file pair, by name.

        `context` is the most tokens of the model that it belongs to, if it is known.
        """
        files: dict[str, bytes] = {}
        model = self._state["model"]
        if model["type"] == "BPE":
            files["vocab.json"] = orjson.dumps(model["vocab"]) + b"\n"
            header = "#version: 0.2" + (f" pre={self.pre}" if self.pre else "")
            lines = [header, *(" ".join(pair) for pair in self.merges)]
            files["merges.txt"] = "\n".join(lines).encode() + b"\n"
        # Code of its own is neither run nor copied.
        kept = {key: value for key, value in self._config.items() if key != "auto_map"}
        config = kept | {
            # transformers 5 writes a class name that version 4 cannot load; both load this one.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self._config.get("bos_token") or self.eos_token,
            "eos_token": self.eos_token,
            "pad_token": self.pad_token,
            "clean_up_tokenization_spaces": False,
            "padding_side": "left",  # a prompt must end where its continuation begins
        }
        if context is not None:
            config["model_max_length"] = context
        files["tokenizer_config.json"] = encode_json(config, indent=True) + b"\n"
        files["tokenizer.json"] = self._backend.to_str(pretty=True).encode() + b"\n"
        return files

    def to_json(self) -> str:
        """The content of `tokenizer.json`, compact."""
        return self._backend.to_str()

    # What it is

    @property
    def chat_template(self) -> str | None:
        """The Jinja template of its model's conversations; of several named ones the default."""
        template = self._config.get("chat_template")
        if isinstance(template, list):
            named = [entry for entry in template if isinstance(entry, dict)]
            template = next((e.get("template") for e in named if e.get("name") == "default"), None)
        return template if isinstance(template, str) and template else None

    def with_chat_template(self, source: str) -> Tokenizer:
        """The tokenizer with this chat template, which goes where it goes."""
        return Tokenizer(self._backend, {**self._config, "chat_template": source})

    @property
    def merges(self) -> list[tuple[str, str]]:
        """The merges, most important first, as pairs of vocabulary strings."""
        pairs = self._state["model"].get("merges", [])
        split = (pair.split(" ") if isinstance(pair, str) else pair for pair in pairs)
        return [(left, right) for left, right in split]

    @property
    def vocabulary(self) -> dict[str, int]:
        """The id of every token by its spelling, in byte characters where it is byte-level."""
        return self._backend.get_vocab(with_added_tokens=True)

    @property
    def normalizes(self) -> bool:
        """Whether text is changed before it is split."""
        return self._state["normalizer"] is not None

    def normalized(self, text: str) -> str:
        """What the normalizer makes of `text` before it is split."""
        normalizer = self._backend.normalizer
        if normalizer is None:
            return text
        return str(normalizer.normalize_str(_SURROGATES.sub("\ufffd", text)))

    @cached_property
    def kind(self) -> Kind:
        """`char` for one token per byte or character, `bpe` for anything that merges."""
        return "char" if self._is_byte_level and not self.merges else "bpe"

    @cached_property
    def pre(self) -> str | None:
        """llama.cpp's name for the split (`tokenizer.ggml.pre`); None if it has none.

        Without merges the split has no effect, so any name is right; this returns the simplest.
        """
        if not self._is_byte_level:
            return None
        if not self.merges:
            return "gpt-2"
        return name_of_split(self._state)

    @cached_property
    def hash(self) -> str:
        """16 hex digits of the SHA-256 of `tokenizer.json` in canonical form."""
        parts = {k: v for k, v in self._state.items() if k not in ("padding", "truncation")}
        canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    @property
    def lossless(self) -> bool:
        """Whether every text survives a round trip exactly."""
        return (
            self._is_byte_level
            and self._state["normalizer"] is None
            and not any(s.get("add_prefix_space") for s in steps_of(self._state["pre_tokenizer"]))
            and bool((self._id_of_byte >= 0).all())
        )

    @property
    def restricted(self) -> bool:
        """True when some bytes have no token, so that `encode` may refuse a text."""
        return self._is_byte_level and bool((self._id_of_byte < 0).any())

    @cached_property
    def _is_byte_level(self) -> bool:
        return self._state["model"]["type"] == "BPE" and any(
            step["type"] == "ByteLevel" for step in steps_of(self._state["decoder"])
        )

    @cached_property
    def _id_of_byte(self) -> NDArray[np.int64]:
        vocabulary = self._state["model"]["vocab"]
        ids = [vocabulary.get(CHARACTER_OF_BYTE[byte], -1) for byte in range(256)]
        return np.array(ids, dtype=np.int64)

    @cached_property
    def _bytes_of_id(self) -> list[bytes]:
        table = [b""] * self.vocab_size
        for token, index in self._backend.get_vocab(with_added_tokens=True).items():
            spelled = [BYTE_OF_CHARACTER.get(character, -1) for character in token]
            # Added tokens may be spelled in plain text instead of byte characters.
            table[index] = token.encode() if -1 in spelled else bytes(spelled)
        return table

    @cached_property
    def _special_backend(self) -> tokenizers.Tokenizer:
        backend = tokenizers.Tokenizer.from_str(self._backend.to_str())
        backend.encode_special_tokens = False
        return backend

    @cached_property
    def begin_ids(self) -> list[int]:
        """The ids that transformers puts before a text: none with our own tokenizers, often a bos
        token with others, whose models saw every text begin with it."""
        ids: list[int] = []
        for step in steps_of(self._state["post_processor"]):
            for piece in step.get("single", ()) if step["type"] == "TemplateProcessing" else ():
                if "SpecialToken" not in piece:
                    break
                ids += step["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
        return [index for index in ids if index < self.vocab_size]

    # Text to ids

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`, no token added at either end.

        With `allow_special` the spelling of a special token becomes that token, for templates of
        our own. Raises UserError for characters that a `restricted` tokenizer lacks.
        """
        if allow_special:
            text = _SURROGATES.sub("\ufffd", text)
            self._refuse_outside(text)
            return list(self._special_backend.encode(text, add_special_tokens=False).ids)
        return [*self.encode_arrays([text])[0].tolist()]

    def encode_places(self, text: str) -> list[tuple[int, int, int]]:
        """The ids of `text`, special tokens included, each with where it begins and ends there.

        Places count characters. The tokens of a part of a character have its whole place.
        """
        text = _SURROGATES.sub("\ufffd", text)
        self._refuse_outside(text)
        found = self._special_backend.encode(text, add_special_tokens=False)
        return [(i, begin, end) for i, (begin, end) in zip(found.ids, found.offsets, strict=True)]

    def encode_prompt(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of a prompt: with the model's begin token where it has one, and never empty.

        `allow_special` as in `encode`; a begin token that is spelled out is not put in twice.
        """
        ids, begin = self.encode(text, allow_special), self.begin_ids
        spelled = allow_special and ids[: len(begin)] == begin
        return (ids if spelled else [*begin, *ids]) or [self.eos_id]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts at once, in parallel."""
        return [ids.tolist() for ids in self.encode_arrays(texts)]

    def encode_arrays(self, texts: Sequence[str]) -> list[NDArray[np.uint32]]:
        """`encode_batch` as arrays, which is fast enough for a corpus. Releases the GIL."""
        if self.restricted:
            for text in texts:
                self._refuse_outside(text)
        if self.kind == "char" and self._state["normalizer"] is None:
            return [self._encode_bytes(text) for text in texts]
        try:
            encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError:  # what tokenizers raises for a lone surrogate
            mended = [_SURROGATES.sub("\ufffd", text) for text in texts]
            encodings = self._backend.encode_batch_fast(mended, add_special_tokens=False)
        # array.array reads a list of ints in half the time numpy takes.
        return [
            np.frombuffer(array.array("I", encoding.ids), dtype=np.uint32) for encoding in encodings
        ]

    def _encode_bytes(self, text: str) -> NDArray[np.uint32]:
        data = _SURROGATES.sub("\ufffd", text).encode()
        return self._id_of_byte[np.frombuffer(data, dtype=np.uint8)].astype(np.uint32)

    def outside(self, text: str) -> list[str]:
        """The characters of `text`, in order and with repeats, that have no token."""
        if not self.restricted:
            return []
        data = np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
        if (self._id_of_byte[data] >= 0).all():
            return []
        known = [bool(index >= 0) for index in self._id_of_byte]
        return [
            character
            for character in text
            if not all(known[byte] for byte in character.encode("utf-8", "surrogatepass"))
        ]

    def replace_outside(self, text: str, replacement: str = "?") -> tuple[str, int]:
        """`text` with every character that has no token replaced, and how many there were."""
        characters = self.outside(text)
        if not characters:
            return text, 0
        return text.translate(dict.fromkeys(map(ord, characters), replacement)), len(characters)

    def _refuse_outside(self, text: str) -> None:
        characters = self.outside(text)
        if characters:
            told = outside_message(characters, len(characters))
            raise UserError(f"{told}: leave them out of the text")

    # Ids to text

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD.

        Special tokens are spelled out unless `skip_special`. Ids beyond the vocabulary, to which a
        model may be padded, are dropped.
        """
        ids = list(ids)
        if self._is_byte_level:
            return self.decode_bytes(ids, skip_special).decode("utf-8", "replace")
        known = [index for index in ids if 0 <= index < self.vocab_size]
        return self._backend.decode(known, skip_special_tokens=skip_special)

    def decode_bytes(self, ids: Iterable[int], skip_special: bool = False) -> bytes:
        """The bytes of `ids`; a character may be incomplete at either end.

        For streaming, with an incremental UTF-8 decoder. A tokenizer that is not byte-level returns
        the bytes of `decode`.
        """
        if not self._is_byte_level:
            return self.decode(ids, skip_special).encode()
        table = self._bytes_of_id
        hidden = self.special_ids if skip_special else frozenset()
        return b"".join(
            table[index] for index in ids if 0 <= index < len(table) and index not in hidden
        )

    @property
    def added_ids(self) -> frozenset[int]:
        """The ids of the tokens added to the vocabulary, special or not."""
        return frozenset(self._backend.get_added_tokens_decoder())

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The ids of every special token."""
        added = self._backend.get_added_tokens_decoder()
        return frozenset(index for index, token in added.items() if token.special)


def outside_message(characters: Iterable[str], count: int) -> str:
    """The message for `count` characters without a token; it names the first few distinct ones."""
    distinct = list(dict.fromkeys(characters))
    named = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in distinct[:5])
    return (
        f"{plural(count, 'character')} {'has' if count == 1 else 'have'} no token in this "
        f"tokenizer, such as {named}"
    )
