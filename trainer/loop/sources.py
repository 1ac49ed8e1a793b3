"""The run's data: training batches, fixed validation batches, and their tokenizer."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import UserError
from shared.text import one_line, plural
from trainer.checkpoint.hub_models import recorded_model
from trainer.checkpoint.identity import model_identity
from trainer.checkpoint.progress import Progress
from trainer.checkpoint.tokenizer_files import tokenizer_folder
from trainer.config.schema import Config
from trainer.data.batches import SampleSource, TokenBatches, ordered_batches
from trainer.data.packed import PackedBatches
from trainer.data.pairs import HeldPairs, PairBatches, PairFile
from trainer.data.synthetic import SyntheticBatches
from trainer.data.tokens import (
    TokenFile,
    check_together,
    find_validation,
    open_tokens,
    sidecar_path,
    validation_path,
)
from trainer.loop.mixture import MixedValidation, changed_sources, open_mixture
from trainer.rl.batches import RolloutBatches
from trainer.rl.prompts import Prompts
from trainer.tasks.reading import read_prompts

if TYPE_CHECKING:
    from trainer.data.batches import Batch
    from trainer.data.tokenizer import Tokenizer

#: Facts of the data's identity on which a validation loss depends.
VALIDATION_FACTS = ("validation", "validation_windows", "seq_len", "sources")
EPOCHS = 5.0  # if neither max_steps nor epochs is given, as in the nanochat-train guide


@dataclass(frozen=True)
class Sources:
    """What the loop reads. `validation` is empty if there is no validation data.

    `bytes_per_token` of the validation text turns nats per token into bits per byte. Of a mixture,
    `of_each` describes its sources.
    """

    train: SampleSource
    validation: Collection[Batch] | HeldPairs | MixedValidation | Prompts
    tokenizer: Tokenizer | None
    bytes_per_token: float | None
    identity: dict[str, Any]
    description: str
    of_each: tuple[str, ...] = ()


def open_sources(config: Config) -> Sources:
    """Open and check all data of a run. Raises UserError if something does not fit."""
    if config.data.dataset == "synthetic":
        return _synthetic(config)
    if config.data.dataset == "pairs":
        return _pairs(config)
    if config.data.dataset == "prompts":
        return _prompts(config)
    if config.data.sources is not None:
        return open_mixture(config)
    if config.data.path is None:
        raise UserError(
            "--data-path is missing: give the folder that `trainer prepare-data` wrote, "
            "or --dataset synthetic."
        )
    vocabulary, length = config.model.vocab_size, config.seq_len
    train = open_tokens(config.data.path, vocab_size=vocabulary)
    end = _document_end(config, train)
    val = _validation_file(config, train)
    if train.marks is not None:
        return _conversations(config, train, val)
    if val is not None and val.marks is not None:
        raise UserError(
            f"{val.path} holds conversations and {train.path} text: validate with the same kind."
        )
    source = TokenBatches(train, length, config.train.seed, end)
    batches: tuple[Batch, ...] = ()
    told = "no validation data"
    # The val.bin of a tiny text, not asked for, must not prevent training.
    if val is not None and val.count < length + 1 and config.data.val_path is None:
        told = (
            f"no validation: {val.path} has {val.count:,} tokens, and one sequence needs "
            f"{length + 1:,}; prepare more text, or set a shorter --seq-len"
        )
        val = None
    if val is not None:
        told = f"{val.count:,} validation tokens"
        size, most = config.train.batch_size, config.eval.batches
        batches = tuple(ordered_batches(val, length, size, most, document_end=end))
    tokenizer = _tokenizer(config, train)
    sidecar = val.sidecar if val else train.sidecar
    per_token = None
    if sidecar and sidecar.num_tokens and sidecar.text_bytes:
        per_token = sidecar.text_bytes / sidecar.num_tokens
    return Sources(
        train=source,
        validation=batches,
        tokenizer=tokenizer,
        bytes_per_token=per_token,
        identity=_identity(train, val, batches, config),
        description=f"{train.count:,} training tokens from {train.path}, {told}"
        + ("; documents do not see each other" if end is not None else ""),
    )


def _conversations(config: Config, train: TokenFile, val: TokenFile | None) -> Sources:
    """Conversations are packed whole; the loss counts what the assistant said."""
    length, apart = config.seq_len, config.train.document_mask
    source = PackedBatches(train, length, config.train.seed, apart=apart)
    assert train.sidecar is not None
    what = (
        f"{plural(train.sidecar.num_documents, 'conversation')} ({train.count:,} tokens, "
        f"{train.sidecar.counted_tokens:,} of them the assistant's) from {train.path} in "
        f"{plural(source.num_windows, 'sequence')}"
    )
    told = [
        what,
        *source.notes(),
        "they do not see each other" if apart else "those in one sequence see each other",
    ]
    batches: tuple[Batch, ...] = ()
    if val is None:
        told.append("no validation data")
    elif val.marks is None:
        raise UserError(
            f"{val.path} holds text and {train.path} conversations: validate with the same kind."
        )
    else:
        try:
            held_out = PackedBatches(val, length, config.train.seed, apart=apart)
        except UserError as error:
            if config.data.val_path is not None:
                raise
            # The val.bin beside the data, not asked for, must not prevent training.
            told.append(f"no validation: {error}")
        else:
            batches = tuple(held_out.ordered(config.train.batch_size, config.eval.batches))
            assert val.sidecar is not None
            told.append(f"{plural(val.sidecar.num_documents, 'conversation')} for validation")
    return Sources(
        train=source,
        validation=batches,
        tokenizer=_tokenizer(config, train),
        bytes_per_token=None,
        identity=_identity(train, val, batches, config),
        description="; ".join(told),
    )


def _document_end(config: Config, train: TokenFile) -> int | None:
    """The token that ends documents, where they are told apart."""
    if not config.train.document_mask:
        return None
    if train.sidecar is None:
        raise UserError(
            f"train.document_mask needs to know where documents end, and {train.path} has no "
            f"{sidecar_path(train.path).name} that names the end-of-text token: prepare the text "
            "with `trainer prepare-data`, or leave document_mask out."
        )
    return train.sidecar.eos_id


def _pairs(config: Config) -> Sources:
    """Pairs of answers, which `trainer dpo` prepares. There is no validation data of them."""
    from trainer.data.tokenizer import Tokenizer

    vocabulary, path = config.model.vocab_size, config.data.path
    if path is None or vocabulary is None or config.checkpoint.begin_from is None:
        raise UserError(
            "data.dataset pairs needs data.path (what `trainer dpo` wrote) and "
            "checkpoint.begin_from (the model that is the reference)."
        )
    for key, idle in (
        ("train.collider", config.train.collider),
        ("model.mtp_heads", config.model.mtp_heads),
    ):
        if idle:
            raise UserError(f"{key} cannot be trained on pairs of answers; leave it out.")
    pairs = PairFile(Path(path))
    source = PairBatches(pairs, config.seq_len, config.train.seed, vocabulary)
    tokenizer = Tokenizer.load(config.data.tokenizer or path)
    identity = {
        "dataset": "pairs",
        "tokens": len(pairs.tokens),
        "tokenizer": tokenizer.hash,
        "seed": config.train.seed,
        "seq_len": config.seq_len,
        "fingerprint": pairs.digest[:16],
        "validation": pairs.digest[:16] if len(source.held) else None,
        "reference": model_identity(config.checkpoint.begin_from),
    }
    told = [f"{plural(source.num_windows, 'pair')} of answers from {path}", *source.notes()]
    if len(source.held):
        told.insert(1, f"{plural(len(source.held), 'pair')} for validation")
    return Sources(source, HeldPairs(source), tokenizer, None, identity, "; ".join(told))


def _prompts(config: Config) -> Sources:
    """Tasks whose answers are judged, which `trainer rl` trains on."""
    from trainer.data.tokenizer import Tokenizer

    settings, vocabulary = config.rl, config.model.vocab_size
    begin_from = config.checkpoint.begin_from
    if settings.prompts is None or vocabulary is None or begin_from is None:
        raise UserError(
            "data.dataset prompts needs rl.prompts (a file of tasks) and checkpoint.begin_from "
            "(the model that answers them)."
        )
    own = config.data.tokenizer or tokenizer_folder(recorded_model(begin_from))
    tokenizer = Tokenizer.load(own)
    prompts = _of_language(settings.prompts, tokenizer, config)
    held = settings.val_prompts and _of_language(settings.val_prompts, tokenizer, config)
    told = [f"{plural(len(prompts), 'prompt')} from {settings.prompts}", *prompts.notes()]
    if held:
        told += [f"{plural(len(held), 'held-out prompt')} from {settings.val_prompts}"]
        told += held.notes()
    identity = {
        "dataset": "prompts",
        "tokenizer": tokenizer.hash,
        "seed": config.train.seed,
        "seq_len": config.seq_len,
        "fingerprint": prompts.digest,
        "validation": held.digest if held else None,
        "reference": model_identity(begin_from),
        "steps_per_iteration": config.steps_per_iteration,
    }
    source = RolloutBatches(prompts, config.seq_len, vocabulary, settings.answers)
    return Sources(source, held or (), tokenizer, None, identity, "; ".join(told))


def _of_language(path: str, tokenizer: Tokenizer, config: Config) -> Prompts:
    """The tasks of a file, in the run's language and short enough. Raises UserError without any."""
    every = read_prompts(path)
    language = config.rl.language
    theirs = [prompt for prompt in every if prompt.language == language]
    if not theirs:
        others = ", ".join(sorted({one_line(prompt.language, 20) for prompt in every}))
        raise UserError(
            f"{one_line(path)} has no task in {language}, but in {others}; give other prompts, or "
            "another --language."
        )
    prompts = Prompts(theirs, tokenizer, config.seq_len, others=len(every) - len(theirs))
    if not prompts:
        raise UserError(
            f"No prompt of {one_line(path)} leaves room for an answer in {config.seq_len} tokens; "
            "give a longer --seq-len, or shorter prompts."
        )
    return prompts


