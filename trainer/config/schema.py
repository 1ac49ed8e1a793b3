"""The sections of a configuration: every key with its type, range, default and description.

`trainer config show` prints the descriptions; null (None) means that a key takes its value from
what the description names.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    NonNegativeFloat,
    PositiveFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from trainer.config.data import DataConfig
from trainer.config.model import ModelConfig
from trainer.config.optim import OptimConfig
from trainer.config.rl import RlConfig
from trainer.config.section import Count, CountOrZero, Section, Size

DEVICES = r"auto|cpu|cuda(:\d{1,3})?|mps"  # a regular expression
MAX_THREADS = 1024  # OpenMP crashes when the system refuses it a thread


class TrainConfig(Section):
    """How long to train, on how many tokens at once, and where."""

    max_steps: Count | None = Field(
        None, description="Optimizer steps in total; null: as many as epochs needs."
    )
    epochs: float | None = Field(
        None, gt=0, le=1e6, description="Passes over the data, where max_steps is null; null: 5."
    )
    max_hours: float | None = Field(
        None, gt=0, le=1e5, description="Stop after this many hours of training; null: no limit."
    )
    patience: Count | None = Field(
        None, description="Stop after so many evaluations without a lower loss; null: never."
    )
    batch_size: Size = Field(8, description="Sequences per micro-batch.")
    accumulation_steps: Size = Field(1, description="Micro-batches per optimizer step.")
    micro_batch: Literal["auto"] | Size | None = Field(
        None,
        description="Sequences in the model at once; auto: as many as memory holds; "
        "null: batch_size.",
    )
    grad_checkpoint_every: CountOrZero | None = Field(
        None,
        description="Gradient checkpointing: blocks between kept activations; 0: none; null: 4 if "
        "need be.",
    )
    seq_len: Size | None = Field(
        None, description="Tokens per training sequence; null: half of max_seq_len."
    )
    document_mask: bool = Field(
        False, description="Let tokens see their own document only; positions restart with each."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of each target that is spread over the vocabulary."
    )
    loss_chunk_tokens: CountOrZero | None = Field(
        None,
        description="Tokens whose logits are held at once; 0: all; null: as the vocabulary needs.",
    )
    vocab_multiple: CountOrZero | None = Field(
        None,
        le=1 << 16,
        description="The head computes with a vocabulary rounded up to a multiple; "
        "null: 64 on CUDA, else 0.",
    )
    z_loss: NonNegativeFloat = Field(
        0.0, description="Weight of the squared log-partition in the loss; published: 1e-4."
    )
    seed: int = Field(1337, ge=0, lt=2**63, description="Seed of weights, data order and dropout.")
    device: str = Field(
        "auto", description="Device: auto, cpu, cuda, cuda:N or mps; auto: a GPU if there is one."
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=MAX_THREADS,
        description="CPU threads; null: all cores, fewer if busy.",
    )
    dtype: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Precision of the forward pass; auto: bf16 where it is faster."
    )
    deterministic: bool = Field(
        False, description="Bit-identical results, also across a resume; slower on a GPU."
    )
    compile: bool | None = Field(None, description="Use torch.compile; null: on CUDA only.")
    parallel: Literal["auto", "ddp", "fsdp"] = Field(
        "auto",
        description="Each rank holds the whole model (ddp) or some rows (fsdp); auto: by memory.",
    )
    collider: bool = Field(
        False, description="Backpropagate only through the tokens with the largest losses."
    )
    collider_keep: float = Field(
        0.65, gt=0, le=1, description="Share of each sequence's tokens that collider keeps."
    )


class DistributedConfig(Section):
    """How many processes train together, and how long they wait for each other."""

    nproc_per_node: Annotated[int, Field(ge=1, le=1024)] = Field(
        1, description="Processes (ranks) that train together on this machine, each with a GPU."
    )
    max_restarts: Annotated[int, Field(ge=0, le=1000)] = Field(
        0, description="How often torchrun starts all ranks again after one has failed."
    )
    timeout: PositiveFloat = Field(
        600.0, description="Seconds that ranks wait for one that hangs before the attempt ends."
    )


class PreferenceConfig(Section):
    """How `trainer dpo` learns from pairs of answers (data.dataset pairs)."""

    loss: Literal["sigmoid", "hinge", "ipo"] = Field(
        "sigmoid", description="Loss of a pair: sigmoid (DPO), hinge or ipo."
    )
    beta: PositiveFloat = Field(
        0.1, description="How strongly the model is held to its reference; more holds it closer."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="Share of the preferences taken to be wrong (cDPO)."
    )


class StabilityConfig(Section):
    """What to do about NaN losses, loss spikes, and a run directory that disappears."""

    nonfinite_steps: Count = Field(
        3, description="NaN or inf steps in a row before rolling back to the last checkpoint."
    )
    rollbacks: CountOrZero = Field(
        3, description="Rollbacks without a new checkpoint in between before the run fails."
    )
    spike_window: Annotated[int, Field(ge=2, le=100_000)] = Field(
        128, description="Steps whose losses define what a spike is."
    )
    spike_zscore: float = Field(
        6.0, gt=0, description="Standard deviations above the window's mean that make a spike."
    )
    skip_spikes: bool = Field(False, description="Skip the update of a step whose loss spikes.")
    directory_grace: NonNegativeFloat = Field(
        600.0, description="Seconds to train on while the run directory is missing."
    )


class CheckpointConfig(Section):
    """When checkpoints are saved, and which are kept."""

    interval: Count = Field(1000, description="Steps between checkpoints.")
    keep_last: Count = Field(3, description="Newest checkpoints to keep.")
    save_top_k: CountOrZero = Field(
        1, description="Best checkpoints by validation loss to keep as well."
    )
    always_save: bool = Field(
        True, description="Save when due; false: only when the validation loss has improved."
    )
    dir: str | None = Field(
        None, description="Folder for checkpoints; null: checkpoints/ in the run directory."
    )
    begin_from: str | None = Field(
        None,
        description="Run, checkpoint, model folder or OWNER/NAME of the Hub to start from; "
        "null: random weights.",
    )
    begin_with: Literal["weights", "state"] = Field(
        "weights",
        description="weights: train those of begin_from from step 0; state: continue at its step.",
    )
    background: bool = Field(
        True, description="Write checkpoints from a copy while training continues."
    )


class EvalConfig(Section):
    """Validation and samples during training."""

    interval: Count = Field(500, description="Steps between evaluations.")
    batches: Count = Field(
        20, description="Validation batches of batch_size sequences, the same each time."
    )
    sample_interval: CountOrZero | None = Field(
        None, description="Steps between text samples; null: at every evaluation; 0: never."
    )
    sample_prompt: str = Field("\n", description="Prompt of the samples.")
    sample_tokens: Count = Field(128, description="Tokens per sample.")


class LogConfig(Section):
    """The console and train.log."""

    interval: Count = Field(
        10, description="Steps between log lines; metrics.jsonl has every step."
    )


class StageConfig(Section):
    """A smaller model that a run begins with; sizes that are null follow from the others."""

    until: float = Field(gt=0, lt=1, description="Share of all steps after which it grows.")
    name: str = Field("", description="Name of its phase; empty: by its number of layers.")
    hidden_size: Count | None = Field(None, description="Width; null: the model's.")
    intermediate_size: Count | None = Field(None, description="Width of the feed-forward layers.")
    num_layers: Count | None = Field(None, description="Transformer blocks; null: the model's.")
    num_heads: Count | None = Field(None, description="Attention heads.")
    num_kv_heads: Count | None = Field(None, description="Key-value heads.")

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A stage holds only what it says."""
        fields = type(self).model_fields
        return {key: value for key, value in dump(self).items() if value != fields[key].default}


