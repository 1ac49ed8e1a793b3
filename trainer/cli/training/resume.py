"""`trainer resume`: continue a run, whatever ended it."""

from __future__ import annotations

from typing import Annotated

import typer

from trainer.cli import options
from trainer.cli.models import model_options


def resume(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="Run id, name or path, latest, or RUN:STEP."),
    ] = None,
    *,
    checkpoint: model_options.Model = None,
    context: typer.Context,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="STEP|NAME|PATH",
            help="Start from this checkpoint, not the newest: 500, best, or a folder.",
        ),
    ] = None,
    data_path: options.DataPath = None,
    source: options.Source = None,
    val_data_path: options.ValDataPath = None,
    max_steps: options.MaxSteps = None,
    iterations: Annotated[
        int | None, typer.Option(help="Iterations of reinforcement learning in total.")
    ] = None,
    max_hours: options.MaxHours = None,
    patience: options.Patience = None,
    device: options.Device = None,
    threads: options.Threads = None,
    seq_len: options.SeqLen = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    accumulation_steps: options.Accumulation = None,
    micro_batch: options.MicroBatch = None,
    grad_checkpoint_every: options.GradCheckpoint = None,
    nproc_per_node: options.NprocPerNode = None,
    nnodes: options.Nnodes = 1,
    node_rank: options.NodeRank = None,
    rdzv_endpoint: options.RdzvEndpoint = None,
    max_restarts: options.MaxRestarts = None,
    parallel: options.Parallel = None,
    log_interval: options.LogInterval = None,
    eval_interval: options.EvalInterval = None,
    checkpoint_interval: options.CheckpointInterval = None,
    keep_last_checkpoints: options.KeepLast = None,
    save_top_k: options.SaveTopK = None,
    set_: options.Set = None,
    detach: options.Detach = False,
    queue: options.Queue = False,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> int:
    """Continue a run from its newest sound checkpoint, or from the start if it has none.

    Each option's default is what the run was trained with.
    """
    from dataclasses import replace

    from trainer.cli.training.pipeline import find_pipeline, resume_pipeline
    from trainer.cli.training.start import start
    from trainer.launch.ranks import Nodes
    from trainer.launch.request import checkpoint_meant, resume_request

    overrides = options.given(options.settings_of(context), set_)
    asked = model_options.model_asked(run, checkpoint, "run")
    pipeline = find_pipeline(asked, runs_dir)
    if pipeline is not None:
        options_given = [*overrides, *(["--from"] if from_ is not None else [])]
        return resume_pipeline(
            pipeline,
            options_given,
            detach=detach,
            queue=queue,
            supervised=supervised,
            hooks=context.obj,
        )
    request = resume_request(asked, runs_dir, overrides)
    if from_ is not None:
        request = replace(request, checkpoint=checkpoint_meant(request.run, from_, runs_dir))
    return start(
        request,
        runs_dir,
        detach=detach,
        queue=queue,
        supervised=supervised,
        hooks=context.obj,
        nodes=Nodes(nnodes, node_rank, rdzv_endpoint),
    )
