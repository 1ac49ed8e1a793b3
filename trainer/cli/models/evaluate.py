"""`trainer eval`: the loss of a model on text, and its speed."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.cli import options
from trainer.cli.models import evaluate_harness, evaluate_suites, model_options
from trainer.cli.models.keeping import write_into_checkpoint
from trainer.cli.models.suite_results import Way
from trainer.cli.output import print_table, shorten_path, show_progress

if TYPE_CHECKING:
    from shared.checkpoints.evaluation import Evaluation, Speed
    from trainer.checkpoint.opening import OpenedModel
    from trainer.evaluate.datasets import DataSet
    from trainer.evaluate.origin import Origin

MAX_SHOWN = 20  # files of a data set in a table
HELD_BACK = " (held back from training)"
DATA_HELP = "Text files, folders, globs or token files; repeatable."

FilesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL] [FILES]",
        help="The model, unless --checkpoint names it, and more data, as --data.",
    ),
]
Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data", metavar="FILES", help=f"{DATA_HELP} Default: the run's validation data."
    ),
]
DataPath = Annotated[
    str | None, typer.Option(metavar="FILE|DIR", help="Token file, or a folder with val.bin.")
]
TextField = Annotated[
    str, typer.Option(help="Field, path (data.text) or column with a record's text.")
]
SeqLen = Annotated[
    int | None, typer.Option(help="Tokens per window; default: as in the run's validation.")
]
Stride = Annotated[
    int | None,
    typer.Option(
        help="Tokens the window moves; half of --seq-len gives every token at least half a window "
        "of context. Default: --seq-len."
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Windows scored at once, with the same results; default: 8192 tokens' worth."
    ),
]
DocumentMask = Annotated[
    bool | None,
    typer.Option(
        "--document-mask/--no-document-mask",
        help="Score each document on its own; default: as the model was trained.",
    ),
]
MaxTokens = Annotated[
    int | None, typer.Option(help="Score at most this many tokens of each file; default: all.")
]


def evaluate(
    files: FilesArgument = None,
    *,
    checkpoint: model_options.Model = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    data: Data = None,
    data_path: DataPath = None,
    text_field: TextField = "text",
    seq_len: SeqLen = None,
    stride: Stride = None,
    batch_size: BatchSize = None,
    max_tokens: MaxTokens = None,
    document_mask: DocumentMask = None,
    suite: evaluate_suites.SuiteOption = None,
    samples: evaluate_suites.Samples = 1,
    temperature: evaluate_suites.Temperature = None,
    top_p: evaluate_suites.TopP = 1.0,
    max_new_tokens: evaluate_suites.MaxNewTokens = 512,
    seed: evaluate_suites.Seed = 0,
    mode: evaluate_suites.Mode = "auto",
    max_tasks: evaluate_suites.MaxTasks = None,
    run_tests: evaluate_suites.RunTests = None,
    answers: evaluate_suites.Answers = None,
    download: evaluate_suites.Download = False,
    tasks: evaluate_harness.TasksOption = None,
    num_fewshot: evaluate_harness.NumFewshot = None,
    tokenizer: model_options.TokenizerOption = None,
    device: model_options.Device = "auto",
    threads: options.Threads = None,
    dtype: model_options.Dtype = "fp32",
    speed: Annotated[
        bool, typer.Option("--speed/--no-speed", help="Measure tokens per second as well.")
    ] = True,
    save: Annotated[
        bool, typer.Option("--save/--no-save", help="Write eval.json into the checkpoint.")
    ] = True,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE|-", help="Write the results to a file as JSON.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the files of --output and --answers.")
    ] = False,
    keep_answers: evaluate_suites.KeepAnswers = False,
    json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> int:
    """Measure the loss, perplexity and bits per byte of a model on text, and its speed.

    The default data is the validation data of the model's run. Every token is scored once. With
    --suite, the model solves programming tasks instead, and with --tasks it takes published
    benchmarks. The results are written to the checkpoint's
    eval.json and the run's events, and appear in the model card of an upload.
    """
    from shared.errors import UserError
    from shared.json_text import encode_json
    from shared.output_file import check_output, write_output
    from trainer.evaluate.datasets import check_paths
    from trainer.launch.git_commit import git_commit

    model_options.check_numbers(threads=threads)
    check_count("--max-tokens", max_tokens)
    if checkpoint is None and files:
        checkpoint, *files = files
    asked = model_options.model_asked(None, checkpoint)
    if output is not None:
        check_output(output, force=force)
    model_options.check_dtype(dtype)
    check_count("--seq-len", seq_len)
    check_count("--stride", stride)
    check_count("--batch-size", batch_size)
    paths = [*(data or ()), *(files or ()), *([data_path] if data_path else ())]
    way = Way(device, threads, tokenizer, dtype, output, json, save, force)
    if tasks is not None:
        _check_no_data("--tasks", paths, seq_len, stride, max_tokens)
        if suite:
            raise UserError("--suite and --tasks are two evaluations: give two commands.")
        return evaluate_harness.evaluate_on_tasks(
            asked,
            runs_dir,
            evaluate_harness.check(tasks, num_fewshot, max_tasks, mode),
            way,
            num_fewshot=num_fewshot,
            limit=max_tasks,
            batch_size=batch_size,
            seed=seed,
            chat=mode == "chat",
        )
    if suite:
        _check_no_data("--suite", paths, seq_len, stride, batch_size, max_tokens)
        return evaluate_suites.evaluate_on_suites(
            asked,
            runs_dir,
            evaluate_suites.Asked.of(
                suites=tuple(suite),
                samples=samples,
                temperature=temperature,
                top_p=top_p,
                max_new_tokens=max_new_tokens,
                seed=seed,
                mode=mode,
                max_tasks=max_tasks,
                run_tests=run_tests,
                answers=answers,
                download=download,
                save=save,
                force=force,
                keep_answers=keep_answers,
            ),
            way,
        )
    check_paths(paths)
    opened = model_options.open_asked(
        asked, runs_dir, device=device, threads=threads, tokenizer=tokenizer
    )
    compute = model_options.compute_asked(opened, dtype)

    from trainer.evaluate.evaluation import choose_windowing, evaluate_data
    from trainer.evaluate.origin import find_origin
    from trainer.evaluate.speed import measure_speed

    origin = find_origin(opened.path)
    windowing = choose_windowing(opened.context, origin.seq_len, seq_len, stride, batch_size)
    command = _command(
        asked,
        paths,
        seq_len=seq_len,
        stride=stride,
        max_tokens=max_tokens,
        text_field=None if text_field == "text" else text_field,
        dtype=None if dtype == "fp32" else dtype,
        document_mask=document_mask,
    )
    commit = git_commit()
    results: list[Evaluation] = []
    data_sets = data_meant(opened, origin, paths, max_tokens, text_field, apart=document_mask)
    for data_set in data_sets:
        tell_notes(data_set)
        with scoring(data_set) as progress:
            results.append(
                evaluate_data(
                    opened,
                    data_set,
                    compute,
                    windowing,
                    command=command,
                    git_commit=commit,
                    progress=progress,
                )
            )
    measured = measure_speed(opened.model, compute) if speed else None
    figures = _figures(opened, origin, results, measured)
    if output is not None:
        write_output(output, [encode_json(figures, indent=True) + b"\n"], force=force)
    if json:
        sys.stdout.buffer.write(encode_json(figures, indent=True) + b"\n")
    elif str(output) != "-":
        _show(figures, windowing.told())
    if save:
        typer.echo(_keep(origin, results, measured), err=json or str(output) == "-")
    return 0


def _check_no_data(option: str, paths: Sequence[str], *windows: int | None) -> None:
    """Raise UserError when text is to be scored, besides what `option` asks for."""
    from shared.errors import UserError
    from shared.text import one_line

    if paths or any(value is not None for value in windows):
        what = f"{one_line(paths[0], 80)} is" if paths else "--seq-len and its like are"
        raise UserError(
            f"{what} for losses on text, and {option} has tasks solved: give two commands."
        )


def check_count(option: str, value: int | None) -> None:
    """Raise UserError when the value of an option is given and less than 1."""
    from shared.errors import UserError

    if value is not None and value < 1:
        raise UserError(f"{option} is {value}; it must be 1 or more.")


def data_meant(
    opened: OpenedModel,
    origin: Origin,
    paths: Sequence[str],
    max_tokens: int | None,
    text_field: str = "text",
    *,
    apart: bool | None = None,
) -> list[DataSet]:
    """The data at `paths`; without any, the run's validation data. Its documents are scored `apart`
    by default if training kept them so. Raises UserError."""
    from trainer.evaluate.datasets import held_back, open_data, trained_apart

    vocabulary, config = opened.model.dimensions.V, origin.configuration or {}
    apart = trained_apart(config) if apart is None else apart
    if paths:
        return open_data(paths, opened.tokenizer, vocabulary, max_tokens, text_field, apart=apart)
    return [held_back(config, opened.tokenizer, vocabulary, max_tokens, apart=apart)]


def tell_notes(data_set: DataSet) -> None:
    """Print on stderr what was skipped or repaired in the text."""
    for note in data_set.notes:
        typer.echo(f"{data_set.name}: {note}", err=True)


@contextlib.contextmanager
def scoring(data_set: DataSet) -> Iterator[Callable[[int], None]]:
    """Show progress; yields a function to call with the number of tokens just scored."""
    sizes = [file.bytes or 4 * len(file.tokens) for file in data_set.files]
    total, tokens, done = sum(sizes), data_set.tokens, 0
    with show_progress(f"scoring {data_set.name}", total) as update:

        def advance(count: int) -> None:
            nonlocal done
            done += count
            update(total * done // tokens)

        yield advance


def _command(checkpoint: str, paths: Sequence[str], **given: object) -> str:
    """The command that repeats the measurement, with the options that were given."""
    words = ["trainer", "eval", "--checkpoint", checkpoint]
    words += [word for path in paths for word in ("--data", path)]
    for name, value in given.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{option}" if value else f"--no-{option}")
        elif value is not None:
            words += [f"--{option}", str(value)]
    return shlex.join(words)


def _keep(origin: Origin, results: Sequence[Evaluation], speed: Speed | None) -> str:
    """Write the results into the checkpoint and the run's events; returns what was written."""
    from shared.checkpoints.evaluation import add_evaluation
    from shared.checkpoints.evaluation_record import record_evaluation

    told = write_into_checkpoint(origin, lambda folder: add_evaluation(folder, results, speed))
    if origin.checkpoint is None:
        return told
    for result in results if origin.run else ():
        assert origin.run is not None
        problem = record_evaluation(origin.run, origin.checkpoint.name, result, speed)
        if problem:
            typer.echo(problem, err=True)
    return told


