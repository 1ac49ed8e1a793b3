"""`trainer profile`: where the time of a training step goes."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli import options
from trainer.cli.data.tokenizer import FieldOption
from trainer.cli.output import print_json, print_table, shorten, show_progress

if TYPE_CHECKING:
    from trainer.profiling.profile import Profile

MAX_STEPS = 100  # a step has thousands of events, and all of them are read into memory
MAX_OPERATORS = 1000


def profile(
    *,
    context: typer.Context,
    config: options.Config = None,
    name: options.RunName = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="tokens|synthetic",
            help="Token files, or generated data; default: generated, unless data is given.",
        ),
    ] = None,
    data_path: options.DataPath = None,
    source: options.Source = None,
    data: options.Data = None,
    text_field: FieldOption = "text",
    chat: options.Chat = None,
    begin_from: Annotated[
        str | None,
        typer.Option(
            metavar="RUN|RUN:STEP|DIR|OWNER/NAME",
            help="Begin with the weights of this run, checkpoint, model folder or model of the "
            "Hub.",
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(help="Steps to measure; made without the profiler, then with it.")
    ] = 10,
    warmup: Annotated[int, typer.Option(help="Steps to make before anything is measured.")] = 3,
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Write the profiler's trace, for ui.perfetto.dev."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the trace file if it exists.")
    ] = False,
    top: Annotated[int, typer.Option(help="Operators to list.")] = 15,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the run in --runs-dir; default: it is removed.")
    ] = False,
    batch_size: options.BatchSize = None,
    accumulation_steps: options.Accumulation = None,
    micro_batch: options.MicroBatch = None,
    grad_checkpoint_every: options.GradCheckpoint = None,
    seq_len: options.SeqLen = None,
    document_mask: options.DocumentMask = None,
    lora: options.Lora = None,
    optimizer: options.Optimizer = None,
    device: options.Device = None,
    threads: options.Threads = None,
    dtype: options.Dtype = None,
    deterministic: options.Deterministic = None,
    compile: options.Compile = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> int:
    """Train a few steps and show where their time goes.

    The first table has the stages of a step, the second its costliest operators, or kernels on a
    GPU. Evaluations and checkpoints are left out.
    """
    from shared.errors import UserError
    from shared.output_file import STDOUT, check_output
    from trainer.cli.hub.download import download
    from trainer.cli.training.train import tell
    from trainer.distributed.world import world_of
    from trainer.launch.beginning import KEY, Layers
    from trainer.launch.claim import check_writable
    from trainer.launch.new_training import Given, Tools, training_config
    from trainer.launch.profiled import Length, profile_training
    from trainer.launch.request import load_layers

    # Before torch is loaded: its profiler prints its state otherwise. What fails is told below.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    world = world_of(os.environ)
    if not world.alone:
        raise UserError(
            f"trainer profile measures one process, and this is {world}; start it without torchrun."
        )
    options.check_range("--steps", steps, 1, MAX_STEPS)
    options.check_range("--warmup", warmup, 0, MAX_STEPS)
    options.check_range("--top", top, 0, MAX_OPERATORS)
    if trace is not None:
        if str(trace) == STDOUT:
            raise UserError("--trace - is standard output, which shows the tables; name a file.")
        check_output(trace, force=force)
    preset, file, is_preset = load_layers(config)
    layers = Layers(preset, file, options.given(options.settings_of(context), set_), is_preset)
    flags, chosen = layers.flags, layers.merged
    given = Given(
        data=data or (),
        text_field=text_field,
        chat=chat or (),
        config=config is not None,
        dataset=True,
    )
    given.check(flags)
    tokens = chosen.get("data.path") or chosen.get("data.sources")
    if not (config or data or chat or dataset or chosen.get(KEY) or tokens):
        raise UserError(
            "trainer profile needs to know what to train: give --config (a preset such as "
            "tiny-cpu, or a file), --data or --begin-from."
        )
    own = data or chat or tokens or chosen.get("data.dataset")
    if not own:
        tell("the data is generated; --data-path or --data names other data")
        flags["data.dataset"] = "synthetic"
    if keep:
        check_writable(runs_dir)
    with tempfile.TemporaryDirectory(prefix="trainer-profile-") as scratch:
        tools = Tools(download, show_progress, tell)
        resolved = training_config(layers, given, runs_dir, tools, Path(scratch))
        place = runs_dir if keep else Path(scratch)
        # The lines of the training are in the log of its run.
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            found = profile_training(
                resolved,
                place,
                Length(warmup, steps),
                trace=trace,
                force=force,
                operators=top,
                tell=lambda doing: typer.echo(f"{doing} …", err=True),
            )
    if json:
        print_json(found.to_json())
        return 0
    _show(found, trace)
    return 0


def _show(profile: Profile, trace: Path | None) -> None:
    from shared.text import format_bytes, format_count, one_line, plural

    typer.echo(one_line(profile.model, 300))
    typer.echo(f"{one_line(profile.device, 200)}; {profile.attention}")
    if profile.device.startswith("cuda") and profile.device_busy is None:
        typer.echo(
            "note: the trace holds no kernels, so only the host's times are shown: torch's "
            "profiler could not use CUPTI here",
            err=True,
        )
    figures = [
        f"{profile.step_ms:.1f} ms a step ({profile.profiled_step_ms:.1f} ms under the profiler)",
        f"{format_count(profile.tokens_per_second)} tok/s",
    ]
    if profile.mfu is not None:
        figures.append(f"MFU {profile.mfu:.1%}")
    if profile.device_busy is not None:
        figures.append(f"GPU busy {profile.device_busy:.1%}")
    if profile.peak_memory_bytes is not None:
        figures.append(f"peak {format_bytes(profile.peak_memory_bytes)}")
    typer.echo(", ".join(figures))
    steps = plural(profile.steps, "step")
    on_device = any(stage.device_ms is not None for stage in profile.stages)
    typer.echo(f"\nStages of a step, the mean of {steps}:")
    print_table(
        [
            ("stage", "host ms", "GPU ms", "share", ""),
            *(
                (
                    stage.name,
                    f"{stage.host_ms:.2f}",
                    f"{stage.device_ms:.2f}" if stage.device_ms is not None else "",
                    f"{stage.share:.1%}",
                    "",
                )
                for stage in profile.stages
            ),
        ],
        numbers=(1, 2, 3),
        drop_empty=True,
    )
    if profile.operators:
        width = max(20, shutil.get_terminal_size((100, 24)).columns - 30)
        what = "Kernels" if on_device else "Operators"
        typer.echo(f"\n{what} of a step under the profiler, the costliest first:")
        print_table(
            [
                ("ms", "share", "calls", what.lower().removesuffix("s")),
                *(
                    (
                        f"{operator.ms:.2f}",
                        f"{operator.share:.1%}",
                        f"{operator.calls:.3g}",
                        shorten(one_line(operator.name, 300), width),
                    )
                    for operator in profile.operators
                ),
            ],
            numbers=(0, 1, 2),
        )
    if trace is not None:
        typer.echo(f"\ntrace: {one_line(trace)}; open it at https://ui.perfetto.dev")
