"""The data of a run that mixes several sources: each is opened as if it were the only one."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import UserError
from shared.text import one_line, plural
from trainer.config.mixture import source_names
from trainer.config.schema import Config
from trainer.data.mixing import MixedBatches, Part
from trainer.data.permutation import key_of
from trainer.data.tokens import find_tokens, find_validation, read_sidecar
from trainer.evaluate.likelihood.scoring import bits_per_byte, perplexity

if TYPE_CHECKING:
    from trainer.data.batches import Batch
    from trainer.loop.sources import Sources

_SEEDS = 1 << 63


@dataclass(frozen=True)
class HeldSource:
    """The validation batches of one source, and its share of the mixture."""

    name: str
    share: float
    batches: Collection[Batch]
    bytes_per_token: float | None


@dataclass(frozen=True)
class MixedValidation:
    """The validation data of several sources, each evaluated for itself."""

    sources: tuple[HeldSource, ...]

    def __len__(self) -> int:
        return sum(len(source.batches) for source in self.sources)


@dataclass(frozen=True)
class MixedEvaluation:
    """The losses of each source; `loss` is their mean, weighted as in training."""

    losses: dict[str, float]
    shares: dict[str, float]
    #: Of the text of each source whose bytes are known.
    bytes_per_token: dict[str, float]

    @property
    def loss(self) -> float:
        """Nats per token of the mixture."""
        whole = sum(self.shares.values())
        return sum(self.shares[name] * loss for name, loss in self.losses.items()) / whole

    @property
    def bits_per_byte(self) -> float | None:
        """Of the mixture, if the bytes of every source are known."""
        if self.bytes_per_token.keys() != self.losses.keys():
            return None
        whole = sum(self.shares.values())
        size = sum(self.shares[name] * self.bytes_per_token[name] for name in self.losses) / whole
        return bits_per_byte(self.loss, size)

    @property
    def metric(self) -> str:
        """Which of the metrics tells how good the model is."""
        return "val_loss"

    @property
    def metrics(self) -> dict[str, float]:
        """What is recorded: that of the mixture, then `val_loss/NAME` of each source."""
        found = {"val_loss": self.loss, "val_perplexity": perplexity(self.loss)}
        if self.bits_per_byte is not None:
            found["val_bits_per_byte"] = self.bits_per_byte
        return found | {f"val_loss/{name}": loss for name, loss in self.losses.items()}

    def __str__(self) -> str:
        each = ", ".join(f"{name} {loss:.4f}" for name, loss in self.losses.items())
        shown = f"val_loss: {self.loss:.4f} ({each})"
        if self.bits_per_byte is not None:
            shown += f" | bits per byte: {self.bits_per_byte:.4f}"
        return shown


def open_mixture(config: Config) -> Sources:
    """Open and check every source of a run. Raises UserError if they do not fit together."""
    from trainer.loop.sources import Sources, open_sources

    assert config.data.sources is not None
    names = source_names(config.data)
    weights = [source.weight for source in config.data.sources]
    shares = [weight / sum(weights) for weight in weights]
    kinds = [_has_mask(source.path) for source in config.data.sources]
    held = _source_of_validation(config, kinds)
    opened = []
    for number, source in enumerate(config.data.sources):
        section = config.data.model_copy(
            update={
                "path": source.path,
                "sources": None,
                "val_path": config.data.val_path if number == held else None,
            }
        )
        # The same data twice is seen in two orders.
        seed = key_of(config.train.seed, number) % _SEEDS if number else config.train.seed
        train = config.train.model_copy(update={"seed": seed})
        opened.append(open_sources(config.model_copy(update={"data": section, "train": train})))
    _check_tokenizers(config, opened)
    parts = [
        Part(name, share, one.train) for name, share, one in zip(names, shares, opened, strict=True)
    ]
    chosen = range(len(opened)) if config.data.val_path is None else [held]
    validation = MixedValidation(
        tuple(
            HeldSource(names[n], shares[n], opened[n].validation, opened[n].bytes_per_token)  # type: ignore[arg-type]
            for n in chosen
            if opened[n].validation
        )
    )
    alone = config.data.val_path is not None and len(validation) > 0
    return Sources(
        train=MixedBatches(parts),
        validation=opened[held].validation if alone else validation if validation else (),
        tokenizer=next((one.tokenizer for one in opened if one.tokenizer is not None), None),
        bytes_per_token=opened[held].bytes_per_token if alone else None,
        identity=_identity(config, names, shares, opened),
        description=f"{plural(len(parts), 'source')} with "
        f"{sum(one.identity['tokens'] for one in opened):,} training tokens, mixed by weights"
        + ("" if validation else "; no validation data"),
        of_each=tuple(one.description for one in opened),
    )


def _has_mask(path: str) -> bool:
    place = find_tokens(path)
    sidecar = read_sidecar(place) if place.is_file() else None
    return bool(sidecar and sidecar.mask)


def _source_of_validation(config: Config, kinds: Sequence[bool]) -> int:
    """The source with which `data.val_path` is opened: the first of its kind."""
    if config.data.val_path is None:
        return 0
    sidecar = read_sidecar(find_validation(config.data.val_path))
    kind = bool(sidecar and sidecar.mask)
    return kinds.index(kind) if kind in kinds else 0


def _check_tokenizers(config: Config, opened: Sequence[Sources]) -> None:
    assert config.data.sources is not None
    first, *others = zip(config.data.sources, opened, strict=True)
    wanted = first[1].identity["tokenizer"]
    for source, one in others:
        found = one.identity["tokenizer"]
        if found != wanted:
            raise UserError(
                f"The sources were made with different tokenizers: {one_line(first[0].path)} with "
                f"{wanted or 'an unknown one'}, {one_line(source.path)} with "
                f"{found or 'an unknown one'}; prepare them with the same --tokenizer."
            )


def _identity(
    config: Config, names: Sequence[str], shares: Sequence[float], opened: Sequence[Sources]
) -> dict[str, Any]:
    """What a resume compares."""
    facts = [one.identity for one in opened]
    held = [fact["validation"] for fact in facts]
    return {
        "dataset": "tokens",
        "tokens": sum(fact["tokens"] for fact in facts),
        "tokenizer": facts[0]["tokenizer"],
        "seed": config.train.seed,
        "seq_len": config.seq_len,
        "fingerprint": _joined([fact["fingerprint"] for fact in facts]),
        "validation": _joined(held) if any(held) else None,
        "validation_windows": sum(fact["validation_windows"] for fact in facts),
        "sources": [
            {"name": name, "share": round(share, 9), "fingerprint": fact["fingerprint"]}
            for name, share, fact in zip(names, shares, facts, strict=True)
        ],
    }


def _joined(parts: Sequence[str | None]) -> str:
    return hashlib.blake2b(" ".join(map(str, parts)).encode(), digest_size=8).hexdigest()


def tell_sources(sources: Sources, seq_len: int, samples: int) -> list[str]:
    """A line for each source of a mixture: its share, and its epochs in so many samples."""
    mixed = sources.train
    if not isinstance(mixed, MixedBatches):
        return []
    lines = []
    for part, own, told in zip(
        mixed.parts, mixed.samples_of_each(0, samples), sources.of_each, strict=True
    ):
        epochs = own / part.source.num_windows
        lines.append(
            f"source {part.name}: {100 * part.share:.3g} % of the sequences, {own * seq_len:,} "
            f"tokens in all, which is {epochs:.3g} {'epoch' if epochs == 1 else 'epochs'} of it "
            f"({told})"
        )
    return lines


def changed_sources(saved: Any, here: Any) -> list[str]:
    """How the sources differ from those of a checkpoint, as clauses."""
    if saved == here or not isinstance(saved, list) or not isinstance(here, list):
        return []

    def shown(sources: list[Any]) -> str:
        found = [source for source in sources if isinstance(source, dict)]
        return ", ".join(
            f"{one_line(source.get('name'), 64)} {source.get('share', 0):.3g}" for source in found
        )

    before, after = shown(saved), shown(here)
    if before == after:
        return []
    return [f"the sources were {before} and are {after}"]
