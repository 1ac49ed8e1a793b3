"""Arguments and options that several commands share, and the settings they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

RunsDirOption = Annotated[
    Path, typer.Option("--runs-dir", metavar="DIR", help="Folder that holds the runs.")
]
RUNS_DIR = Path("runs")
RUN = typer.Argument(metavar="RUN", help="Run id, name or path, or latest.")
RunArgument = Annotated[str, RUN]
RunsArgument = Annotated[
    list[str], typer.Argument(metavar="RUNS", help="Run ids, names or paths, or latest.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

Config = Annotated[
    str | None,
    typer.Option(metavar="PRESET|FILE.yaml", help="Preset or YAML file; see trainer config."),
]
RunName = Annotated[str | None, typer.Option(help="Name of the run; default: the preset's.")]
DataPath = Annotated[
    str | None, typer.Option(metavar="FILE|DIR", help="train.bin, or the folder that holds it.")
]
Source = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH[=WEIGHT]",
        help="One of several sources to mix by weights, in place of --data-path; repeat it.",
    ),
]
ValDataPath = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|DIR",
        help="val.bin, or the folder that holds it; default: the one beside train.bin.",
    ),
]
SeqLen = Annotated[int | None, typer.Option(help="Tokens per sequence; default: half the context.")]
DocumentMask = Annotated[
    bool | None,
    typer.Option(
        "--document-mask/--no-document-mask",
        help="Let tokens see their own document only; default: the preset's.",
    ),
]
MaxSteps = Annotated[
    int | None, typer.Option("--max-steps", "--steps", help="Optimizer steps in total.")
]
MaxHours = Annotated[
    float | None, typer.Option(help="Stop cleanly after this many hours and save a checkpoint.")
]
Patience = Annotated[
    int | None, typer.Option(help="Stop after so many evaluations without a lower loss.")
]
DEVICE = typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="Device to compute on.")
Device = Annotated[str | None, DEVICE]
Threads = Annotated[
    int | None, typer.Option(help="CPU threads; default: all cores, fewer if busy.")
]
Dtype = Annotated[
    str | None, typer.Option(metavar="auto|fp32|bf16", help="Precision of the forward pass.")
]
Deterministic = Annotated[
    bool | None,
    typer.Option("--deterministic", help="Bit-identical results, also across a resume."),
]
Lora = Annotated[
    str | None,
    typer.Option(
        metavar="r=N[,alpha=N,…]",
        help="Train LoRA adapters of the model of --begin-from; also targets=q_proj+v_proj, "
        "dropout=P, base=bf16|fp32.",
    ),
]
LearningRate = Annotated[float | None, typer.Option(help="Peak learning rate.")]
Optimizer = Annotated[
    str | None,
    typer.Option(metavar="adamw|muon|muon+lion|lion", help="Optimizer; muon includes adamw."),
]
BatchSize = Annotated[int | None, typer.Option(help="Sequences per micro-batch.")]
Accumulation = Annotated[int | None, typer.Option(help="Micro-batches per optimizer step.")]
LogInterval = Annotated[int | None, typer.Option(help="Steps between log lines.")]
EvalInterval = Annotated[int | None, typer.Option(help="Steps between evaluations.")]
CheckpointInterval = Annotated[int | None, typer.Option(help="Steps between checkpoints.")]
KeepLast = Annotated[int | None, typer.Option(help="Newest checkpoints to keep.")]
SaveTopK = Annotated[
    int | None, typer.Option(help="Best checkpoints by validation loss to keep as well.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Set any key of the configuration."),
]
Dataset = Annotated[
    str | None,
    typer.Option(metavar="tokens|synthetic", help="Token files, or generated data for a test."),
]
Data = Annotated[
    list[str] | None,
    typer.Option(metavar="PATHS", help="Text to train on directly; it is tokenized first."),
]
Chat = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATHS",
        help="Conversations to fine-tune the model of --begin-from on; --config finetune "
        "unless another is given.",
    ),
]
ChatTemplate = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Template of --chat in Jinja; default: the model's own."),
]
Samples = Annotated[int | None, typer.Option(help="Sequences of the synthetic data.")]
Epochs = Annotated[
    float | None, typer.Option(help="Passes over the data; default: 5, or --max-steps.")
]
Seed = Annotated[int | None, typer.Option(help="Seed of weights, data order and dropout.")]
Compile = Annotated[
    bool | None,
    typer.Option("--compile/--no-compile", help="Use torch.compile; default: on CUDA only."),
]
BeginFrom = Annotated[
    str | None,
    typer.Option(
        metavar="RUN|RUN:STEP|DIR|OWNER/NAME",
        help="Train the weights of this run, checkpoint, model folder or model of the Hub in a "
        "new run.",
    ),
]
BeginWith = Annotated[
    str | None,
    typer.Option(
        metavar="weights|state",
        help="What --begin-from takes: weights, from step 0, or state, from its step; "
        "default: weights.",
    ),
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Train in the background; output goes to train.log.")
]
Queue = Annotated[
    bool, typer.Option("--queue", help="Let a daemon start the run when there is room.")
]
Parallel = Annotated[
    str | None,
    typer.Option(
        metavar="auto|ddp|fsdp",
        help="Of several ranks each holds the whole model (ddp) or some rows of it (fsdp); "
        "default: by memory.",
    ),
]
MicroBatch = Annotated[
    str | None,
    typer.Option(
        metavar="N|auto",
        help="Sequences in the model at once; auto: as many as fit; default: --batch-size.",
    ),
]
GradCheckpoint = Annotated[
    int | None,
    typer.Option(
        "--grad-checkpoint-every",
        metavar="N",
        help="Keep activations of every N-th block only, for less memory and more time; 0: all; "
        "default: 4 if memory is short.",
    ),
]


NprocPerNode = Annotated[
    int | None,
    typer.Option(metavar="N", help="Processes that train together on this machine, by torchrun."),
]
MaxRestarts = Annotated[
    int | None,
    typer.Option(metavar="N", help="How often torchrun starts all ranks again if one fails."),
]
Nnodes = Annotated[int, typer.Option("--nnodes", metavar="N", help="Machines that train together.")]
NodeRank = Annotated[
    int | None, typer.Option(metavar="K", help="Number of this machine, from 0; default: any.")
]
RdzvEndpoint = Annotated[
    str | None,
    typer.Option(
        "--rdzv-endpoint", metavar="HOST:PORT", help="Where the machines of --nnodes meet."
    ),
]


#: The keys of a configuration that options of `train`, `resume` and `dpo` set, by parameter.
SETTINGS: Mapping[str, str] = {
    "name": "name",
    "dataset": "data.dataset",
    "data_path": "data.path",
    "val_data_path": "data.val_path",
    "n_samples": "data.n_samples",
    "epochs": "train.epochs",
    "max_steps": "train.max_steps",
    "max_hours": "train.max_hours",
    "patience": "train.patience",
    "batch_size": "train.batch_size",
    "accumulation_steps": "train.accumulation_steps",
    "micro_batch": "train.micro_batch",
    "grad_checkpoint_every": "train.grad_checkpoint_every",
    "parallel": "train.parallel",
    "seq_len": "train.seq_len",
    "document_mask": "train.document_mask",
    "seed": "train.seed",
    "device": "train.device",
    "threads": "train.threads",
    "dtype": "train.dtype",
    "deterministic": "train.deterministic",
    "compile": "train.compile",
    "optimizer": "optim.name",
    "learning_rate": "optim.learning_rate",
    "nproc_per_node": "distributed.nproc_per_node",
    "max_restarts": "distributed.max_restarts",
    "log_interval": "log.interval",
    "eval_interval": "eval.interval",
    "checkpoint_interval": "checkpoint.interval",
    "keep_last_checkpoints": "checkpoint.keep_last",
    "save_top_k": "checkpoint.save_top_k",
    "checkpoint_dir": "checkpoint.dir",
    "begin_from": "checkpoint.begin_from",
    "begin_with": "checkpoint.begin_with",
    "upload": "hub.upload",
    "hf_user": "hub.user",
    "loss": "preference.loss",
    "beta": "preference.beta",
    "label_smoothing": "preference.label_smoothing",
    "prompts": "rl.prompts",
    "val_prompts": "rl.val_prompts",
    "language": "rl.language",
    "iterations": "rl.iterations",
    "prompts_per_iteration": "rl.prompts_per_iteration",
    "group_size": "rl.group_size",
    "rl_epochs": "rl.epochs",
    "max_new_tokens": "rl.max_new_tokens",
    "temperature": "rl.temperature",
    "top_p": "rl.top_p",
    "rl_loss": "rl.loss",
    "kl_beta": "rl.kl_beta",
    "run_tests": "rl.run_tests",
    "curriculum": "rl.curriculum",
    "min_pass_rate": "rl.min_pass_rate",
}


#: Keys that a command with a recipe of its own fits to its data or model unless they are given.
FITTED: Mapping[str, frozenset[str]] = {
    "dpo": frozenset({"train.seq_len", "eval.interval", "checkpoint.interval"}),
    "rl": frozenset({"train.seq_len", "train.accumulation_steps"}),
}


def settings_of(context: typer.Context) -> dict[str, Any]:
    """The values of the options that set a key of a configuration; None where one is not given."""
    found = {key: context.params[name] for name, key in SETTINGS.items() if name in context.params}
    if context.params.get("source"):
        from trainer.config.mixture import parse_sources

        found["data.sources"] = parse_sources(context.params["source"])
    if context.params.get("lora") is not None:
        from trainer.config.lora import parse_lora

        found |= parse_lora(context.params["lora"])
    return found


def given(settings: dict[str, Any], assignments: list[str] | None) -> dict[str, Any]:
    """The settings from the command line: flags that are not None, then `--set` over them."""
    from trainer.config.resolve import parse_assignment

    chosen = {key: value for key, value in settings.items() if value is not None}
    for assignment in assignments or []:
        key, value = parse_assignment(assignment)
        chosen[key] = value
    return chosen


def check_range(option: str, value: float | None, least: float, most: float) -> None:
    """Raise UserError when the value of an option is given and outside its range."""
    from shared.errors import UserError

    if value is not None and not least <= value <= most:
        raise UserError(f"{option} is {value}; it must be between {least} and {most}.")


def check_threads(threads: int | None) -> None:
    """Raise UserError when `--threads` is out of range."""
    from trainer.config.schema import MAX_THREADS

    check_range("--threads", threads, 1, MAX_THREADS)
