"""The decoding loop: prefill the prompt, then one token at a time."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from shared.errors import UserError
from trainer.generate.drafting import Drafting
from trainer.generate.remembered import Remembered
from trainer.generate.sampling import Sampling, choose
from trainer.model.inference.cache import KeyValueCache
from trainer.model.inference.drafts import Drafted
from trainer.model.inference.packing import for_one_client
from trainer.model.language_model import LanguageModel


class ByteDecoder(Protocol):
    """The part of a tokenizer that streaming needs."""

    def decode_bytes(self, ids: Iterable[int], skip_special: bool = False) -> bytes:
        """The bytes of `ids`."""


def window_start(length: int, context: int) -> int:
    """Where the model's window on `length` tokens begins, if it can see `context` of them.

    A full window jumps by half a context instead of sliding by one: positions in a cache are
    absolute, so every slide would recompute the whole window.
    """
    if length <= context:
        return 0
    jump = max(1, context // 2)
    return -(-(length - context) // jump) * jump


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompt: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    *,
    seed: int | None = None,
    stop_ids: Iterable[int] = (),
    use_cache: bool = True,
    allowed_ids: int | None = None,
    drafted: Drafted | None = None,
    remembered: Remembered | None = None,
) -> Iterator[int]:
    """Yield up to `max_new_tokens` new token ids, ending before the first of `stop_ids`.

    The cache changes no token; it only saves recomputing the prompt. Nor do drafts, which a model
    with extra heads makes where `drafted` is given to count them. With `remembered`, the tokens
    that this prompt and the last text begin with are not computed again. Only the first
    `allowed_ids` ids are chosen, for vocabularies padded past the tokenizer's. Raises UserError for
    an empty prompt or one with ids outside the vocabulary.
    """
    sampling = sampling or Sampling()
    if not prompt:
        raise UserError("The prompt is empty; give at least one token to start from.")
    vocabulary = model.dimensions.V
    unknown = [token for token in prompt if not 0 <= token < vocabulary]
    if unknown:
        raise UserError(
            f"The prompt has token id {unknown[0]}, outside the model's vocabulary of "
            f"{vocabulary}; the tokenizer belongs to another model."
        )
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    stops = frozenset(stop_ids)
    if use_cache:
        model = for_one_client(model)
    drafting = Drafting.of(model, drafted) if drafted is not None and use_cache else None
    held = (remembered or Remembered()) if use_cache else None
    passes = _Passes(model, prompt, max_new_tokens, held)
    left = max_new_tokens
    while left > 0:
        drafts = drafting.drafts(min(left - 1, passes.room)) if drafting else []
        hidden_TD = passes.hidden(drafts)
        chosen: list[int] = []
        logits_RV = model.lm_head(hidden_TD[len(hidden_TD) - 1 - len(drafts) :])
        if allowed_ids is not None and allowed_ids < vocabulary:
            logits_RV[:, allowed_ids:] = -torch.inf
        for place in range(1 + len(drafts)):
            row_1V = logits_RV[place : place + 1] if drafts else logits_RV
            token = int(choose(row_1V, sampling, generator))
            if token in stops:
                return
            chosen.append(token)
            yield token
            if place == len(drafts) or token != drafts[place]:
                break
        left -= len(chosen)
        passes.keep(chosen, len(drafts))
        if drafting:
            right = len(hidden_TD) - len(drafts) + len(chosen) - 1
            drafting.count(len(drafts), len(chosen) - 1)
            drafting.look(hidden_TD[:right], passes.ids[-right:])


class _Passes:
    """The forward passes of one text: which tokens are new to the model in each."""

    def __init__(
        self, model: LanguageModel, prompt: Sequence[int], new: int, remembered: Remembered | None
    ) -> None:
        self._model = model
        self.ids = list(prompt)
        self._length = len(prompt) + new  # that the text may reach
        self._remembered = remembered  # None: everything is computed again in each pass
        self._cache: KeyValueCache | None = None
        self._begin = 0  # of the window that the cache is about

    @property
    def room(self) -> int:
        """How many drafts fit into the window beside the tokens that are new anyway."""
        start = window_start(len(self.ids), self._model.dimensions.T)
        if self._cache is None or start != self._begin:
            return 0  # a prompt, or a window that jumps
        return self._cache.capacity - (len(self.ids) - start)

    def hidden(self, drafts: Sequence[int]) -> Tensor:
        """The hidden states (T, D) of the tokens that are new, and of the drafts after them."""
        context = self._model.dimensions.T
        start = window_start(len(self.ids), context)
        known = 0
        if self._remembered is not None:
            if self._cache is None or start != self._begin:
                room = min(context, self._length - start)
                window = self.ids[start:]
                self._cache = self._remembered.cache_for(self._model, window, room)
                self._begin = start
            known = self._cache.length
        new = [*self.ids[start + known :], *drafts]
        if self._remembered is not None:
            self._remembered.ids[known:] = new
        ids_1T = torch.tensor([new], device=self._model.device)
        return self._model.body(ids_1T, self._cache)[0]

    def keep(self, chosen: Sequence[int], drafts: int) -> None:
        """Append what was chosen; rejected drafts leave the cache."""
        self.ids += chosen
        if self._cache is not None:
            self._cache.length -= drafts - (len(chosen) - 1)


def stream_text(
    tokens: Iterable[int], tokenizer: ByteDecoder, *, skip_special: bool = False
) -> Iterator[str]:
    """Pieces of text as tokens arrive; a character split over tokens comes when it is complete.

    Special tokens are spelled out unless `skip_special`.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in tokens:
        piece = decoder.decode(tokenizer.decode_bytes([token], skip_special))
        if piece:
            yield piece
    rest = decoder.decode(b"", final=True)
    if rest:
        yield rest
