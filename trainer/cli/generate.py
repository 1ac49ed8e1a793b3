"""`trainer generate`: text from a checkpoint, streamed to the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainer.cli import options

MAX_PROMPT_BYTES = 16 << 20


def generate(
    *,
    checkpoint: Annotated[
        str,
        typer.Option(
            "--checkpoint", "--model", metavar="PATH|RUN", help="Checkpoint, file in one, or run."
        ),
    ],
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    prompt: Annotated[str | None, typer.Option(help="Text to go on from.")] = None,
    prompt_file: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Read the prompt from a file or stdin.")
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", "--max-tokens", help="Tokens at most.")
    ] = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Only the k likeliest tokens; 0 for all.")] = 50,
    top_p: Annotated[float, typer.Option(help="Only the likeliest tokens that reach p.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same text.")] = None,
    ignore_eos: Annotated[
        bool, typer.Option("--ignore-eos", help="Go on after the end of a text.")
    ] = False,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Key-value cache; the text is the same.")
    ] = True,
    tokenizer: Annotated[
        str | None, typer.Option(metavar="FILE|DIR", help="Default: the checkpoint's own.")
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="Where to compute.")
    ] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads; default all cores.")] = None,
    speed: Annotated[bool, typer.Option("--speed", help="Print tokens per second at the end.")] = (
        False
    ),
) -> int:
    """Continue a prompt with a trained model.

    The text goes to stdout as it comes, without control characters when stdout is a terminal.
    """
    import sys
    import time

    from shared.errors import UserError
    from shared.text import many_lines
    from trainer.config.schema import MAX_THREADS
    from trainer.generate.sampling import Sampling

    sampling = Sampling(temperature, top_k, top_p)
    if max_new_tokens < 1:
        raise UserError(f"--max-new-tokens is {max_new_tokens}; it must be 1 or more.")
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UserError(f"--threads is {threads}; it must be between 1 and {MAX_THREADS}.")
    if seed is not None and not -(2**63) <= seed < 2**63:
        raise UserError(f"--seed is {seed}; it must fit 64 bits.")
    text = _prompt(prompt, prompt_file)

    import torch

    from trainer.checkpoint.opening import model_path, open_model
    from trainer.generate.decoding import generate as decode
    from trainer.generate.decoding import stream_text
    from trainer.model.device import pick_device

    if threads is not None:
        torch.set_num_threads(threads)
    opened = open_model(model_path(checkpoint, runs_dir), pick_device(device), tokenizer=tokenizer)
    codec = opened.tokenizer
    ids = codec.encode(text) or [codec.eos_id]
    on_terminal = sys.stdout.isatty()
    show = many_lines if on_terminal else str
    started, count = time.perf_counter(), 0

    def counted():  # type: ignore[no-untyped-def]
        nonlocal count
        stops = frozenset() if ignore_eos else opened.end_ids
        for token in decode(
            opened.model,
            ids,
            max_new_tokens,
            sampling,
            seed=seed,
            stop_ids=stops,
            use_cache=cache,
            allowed_ids=codec.vocab_size,
        ):
            count += 1
            yield token

    sys.stdout.write(show(text))
    sys.stdout.flush()
    for piece in stream_text(counted(), codec):
        sys.stdout.write(show(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")
    if speed:
        seconds = time.perf_counter() - started
        print(f"{count} tokens in {seconds:.2f} s: {count / seconds:.1f} tok/s", file=sys.stderr)
    return 0


def _prompt(prompt: str | None, prompt_file: str | None) -> str:
    """The prompt from the option, a file, or stdin when that is no terminal."""
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
            raw = Path(str(prompt_file)).read_bytes()[:MAX_PROMPT_BYTES]
    except OSError as error:
        place = one_line(prompt_file or "-")
        raise UserError(f"--prompt-file {place} cannot be read: {error.strerror}.") from error
    return raw.decode("utf-8", "replace")
