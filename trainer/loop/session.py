"""The parts of a run, built from its configuration: data, device, model, optimizer, position."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from shared.checkpoints.catalogue import STAGE_ENDS
from shared.errors import RunError
from shared.text import plural
from trainer.checkpoint.foreign_folder import end_ids
from trainer.checkpoint.hub_models import shown_model
from trainer.checkpoint.loading import load_base, load_training_state, load_weights
from trainer.checkpoint.progress import Progress
from trainer.checkpoint.random_state import generator_seed
from trainer.checkpoint.tokenizer_note import note_on_tokenizer
from trainer.config.conditions import without_effect
from trainer.config.schema import Config
from trainer.distributed.device import Compute
from trainer.distributed.group import Group
from trainer.distributed.parallel import Parallel, differing, spread
from trainer.loop.feed import Feed, ahead_on
from trainer.loop.memory_plan import whole_gradients
from trainer.loop.plan import Plan, plan_of_stage, stage_of
from trainer.loop.sources import VALIDATION_FACTS, Sources
from trainer.model.estimates import computed_flops_per_token
from trainer.model.language_model import LanguageModel
from trainer.model.loss import Losses, Objective, loss_memory
from trainer.model.parts.registry import active_parts, rests_on_base
from trainer.model.preference import PreferenceObjective
from trainer.model.recomputation import Recomputation, draws_random_numbers
from trainer.model.shapes import skipped_initialization
from trainer.model.training_pass import training_pass_of
from trainer.optim.optimizer import Optimizer
from trainer.optim.registry import build_optimizer
from trainer.rl.objective import PolicyObjective

#: Of the vocabulary in the output head's products on a GPU: 128 bytes in bf16.
CUDA_MULTIPLE = 64


@dataclass(frozen=True)
class Learner:
    """A model and what trains it: made together, and replaced together."""

    model: LanguageModel
    #: The model with its objective, and the same as a step calls it: compiled, if the run is.
    eager: Callable[..., Losses]
    forward: Callable[..., Losses]
    #: How its gradients become those of all ranks' data.
    parallel: Parallel
    #: Those that training changes, by name.
    parameters: Mapping[str, nn.Parameter]
    optimizer: Optimizer
    flops_per_token: float
    #: Whether a training pass draws random numbers.
    random: bool


@dataclass
class Session:
    """Everything the loop works with. `notes` are lines for the log.

    Ask for its parts where they are needed, and keep none of them: `rebuild` replaces them.
    """

    plan: Plan
    learner: Learner
    progress: Progress = field(default_factory=Progress)
    resumed_from: Path | None = None
    #: The folder whose weights the model had at step 0.
    begun_from: Path | None = None
    #: Tokens that end a text by the folder that it started from, beside the tokenizer's own.
    end_ids: frozenset[int] = frozenset()
    notes: list[str] = field(default_factory=list)
    #: The training data of the steps.
    feed: Feed = field(init=False)

    #: The context of a training step's forward passes, which are never nested: making one takes
    #: longer than entering it.
    autocast: AbstractContextManager[object] = field(init=False)

    def __post_init__(self) -> None:
        self.feed = feed_of(self.plan)
        self.autocast = self.plan.compute.autocast()

    @property
    def config(self) -> Config:
        """The configuration of the present model."""
        return self.plan.config

    @property
    def compute(self) -> Compute:
        """Device and precision."""
        return self.plan.compute

    @property
    def sources(self) -> Sources:
        """The data."""
        return self.plan.sources

    @property
    def group(self) -> Group:
        """The processes that train together."""
        return self.plan.group

    @property
    def sequences_here(self) -> int:
        """The most sequences of a step that a rank trains on."""
        return math.ceil(self.config.sequences_per_step / self.group.world.size)

    @property
    def max_steps(self) -> int:
        """The number of the last step."""
        return self.plan.max_steps

    @property
    def model(self) -> LanguageModel:
        """The model that learns."""
        return self.learner.model

    @property
    def forward(self) -> Callable[..., Losses]:
        """The model as a step calls it."""
        return self.learner.forward

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The parameters that training changes, by name."""
        return self.learner.parameters

    @property
    def optimizer(self) -> Optimizer:
        """What updates them."""
        return self.learner.optimizer

    def enter_stage_of(self, checkpoint: Path | None) -> None:
        """Have the model of a checkpoint's stage, or of the first for none."""
        stage = stage_of(self.plan, checkpoint) if checkpoint else 0
        if stage != self.plan.stage:
            self.rebuild(plan_of_stage(self.plan, stage))

    def rebuild(self, planned: Plan) -> None:
        """Go on with the model and optimizer of another plan, freshly initialized.

        The position stays, and so do the random generators.
        """
        devices = [planned.compute.device] if planned.compute.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            self.learner = _learner(planned)
        self.plan = planned
        self.feed.close()
        self.feed = feed_of(planned)
        self.autocast = planned.compute.autocast()


def feed_of(planned: Plan) -> Feed:
    """What gives the steps of a plan their data."""
    device = planned.compute.device
    # The answers of an iteration are there once it has begun, so that none can be prepared ahead.
    ahead = 0 if planned.config.data.dataset == "prompts" else ahead_on(device)
    return Feed(planned.sources.train, device, ahead)


