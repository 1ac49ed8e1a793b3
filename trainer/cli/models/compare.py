"""`trainer compare`: two or more models on the same prompts and the same text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainer.cli import options
from trainer.cli.models import evaluate, model_options
from trainer.cli.models.comparison_view import LETTERS, show_comparison

if TYPE_CHECKING:
    from shared.checkpoints.evaluation import Evaluation
    from trainer.checkpoint.opening import OpenedModel
    from trainer.distributed.device import Compute
    from trainer.evaluate.comparison import Compared
    from trainer.evaluate.evaluation import Windowing

MAX_PROMPTS = 1000
MAX_PROMPT_FILE = 16 << 20  # bytes


def compare(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL", help="Runs, checkpoints, folders or GGUF files."),
    ],
    *,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    prompt: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Text to continue; repeatable.")
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="Prompts, one per line, or JSON Lines with `prompt`."),
    ] = None,
    data: evaluate.Data = None,
    seq_len: evaluate.SeqLen = None,
    stride: evaluate.Stride = None,
    batch_size: evaluate.BatchSize = None,
    max_tokens: evaluate.MaxTokens = None,
    losses: Annotated[
        bool, typer.Option("--losses/--no-losses", help="Measure losses on --data.")
    ] = True,
    max_new_tokens: Annotated[int, typer.Option(help="Maximum number of tokens per text.")] = 64,
    greedy: Annotated[bool, typer.Option("--greedy", help="Same as --temperature 0.")] = False,
    temperature: model_options.Temperature = 0.8,
    top_k: model_options.TopK = 50,
    top_p: model_options.TopP = 1.0,
    min_p: model_options.MinP = 0.0,
    seed: Annotated[
        int, typer.Option(help="Random seed, the same for every model and prompt.")
    ] = 0,
    device: model_options.Device = "auto",
    threads: options.Threads = None,
    dtype: model_options.Dtype = "fp32",
    speed: Annotated[
        bool, typer.Option("--speed/--no-speed", help="Measure tokens per second as well.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> int:
    """Compare models by loss on the same text, texts from the same prompts, size and speed.

    The default data is the validation data of the first model's run. What trainer eval --suite
    and --tasks have stored is shown where all models have it. Nothing is written.
    """
    from dataclasses import replace

    from shared.errors import UserError
    from shared.json_text import encode_json
    from trainer.evaluate.datasets import check_paths
    from trainer.generate.sampling import Sampling

    if not 2 <= len(models) <= len(LETTERS):
        raise UserError(f"compare needs 2 to {len(LETTERS)} models, not {len(models)}.")
    sampling = Sampling(0.0 if greedy else temperature, top_k, top_p, min_p)
    model_options.check_numbers(threads=threads, seed=seed, max_new_tokens=max_new_tokens)
    for option, value in (
        ("--max-tokens", max_tokens),
        ("--stride", stride),
        ("--seq-len", seq_len),
        ("--batch-size", batch_size),
    ):
        evaluate.check_count(option, value)
    model_options.check_dtype(dtype)
    check_paths(data or ())
    texts = [*(prompt or ()), *(_read_prompts(prompts) if prompts else ())]

    paths = [model_options.find_model(name, runs_dir, device=device) for name in models]

    from trainer.evaluate.comparison import continue_prompts, describe
    from trainer.evaluate.speed import measure_speed

    opened = [model_options.open_found(path, device=device, threads=threads) for path in paths]
    computes = [model_options.compute_asked(model, dtype) for model in opened]
    windows = _windows(opened, seq_len, stride, batch_size)
    measured = _losses(opened, computes, windows, list(data or ()), max_tokens) if losses else {}
    found = [
        replace(
            describe(model),
            results=tuple(measured.get(place, ())),
            texts=continue_prompts(
                model, texts, max_new_tokens=max_new_tokens, sampling=sampling, seed=seed
            ),
            speed=measure_speed(model.model, compute) if speed else None,
        )
        for place, (model, compute) in enumerate(zip(opened, computes, strict=True))
    ]
    if json:
        sys.stdout.buffer.write(encode_json(_as_json(found, texts), indent=True) + b"\n")
    else:
        show_comparison(found, texts)
    return 0


def _read_prompts(place: str) -> list[str]:
    """Read prompts, one per line, as text or as JSON with a `prompt`. Raises UserError."""
    import json

    from shared.errors import UserError
    from shared.text import one_line, plural

    try:
        if place == "-":
            raw = sys.stdin.buffer.read(MAX_PROMPT_FILE + 1)
        else:
            with Path(place).open("rb") as file:
                raw = file.read(MAX_PROMPT_FILE + 1)
    except OSError as error:
        raise UserError(f"--prompts {one_line(place)} cannot be read: {error.strerror}.") from error
    lines = [line for line in raw.decode("utf-8", "replace").splitlines() if line.strip()]
    if not lines or len(lines) > MAX_PROMPTS or len(raw) > MAX_PROMPT_FILE:
        raise UserError(
            f"--prompts {one_line(place)} has {plural(len(lines), 'prompt')}; "
            f"give 1 to {MAX_PROMPTS}."
        )
    if place == "-" or not place.endswith((".jsonl", ".ndjson")):
        return lines
    found: list[str] = []
    for place_in_file, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or not isinstance(value.get("prompt"), str):
            raise UserError(
                f"--prompts {one_line(place)}: prompt {place_in_file} is not a JSON object with "
                "a string named prompt."
            )
        found.append(value["prompt"])
    return found


def _windows(
    opened: Sequence[OpenedModel], seq_len: int | None, stride: int | None, batch_size: int | None
) -> Windowing:
    """The same windows for all: the first run's validation windows, if every context holds them."""
    from trainer.evaluate.evaluation import choose_windowing
    from trainer.evaluate.origin import find_origin

    context = min(model.context for model in opened)
    usual = find_origin(opened[0].path).seq_len
    return choose_windowing(context, usual, seq_len, stride, batch_size)