class GrowthConfig(Section):
    """Training that begins with smaller models."""

    stages: list[StageConfig] = Field(
        [], description="Smaller models to begin with, in order; the last one is `model`."
    )
    method: Literal["pad", "duplicate", "stack"] = Field(
        "pad", description="How a model grows: pad and duplicate keep what it computes."
    )
    place: Literal["interleave", "top"] = Field(
        "interleave", description="Where new blocks go: between the old ones, or behind them."
    )


class HybridConfig(Section):
    """Steps whose weights are predicted from those before; see docs/hybrid.md."""

    predictor: Literal["outer_nesterov", "ema_nesterov", "linear", "regression"] | None = Field(
        None, description="How weights are predicted; null: every step is real."
    )
    every: Annotated[int, Field(ge=2, le=10_000)] = Field(
        20, description="Real steps between two predictions."
    )
    correct: Count = Field(5, description="Real steps that judge a prediction by their losses.")
    rate: float | None = Field(
        None, gt=0, le=2, description="How far a prediction goes (eta); null: the predictor's."
    )
    momentum: float | None = Field(
        None, ge=0, lt=1, description="Momentum of a prediction (mu); null: the predictor's."
    )
    begin: float = Field(
        0.1, ge=0, le=1, description="Share of all steps before the first prediction."
    )
    end: float = Field(
        1.0, ge=0, le=1, description="Share of all steps after which nothing is predicted."
    )
    band: float = Field(
        3.0, gt=0, description="Standard deviations by which losses may rise after a prediction."
    )
    rollbacks: Count = Field(3, description="Rollbacks after which nothing is predicted any more.")


