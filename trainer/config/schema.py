"""The sections of a configuration, every key with its type, unit and default."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, ValidationInfo, field_validator

# Far beyond any use, and small enough that what is computed from them fits 64 bits.
Count = Annotated[int, Field(ge=1, le=10**12)]
CountOrZero = Annotated[int, Field(ge=0, le=10**12)]
Size = Annotated[int, Field(ge=1, le=2**24)]
MAX_THREADS = 1024  # OpenMP crashes when the system refuses it a thread


class Section(BaseModel):
    """A frozen section; keys it does not know are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's `yes` must not count as the number 1."""
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            raise ValueError("must not be a truth value")
        return value


class ModelConfig(Section):
    """The shape. `llama` is LlamaForCausalLM (Qwen3ForCausalLM with `qk_norm`), `gpt2` is GPT-2."""

    name: str = "custom"
    flavour: Literal["llama", "gpt2"] = "llama"
    vocab_size: Count | None = None  # None: taken from the data
    hidden_size: Count = 256
    intermediate_size: Count | None = None  # None: 4 x hidden (gpt2), 8/3 x hidden (llama)
    num_layers: Count = 4
    num_heads: Count = 4
    num_kv_heads: Count | None = None  # None: num_heads
    head_dim: Count | None = None  # None: hidden_size / num_heads
    max_seq_len: Size = 256  # tokens
    rope_theta: float = Field(10000.0, gt=0)
    norm_eps: float = Field(1e-6, gt=0)
    tie_embeddings: bool = True
    qk_norm: bool = False
    hyper_streams: Literal[0, 1, 2, 4] = 0  # residual streams of hyper-connections; 0: without them
    dropout: float = Field(0.0, ge=0, lt=1)


class DataConfig(Section):
    """Where tokens come from."""

    dataset: Literal["tokens", "synthetic"] = "tokens"
    path: str | None = None  # train.bin or the folder prepare-data wrote
    val_path: str | None = None  # None: val.bin beside it, if there is one
    tokenizer: str | None = None  # None: tokenizer.json beside the data, if there is one
    n_samples: Count = 100_000  # synthetic samples


class OptimConfig(Section):
    """AdamW and its learning rate, a pure function of the step."""

    name: Literal["adamw"] = "adamw"
    learning_rate: float = Field(6e-4, gt=0)
    min_lr: NonNegativeFloat | None = None  # None: a tenth of learning_rate
    schedule: Literal["cosine", "wsd", "constant"] = "cosine"
    warmup_steps: CountOrZero = 100
    decay_start: float = Field(0.8, ge=0, le=1)  # wsd: where the decay begins, share of all steps
    weight_decay: NonNegativeFloat = 0.1
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.95, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)
    grad_clip: NonNegativeFloat = 1.0  # global norm; 0 turns it off

    @property
    def final_lr(self) -> float:
        """The learning rate at the end of the schedule."""
        return self.learning_rate / 10 if self.min_lr is None else self.min_lr


class TrainConfig(Section):
    """How long, how much at once, and on what."""

    max_steps: Count | None = None  # optimizer steps; None: from epochs
    # Passes over the data; used when max_steps is None.
    epochs: float | None = Field(None, gt=0, le=1e6)
    max_hours: float | None = Field(None, gt=0, le=1e5)  # of training in all; None: no limit
    batch_size: Size = 8  # sequences per micro-batch
    accumulation_steps: Size = 1  # micro-batches per optimizer step
    # Sequences that go through the model at once, when memory does not hold batch_size of them;
    # auto: the most that fit. The optimizer step has batch_size x accumulation_steps all the same.
    micro_batch: Literal["auto"] | Size | None = None
    seq_len: Size | None = None  # tokens; None: max_seq_len / 2
    seed: int = Field(1337, ge=0, lt=2**63)
    device: str = "auto"  # auto, cpu, cuda, cuda:N, mps
    threads: int | None = Field(None, ge=1, le=MAX_THREADS)  # None: all cores
    dtype: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where it is faster
    deterministic: bool = False
    compile: bool | None = None  # None: on CUDA only


class StabilityConfig(Section):
    """What happens when the loss leaps, or is no number any more, or the disk goes away."""

    nonfinite_steps: Count = 3  # in a row, then back to the last checkpoint, past that data
    rollbacks: CountOrZero = 3  # without a new checkpoint in between, then the run fails
    spike_window: Annotated[int, Field(ge=2, le=100_000)] = 128  # steps
    spike_zscore: float = Field(6.0, gt=0)  # standard deviations above the window's mean
    skip_spikes: bool = False  # leave the update of such a step out
    directory_grace: NonNegativeFloat = 600.0  # seconds to train on without a run directory


class CheckpointConfig(Section):
    """When checkpoints are saved and which are kept."""

    interval: Count = 1000  # steps
    keep_last: Count = 3
    save_top_k: CountOrZero = 1  # the best by validation loss, kept beside the last ones
    always_save: bool = True  # False: only when the validation loss improved
    dir: str | None = None  # None: checkpoints/ in the run directory
    begin_from: str | None = None  # a checkpoint that a run without one of its own begins from
    background: bool = True  # write from a copy while training goes on


class EvalConfig(Section):
    """Validation and samples during training."""

    interval: Count = 500  # steps
    batches: Count = 20  # fixed validation batches of train.batch_size sequences
    sample_interval: CountOrZero | None = None  # None: at every evaluation; 0: never
    sample_prompt: str = "\n"
    sample_tokens: Count = 128


class LogConfig(Section):
    """The console."""

    interval: Count = 10  # steps between lines; metrics.jsonl has every step


class HubConfig(Section):
    """What goes to the Hugging Face Hub by itself."""

    upload: bool = False  # the best checkpoint, once the run is complete
    repo: str | None = None  # NAME or OWNER/NAME; None: the run's name
    user: str | None = None  # the owner; None: who is logged in
    public: bool = False


class Config(Section):
    """Everything a run can be repeated from; `config.yaml` holds it whole."""

    name: str = "run"
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    stability: StabilityConfig = StabilityConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    eval: EvalConfig = EvalConfig()
    log: LogConfig = LogConfig()
    hub: HubConfig = HubConfig()

    @property
    def seq_len(self) -> int:
        """Tokens per training sequence."""
        return self.train.seq_len or max(1, self.model.max_seq_len // 2)

    @property
    def tokens_per_step(self) -> int:
        """Tokens per optimizer step."""
        return self.train.batch_size * self.train.accumulation_steps * self.seq_len

    @property
    def min_lr(self) -> float:
        """The learning rate at the end of the schedule."""
        return self.optim.final_lr


SECTIONS: dict[str, type[Section]] = {
    "model": ModelConfig,
    "data": DataConfig,
    "optim": OptimConfig,
    "train": TrainConfig,
    "stability": StabilityConfig,
    "checkpoint": CheckpointConfig,
    "eval": EvalConfig,
    "log": LogConfig,
    "hub": HubConfig,
}
