"""`trainer dpo`: teach a model which of two answers is preferred."""

from __future__ import annotations

from typing import Annotated

import typer

from trainer.cli import options


def dpo(
    *,
    context: typer.Context,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "--pairs", metavar="PATHS", help="JSON Lines or Parquet with prompt, chosen, rejected."
        ),
    ] = None,
    begin_from: Annotated[
        str | None,
        typer.Option(
            "--begin-from",
            "--checkpoint",
            "--model",
            metavar="RUN|RUN:STEP|DIR|OWNER/NAME",
            help="The model to train, which is the reference too.",
        ),
    ] = None,
    config: options.Config = "dpo",
    name: options.RunName = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    chat_template: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Chat template in Jinja; default: the tokenizer's own."),
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out bad records and list them.")
    ] = False,
    val_split: Annotated[
        float, typer.Option(help="Share of the pairs held back for validation; 0: none.")
    ] = 0.1,
    loss: Annotated[
        str | None, typer.Option(metavar="sigmoid|hinge|ipo", help="Loss of a pair; sigmoid: DPO.")
    ] = None,
    beta: Annotated[
        float | None, typer.Option(help="How strongly the model is held to its reference.")
    ] = None,
    label_smoothing: Annotated[
        float | None, typer.Option(help="Share of the preferences taken to be wrong.")
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the pairs.")] = None,
    max_steps: options.MaxSteps = None,
    max_hours: options.MaxHours = None,
    batch_size: Annotated[int | None, typer.Option(help="Pairs per micro-batch.")] = None,
    accumulation_steps: options.Accumulation = None,
    micro_batch: options.MicroBatch = None,
    grad_checkpoint_every: options.GradCheckpoint = None,
    seq_len: Annotated[
        int | None, typer.Option(help="Tokens of a prompt with an answer; default: the longest.")
    ] = None,
    lora: options.Lora = None,
    optimizer: options.Optimizer = None,
    learning_rate: options.LearningRate = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the data order and dropout.")] = None,
    device: options.Device = None,
    threads: options.Threads = None,
    dtype: options.Dtype = None,
    deterministic: options.Deterministic = None,
    nproc_per_node: options.NprocPerNode = None,
    nnodes: options.Nnodes = 1,
    node_rank: options.NodeRank = None,
    rdzv_endpoint: options.RdzvEndpoint = None,
    max_restarts: options.MaxRestarts = None,
    log_interval: options.LogInterval = None,
    checkpoint_interval: options.CheckpointInterval = None,
    set_: options.Set = None,
    detach: options.Detach = False,
    queue: options.Queue = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Prepare and check everything; do not train."),
    ] = False,
) -> int:
    """Train a model on pairs of answers, of which one is preferred (DPO).

    The run is one like any other: watch, pause and resume it. The reference is the model it began
    from; its log-probabilities are computed once and kept.
    """
    from dataclasses import replace

    from shared.errors import UserError
    from trainer.cli.hub.download import download
    from trainer.cli.training.start import check_may_prepare, check_mode, start
    from trainer.cli.training.train import show_plan, tell
    from trainer.config.resolve import resolve
    from trainer.launch.beginning import Layers, with_adapter_rate, with_beginning
    from trainer.launch.claim import check_writable
    from trainer.launch.ranks import Nodes
    from trainer.launch.raw_pairs import ADAPTER_RATE, fitted_to_pairs, prepare_preferences
    from trainer.launch.request import LaunchRequest, choose_length, load_layers, new_run

    check_mode(detach=detach, queue=queue)
    nodes = Nodes(nnodes, node_rank, rdzv_endpoint)
    nodes.check()
    check_may_prepare("--pairs", pairs, nnodes)
    if not dry_run:
        check_writable(runs_dir)
    if not pairs:
        raise UserError("trainer dpo needs pairs of answers: give --pairs FILE.jsonl.")
    preset, file, is_preset = load_layers(config)
    flags = options.given(options.settings_of(context), set_)
    choose_length(flags)
    layers = with_beginning(Layers(preset, file, flags, is_preset), runs_dir, download)
    model = layers.begun_from
    if model is None:
        raise UserError(
            "trainer dpo trains a model that exists: give --begin-from with a model folder, a run, "
            "a checkpoint or OWNER/NAME of the Hub."
        )
    layers = with_adapter_rate(layers, tell, ADAPTER_RATE)
    resolve(*layers.in_order)  # what is wrong is told before anything is prepared
    folder = prepare_preferences(
        pairs,
        model,
        runs_dir,
        template=chat_template,
        skip_bad=skip_bad,
        val_split=val_split,
        tell=tell,
    )
    layers = replace(layers, flags={**layers.flags, **fitted_to_pairs(folder, layers)})
    request = LaunchRequest(new_run(layers.source, layers.file, layers.flags, preset=layers.preset))
    if dry_run:
        return show_plan(request, nodes)
    return start(request, runs_dir, detach=detach, queue=queue, hooks=context.obj, nodes=nodes)
