"""The parts of a run, built from its configuration: data, device, model, optimizer, position."""

from __future__ import annotations

import contextlib
import math
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from shared.checkpoints.catalogue import is_adapter
from shared.errors import RunError, UserError
from shared.text import format_count, one_line, plural
from trainer.checkpoint.foreign_folder import end_ids
from trainer.checkpoint.hub_models import shown_model
from trainer.checkpoint.loading import (
    check_optimizer,
    check_weights,
    load_base,
    load_training_state,
    load_weights,
    model_config,
    verify,
)
from trainer.checkpoint.opening import differing_tokens, own_tokenizer
from trainer.checkpoint.progress import Progress, read_progress
from trainer.checkpoint.random_state import generator_seed
from trainer.checkpoint.tokenizer_note import note_on_tokenizer
from trainer.config.conditions import without_effect
from trainer.config.schema import Config, GrowthConfig, ModelConfig
from trainer.distributed.device import Compute, set_up
from trainer.distributed.group import ALONE, Group
from trainer.distributed.parallel import Parallel, differing, spread
from trainer.distributed.speed import Choice
from trainer.growth.plan import check_stages
from trainer.growth.stages import Stage, stages_of, without_growth
from trainer.loop.feed import Feed, ahead_on
from trainer.loop.memory_plan import (
    check_memory,
    estimated_memory,
    free_memory,
    memory_notes,
    parallel_notes,
    parallel_of,
    whole_gradients,
    with_recomputation,
)
from trainer.loop.mixture import tell_sources
from trainer.loop.patience import check_patience
from trainer.loop.resumable import check_same_model, check_steps_left, check_time_left
from trainer.loop.sources import VALIDATION_FACTS, Sources, open_sources, planned_steps
from trainer.model.attention_backends import Attention, attention_of
from trainer.model.differences import differences
from trainer.model.dimensions import dimensions
from trainer.model.estimates import MemoryEstimate, flops_per_token
from trainer.model.language_model import LanguageModel
from trainer.model.loss import Losses, Objective, loss_memory
from trainer.model.parts.registry import active_parts, base_of, rests_on_base
from trainer.model.preference import PreferenceObjective
from trainer.model.recomputation import Recomputation, draws_random_numbers
from trainer.model.shapes import count_parameters, describe, skipped_initialization, trained_shapes
from trainer.model.training_pass import training_pass_of
from trainer.optim.kinds import with_table
from trainer.optim.optimizer import Optimizer
from trainer.optim.registry import build_optimizer, planned_optimizer


@dataclass(frozen=True)
class Plan:
    """A configuration that has been checked against the data and the machine."""

    config: Config
    compute: Compute
    sources: Sources
    max_steps: int
    #: What the training will take.
    memory: MemoryEstimate
    #: What computes attention in a step.
    attention: Attention
    #: The processes that train together.
    group: Group = ALONE
    #: The models that the run goes through, which of them `config` has, and how they grow.
    stages: tuple[Stage, ...] = ()
    stage: int = 0
    growth: GrowthConfig = field(default_factory=GrowthConfig)

    def describe(self) -> list[str]:
        """The model, the data, the device, the memory, the parameter groups, a line each."""
        config, compute = self.config, self.compute
        return [
            describe(config),
            *self._growing(),
            self.sources.description,
            *tell_sources(self.sources, config.seq_len, self.max_steps * config.sequences_per_step),
            f"{compute.describe()}{self.ranks}; {plural(config.tokens_per_step, 'token')} per step",
            *compute.notes,
            str(self.attention),
            f"memory {self.memory}",
            *parallel_notes(config, compute, self.memory, self.group.world),
            *memory_notes(config, compute, self.memory, self.group.world),
            *_planned_optimizer(config).describe(config.optim.learning_rate),
        ]

    def _growing(self) -> Iterator[str]:
        for stage, following in pairwise(self.stages[self.stage :]):
            n, count = dimensions(following.model), count_parameters(following.model)
            yield (
                f"after step {stage.last_step} it grows to {format_count(count)} parameters: "
                f"{plural(n.L, 'layer')}, width {n.D}, {plural(n.H, 'head')}"
            )

    @cached_property
    def sequences_per_step(self) -> int:
        """The configuration's; it is asked for in every step."""
        return self.config.sequences_per_step

    @cached_property
    def tokens_per_step(self) -> int:
        """The configuration's."""
        return self.config.tokens_per_step

    @property
    def ranks(self) -> str:
        """How many processes train, as the end of a line; empty if it is one."""
        return "" if self.group.alone else f", {self.group.world.size} ranks"


def _planned_optimizer(config: Config) -> Optimizer:
    return planned_optimizer(trained_shapes(config.model), config.optim)


def plan(config: Config, checkpoint: Path | None = None, group: Group = ALONE) -> Plan:
    """Open the data and choose the device, without allocating a model.

    `checkpoint` is where training starts; it matters if the steps are computed from epochs. `group`
    are the processes that train together. Raises
    UserError for anything that would fail later: data, device, memory, optimizer.
    """
    config = config.model_copy(update={"optim": with_table(config.optim)})
    world = group.world
    done = read_progress(checkpoint)[0] if checkpoint else Progress()
    compute = set_up(config, world, Choice.from_plain(done.facts.get("compute")))
    parallel = group.decided(lambda: parallel_of(config, compute, world))
    config = config.model_copy(
        update={"train": config.train.model_copy(update={"parallel": parallel})}
    )
    free = group.smallest(free_memory(compute.device, world))
    config = with_recomputation(config, compute, free, world)
    memory = estimated_memory(config, compute, world)
    check_memory(config, compute, memory, world)
    sources = open_sources(config)
    check_patience(config, sources)
    steps = planned_steps(config, sources.train, done)
    attention = attention_of(config, compute.device, bf16=compute.bf16)
    stages = stages_of(config, steps)
    check_stages(config, stages)
    whole = Plan(
        config,
        compute,
        sources,
        steps,
        memory,
        attention,
        group,
        stages,
        growth=config.growth,
    )
    return plan_of_stage(whole, stage_of(whole, checkpoint) if checkpoint else 0)


