"""Decoding many jobs to the texts that `trainer.generate.decoding.generate` gives one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import compress

import torch
from torch import Tensor

from trainer.generate.batched.building import build_decoder, plan_decoder
from trainer.generate.batched.completions import JobStreams
from trainer.generate.batched.job import Job
from trainer.generate.batched.running import Running
from trainer.generate.decoding import generate
from trainer.generate.sampling import choose
from trainer.model.inference.drafts import Drafted
from trainer.model.language_model import LanguageModel


class SameDraws:
    """Draws for a decoder, each job from a torch generator of its own, row by row.

    Slower than the decoder's usual draws, but a job gets the tokens that `generate` gives for its
    prompt, settings and seed, up to the rounding of the logits. `vocabulary` is the model's.
    """

    def __init__(self, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._generators: dict[Running, torch.Generator] = {}

    def __call__(self, logits_RV: Tensor, choosing: Sequence[Running]) -> list[int]:
        """The token of every row."""
        rows, known = logits_RV.shape
        # A draw takes one random number for each id, those that are never chosen included.
        padded_RV = torch.full((rows, self._vocabulary), -torch.inf)
        padded_RV[:, :known] = logits_RV.float().cpu()
        return [
            int(choose(padded_RV[row : row + 1], running.job.sampling, self._generator(running))[0])
            for row, running in enumerate(choosing)
        ]

    def _generator(self, running: Running) -> torch.Generator:
        if running not in self._generators:
            generator = torch.Generator()
            if running.job.seed is None:
                generator.seed()
            else:
                generator.manual_seed(running.job.seed)
            self._generators[running] = generator
        return self._generators[running]


def decode_as_generate(
    model: LanguageModel,
    jobs: Sequence[Job],
    known_ids: int,
    *,
    use_cache: bool = True,
    drafted: Drafted | None = None,
) -> Iterator[Iterator[int]]:
    """The new tokens of each job, in order, as `generate` gives them for its seed.

    Jobs that fit the context are decoded together. The others are decoded alone, since their window
    has to jump. Only settings that `generate` has count: sampling, seed, stop ids. Where `drafted`
    is given, extra heads draft tokens, and it counts them.
    """
    context = model.dimensions.T
    sizes = [len(job.prompt) + job.max_new_tokens for job in jobs]
    together = [
        use_cache and bool(job.prompt) and size <= context
        for job, size in zip(jobs, sizes, strict=True)
    ]
    streams, read = None, 0
    if sum(together) > 1:
        longest = max(compress(sizes, together))
        draft = drafted is not None
        plan = plan_decoder(model, context=longest, precision="fp32", draft=draft)
        plan = replace(plan, slots=min(plan.slots, sum(together)))
        decoder = build_decoder(model, plan, known_ids, SameDraws(model.dimensions.V))
        if drafted is not None:
            decoder.drafted = drafted
        streams = JobStreams(decoder, compress(jobs, together))
    for job, fits in zip(jobs, together, strict=True):
        if streams is not None and fits:
            yield streams.tokens(read)
            read += 1
        else:
            yield generate(
                model,
                job.prompt,
                job.max_new_tokens,
                job.sampling,
                seed=job.seed,
                stop_ids=job.stop_ids,
                use_cache=use_cache,
                allowed_ids=known_ids,
                drafted=drafted,
            )
