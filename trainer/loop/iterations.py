"""The iterations of reinforcement learning: before the optimizer steps of one, prompts are answered
by the present weights and judged, and become the batches of these steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from shared.text import plural
from trainer.loop.answer_samples import samples_due, write_samples
from trainer.loop.answer_scoring import old_scores, reference_scores
from trainer.loop.answering import Answering, Interrupted
from trainer.loop.asking import Asking
from trainer.loop.pass_gate import check_pass_rate
from trainer.loop.reward_evaluation import RewardEvaluation
from trainer.rl.advantages import advantages, parts_of, varies, weights_of
from trainer.rl.batches import RolloutBatches, Row
from trainer.rl.figures import held_out_figures, iteration_figures, policy_gap

if TYPE_CHECKING:
    from shared.run_writer import RunWriter
    from trainer.loop.hooks import Hooks
    from trainer.loop.micro_batch import MicroBatch
    from trainer.loop.session import Session
    from trainer.loop.steering import Stop
    from trainer.rl.prompts import Prompts
    from trainer.rl.rollouts import Group

__all__ = ["Interrupted", "Iterations"]


@dataclass(frozen=True)
class Round:
    """What an iteration learns from: its groups, and all that were answered for it. `cursor` is the
    number of the prompt after them."""

    groups: tuple[Group, ...]
    answered: tuple[Group, ...]
    dropped: int
    cursor: int
    rollout_seconds: float
    reward_seconds: float


class Iterations:
    """Makes the batches of each iteration. In a run of another kind it does nothing.

    What an iteration draws follows from the weights and the number of the next prompt alone, so a
    resume from a checkpoint between two iterations repeats it exactly.
    """

    def __init__(
        self, session: Session, writer: RunWriter, micro_batch: MicroBatch, hooks: Hooks
    ) -> None:
        """`micro_batch` bounds the passes that score answers."""
        self._session = session
        self._writer = writer
        self._micro_batch = micro_batch
        rewarded = session.config.data.dataset == "prompts"
        self._answering = Answering(session, writer, hooks.language) if rewarded else None
        self._asking = Asking(session, writer)
        self._figures: dict[str, float] = {}
        self._gap: dict[str, float] = {}
        self._of_step = -1

    def attend(self, interruption: Callable[[], Stop | None]) -> None:
        """Serve what is asked of the run by `interruption` while prompts are answered, too."""
        if self._answering is not None:
            self._answering.interruption = interruption

    def close(self) -> None:
        """End the processes that judge answers."""
        if self._answering is not None:
            self._answering.close()

    @property
    def is_on(self) -> bool:
        """Whether the run learns from answers."""
        return self._answering is not None

    @property
    def between(self) -> bool:
        """Whether the run is between two iterations: only then may it be saved, paused or ended."""
        return self._session.progress.step % self._session.config.steps_per_iteration == 0

    def ends_with(self, step: int) -> bool:
        """Whether `step` is the last one of an iteration: the next begins with its weights."""
        every = self._session.config.steps_per_iteration
        return self._answering is not None and step % every == 0

    def begin_if_due(self) -> float | None:
        """Answer prompts and make the batches of an iteration, if its first step is the next one.

        Returns when that began (`time.perf_counter`), pauses left out, or None. Raises Interrupted
        when the run must end first: nothing has changed then.
        """
        answering = self._answering
        if answering is None or not self.between:
            return None
        started, session, config = time.perf_counter(), self._session, self._session.config
        source = session.sources.train
        assert isinstance(source, RolloutBatches)
        waited = answering.waited
        if session.progress.step == 0:
            check_pass_rate(session, self._writer, answering, self._asking)
        made = self._round(answering)
        rows = self._rows(made, answering.language.parts)
        session.feed.close()  # it may hold batches of answers that are no more
        source.fill(
            rows,
            session.progress.samples,
            config.sequences_per_step,
            config.rl.epochs,
            config.train.seed,
        )
        self._of_step = session.progress.step + 1
        self._figures = iteration_figures(
            made.answered, made.dropped, made.rollout_seconds, made.reward_seconds
        )
        verdicts = [verdict for group in made.answered for verdict in group.verdicts]
        self._figures |= self._asking.follow(made.cursor, verdicts) | self._gap
        if samples_due(session, self._number):
            write_samples(session, self._writer, self._number, made.answered)
        self._tell()
        return started + answering.waited - waited

    def figures(self, step: int) -> dict[str, float]:
        """What is recorded of a step: its iteration, and with the first step of one its answers."""
        if self._answering is None:
            return {}
        number = -(-step // self._session.config.steps_per_iteration)
        return {"iteration": number, **(self._figures if step == self._of_step else {})}

    def evaluate(self, held: Prompts) -> RewardEvaluation:
        """Answer held-out prompts, with the same seeds each time."""
        assert self._answering is not None
        config = self._session.config
        asked = held.all(config.rl.val_answers, config.train.seed)
        found = self._answering.answer(asked, interruptible=False)
        return RewardEvaluation(held_out_figures(found.groups))

    @property
    def _number(self) -> int:
        """Of the iteration that begins, from 1 on."""
        return self._session.progress.step // self._session.config.steps_per_iteration + 1

    @property
    def _is_compared(self) -> bool:
        """Whether this iteration's answers are scored by the reference, too."""
        settings, number = self._session.config.rl, self._number
        if settings.kl_beta or not settings.kl_interval:
            return settings.kl_beta > 0
        return number % settings.kl_interval == 0 or number in (1, settings.iterations)

    def _round(self, answering: Answering) -> Round:
        """Answer prompts until enough groups vary, or `rl.refill` is used up."""
        settings = self._session.config.rl
        names = answering.language.parts
        weights_K = weights_of(names, settings.weights)
        cursor = self._asking.cursor
        kept: list[Group] = []
        flat: list[Group] = []
        answered: list[Group] = []
        spent = np.zeros(2)
        for _ in range(1 + settings.refill):
            count = settings.prompts_per_iteration - len(kept)
            if not count:
                break
            found = answering.answer(self._asking.next(cursor, count))
            cursor += count
            spent += (found.rollout_seconds, found.reward_seconds)
            answered += found.groups
            for group in found.groups:
                parts_GK = parts_of(group.verdicts, names)
                teaches = varies(parts_GK, weights_K, each=settings.normalize_parts)
                (kept if teaches else flat).append(group)
        # Too few vary: the others stay and teach nothing, so that a step always divides by as many.
        kept += flat[: settings.prompts_per_iteration - len(kept)]
        return Round(tuple(kept), tuple(answered), len(flat), cursor, *spent.tolist())

    def _rows(self, made: Round, names: Sequence[str]) -> list[Row]:
        """The answers with their advantages and what the loss compares them with."""
        session, settings = self._session, self._session.config.rl
        parts_PGK = np.stack([parts_of(group.verdicts, names) for group in made.groups])
        weights_K = weights_of(names, settings.weights)
        gained_PG = advantages(parts_PGK, weights_K, each=settings.normalize_parts)
        rows = [
            Row(
                group.asked.ids,
                sampled.tokens,
                float(advantage),
                masked=settings.mask_truncated and sampled.truncated,
            )
            for group, of_group in zip(made.groups, gained_PG, strict=True)
            for sampled, advantage in zip(group.answers, of_group, strict=True)
        ]
        progress = self._writer.progress
        if self._is_compared:
            reference = reference_scores(session, rows, self._micro_batch, progress)
            rows = [replace(row, reference=x) for row, x in zip(rows, reference, strict=True)]
        if session.config.steps_per_iteration > 1:
            old = old_scores(session, rows, self._micro_batch, progress)
            rows = [replace(row, old=x) for row, x in zip(rows, old, strict=True)]
            self._gap = {"policy_gap": policy_gap(made.groups, old)}
        return rows

    def _tell(self) -> None:
        """A line for the console, at the iterations that it shows."""
        config, found = self._session.config, self._figures
        number = self._number
        if number % config.log.interval and number not in (1, config.rl.iterations):
            return
        shares = [
            f"{said} {100 * found[key]:.0f} %"
            for key, said in (
                ("parse_rate", "parse"),
                ("compile_rate", "compile"),
                ("test_rate", "tests"),
                ("truncated_share", "cut off"),
            )
            if key in found
        ]
        self._writer.say(
            f"[INFO] iteration {number} | reward {found['reward_mean']:.3f} ± "
            f"{found['reward_std']:.3f} | {', '.join(shares)} | "
            f"{found['completion_length']:.0f} tokens | "
            f"{plural(int(found['dropped_groups']), 'group')} dropped | answers "
            f"{found['rollout_seconds']:.1f} s, judging {found['reward_seconds']:.1f} s"
        )
