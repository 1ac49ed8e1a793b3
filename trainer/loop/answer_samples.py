"""The samples of a run with rewards: files of a few answers, and an event that shows some."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shared.files import replace_file
from trainer.rl.samples import Example, chosen, lines, shown, surplus

if TYPE_CHECKING:
    from shared.run_writer import RunWriter
    from trainer.loop.session import Session
    from trainer.rl.rollouts import Group

_NAMED = re.compile(r"rl-iter-(\d{1,15})\.jsonl")


def samples_due(session: Session, iteration: int) -> bool:
    """Whether an iteration's answers are sampled: the first and the last one's always, between them
    as often as held-out prompts are answered.
    """
    config = session.config
    return iteration % config.eval.interval == 0 or iteration in (1, config.rl.iterations)


def write_samples(
    session: Session, writer: RunWriter, iteration: int, groups: Sequence[Group]
) -> None:
    """Write `samples/rl-iter-N.jsonl`, and remove what is then more than `rl.sample_files`.

    Only people read samples: a full disk ends no run here.
    """
    if not session.group.writes:
        return
    examples = chosen(
        [
            [
                Example(group.asked.prompt, group.asked.given, sampled, verdict)
                for sampled, verdict in zip(group.answers, group.verdicts, strict=True)
            ]
            for group in groups
        ]
    )
    path = writer.run.samples / f"rl-iter-{iteration}.jsonl"
    try:
        replace_file(path, lines(examples), durable=False)
        _thin_out(writer.run.samples, session.config.rl.sample_files)
    except OSError as error:
        writer.event("warning", message=f"no samples of iteration {iteration}: {error}")
        writer.say(f"[WARN] no samples of iteration {iteration}: {error}")
        return
    writer.event(
        "sample",
        step=session.progress.step + 1,
        iteration=iteration,
        file=f"samples/{path.name}",
        text=shown(examples),
    )


def _thin_out(folder: Path, most: int) -> None:
    """Remove the files of some iterations: a run of years has no more of them than one of hours."""
    found = {int(m[1]): p for p in folder.iterdir() if (m := _NAMED.fullmatch(p.name))}
    for iteration in surplus(found, most):
        found[iteration].unlink(missing_ok=True)