def _figures(
    opened: OpenedModel, origin: Origin, results: Sequence[Evaluation], speed: Speed | None
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "model": str(origin.path),
        "name": origin.name,
        "run": origin.run.run_id if origin.run else None,
        "step": origin.step,
        "parameters": sum(weight.numel() for weight in opened.model.parameters()),
        "context": opened.context,
        "results": [result.to_json() for result in results],
        "speed": asdict(speed) if speed else None,
    }


def _show(figures: dict[str, Any], windows: str) -> None:
    """Print the results within 80 columns."""
    from textwrap import fill

    from shared.text import format_count, format_duration

    parameters, context = format_count(figures["parameters"]), figures["context"]
    typer.echo(f"{figures['name']}: {parameters} parameters, context {context:,} tokens")
    for result in figures["results"]:
        size, seconds = result["bytes"], result["seconds"]
        typer.echo(f"\n{result['data']}{HELD_BACK if result['split'] == 'validation' else ''}")
        counted = f"{result['tokens']:,}" + (f" ({size:,} bytes of text)" if size else "")
        speed = f"{format_count(result['tokens'] / max(seconds, 1e-9))} tokens/s"
        rows = [
            ("loss", f"{number(result, 'loss')} nats per token"),
            ("perplexity", f"{number(result, 'perplexity')} per token"),
            ("bits per byte", number(result, "bits_per_byte")),
            ("tokens", counted),
            ("time", f"{format_duration(seconds)}, {speed}"),
        ]
        print_table([("  " + name, value) for name, value in rows])
        typer.echo(fill(f"in {windows}", 78, initial_indent="  ", subsequent_indent="  "))
        _show_files(result["files"])
    speed = figures["speed"]
    if speed:
        typer.echo(f"\nspeed of one sequence ({speed['machine']}, {speed['dtype']})")
        rows = [
            ("  reads", f"{speed['prefill']:,.0f} tokens/s, {speed['prompt_tokens']} at once"),
            ("  writes", f"{speed['decode']:,.1f} tokens/s, {speed['new_tokens']} one by one"),
        ]
        print_table(rows)


def _show_files(files: Sequence[dict[str, Any]]) -> None:
    """Print the results per file; of many files, those with the highest loss."""
    if not files:
        return
    shown = list(files)
    if len(files) > MAX_SHOWN:
        shown.sort(key=lambda file: -(file["loss"] or 0.0))
        typer.echo(f"  the {MAX_SHOWN} hardest of {len(files)} files; --json has all")
        shown = shown[:MAX_SHOWN]
    head = ("  tokens", "loss", "perplexity", "bits/byte", "file")
    figures = ("loss", "perplexity", "bits_per_byte")
    rows = [
        (
            f"{file['tokens']:,}",
            *(number(file, key) for key in figures),
            shorten_path(file["data"], 34),
        )
        for file in shown
    ]
    print_table([head, *rows], numbers=(0, 1, 2, 3))


def number(measured: dict[str, Any], key: str) -> str:
    """A result for people: non-finite values by name, unknown ones as `-`."""
    value = measured[key]
    if value is None:
        return str(measured.get("nonfinite", {}).get(key, "-"))
    return f"{value:.4f}" if value < 1000 else f"{value:.4g}"
