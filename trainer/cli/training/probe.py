"""`trainer rl --probe`: what files are worth as answers, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from trainer.rewards.interface import Language, Verdict
    from trainer.tasks.prompt import Prompt


def probe(
    files: Sequence[str],
    prompts: str | None,
    *,
    language: str | None,
    id_: str | None,
    as_: str,
    run_tests: bool | None,
    json: bool,
) -> int:
    """Judge files and print a line of JSON, or a few lines of text, for each."""
    from contextlib import closing

    from shared.errors import UserError
    from shared.text import one_line
    from trainer.rewards.probe import KINDS, answer_of, prompt_for, read_answer
    from trainer.rewards.registry import open_language
    from trainer.tasks.reading import read_prompts

    if not files:
        raise UserError("trainer rl --probe needs the files to judge: give them after it.")
    if prompts is None:
        raise UserError("trainer rl --probe needs the tasks: give --prompts FILE.jsonl.")
    kind = next((known for known in KINDS if known == as_), None)
    if kind is None:
        raise UserError(f"--as is {', '.join(KINDS)}, not {one_line(as_, 40)!r}.")
    tasks = read_prompts(prompts)
    if language is None:
        language = tasks[0].language
    tasks = _in_language(tasks, language, prompts)
    asked = [prompt_for(file, tasks, id_) for file in files]
    texts = [read_answer(file) for file in files]
    answers = [answer_of(text, task, kind) for text, task in zip(texts, asked, strict=True)]
    with closing(open_language(language, run_tests=run_tests)) as judge:
        verdicts = judge.judge(answers)
        if not json:
            _print_judge(judge, any(task.tests for task in asked))
    for file, task, verdict in zip(files, asked, verdicts, strict=True):
        if json:
            _print_record(_record(file, task, verdict))
        else:
            _print_verdict(file, task, verdict)
    return 0


def check_only_with_probe(files: Sequence[str] | None, id_: str | None, *, json: bool) -> None:
    """Raise UserError for what has a meaning with --probe alone."""
    from shared.errors import UserError
    from shared.text import one_line

    for given, what in (
        (files, one_line(" ".join(files or []), 60)),
        (id_, "--id"),
        (json, "--json"),
    ):
        if given:
            raise UserError(
                f"trainer rl takes {what} with --probe only: add it, or leave {what} out."
            )


def _in_language(tasks: Sequence[Prompt], language: str, path: str) -> list[Prompt]:
    from shared.errors import UserError
    from shared.text import one_line

    found = [task for task in tasks if task.language == language]
    if not found:
        others = ", ".join(sorted({one_line(task.language, 20) for task in tasks}))
        raise UserError(
            f"{one_line(path)} has no task in {one_line(language, 20)}: its tasks are in {others}."
        )
    return found


def _record(file: str, task: Prompt, verdict: Verdict) -> dict[str, Any]:
    return {
        "file": str(Path(file)),
        "prompt_id": task.id,
        "reward": verdict.reward,
        "parts": dict(verdict.parts),
        "parsed": verdict.parsed,
        "compiled": verdict.compiled,
        "tested": verdict.tested,
        "messages": list(verdict.messages),
    }


def _print_record(record: dict[str, Any]) -> None:
    from shared.json_text import encode_json

    typer.echo(encode_json(record).decode())


def _print_judge(judge: Language, has_tests: bool) -> None:
    typer.echo(f"{judge.compiler}; {judge.protection}")
    if has_tests and not judge.runs_tests:
        typer.echo(
            "The tests are not run: the sandbox cannot contain them, or --no-tests was given."
        )


def _print_verdict(file: str, task: Prompt, verdict: Verdict) -> None:
    from shared.text import one_line

    parts = "  ".join(f"{name} {points:.3f}" for name, points in verdict.parts.items())
    typer.echo(f"{one_line(file)} (task {one_line(task.id, 60)}): reward {verdict.reward:.3f}")
    typer.echo(f"  {parts}")
    for message in verdict.messages:
        typer.echo(f"  {one_line(message)}")
