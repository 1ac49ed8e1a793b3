"""`trainer sweep`: queue a grid of runs, or random points of it, as one group."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli import options
from trainer.cli.data.tokenizer import FieldOption
from trainer.cli.help import command_group
from trainer.cli.output import print_json, show_progress
from trainer.cli.sweeps import group

if TYPE_CHECKING:
    from shared.run.directory import RunDirectory
    from trainer.sweep.sweep import Sweep

app = command_group(
    "Queue a grid of runs as one group and compare their results.", invoke_without_command=True
)

_SHOWN = 12  # runs that are listed by name


@app.callback()
def sweep(
    *,
    context: typer.Context,
    config: options.Config = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=A,B,…|LOW..HIGH",
            help="Vary a key: a list of values, or with --random a range; one value holds for all.",
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Name of the group; default: the preset's and -sweep."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Seeds of each point, the same ones; default: one.")
    ] = None,
    random: Annotated[
        int | None, typer.Option(help="Queue N random points, not the whole grid.")
    ] = None,
    random_seed: Annotated[int, typer.Option(help="Seed that chooses the random points.")] = 0,
    max_parallel: Annotated[
        int | None,
        typer.Option(help="Runs of the group at the same time; default: as many as the daemon's."),
    ] = None,
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
    parallel: options.Parallel = None,
    seq_len: options.SeqLen = None,
    document_mask: options.DocumentMask = None,
    grad_checkpoint_every: options.GradCheckpoint = None,
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
    max_restarts: options.MaxRestarts = None,
    log_interval: options.LogInterval = None,
    eval_interval: options.EvalInterval = None,
    checkpoint_interval: options.CheckpointInterval = None,
    keep_last_checkpoints: options.KeepLast = None,
    save_top_k: options.SaveTopK = None,
    begin_from: options.BeginFrom = None,
    begin_with: options.BeginWith = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check every run and print the plan; queue nothing."),
    ] = False,
    json: options.Json = False,
) -> int:
    """Queue a grid of runs as one group and compare their results.

    Every combination of the values of --set is a run, or with --random some of them. All runs are
    checked first: one that cannot be trained means that none is queued. A daemon starts them.
    """
    if context.invoked_subcommand is not None:
        context.obj = runs_dir
        return 0
    from trainer.cli.hub.download import download
    from trainer.cli.training.train import tell
    from trainer.launch.beginning import Layers
    from trainer.launch.claim import check_writable
    from trainer.launch.new_training import Given, Tools
    from trainer.launch.request import load_layers
    from trainer.sweep.axes import parse_axes
    from trainer.sweep.queue import finish_interrupted, queue_sweep
    from trainer.sweep.sweep import Asked, plan_sweep

    fixed, axes = parse_axes(set_ or [])
    flags = {**options.given(options.settings_of(context), []), **fixed}
    asked = Asked(axes, random, random_seed, seeds, group, max_parallel)
    asked.check()
    if not dry_run:
        check_writable(runs_dir)
        finish_interrupted(runs_dir)
    given = Given(
        data=data or (),
        text_field=text_field,
        chat=chat or (),
        chat_template=chat_template,
        config=config is not None,
        dataset=dataset is not None,
    )
    preset, file, is_preset = load_layers(config)
    layers = Layers(preset, file, flags, is_preset)
    tools = Tools(download, show_progress, tell)
    planned = plan_sweep(asked, layers, given, runs_dir, tools)
    if not json:
        _show(planned)
    if dry_run:
        if json:
            print_json(planned.to_json())
        return 0
    runs = queue_sweep(planned, runs_dir)
    if json:
        print_json(_record(planned, runs))
    else:
        _show_queued(planned, runs_dir)
    return 0


def _show(planned: Sweep) -> None:
    for line in planned.describe():
        typer.echo(line)
    shown = planned.runs if len(planned.runs) <= _SHOWN + 1 else planned.runs[:_SHOWN]
    for run in shown:
        typer.echo(f"  {run.name}")
    if len(shown) < len(planned.runs):
        typer.echo(f"  and {len(planned.runs) - len(shown):,} more")


def _record(planned: Sweep, runs: list[RunDirectory]) -> dict[str, object]:
    """The sweep as JSON, each run with its id."""
    record = planned.to_json()
    for entry, run in zip(record["runs"], runs, strict=True):
        entry["run_id"] = run.run_id
    return record


def _show_queued(planned: Sweep, runs_dir: Path) -> None:
    from shared.control.daemons import watching
    from shared.text import one_line, plural
    from trainer.cli.training.start import show_daemon

    typer.echo(f"queued {plural(len(planned.runs), 'run')}")
    daemons = watching(runs_dir)
    show_daemon(daemons[0] if daemons else None, runs_dir)
    place = "" if runs_dir == options.RUNS_DIR else f" --runs-dir {shlex.quote(one_line(runs_dir))}"
    name = shlex.quote(planned.group)
    typer.echo(f"results: trainer sweep status {name}{place}")
    typer.echo(f"stop:    trainer sweep stop {name}{place}")


app.command("status")(group.status)
app.command("retry")(group.retry)
app.command("stop")(group.stop)
