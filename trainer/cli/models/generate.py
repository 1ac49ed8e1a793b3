"""`trainer generate`: stream text from a model to the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from trainer.cli import options
from trainer.cli.models import model_options

MAX_PROMPT_BYTES = 16 << 20


def generate(
    model: model_options.ModelArgument = None,
    *,
    checkpoint: model_options.Model = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    prompt: Annotated[
        str | None, typer.Option(help="Text to continue; default: what stdin holds.")
    ] = None,
    prompt_file: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Read the prompt from a file or stdin.")
    ] = None,
    max_new_tokens: model_options.MaxNewTokens = 256,
    samples: Annotated[
        int, typer.Option("-n", "--samples", help="Number of texts; each adds 1 to the seed.")
    ] = 1,
    temperature: model_options.Temperature = 0.8,
    top_k: model_options.TopK = 50,
    top_p: model_options.TopP = 1.0,
    min_p: model_options.MinP = 0.0,
    seed: model_options.Seed = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Continue after the end-of-text token.")
    ] = False,
    cache: Annotated[
        bool,
        typer.Option("--cache/--no-cache", help="Use the key-value cache; the text is the same."),
    ] = True,
    drafts: model_options.Drafts = True,
    tokenizer: model_options.TokenizerOption = None,
    device: model_options.Device = "auto",
    threads: options.Threads = None,
    speed: Annotated[bool, typer.Option("--speed", help="Print tokens per second at the end.")] = (
        False
    ),
) -> int:
    """Continue a prompt with a trained model.

    The text is streamed to stdout, without control characters when stdout is a terminal.
    """
    import sys
    import time

    from shared.errors import UserError
    from shared.text import many_lines
    from trainer.generate.sampling import Sampling

    sampling = Sampling(temperature, top_k, top_p, min_p)
    model_options.check_numbers(threads=threads, seed=seed, max_new_tokens=max_new_tokens)
    if samples < 1:
        raise UserError(f"--samples is {samples}; it must be 1 or more.")
    asked = model_options.model_asked(model, checkpoint)
    text = _prompt(prompt, prompt_file)
    opened = model_options.open_asked(
        asked, runs_dir, device=device, threads=threads, tokenizer=tokenizer
    )

    from trainer.generate.batched.job import Job
    from trainer.generate.batched.same_draws import decode_as_generate
    from trainer.generate.decoding import stream_text
    from trainer.model.inference.drafts import Drafted

    codec = opened.tokenizer
    ids = tuple(codec.encode_prompt(text))
    stop_ids = frozenset[int]() if ignore_eos else opened.end_ids
    jobs = [
        Job(ids, max_new_tokens, sampling, None if seed is None else seed + sample, stop_ids)
        for sample in range(samples)
    ]
    show = many_lines if sys.stdout.isatty() else str
    started, count = time.perf_counter(), 0

    def counted(tokens: Iterable[int]) -> Iterator[int]:
        nonlocal count
        for token in tokens:
            count += 1
            yield token

    drafted = Drafted() if drafts else None
    found = decode_as_generate(
        opened.model, jobs, codec.vocab_size, use_cache=cache, drafted=drafted
    )
    for sample, tokens in enumerate(found, 1):
        if samples > 1:
            sys.stdout.write(f"--- {sample} of {samples}\n")
        sys.stdout.write(show(text))
        sys.stdout.flush()
        for piece in stream_text(counted(tokens), codec):
            sys.stdout.write(show(piece))
            sys.stdout.flush()
        sys.stdout.write("\n")
    if speed:
        seconds = time.perf_counter() - started
        print(f"{count} tokens in {seconds:.2f} s: {count / seconds:.1f} tok/s", file=sys.stderr)
        if drafted and drafted.drafted:
            print(drafted, file=sys.stderr)
    return 0


def _prompt(prompt: str | None, prompt_file: str | None) -> str:
    """The prompt from the option, a file, or stdin when stdin is not a terminal."""
    import sys

    from shared.errors import UserError
    from shared.text import one_line

    if prompt is not None and prompt_file is not None:
        raise UserError("--prompt and --prompt-file are both given; give one of them.")
    if prompt is not None:
        return prompt.encode("utf-8", "replace").decode("utf-8", "replace")
    if prompt_file is None and (sys.stdin is None or sys.stdin.isatty()):
        return ""
    try:
        if prompt_file in (None, "-"):
            raw = sys.stdin.buffer.read(MAX_PROMPT_BYTES)
        else:
            with Path(str(prompt_file)).open("rb") as file:
                raw = file.read(MAX_PROMPT_BYTES)
    except OSError as error:
        place = one_line(prompt_file or "-")
        raise UserError(f"--prompt-file {place} cannot be read: {error.strerror}.") from error
    return raw.decode("utf-8", "replace")