def _synthetic(config: Config) -> Sources:
    vocabulary = config.model.vocab_size
    if config.train.document_mask:
        raise UserError(
            "train.document_mask keeps documents apart, and synthetic data has none; leave it out."
        )
    if vocabulary is None:
        raise UserError("--dataset synthetic needs model.vocab_size; set it with --set.")
    length, seed, count = config.seq_len, config.train.seed, config.data.n_samples
    train = SyntheticBatches(vocabulary, length, count, seed)
    size = config.train.batch_size
    held_out = SyntheticBatches(vocabulary, length, max(1, count // 20), seed + 1)
    batches = min(config.eval.batches, math.ceil(held_out.num_windows / size))
    validation = tuple(
        held_out.batch(i * size, min(size, held_out.num_windows - i * size)) for i in range(batches)
    )
    return Sources(
        train=train,
        validation=validation,
        tokenizer=None,
        bytes_per_token=None,
        identity={
            "dataset": "synthetic",
            "n_samples": count,
            "seed": seed,
            "seq_len": length,
            "validation": f"synthetic, seed {seed + 1}",
            "validation_windows": _windows(validation),
        },
        description=f"{count:,} synthetic samples of {length} tokens",
    )


def _windows(batches: tuple[Batch, ...]) -> int:
    """How many sequences are evaluated."""
    return sum(len(batch[0]) for batch in batches)


def _validation_file(config: Config, train: TokenFile) -> TokenFile | None:
    chosen = config.data.val_path
    path = find_validation(chosen) if chosen else validation_path(train.path)
    if path is None:
        return None
    sidecar = train.sidecar
    val = open_tokens(
        path,
        vocab_size=config.model.vocab_size,
        tokenizer_hash=sidecar.tokenizer_hash if sidecar else None,
    )
    if chosen is None:
        check_together(train, val)
    return val


def _tokenizer(config: Config, train: TokenFile) -> Tokenizer | None:
    from trainer.data.tokenizer import Tokenizer

    path = Path(config.data.tokenizer) if config.data.tokenizer else train.tokenizer_path
    sidecar = train.sidecar
    if path is None:
        if sidecar and sidecar.set_id:
            raise UserError(
                f"{train.path.parent} has no tokenizer.json, with which {train.path.name} was made "
                f"({sidecar.tokenizer_hash}): run `trainer prepare-data` again, or name it with "
                "--set data.tokenizer=FILE."
            )
        return None
    tokenizer = Tokenizer.load(path)
    if sidecar and sidecar.tokenizer_hash == tokenizer.hash and sidecar.eos_id != tokenizer.eos_id:
        raise UserError(
            f"The documents in {train.path} end with token {sidecar.eos_id}, but the tokenizer in "
            f"{path.parent} ends texts with {tokenizer.eos_id}: its tokenizer_config.json is "
            "missing or was replaced; run `trainer prepare-data` again."
        )
    if sidecar and sidecar.tokenizer_hash != tokenizer.hash:
        raise UserError(
            f"{train.path} was made with tokenizer {sidecar.tokenizer_hash}, but {path} is "
            f"{tokenizer.hash}; run `trainer prepare-data` again or name the right one with "
            "--set data.tokenizer=FILE."
        )
    return tokenizer


def _identity(
    train: TokenFile, val: TokenFile | None, batches: tuple[Batch, ...], config: Config
) -> dict[str, Any]:
    """What a resume compares, so that other data does not go unnoticed."""
    sidecar = train.sidecar
    return {
        "dataset": "tokens",
        "tokens": train.count,
        "tokenizer": sidecar.tokenizer_hash if sidecar else None,
        "seed": config.train.seed,
        "seq_len": config.seq_len,
        "fingerprint": train.fingerprint,
        "validation": val.fingerprint if val else None,
        "validation_windows": _windows(batches),
    } | ({"mask": sidecar.mask} if sidecar and sidecar.mask else {})


def data_changes(saved: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """How the data differs from that of a checkpoint, as clauses. Facts that only one of the two
    has are not compared: older checkpoints lack some."""
    names = {
        "dataset": "the kind of data",
        "tokens": "the number of training tokens",
        "seq_len": "the sequence length",
        "seed": "the seed of the order",
        "n_samples": "the number of samples",
        "tokenizer": "the tokenizer",
        "fingerprint": "the content of the training file",
        "validation": "the validation data",
        "validation_windows": "the number of validation sequences",
        "mask": "the mask of the assistant's tokens",
    }
    changed = [key for key in names if key in saved and key in here and saved[key] != here[key]]
    told = [f"{names[key]} was {saved[key]} and is {here[key]}" for key in changed]
    return told + changed_sources(saved.get("sources"), here.get("sources"))


def planned_steps(config: Config, source: SampleSource, done: Progress) -> int:
    """The number of optimizer steps of the run. Tokens that were trained on count towards epochs.

    Those that a rollback skipped do not count, so the number of steps stays the same. Tokens, not
    sequences, because a resume may change the sequence length.
    """
    if config.data.dataset == "prompts":
        return config.rl.iterations * config.steps_per_iteration
    if config.train.max_steps is not None:
        return config.train.max_steps
    epochs = config.train.epochs or EPOCHS
    per_step = config.train.batch_size * config.train.accumulation_steps
    left = epochs * source.num_windows - done.tokens_total / (config.rows * config.seq_len)
    return max(1, done.step + max(0, math.ceil(left / per_step)))
