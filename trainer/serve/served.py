"""The served model: its engine, its name, and its chat template."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.hub.names import name_of_cached
from shared.text import one_line
from trainer.generate.template_process import GuardedTemplate
from trainer.generate.templates import ChatTemplate
from trainer.serve.engine import Codec, Engine
from trainer.serve.limits import LIMITS

if TYPE_CHECKING:
    from trainer.serve.opening import OpenedEngine

OWNER = "train-monitor"


@dataclass(frozen=True)
class Served:
    """One model and its limits.

    Clients may use `name` or one of the `other_names`; responses have `name`. `created` is Unix
    time, `max_new_tokens` the most tokens of one answer, `load_seconds` the time to open the model.
    """

    engine: Engine
    name: str
    template: ChatTemplate
    created: int
    fingerprint: str
    max_new_tokens: int = 4096
    load_seconds: float = 0.0
    other_names: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every name of the model."""
        return (self.name, *self.other_names)

    @cached_property
    def most_bytes(self) -> int:
        """No text of more bytes can fit the context."""
        codec = self.engine.codec
        longest = max(len(codec.decode_bytes([index])) for index in range(codec.vocab_size))
        return self.engine.context * longest

    def card(self, name: str) -> dict[str, Any]:
        """The entry of one of its names in the list of models.

        `max_model_len` is other servers' name for the context. `chat` says whether the model has
        its own chat template.
        """
        return {
            "id": name,
            "object": "model",
            "created": self.created,
            "owned_by": OWNER,
            "max_model_len": self.engine.context,
            "chat": not self.template.is_plain,
        }


class SpelledCodec:
    """An engine's codec for a chat template, which writes special tokens by their names."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.eos_id = codec.eos_id
        self.bos_token, self.eos_token = (
            self.decode([index]) for index in (codec.bos_id, codec.eos_id)
        )

    @property
    def special_ids(self) -> frozenset[int]:
        """The ids of every special token."""
        return self._codec.special_ids

    def encode(self, text: str, allow_special: bool = False) -> list[int]:
        """The ids of `text`."""
        return self._codec.encode(text, allow_special)

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of `ids`."""
        return self._codec.decode_bytes(ids, skip_special).decode("utf-8", "replace")


def chat_template(
    codec: Codec, source: str | None, seconds: float = LIMITS.template_time
) -> ChatTemplate:
    """The template as it is served; rendering may take `seconds` of CPU time.

    Raises UserError for a template that cannot be parsed.
    """
    spelled = SpelledCodec(codec)
    return ChatTemplate(spelled) if source is None else GuardedTemplate(spelled, source, seconds)


def open_served(opened: OpenedEngine, names: Sequence[str], max_new_tokens: int) -> Served:
    """The served model for `opened`, under `names` or else its own.

    Raises UserError for a chat template that cannot be parsed.
    """
    name, *others = dict.fromkeys(names or (name_of(opened.path),))
    mark, written = fingerprint(opened.path)
    return Served(
        engine=opened.engine,
        name=name,
        other_names=tuple(others),
        template=chat_template(opened.engine.codec, opened.chat_template),
        created=written,
        fingerprint=mark,
        max_new_tokens=max_new_tokens,
    )


def fingerprint(path: Path) -> tuple[str, int]:
    """An identifier of exactly these files, and when they were written, in Unix seconds.

    It is made of names, sizes and times, since reading gigabytes would double the start-up time.
    """
    files = sorted(path.glob("*")) if path.is_dir() else [path]
    facts = [(file.name, file.stat()) for file in files if file.is_file()]
    digest = hashlib.sha256(
        repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in facts]).encode()
    )
    newest = max((stat.st_mtime for _, stat in facts), default=0.0)
    return f"fp_{digest.hexdigest()[:12]}", int(newest)


def name_of(path: Path) -> str:
    """The default name of a model: its run, its folder, or its file."""
    path = path.resolve()
    cached = name_of_cached(path)
    if cached is not None:
        return cached.repo
    if path.parent.name == "checkpoints":
        path = path.parent.parent
    return one_line(path.name if path.is_dir() else path.stem) or "model"
