"""Asking a script of the sandbox about many programs at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.rewards.python.scripts import Script
from trainer.sandbox.interface import MIB, Limits, Work
from trainer.sandbox.interpreter import python_readable
from trainer.sandbox.sandbox import Sandbox

BATCH = 32


def ask_all(
    sandbox: Sandbox, script: Script, questions: Sequence[Mapping[str, Any]], batch: int = BATCH
) -> list[Any]:
    """What `script` says to each question, `batch` in one process; an Outcome where it said
    nothing, because the process ended.
    """
    found: list[Any] = [None] * len(questions)
    waiting = list(range(len(questions)))
    while waiting:
        groups = [waiting[at : at + batch] for at in range(0, len(waiting), batch)]
        works = [_work(script, [questions[place] for place in group]) for group in groups]
        waiting = []
        for group, outcome in zip(groups, sandbox.run_many(works), strict=True):
            lines = outcome.stdout.splitlines(keepends=True)
            told = [json.loads(line) for line in lines if line.endswith(b"\n")]
            for place, answer in zip(group, told, strict=False):
                found[place] = answer
            # The first without a line ended the process; those behind it are asked again.
            for place in group[len(told) : len(told) + 1]:
                found[place] = outcome
            waiting += group[len(told) + 1 :]
    return found


def _work(script: Script, questions: Sequence[Mapping[str, Any]]) -> Work:
    return Work(
        script.command,
        script.files | {"asked.json": json.dumps(questions).encode()},
        Limits(
            cpu_seconds=5 + 0.5 * len(questions),
            wall_seconds=60 + len(questions),  # a busy machine is no reason to refuse
            memory_bytes=1024 * MIB,
            processes=4,
        ),
        readable=python_readable(),
    )
