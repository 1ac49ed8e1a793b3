"""The decoding loop: prefill the prompt, then one token at a time."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch

from shared.errors import UserError
from trainer.generate.sampling import Sampling, choose
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
) -> Iterator[int]:
    """Yield up to `max_new_tokens` new token ids, ending before the first of `stop_ids`.

    The cache changes no token; it only saves recomputing the prompt. Only the first `allowed_ids`
    ids are chosen, for vocabularies padded past the tokenizer's. Raises UserError for an empty
    prompt or one with ids outside the vocabulary.
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
    context = model.dimensions.T
    ids = list(prompt)
    cache, cached_from = None, -1
    for _ in range(max_new_tokens):
        start = window_start(len(ids), context)
        if not use_cache:
            fresh = ids[start:]
        elif cache is None or start != cached_from:
            room = min(context, len(ids) - start + max_new_tokens)
            cache, cached_from = model.new_cache(1, room), start
            fresh = ids[start:]
        else:
            fresh = ids[-1:]
        fresh_1T = torch.tensor([fresh], device=model.device)
        logits_1V = model.last_logits(fresh_1T, cache)
        if allowed_ids is not None and allowed_ids < vocabulary:
            logits_1V[:, allowed_ids:] = -torch.inf
        token = int(choose(logits_1V, sampling, generator)[0])
        if token in stops:
            return
        ids.append(token)
        yield token


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