def _losses(
    opened: Sequence[OpenedModel],
    computes: Sequence[Compute],
    windows: Windowing,
    paths: Sequence[str],
    max_tokens: int | None,
) -> dict[int, list[Evaluation]]:
    """The evaluations of each model by index; empty, with a note why, where there is no data.

    Raises UserError when data was named that some model cannot score.
    """
    from shared.errors import UserError
    from trainer.evaluate.evaluation import evaluate_data
    from trainer.evaluate.origin import find_origin

    origin = find_origin(opened[0].path)
    try:
        sets = [evaluate.data_meant(model, origin, paths, max_tokens) for model in opened]
    except UserError as error:
        if paths:
            raise
        text = str(error)
        if len({model.tokenizer.hash for model in opened}) > 1:
            text = "The models have different tokenizers: name text files with --data."
        typer.echo(f"No losses are compared. {text}", err=True)
        return {}
    for data_set in sets[0]:
        evaluate.tell_notes(data_set)
    found: dict[int, list[Evaluation]] = {}
    for place, (model, compute) in enumerate(zip(opened, computes, strict=True)):
        for data_set in sets[place]:
            with evaluate.scoring(data_set) as progress:
                result = evaluate_data(model, data_set, compute, windows, progress=progress)
            found.setdefault(place, []).append(result)
    return found


def _as_json(found: Sequence[Compared], prompts: Sequence[str]) -> dict[str, Any]:
    from dataclasses import asdict

    from trainer.evaluate.comparison import share_tokens

    return {
        "same_tokenizer": share_tokens(found),
        "prompts": list(prompts),
        "models": [
            {
                **asdict(side),
                "results": [result.to_json() for result in side.results],
                "suites": [result.to_json() for result in side.suites],
            }
            for side in found
        ],
    }
