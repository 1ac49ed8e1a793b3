"""Having the quality of answers measured, many by one process of the sandbox."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.rewards.python.asking import ask_all
from trainer.rewards.python.program import Program
from trainer.rewards.python.scripts import QUALITY
from trainer.rewards.quality import Quality
from trainer.sandbox.sandbox import Sandbox

MAX_SOURCE = 1 << 18  # characters; nothing is said about a longer program


def measure_all(sandbox: Sandbox, programs: Sequence[Program]) -> list[Quality | None]:
    """The quality of the model's part of each program; None where it cannot be found out."""
    found: list[Quality | None] = [None] * len(programs)
    places = [n for n, program in enumerate(programs) if len(program.source) <= MAX_SOURCE]
    questions = [{"source": programs[n].source, "given": len(programs[n].given)} for n in places]
    for place, told in zip(places, ask_all(sandbox, QUALITY, questions), strict=True):
        if isinstance(told, dict):
            found[place] = Quality(**told)
    return found