class HubConfig(Section):
    """Upload to the Hugging Face Hub when the run is complete."""

    upload: bool = Field(False, description="Upload the best checkpoint.")
    repo: str | None = Field(None, description="NAME or OWNER/NAME; null: the run's name.")
    user: str | None = Field(None, description="Owner; null: the account you are logged in with.")
    public: bool = Field(False, description="Make the repository public.")
    license: str | None = Field(
        None, description="License in model card and exports, such as apache-2.0."
    )
    author: str | None = Field(None, description="Author in exports.")


class Config(Section):
    """Everything needed to repeat a run; `config.yaml` holds all of it."""

    name: str = Field("run", description="Name of the run; its folder is NAME_DATE_TIME.")
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    distributed: DistributedConfig = DistributedConfig()
    preference: PreferenceConfig = PreferenceConfig()
    rl: RlConfig = RlConfig()
    stability: StabilityConfig = StabilityConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    eval: EvalConfig = EvalConfig()
    log: LogConfig = LogConfig()
    hub: HubConfig = HubConfig()
    growth: GrowthConfig = GrowthConfig()
    hybrid: HybridConfig = HybridConfig()

    @property
    def seq_len(self) -> int:
        """Tokens per training sequence."""
        return self.train.seq_len or max(1, self.model.max_seq_len // 2)

    @property
    def sequences_per_step(self) -> int:
        """Sequences, or pairs of them, per optimizer step."""
        return self.train.batch_size * self.train.accumulation_steps

    @property
    def steps_per_iteration(self) -> int:
        """Optimizer steps between two rounds of answers in reinforcement learning; 1 elsewhere.

        Intervals count iterations, so that what is due is due between two of them.
        """
        if self.data.dataset != "prompts":
            return 1
        return max(1, self.rl.epochs * self.rl.answers // self.sequences_per_step)

    @property
    def rows(self) -> int:
        """Rows of a batch per sequence: a pair has two."""
        return 2 if self.data.dataset == "pairs" else 1

    @property
    def tokens_per_step(self) -> int:
        """Tokens per optimizer step, padding of pairs included."""
        return self.sequences_per_step * self.rows * self.seq_len

    @property
    def min_lr(self) -> float:
        """The learning rate at the end of the schedule."""
        return self.optim.final_lr


SECTIONS: dict[str, type[Section]] = {
    "model": ModelConfig,
    "data": DataConfig,
    "optim": OptimConfig,
    "train": TrainConfig,
    "distributed": DistributedConfig,
    "preference": PreferenceConfig,
    "rl": RlConfig,
    "stability": StabilityConfig,
    "checkpoint": CheckpointConfig,
    "eval": EvalConfig,
    "log": LogConfig,
    "hub": HubConfig,
    "growth": GrowthConfig,
    "hybrid": HybridConfig,
}
