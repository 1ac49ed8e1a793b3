"""`trainer rl`: let a model answer prompts, judge the answers, and learn from the verdicts."""

from __future__ import annotations

from typing import Annotated

import typer

from trainer.cli import options


def rl(
    *,
    context: typer.Context,
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE", help="What --probe judges.", show_default=False),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe",
            help="Do not train: print what each FILE is worth as an answer, part by part. It "
            "answers the task whose id its name begins with, that of --id, or the only one.",
        ),
    ] = False,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Tasks: JSON Lines with id, prompt, signature, tests."),
    ] = None,
    val_prompts: Annotated[
        str | None, typer.Option(metavar="FILE", help="Held-out tasks, for validation.")
    ] = None,
    begin_from: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            "--begin-from",
            "--model",
            metavar="RUN|RUN:STEP|DIR|OWNER/NAME",
            help="The model to train.",
        ),
    ] = None,
    language: Annotated[
        str | None, typer.Option(metavar="rust|python", help="What judges the answers.")
    ] = None,
    config: options.Config = "rl",
    name: options.RunName = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    iterations: Annotated[
        int | None, typer.Option(help="Rounds of answers, each followed by optimizer steps.")
    ] = None,
    prompts_per_iteration: Annotated[
        int | None, typer.Option(help="Prompts answered in an iteration.")
    ] = None,
    group_size: Annotated[
        int | None, typer.Option(help="Answers to each prompt, compared with each other.")
    ] = None,
    rl_epochs: Annotated[
        int | None, typer.Option("--epochs", help="Passes over the answers of an iteration.")
    ] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Tokens of an answer at most.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Temperature of the answers.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the likeliest tokens that reach this.")
    ] = None,
    rl_loss: Annotated[
        str | None,
        typer.Option("--loss", metavar="grpo|cispo", help="What bounds an update."),
    ] = None,
    kl_beta: Annotated[
        float | None, typer.Option(help="How strongly the model is held to where it began.")
    ] = None,
    run_tests: Annotated[
        bool | None,
        typer.Option(
            "--run-tests/--no-tests", help="Run the tasks' tests, or not; default: if contained."
        ),
    ] = None,
    curriculum: Annotated[
        bool | None,
        typer.Option(
            "--curriculum", help="Begin with most of each reference answer given; shorten it."
        ),
    ] = None,
    min_pass_rate: Annotated[
        float | None,
        typer.Option(help="Start only if of 16 answers to a prompt one compiles this often."),
    ] = None,
    max_hours: options.MaxHours = None,
    patience: options.Patience = None,
    batch_size: Annotated[int | None, typer.Option(help="Answers per micro-batch.")] = None,
    accumulation_steps: options.Accumulation = None,
    micro_batch: options.MicroBatch = None,
    grad_checkpoint_every: options.GradCheckpoint = None,
    seq_len: Annotated[
        int | None, typer.Option(help="Tokens of a prompt with an answer; default: the longest.")
    ] = None,
    lora: options.Lora = None,
    optimizer: options.Optimizer = None,
    learning_rate: options.LearningRate = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the prompts and the answers.")] = None,
    device: options.Device = None,
    threads: options.Threads = None,
    dtype: options.Dtype = None,
    deterministic: options.Deterministic = None,
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
    checkpoint_dir: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder for checkpoints, rl-iter-N among them."),
    ] = None,
    set_: options.Set = None,
    detach: options.Detach = False,
    queue: options.Queue = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything; do not train.")
    ] = False,
    id_: Annotated[
        str | None, typer.Option("--id", help="With --probe: the id of the task.")
    ] = None,
    as_: Annotated[
        str,
        typer.Option(
            "--as",
            metavar="auto|completion|program",
            help="With --probe: a FILE continues its prompt, or is a whole program. auto: it is a "
            "program if it defines the task's function.",
        ),
    ] = "auto",
    json: Annotated[
        bool, typer.Option("--json", help="With --probe: print a line of JSON for each FILE.")
    ] = False,
) -> int:
    """Train a model on code that it writes itself and a compiler judges (GRPO).

    Intervals count iterations. The run is one like any other: watch, pause and resume it. With
    --probe, files are judged instead of answers, without a model.
    """
    from trainer.cli.hub.download import download
    from trainer.cli.output import show_progress
    from trainer.cli.training.probe import check_only_with_probe
    from trainer.cli.training.probe import probe as judge_files
    from trainer.cli.training.start import check_mode, start
    from trainer.cli.training.train import show_plan, tell
    from trainer.launch.beginning import Layers
    from trainer.launch.claim import check_writable
    from trainer.launch.new_training import Tools
    from trainer.launch.ranks import Nodes
    from trainer.launch.raw_prompts import check_tasks
    from trainer.launch.request import LaunchRequest, load_layers
    from trainer.launch.rl_training import rl_config

    if probe:
        return judge_files(
            files or [],
            prompts,
            language=language,
            id_=id_,
            as_=as_,
            run_tests=run_tests,
            json=json,
        )
    check_only_with_probe(files, id_, json=json)
    check_mode(detach=detach, queue=queue)
    nodes = Nodes(nnodes, node_rank, rdzv_endpoint)
    nodes.check()
    if not dry_run:
        check_writable(runs_dir)
    preset, file, is_preset = load_layers(config)
    flags = options.given(options.settings_of(context), set_)
    layers = Layers(preset, file, flags, is_preset)
    if context.obj is None or context.obj.language is None:
        check_tasks(layers)
    request = LaunchRequest(rl_config(layers, runs_dir, Tools(download, show_progress, tell)))
    if dry_run:
        return show_plan(request, nodes)
    return start(request, runs_dir, detach=detach, queue=queue, hooks=context.obj, nodes=nodes)
