"""`trainer eval --tasks`: published benchmarks, by lm-evaluation-harness."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli.models import model_options
from trainer.cli.models.suite_results import Way, finish

if TYPE_CHECKING:
    from trainer.evaluate.harness.running import Tasks

TasksOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,…",
        help="Benchmarks of lm-evaluation-harness (lm-eval), or task files; hellaswag, for one.",
    ),
]
NumFewshot = Annotated[
    int | None, typer.Option(help="Examples before each question of --tasks; default: the task's.")
]


def check(tasks: str, num_fewshot: int | None, max_tasks: int | None, mode: str) -> list[str]:
    """The names in `tasks`. Raises UserError for what cannot be meant. Loads no torch."""
    from shared.errors import UserError
    from trainer.evaluate.harness.running import check_installed

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise UserError("--tasks names no task; give names such as hellaswag,arc_easy.")
    if num_fewshot is not None and num_fewshot < 0:
        raise UserError(f"--num-fewshot is {num_fewshot}; it must be 0 or more.")
    if max_tasks is not None and max_tasks < 1:
        raise UserError(f"--max-tasks is {max_tasks}; it must be 1 or more.")
    if mode not in ("auto", "chat", "complete"):
        raise UserError("--mode must be auto, chat or complete.")
    check_installed()
    return names


def evaluate_on_tasks(
    model: str,
    runs_dir: Path,
    names: list[str],
    way: Way,
    *,
    num_fewshot: int | None,
    limit: int | None,
    batch_size: int | None,
    seed: int,
    chat: bool,
) -> int:
    """The command: `model` on the tasks called `names`."""
    import shlex

    from trainer.evaluate.harness.running import find_tasks
    from trainer.evaluate.origin import find_origin
    from trainer.launch.git_commit import git_commit

    path = model_options.find_model(model, runs_dir, device=way.device, tokenizer=way.tokenizer)
    found: Tasks = find_tasks(names)
    opened = model_options.open_found(
        path,
        device=way.device,
        threads=way.threads,
        tokenizer=model_options.tokenizer_asked(way.tokenizer),
    )
    words = ["trainer", "eval", "--checkpoint", model, "--tasks", ",".join(names)]
    words += ["--num-fewshot", str(num_fewshot)] if num_fewshot is not None else []
    words += ["--max-tasks", str(limit)] if limit is not None else []
    words += ["--mode", "chat"] if chat else []
    results = found.run(
        opened,
        model_options.compute_asked(opened, way.dtype),
        num_fewshot=num_fewshot,
        limit=limit,
        batch_size=batch_size,
        seed=seed,
        chat=chat,
        command=shlex.join(words),
        git_commit=git_commit(),
    )
    return finish(opened, find_origin(opened.path), results, way)
