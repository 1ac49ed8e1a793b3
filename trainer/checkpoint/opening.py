"""Opening a model for use, with its tokenizer: a run, a checkpoint, a transformers folder, GGUF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from shared.errors import UserError
from shared.text import one_line
from trainer.checkpoint.chat_template import read_chat_template
from trainer.checkpoint.finding import is_gguf
from trainer.checkpoint.foreign_folder import end_ids
from trainer.checkpoint.loading import load_model
from trainer.checkpoint.tokenizer_files import tokenizer_files
from trainer.data.tokenizer import Tokenizer
from trainer.model.language_model import LanguageModel


@dataclass(frozen=True)
class OpenedModel:
    """A model in evaluation mode and its tokenizer.

    `path` is the checkpoint folder or the file; `chat_template` a Jinja template, if the source has
    one; `other_ends` are tokens that end a text besides the tokenizer's own.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    path: Path
    chat_template: str | None = None
    other_ends: frozenset[int] = frozenset()

    @property
    def end_ids(self) -> frozenset[int]:
        """Every token that ends a text."""
        return self.other_ends | {self.tokenizer.eos_id}

    @property
    def context(self) -> int:
        """The context length, in tokens."""
        return self.model.dimensions.T


def open_model(
    path: Path, device: torch.device, *, tokenizer: str | Path | None = None
) -> OpenedModel:
    """The model at `path`, verified if there are checksums.

    `tokenizer` is a file or folder to use instead of the model's own; it may only add tokens to
    that. Raises UserError if there is no model, no tokenizer, or one that belongs to another model.
    """
    if is_gguf(path):
        return _open_gguf(path, device, tokenizer)
    loaded = load_model(path, device)
    place = Path(tokenizer) if tokenizer else loaded.folder
    codec = _tokenizer(place)
    _check_vocabulary(codec, loaded.model, place)
    if tokenizer:
        _check_own(codec, place, loaded.folder)
    template = read_chat_template(place if place.is_dir() else place.parent)
    ends = end_ids(loaded.folder)
    if loaded.base != loaded.folder:  # adapters need not have them
        template = template or read_chat_template(loaded.base)
        ends = ends or end_ids(loaded.base)
    return OpenedModel(loaded.model, codec, loaded.folder, template, ends)


def _tokenizer(place: Path) -> Tokenizer:
    """The tokenizer in a file or folder; GPT-2's pair of files if there is nothing else."""
    files = tokenizer_files(place)
    return Tokenizer.load(files[0]) if len(files) == 1 else Tokenizer.from_vocab_merges(*files)


def own_tokenizer(folder: Path) -> Tokenizer | None:
    """The tokenizer in a model folder; None without one that can be read."""
    try:
        return _tokenizer(folder)
    except UserError:
        return None


def differing_tokens(own: Tokenizer, other: Tokenizer) -> str:
    """How `other` differs from a model's own tokenizer, to which it may only add tokens; empty if
    each of the model's tokens has the same id."""
    theirs = other.vocabulary
    differing = sum(theirs.get(token) != index for token, index in own.vocabulary.items())
    if differing:
        return f"{differing} of its tokens"
    return "" if own.merges == other.merges else "its merges"


def _check_own(tokenizer: Tokenizer, place: Path, folder: Path) -> None:
    """Raise UserError unless `tokenizer` gives each of the model's own tokens the same id."""
    own = own_tokenizer(folder)
    what = differing_tokens(own, tokenizer) if own else ""
    if what:
        raise UserError(
            f"--tokenizer {one_line(place)} is not the tokenizer of the model in "
            f"{one_line(folder)}: {what} differ, so the results would be meaningless; leave "
            "--tokenizer out."
        )


def _open_gguf(path: Path, device: torch.device, tokenizer: str | Path | None) -> OpenedModel:
    from trainer.formats import gguf_tokenizer_reading as inside
    from trainer.formats.gguf_parsing import open_gguf
    from trainer.formats.gguf_reading import read_model

    file = open_gguf(path)
    codec = _tokenizer(Path(tokenizer)) if tokenizer else inside.read_tokenizer(file)
    model = read_model(file)
    _check_vocabulary(codec, model, Path(tokenizer or path))
    template, ends = inside.read_chat_template(file), inside.end_ids(file)
    return OpenedModel(model.to(device), codec, path, template, ends)


def _check_vocabulary(tokenizer: Tokenizer, model: LanguageModel, place: Path) -> None:
    known = model.dimensions.V
    if tokenizer.vocab_size > known:
        raise UserError(
            f"The tokenizer in {one_line(place)} has {tokenizer.vocab_size} tokens, the model "
            f"{known}: it belongs to another model; name the right one with --tokenizer."
        )
