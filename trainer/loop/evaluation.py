"""Validation loss, perplexity and bits per byte on fixed batches; samples of the model's text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch

from trainer.data.batches import to_tensors
from trainer.data.tokenizer import Tokenizer
from trainer.distributed.device import Compute
from trainer.distributed.group import ALONE, Group
from trainer.evaluate.likelihood.scoring import bits_per_byte, perplexity, score_batch
from trainer.generate.decoding import generate
from trainer.generate.sampling import Sampling
from trainer.loop.hooks import Purpose, nothing
from trainer.loop.micro_batch import MicroBatch
from trainer.loop.out_of_memory import out_of_memory_ends
from trainer.model.language_model import LanguageModel

if TYPE_CHECKING:
    from trainer.data.batches import Batch


@dataclass(frozen=True)
class Evaluation:
    """`loss` in nats per token; `bits_per_byte` if the text's bytes per token are known."""

    loss: float
    perplexity: float
    bits_per_byte: float | None
    tokens: int

    @property
    def metric(self) -> str:
        """Which of the metrics tells how good the model is."""
        return "val_loss"

    @property
    def metrics(self) -> dict[str, float]:
        """What is recorded."""
        found = {"val_loss": self.loss, "val_perplexity": self.perplexity}
        if self.bits_per_byte is not None:
            found["val_bits_per_byte"] = self.bits_per_byte
        return found

    def __str__(self) -> str:
        shown = f"val_loss: {self.loss:.4f} | perplexity: {self.perplexity:.2f}"
        if self.bits_per_byte is not None:
            shown += f" | bits per byte: {self.bits_per_byte:.4f}"
        return shown


@torch.no_grad()
def evaluate(
    model: LanguageModel,
    batches: Iterable[Batch],
    compute: Compute,
    *,
    bytes_per_token: float | None = None,
    progress: Callable[[], None] = lambda: None,
    micro_batch: MicroBatch | None = None,
    before_forward: Callable[[Purpose, int], None] = nothing,
    group: Group = ALONE,
    lockstep: bool = False,
) -> Evaluation:
    """Mean loss over all tokens of `batches` that count, dropout off. Draws no random number.

    `micro_batch` bounds how many sequences go through at once, and shrinks when memory runs out.
    The ranks of `group` share the batches and get the mean over all. In `lockstep` all of them
    make as many passes.
    """
    was_training = model.training
    model.eval()
    total, tokens = 0.0, 0.0
    for batch, counts, most in _shared(batches, group, lockstep=lockstep):
        fitting = micro_batch or MicroBatch(most)
        for attempt in fitting.attempts():
            with attempt, out_of_memory_ends(group, fitting.size) if lockstep else nullcontext():
                parts = _announced(fitting.parts(len(batch[0])), before_forward)
                inputs, targets, *more = to_tensors(batch, compute.device)
                named = dict(zip(("weights_BT", "positions_BT"), more, strict=False))
                scored = score_batch(model, inputs, targets, compute, parts=parts, **named)
                if lockstep:
                    idle = len(fitting.parts(most)) - len(fitting.parts(len(batch[0])))
                    for _ in range(idle):
                        score_batch(model, inputs[:1], targets[:1], compute)
        if counts:
            total += scored.nats
            tokens += scored.tokens
        progress()
    model.train(was_training)
    total, tokens = group.add(total, tokens)
    mean = total / tokens
    bits = bits_per_byte(mean, bytes_per_token) if bytes_per_token else None
    return Evaluation(mean, perplexity(mean), bits, int(tokens))


def _shared(
    batches: Iterable[Batch], group: Group, *, lockstep: bool
) -> Iterator[tuple[Batch, bool, int]]:
    """This rank's batches: whether each counts, and how many sequences any rank's has meanwhile.

    In `lockstep` a rank without a batch of its own gets another's, which does not count.
    """
    rest = iter(batches)
    while every := list(islice(rest, group.world.size)):
        mine = every[group.world.rank : group.world.rank + 1]
        if mine or lockstep:
            yield (mine or every)[0], bool(mine), max(len(batch[0]) for batch in every)


def _announced(
    parts: Iterable[int], before_forward: Callable[[Purpose, int], None]
) -> Iterator[int]:
    for count in parts:
        before_forward("evaluate", count)
        yield count


def write_sample(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str,
    max_new_tokens: int,
    *,
    seed: int,
    end_ids: frozenset[int] = frozenset(),
) -> str:
    """The prompt and the model's continuation, up to a token of `end_ids` or the tokenizer's end.

    Uses its own random generator.
    """
    was_training = model.training
    model.eval()
    ids = tokenizer.encode_prompt(prompt)
    new = list(
        generate(
            model,
            ids,
            max_new_tokens,
            Sampling(temperature=0.8, top_k=50),
            seed=seed,
            stop_ids=tuple(end_ids | {tokenizer.eos_id}),
            allowed_ids=tokenizer.vocab_size,
        )
    )
    model.train(was_training)
    return prompt + tokenizer.decode(new)