def plan_of_stage(planned: Plan, stage: int) -> Plan:
    """The plan of a run for one of its stages: its configuration is that of the stage's model."""
    model = planned.stages[stage].model
    return replace(planned, config=without_growth(planned.config, model), stage=stage)


def stage_of(planned: Plan, checkpoint: Path) -> int:
    """The stage that a checkpoint is of, by its model; the last if it is another model's."""
    if len(planned.stages) == 1:
        return 0
    theirs = model_config(checkpoint)
    for number, stage in enumerate(planned.stages):
        if not differences(theirs, stage.model):
            return number
    return len(planned.stages) - 1


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
    return Feed(planned.sources.train, device, ahead_on(device))


def build(planned: Plan) -> Session:
    """Allocate the model and the optimizer, freshly initialized."""
    torch.manual_seed(generator_seed(planned.config.train.seed, planned.group.world.rank))
    return Session(planned, _learner(planned), notes=[*planned.describe(), *_warnings(planned)])


def _computed(config: Config) -> float:
    """The share of a step's arithmetic that is done: a backward pass is two thirds of it."""
    kept = config.train.collider_keep if config.train.collider else 1.0
    return (1 + 2 * kept) / 3


def _learner(planned: Plan) -> Learner:
    config, compute = planned.config, planned.compute
    # Frozen weights are loaded: until then they need no memory.
    frozen = rests_on_base(config.model)
    sharded = config.train.parallel == "fsdp" and not planned.group.alone
    with skipped_initialization() if frozen or sharded else contextlib.nullcontext():
        model = LanguageModel(
            config.model,
            loss_memory=loss_memory(config.train.loss_chunk_tokens),
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
        flops_per_token=flops_per_token(config.model, config.seq_len) * _computed(config),
    )


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


def check_beginning(planned: Plan, folder: Path) -> None:
    """Raise UserError if `planned` cannot begin with the weights in `folder`, RunError if they are
    damaged.

    Refused are another model, and data made with another tokenizer than the model's own.
    """
    verify(folder)
    model = planned.config.model
    check_shape(model if is_adapter(folder) else base_of(model), folder)
    check_weights(model, folder)
    own, ours = own_tokenizer(folder), planned.sources.tokenizer
    if own is None or ours is None or own.hash == ours.hash:
        return
    differing = differing_tokens(own, ours)
    if differing:
        raise UserError(
            f"The training data was made with another tokenizer than the model in "
            f"{one_line(folder)}: {differing} differ; prepare the text again with: "
            f"trainer prepare-data --tokenizer {shlex.quote(one_line(folder))} --text …"
        )


def check_shape(model: ModelConfig, folder: Path, base: str | None = None) -> None:
    """Raise UserError naming every difference when the checkpoint holds another model.

    The base of adapters is sought at `base` first.
    """
    check_same_model(model_config(folder, base), model, folder)


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
    session.resumed_from = folder
    session.end_ids = end_ids(folder)
    step, seconds = session.progress.step, time.monotonic() - started
    session.notes.append(f"Resumed from {folder.name} at step {step} ({seconds:.1f} s)")
    saved, here = session.progress.facts.get("data") or {}, session.sources.identity
    if any(key in saved and saved[key] != here.get(key) for key in VALIDATION_FACTS):
        session.progress.forget_best()
        session.notes.append("The validation data has changed: the best loss is sought anew")


def check_resumable(
    planned: Plan,
    folder: Path,
    *,
    verified: bool = False,
    ended: bool = True,
    new_run: bool = False,
) -> None:
    """Raise UserError if `planned` cannot resume from the checkpoint `folder`, RunError if it is
    damaged.

    Refused are another model, optimizer or tokenizer, and a run without steps left. A run that has
    made its last step but not `ended` (it was killed before it could record that) may resume, to
    end. A `new_run` has all its time and patience left.
    """
    if not verified:
        verify(folder)
    check_shape(planned.config.model, folder, planned.config.checkpoint.begin_from)
    progress, _ = read_progress(folder)
    check_optimizer(_planned_optimizer(planned.config), folder)
    if ended:
        check_steps_left(planned.max_steps, progress)
    if ended and not new_run:
        check_time_left(planned.config, progress)
    saved, here = progress.facts.get("data") or {}, planned.sources.identity
    if "reference" in saved and "reference" in here and saved["reference"] != here["reference"]:
        raise UserError(
            f"The model in {one_line(planned.config.checkpoint.begin_from)} has changed since the "
            "run began from it, and it is the run's reference: put the old one back, or name its "
            "place with --set checkpoint.begin_from=PLACE."
        )
    if saved and saved.get("tokenizer") != here.get("tokenizer"):
        raise UserError(
            f"The run was trained with tokenizer {saved.get('tokenizer')}, but this data was "
            f"made with {here.get('tokenizer')}; resume with the data it was trained on."
        )
