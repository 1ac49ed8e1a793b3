"""Before the first iteration: does the model write anything that is worth learning from?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import RunError
from trainer.rl.gate import PROMPTS, answers_for, pass_rate, why_not

if TYPE_CHECKING:
    from shared.run_writer import RunWriter
    from trainer.loop.answering import Answering
    from trainer.loop.asking import Asking
    from trainer.loop.session import Session


def check_pass_rate(
    session: Session, writer: RunWriter, answering: Answering, asking: Asking
) -> None:
    """Raise RunError if the answers to some of the prompts compile too seldom for training to
    start. Interrupted as `answering` is.
    """
    settings, prompts = session.config.rl, asking.prompts
    if not settings.min_pass_rate:
        return
    asked = asking.sample(PROMPTS, answers_for(settings.group_size))
    answered = answering.answer(asked)
    found = pass_rate([group.verdicts for group in answered.groups])
    references = sum(prompt.reference is not None for prompt in prompts.prompts)
    why = why_not(found, settings.min_pass_rate, given=asking.share, references=references)
    writer.event(
        "pass_rate",
        rate=found.rate,
        low=found.interval[0],
        high=found.interval[1],
        prompts=found.prompts,
        answers=found.answers,
        compiled=found.compiled,
        bound=settings.min_pass_rate,
        message=str(found),
    )

    def decide() -> None:
        if why:
            raise RunError(why)

    session.group.decided(decide)
    writer.say(f"[INFO] Before training, {found}")