def build(planned: Plan) -> Session:
    """Allocate the model and the optimizer, freshly initialized."""
    torch.manual_seed(generator_seed(planned.config.train.seed, planned.group.world.rank))
    return Session(planned, _learner(planned), notes=[*planned.describe(), *_warnings(planned)])


def _known_ids(planned: Plan) -> int | None:
    """How many ids the run's tokenizer has: a model may have more."""
    tokenizer = planned.sources.tokenizer
    return tokenizer.vocab_size if tokenizer else None


def _learner(planned: Plan) -> Learner:
    config, compute = planned.config, planned.compute
    # Frozen weights are loaded: until then they need no memory.
    frozen = rests_on_base(config.model)
    sharded = config.train.parallel == "fsdp" and not planned.group.alone
    with skipped_initialization() if frozen or sharded else contextlib.nullcontext():
        model = LanguageModel(
            config.model,
            loss_memory=loss_memory(config.train.loss_chunk_tokens, vocab_multiple(planned)),
            objective=Objective(config.train.label_smoothing, config.train.z_loss),
            training_pass=training_pass_of(config.train),
            recomputation=Recomputation(
                config.train.grad_checkpoint_every or 0, draws_random_numbers(config.model)
            ),
        )
    if not sharded:
        model.initialize(config.train.seed)
        model.to(compute.device)
    model.train()
    eager: Callable[..., Losses] = model
    if config.data.dataset == "pairs":
        eager = PreferenceObjective(model, config.preference)
    elif config.data.dataset == "prompts":
        eager = PolicyObjective(model, config.rl, _known_ids(planned))
    forward, parallel = spread(
        model,
        eager,
        planned.group,
        compute,
        how="fsdp" if sharded else "ddp",
        whole_gradients=sharded
        and planned.group.decided(lambda: whole_gradients(config, compute, planned.group.world)),
        find_unused=bool(model.parts),
    )
    if sharded:
        model.initialize(config.train.seed)  # each rank its own rows
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return Learner(
        model=model,
        eager=eager,
        forward=forward,
        parallel=parallel,
        parameters=parameters,
        optimizer=build_optimizer(parameters, config.optim, parallel.sharing),
        flops_per_token=computed_flops_per_token(config),
        random=draws_random_numbers(config.model),
    )


def vocab_multiple(planned: Plan) -> int:
    """`train.vocab_multiple`, decided: products with rows of any length are as fast on a CPU."""
    asked = planned.config.train.vocab_multiple
    if asked is not None:
        return asked
    return CUDA_MULTIPLE if planned.compute.device.type == "cuda" else 0


def _warnings(planned: Plan) -> Iterator[str]:
    """Warnings: a part has something to say, a setting does nothing, the warmup never ends."""
    for part in active_parts(planned.config.model):
        yield from part.notes(planned.config)
    yield from without_effect(planned.config)
    tokenizer = planned.sources.tokenizer
    note = note_on_tokenizer(planned.config.model, tokenizer) if tokenizer else None
    if note:
        yield note.removesuffix(".")
    warmup = planned.config.optim.warmup_steps
    if warmup > planned.max_steps:
        yield (
            f"The warmup of {plural(warmup, 'step')} is longer than the run: the peak learning "
            "rate is never reached"
        )


def begin(session: Session, folder: Path) -> None:
    """Give a built session the weights in `folder`; it stays at step 0 with a fresh optimizer."""
    load_first_weights(session.model, folder)
    session.optimizer.averages.allocate()  # from these weights
    session.begun_from = folder
    session.end_ids = end_ids(folder)
    session.notes.append(f"Weights from {shown_model(folder)}, with a fresh optimizer")


def load_first_weights(model: LanguageModel, folder: Path) -> None:
    """Load the weights in `folder` for step 0 of a run."""
    load_weights(model, folder)
    for part in model.parts:
        part.begin_run(model)


def restore(session: Session, folder: Path, *, new_run: bool = False) -> None:
    """Restore a built session from the checkpoint `folder`, random generators included.

    In a `new_run`, time and patience count from here, and the best loss is one of its own.
    """
    started = time.monotonic()
    load_base(session.model, folder, session.config.checkpoint.begin_from)
    session.progress = load_training_state(folder, session.model, session.optimizer, session.group)
    different = differing(session.group, session.parameters)
    if different:
        raise RunError(f"{folder} does not give every rank the same {different}.")
    if new_run:
        session.progress.seconds = 0.0
        session.progress.forget_best()
        session.progress.facts.pop(STAGE_ENDS, None)
        if session.progress.hybrid.get("off"):
            session.progress.hybrid = {}
    session.resumed_from = folder
    session.end_ids = end_ids(folder)
    step, seconds = session.progress.step, time.monotonic() - started
    session.notes.append(f"Resumed from {folder.name} at step {step} ({seconds:.1f} s)")
    saved, here = session.progress.facts.get("data") or {}, session.sources.identity
    if any(key in saved and saved[key] != here.get(key) for key in VALIDATION_FACTS):
        session.progress.forget_best()
        session.notes.append("The validation data has changed: the best loss is sought anew")
