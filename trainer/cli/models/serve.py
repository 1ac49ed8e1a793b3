"""`trainer serve`: a model behind OpenAI's API, with a chat page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from trainer.cli import options
from trainer.cli.models import model_options

if TYPE_CHECKING:
    import socket

    from trainer.generate.batched.building import Precision
    from trainer.serve.app import Settings
    from trainer.serve.opening import EngineName
    from trainer.serve.served import Served


def serve(
    model: model_options.ModelArgument = None,
    *,
    checkpoint: model_options.Model = None,
    port: Annotated[int, typer.Option(help="Port to listen on; 0: any free one.")] = 8080,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Address to listen on; the default is local only."),
    ] = "127.0.0.1",
    api_key_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File with the key that clients must send."),
    ] = None,
    slots: Annotated[
        int | None, typer.Option(help="Answers at the same time; default: what fits in memory.")
    ] = None,
    queue: Annotated[int, typer.Option(help="Requests that may wait; more get status 429.")] = 256,
    max_tokens_limit: Annotated[
        int, typer.Option(help="Maximum number of tokens a client may ask for.")
    ] = 4096,
    context: Annotated[
        int | None, typer.Option(help="Tokens of prompt plus answer; default: the model's context.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds an answer may take.")] = 600.0,
    device: model_options.Device = "auto",
    threads: options.Threads = None,
    engine: Annotated[
        str, typer.Option(metavar="auto|torch|llama.cpp", help="What runs the model.")
    ] = "auto",
    precision: Annotated[
        str | None,
        typer.Option(
            metavar="fp32|fp16|bf16",
            help="Precision in torch: fp32 or fp16 on a CPU, fp32 or bf16 on a GPU; default: "
            "fp32 on a CPU, bf16 on a GPU.",
        ),
    ] = None,
    drafts: model_options.Drafts = True,
    tokenizer: model_options.TokenizerOption = None,
    served_name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Model name that clients use; repeatable; default: its own."
        ),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Allow pages of this site to use the server; *: all."),
    ] = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
) -> int:
    """Serve a model over HTTP with OpenAI's API and a chat page.

    The chat page is at /. The API key comes from --api-key-file or TRAINER_API_KEY; without one,
    no key is needed. Ctrl-C waits for running answers.
    """
    import asyncio
    import sys
    import time

    from shared.errors import UserError
    from shared.text import one_line

    for option, value, least, most in (
        ("--port", port, 0, 65535),
        ("--slots", slots, 1, 4096),
        ("--queue", queue, 0, 1_000_000),
        ("--max-tokens-limit", max_tokens_limit, 1, 10_000_000),
        ("--context", context, 1, 10_000_000),
        ("--timeout", timeout, 1, 86400),
    ):
        options.check_range(option, value, least, most)
    options.check_threads(threads)
    if engine not in ("auto", "torch", "llama.cpp"):
        raise UserError(
            f"--engine is {one_line(engine, 60)!r}; it must be auto, torch or llama.cpp."
        )
    if precision not in (None, "fp32", "fp16", "bf16"):
        raise UserError(
            f"--precision is {one_line(precision, 60)!r}; it must be fp32, fp16 or bf16."
        )
    names = [name.strip() for name in served_name or ()]
    for name in names:
        if one_line(name) != name:
            raise UserError("--served-name has unprintable characters; use plain ones.")
        if not name:
            raise UserError("--served-name is empty; give a name, or leave the option out.")

    asked = model_options.model_asked(model, checkpoint)
    tokenizer = model_options.tokenizer_asked(tokenizer)
    path = model_options.find_model(asked, runs_dir, device=device, tokenizer=tokenizer)

    from trainer.serve.access import is_loopback, read_key
    from trainer.serve.server import bind

    key, local = read_key(api_key_file), is_loopback(host)
    sock = bind(host, port)  # before the model is loaded, which may take minutes
    if key is None and not local:
        print(
            f"trainer: anyone who can reach {one_line(host)} can use this model; set a key with "
            "--api-key-file or TRAINER_API_KEY.",
            file=sys.stderr,
        )
    started = time.monotonic()

    from trainer.serve.app import Settings
    from trainer.serve.opening import open_engine
    from trainer.serve.served import open_served

    settings = Settings(key, tuple(cors_origin or ()), local, timeout)
    opened = open_engine(
        path,
        engine=cast("EngineName", engine),
        device=device,
        tokenizer=tokenizer,
        precision=cast("Precision | None", precision),
        slots=slots,
        context=context,
        queue_limit=queue,
        threads=threads,
        draft=drafts,
    )
    if opened.kind == "llama.cpp":
        given = {"--precision": precision, "--tokenizer": tokenizer, "--device": device != "auto"}
        for option in (name for name, value in given.items() if value):
            print(f"trainer: {option} has no effect with llama.cpp.", file=sys.stderr)
    served = open_served(opened, names, max_tokens_limit)
    asyncio.run(_run(served, settings, sock, started))
    return 0


async def _run(served: Served, settings: Settings, sock: socket.socket, started: float) -> None:
    """Serve until a signal comes; `started` is when loading began, in monotonic seconds."""
    import time
    from dataclasses import replace

    from trainer.serve.app import build_app
    from trainer.serve.server import address_of, make_server

    try:
        await served.engine.start()
        served = replace(served, load_seconds=time.monotonic() - started)

        def ready() -> None:
            print(f"Serving {served.name} at {address_of(sock)} (Ctrl-C stops it)", flush=True)

        await make_server(build_app(served, settings), ready).serve(sockets=[sock])
    finally:
        await served.engine.close()
