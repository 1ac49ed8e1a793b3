"""What the iterations of reinforcement learning ask: the next prompts, with as much of each answer
as a curriculum gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trainer.rl.batches import RolloutBatches
from trainer.rl.curriculum import Curriculum, given, success_rate

if TYPE_CHECKING:
    from shared.run_writer import RunWriter
    from trainer.data.tokenizer import Tokenizer
    from trainer.loop.session import Session
    from trainer.rewards.interface import Verdict
    from trainer.rl.prompts import Asked, Prompts

# In `Progress.rl`:
CURSOR = "cursor"  # the number of the next prompt
CURRICULUM = "curriculum"


class Asking:
    """Asks the prompts of a session's run. Its state is in the session's position, so that it is
    saved, restored and rolled back with it.
    """

    def __init__(self, session: Session, writer: RunWriter) -> None:
        self._session = session
        self._writer = writer

    @property
    def prompts(self) -> Prompts:
        """Those of training."""
        source = self._session.sources.train
        assert isinstance(source, RolloutBatches)
        return source.prompts

    @property
    def cursor(self) -> int:
        """The number of the next prompt."""
        return int(self._session.progress.rl.get(CURSOR, 0))

    @property
    def share(self) -> float:
        """Of each reference answer that is given."""
        return self._curriculum.share if self._session.config.rl.curriculum else 0.0

    @property
    def _curriculum(self) -> Curriculum:
        return Curriculum.of(self._session.progress.rl.get(CURRICULUM) or {})

    def next(self, cursor: int, count: int) -> list[Asked]:
        """The `count` prompts from the one numbered `cursor` on."""
        config = self._session.config
        asked = self.prompts.next(cursor, count, config.rl.group_size, config.train.seed)
        return self._with_given(asked)

    def sample(self, count: int, answers: int) -> list[Asked]:
        """Some prompts, with `answers` answers to each, to find out how good the model is."""
        asked = self.prompts.some(count, answers, self._session.config.train.seed)
        return self._with_given(asked)

    def _with_given(self, asked: Sequence[Asked]) -> list[Asked]:
        share, tokenizer = self.share, self._session.sources.tokenizer
        if not share or tokenizer is None:
            return list(asked)
        found = []
        for one in asked:
            room = self._session.config.seq_len - 1 - len(one.ids)
            text, ids = given(rest_of(one, tokenizer), share, tokenizer, room)
            found.append(replace(one, ids=(*one.ids, *ids), given=one.given + text))
        return found

    def follow(self, cursor: int, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Go on after an iteration, to the prompt numbered `cursor`; what is recorded of that."""
        state: dict[str, Any] = {CURSOR: cursor}
        figures: dict[str, float] = {}
        if self._session.config.rl.curriculum:
            curriculum = self._curriculum
            figures["curriculum_share"] = before = curriculum.share
            curriculum.take(success_rate(verdicts))
            state[CURRICULUM] = curriculum.state
            if curriculum.share != before:
                self._tell(before, curriculum.share)
        self._session.progress.rl = state
        return figures

    def _tell(self, before: float, now: float) -> None:
        less = "succeeds" if now < before else "fails"
        message = (
            f"The model {less}: {100 * now:.0f} % of each answer is given from the next "
            f"iteration on, after {100 * before:.0f} %"
        )
        self._writer.event("curriculum", share=now, previous=before, message=message)
        self._writer.say(f"[INFO] {message}")


def rest_of(asked: Asked, tokenizer: Tokenizer) -> list[int]:
    """The ids of a prompt's reference answer after those that are asked with."""
    reference = asked.prompt.reference or ""
    whole = tokenizer.encode_prompt(asked.prompt.prompt + reference)
    if tuple(whole[: len(asked.ids)]) == asked.ids:
        return whole[len(asked.ids) :]
    return tokenizer.encode(reference.removeprefix(asked.given))
