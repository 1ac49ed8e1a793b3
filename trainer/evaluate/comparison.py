"""Several models on the same prompts and the same text, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.checkpoints.evaluation import Evaluation, Speed
from trainer.checkpoint.opening import OpenedModel
from trainer.evaluate.origin import find_origin
from trainer.generate.decoding import generate
from trainer.generate.sampling import Sampling


@dataclass(frozen=True)
class Compared:
    """One model's side of a comparison. `bytes` are those of its weights on disk.

    `texts` are what it made of each prompt, in order.
    """

    name: str
    path: str
    step: int | None
    parameters: int
    bytes: int
    vocabulary: int
    context: int
    tokenizer: str
    texts: tuple[str, ...] = ()
    results: tuple[Evaluation, ...] = ()
    speed: Speed | None = None


def describe(opened: OpenedModel) -> Compared:
    """What a model is, before anything is measured."""
    origin = find_origin(opened.path)
    return Compared(
        name=origin.name,
        path=str(opened.path),
        step=origin.step,
        parameters=sum(weight.numel() for weight in opened.model.parameters()),
        bytes=weight_bytes(opened.path),
        vocabulary=opened.tokenizer.vocab_size,
        context=opened.context,
        tokenizer=opened.tokenizer.hash,
    )


def weight_bytes(path: Path) -> int:
    """The bytes of a model's weights as they lie on the disk, packed or not."""
    if path.is_file():
        return path.stat().st_size
    files = [p for p in path.glob("model*.safetensors*") if not p.name.endswith(".json")]
    return sum(file.stat().st_size for file in files)


def continue_prompts(
    opened: OpenedModel,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    sampling: Sampling,
    seed: int,
) -> tuple[str, ...]:
    """How the model goes on with each prompt, all with the same seed, up to the end of a text."""
    codec = opened.tokenizer
    return tuple(
        codec.decode(
            generate(
                opened.model,
                codec.encode_prompt(prompt),
                max_new_tokens,
                sampling,
                seed=seed,
                stop_ids=opened.end_ids,
                allowed_ids=codec.vocab_size,
            )
        )
        for prompt in prompts
    )


def share_tokens(models: Sequence[Compared]) -> bool:
    """Whether a token means the same to all of them, so that losses per token can be compared."""
    return len({model.tokenizer for model in models}) == 1
