"""`trainer train`: train a new run, or with --resume continue one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli import options
from trainer.cli.data.tokenizer import FieldOption
from trainer.cli.output import show_progress

if TYPE_CHECKING:
    from trainer.config.resolve import Settings
    from trainer.launch.ranks import Nodes
    from trainer.launch.request import LaunchRequest


def train(
    *,
    context: typer.Context,
    config: options.Config = None,
    name: options.RunName = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    dataset: options.Dataset = None,
    data_path: options.DataPath = None,
    source: options.Source = None,
    val_data_path: options.ValDataPath = None,
    data: options.Data = None,
    text_field: FieldOption = "text",
    chat: options.Chat = None,
    chat_template: options.ChatTemplate = None,
    n_samples: options.Samples = None,
    max_steps: options.MaxSteps = None,
    max_hours: options.MaxHours = None,
    patience: options.Patience = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    accumulation_steps: options.Accumulation = None,
    micro_batch: options.MicroBatch = None,
    grad_checkpoint_every: options.GradCheckpoint = None,
    parallel: options.Parallel = None,
    seq_len: options.SeqLen = None,
    document_mask: options.DocumentMask = None,
    lora: options.Lora = None,
    optimizer: options.Optimizer = None,
    learning_rate: options.LearningRate = None,
    seed: options.Seed = None,
    device: options.Device = None,
    threads: options.Threads = None,
    dtype: options.Dtype = None,
    deterministic: options.Deterministic = None,
    compile: options.Compile = None,
    nproc_per_node: options.NprocPerNode = None,
    nnodes: options.Nnodes = 1,
    node_rank: options.NodeRank = None,
    rdzv_endpoint: options.RdzvEndpoint = None,
    max_restarts: options.MaxRestarts = None,
    log_interval: options.LogInterval = None,
    eval_interval: options.EvalInterval = None,
    checkpoint_interval: options.CheckpointInterval = None,
    keep_last_checkpoints: options.KeepLast = None,
    save_top_k: options.SaveTopK = None,
    checkpoint_dir: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Save checkpoints here, not in the run directory."),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume", "--resume-from", metavar="latest|RUN|PATH", help="Continue this run."
        ),
    ] = None,
    begin_from: options.BeginFrom = None,
    begin_with: options.BeginWith = None,
    decay_from: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|RUN:STEP|DIR",
            help="Decay the learning rate of this checkpoint in a new run; it must be at its peak.",
        ),
    ] = None,
    first_size: Annotated[
        str | None,
        typer.Option(
            "--start", metavar="100m|500m|1b", help="Size to begin with; see --recipe. Or 1m, 4m."
        ),
    ] = None,
    last_size: Annotated[
        str | None,
        typer.Option(
            "--end", metavar="100m|500m|1b", help="Size to end with; default: that of --start."
        ),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(
            metavar="late|stages",
            help="late: the last size with two layers, and all of them after 60 % of the steps; "
            "stages: through every size from --start to --end.",
        ),
    ] = "late",
    cuda: Annotated[bool, typer.Option("--cuda", help="Same as --device cuda.")] = False,
    upload: Annotated[
        bool | None,
        typer.Option("--upload", help="Upload the best checkpoint to the Hub at the end."),
    ] = None,
    hf_user: Annotated[
        str | None, typer.Option(metavar="NAME", help="Owner of the Hub repository; default: you.")
    ] = None,
    set_: options.Set = None,
    detach: options.Detach = False,
    queue: options.Queue = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check everything and print sizes and memory; do not train."
        ),
    ] = False,
) -> int:
    """Train a model.

    Options override the preset or file of --config, and that overrides the defaults below; trainer
    config show prints every setting.

    Ctrl-C stops cleanly: the step is finished, a checkpoint is saved, and the exit code is 75.
    """
    from shared.errors import UserError
    from trainer.cli.hub.download import download
    from trainer.cli.training.start import check_may_prepare, check_mode, start
    from trainer.launch.beginning import Layers
    from trainer.launch.claim import check_writable
    from trainer.launch.decay import decay_request
    from trainer.launch.ladder import ladder
    from trainer.launch.new_training import Given, Tools, training_config
    from trainer.launch.ranks import Nodes
    from trainer.launch.request import (
        LaunchRequest,
        check_preset,
        choose_length,
        load_layers,
        resume_request,
    )

    check_mode(detach=detach, queue=queue)
    nodes = Nodes(nnodes, node_rank, rdzv_endpoint)
    nodes.check()
    check_may_prepare("--data", data, nnodes)
    check_may_prepare("--chat", chat, nnodes)
    if resume is None and not dry_run:
        check_writable(runs_dir)
    if begin_from is not None and resume is not None:
        raise UserError(
            "--begin-from and --resume are both given; --resume continues a run, and --begin-from "
            "starts a new one."
        )
    if decay_from is not None:
        for option, value in (
            ("--resume", resume),
            ("--begin-from", begin_from),
            ("--config", config),
            ("--data", data),
            ("--chat", chat),
        ):
            if value:
                raise UserError(
                    f"--decay-from and {option} are both given; --decay-from continues a "
                    "checkpoint with its own configuration and data."
                )
    settings = options.settings_of(context)
    stages: Settings = {}
    if first_size is not None or last_size is not None:
        for option, value in (
            ("--config", config),
            ("--resume", resume),
            ("--begin-from", begin_from),
            ("--decay-from", decay_from),
        ):
            if value:
                raise UserError(
                    f"--start and {option} are both given; --start and --end are the sizes of a "
                    "new model."
                )
        config, stages = ladder(first_size, last_size, recipe)
    elif recipe != "late":
        raise UserError("--recipe is for --start and --end, which are missing.")
    if cuda:
        if device is not None:
            raise UserError(f"--cuda and --device {device} are both given; give one of them.")
        settings["train.device"] = "cuda"
    preset, file, is_preset = load_layers(config)
    preset = {**preset, **stages}
    flags = options.given(settings, set_)
    choose_length(flags)
    given = Given(
        data=data or (),
        text_field=text_field,
        chat=chat or (),
        chat_template=chat_template,
        config=config is not None,
        dataset=dataset is not None,
    )
    given.check(flags)
    if resume is not None:
        if data or chat:
            raise UserError(
                f"{'--data' if data else '--chat'} and --resume are both given; a resumed run "
                "keeps its data. To train it on other token files, give --data-path."
            )
        request = resume_request(resume, runs_dir, {**file, **flags}, name)
        check_preset(preset, request)
    elif decay_from is not None:
        request = decay_request(decay_from, runs_dir, flags)
    else:
        layers = Layers(preset, file, flags, is_preset)
        tools = Tools(download, show_progress, tell)
        request = LaunchRequest(training_config(layers, given, runs_dir, tools))
    if dry_run:
        return show_plan(request, nodes)
    return start(request, runs_dir, detach=detach, queue=queue, hooks=context.obj, nodes=nodes)


def tell(note: str) -> None:
    """Print what a person should know about the data."""
    typer.echo(f"note: {note}", err=True)


def show_plan(request: LaunchRequest, nodes: Nodes) -> int:
    """Print what would be trained and on what, without creating a run."""
    from shared.text import many_lines
    from trainer.launch.checks import check_ahead

    for line in check_ahead(request, nodes.count).describe():
        typer.echo(many_lines(line))
    return 0
