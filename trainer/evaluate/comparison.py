"""Several models on the same prompts and the same text, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.checkpoints.catalogue import ADAPTER, is_adapter
from shared.checkpoints.evaluation import Evaluation, Speed
from shared.checkpoints.suites import Setting, SuiteResult, read_suites
from trainer.checkpoint.base_model import find_base
from trainer.checkpoint.opening import OpenedModel
from trainer.evaluate.origin import find_origin
from trainer.generate.batched.job import Job
from trainer.generate.batched.same_draws import decode_as_generate
from trainer.generate.sampling import Sampling


@dataclass(frozen=True)
class Compared:
    """One model's side of a comparison. `bytes` is the size of its weights on disk.

    `texts` are its continuations of the prompts, in order. `suites` is what `trainer eval` has
    stored with it.
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
    suites: tuple[SuiteResult, ...] = ()


def describe(opened: OpenedModel) -> Compared:
    """The facts about a model, before anything is measured."""
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
        suites=tuple(read_suites(origin.checkpoint)) if origin.checkpoint else (),
    )


def weight_bytes(path: Path) -> int:
    """The size of a model's weights on disk, compressed or not; of adapters with their base's."""
    if path.is_file():
        return path.stat().st_size
    if is_adapter(path):
        own = sum(file.stat().st_size for file in path.glob(f"{ADAPTER}*"))
        return own + weight_bytes(find_base(path).path)
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
    """The model's continuation of each prompt, all with the same seed, up to the end of a text.

    The same text as `trainer generate` gives for the prompt and the seed.
    """
    codec, stop_ids = opened.tokenizer, opened.end_ids
    jobs = [
        Job(tuple(codec.encode_prompt(prompt)), max_new_tokens, sampling, seed, stop_ids)
        for prompt in prompts
    ]
    return tuple(
        codec.decode(tokens) for tokens in decode_as_generate(opened.model, jobs, codec.vocab_size)
    )


def common_suites(models: Sequence[Compared]) -> list[tuple[SuiteResult, ...]]:
    """The newest results that every model has with the same tasks, judge and settings: one for each
    model. Figures of other settings do not compare."""
    newest = [
        {
            (result.suite, result.judge, result.sha256, _settings(result)): result
            for result in sorted(model.suites, key=lambda result: result.time)
        }
        for model in models
    ]
    common = [key for key in newest[0] if all(key in others for others in newest[1:])]
    return [tuple(results[key] for results in newest) for key in common]


def _settings(result: SuiteResult) -> frozenset[tuple[str, Setting]]:
    return frozenset(result.settings.items())


def share_tokens(models: Sequence[Compared]) -> bool:
    """Whether all models have the same tokenizer, so that losses per token can be compared."""
    return len({model.tokenizer for model in models}) == 1
