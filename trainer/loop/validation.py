"""Validation losses and samples during a run, each when it is due."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from shared.errors import UserError
from shared.files import replace_file
from shared.run.numbers import REWARDS, is_better
from shared.run_writer import RunWriter
from trainer.data.pairs import HeldPairs
from trainer.loop.evaluation import Evaluation, evaluate, write_sample
from trainer.loop.hooks import Hooks
from trainer.loop.micro_batch import MicroBatch
from trainer.loop.mixture import MixedEvaluation, MixedValidation
from trainer.loop.out_of_memory import is_out_of_memory
from trainer.loop.pair_evaluation import PairEvaluation, evaluate_pairs
from trainer.loop.patience import Patience
from trainer.loop.reward_evaluation import RewardEvaluation
from trainer.loop.session import Session
from trainer.rl.prompts import Prompts

if TYPE_CHECKING:
    from trainer.data.batches import Batch


class Validation:
    """Evaluates the model between steps. `cost` is what the newest validation found, the lower the
    better, or None: the loss, or the negated reward. `patience` tells when it no longer improves.
    """

    def __init__(
        self,
        session: Session,
        writer: RunWriter,
        micro_batch: MicroBatch,
        hooks: Hooks,
        rewarded: Callable[[Prompts], RewardEvaluation] | None = None,
    ) -> None:
        """`rewarded` answers held-out prompts with the session's present model."""
        self._session = session
        self._writer = writer
        self._micro_batch = micro_batch
        self._hooks = hooks
        self.patience = Patience(session, writer)
        self._rewarded = rewarded
        self._metric, self._value = "", math.nan
        self._step = -1

    def forget(self) -> None:
        """Forget what was found last: its step was rolled back."""
        self._step, self._metric = -1, ""

    @property
    def cost(self) -> float | None:
        """What was found last, so that less is better; None before the first validation."""
        if not self._metric:
            return None
        return -self._value if self._metric in REWARDS else self._value

    @property
    def is_done(self) -> bool:
        """Whether the current step was evaluated."""
        return bool(self._metric) and self._step == self._session.progress.step

    def now(self, metric: str) -> float | None:
        """The value of `metric` at the current step, None if another one or nothing was found."""
        return self._value if self.is_done and self._metric == metric else None

    def evaluate_if_due(self) -> dict[str, float]:
        """The metrics of an evaluation, empty if none is due at this step."""
        due = self.is_due(self._session.progress.step)
        return self.evaluate() if due and self._session.sources.validation else {}

    def is_due(self, step: int) -> bool:
        """Whether the model is evaluated after `step`, if there is data for it."""
        config = self._session.config
        iterations, rest = divmod(step, config.steps_per_iteration)
        return not rest and (
            iterations % config.eval.interval == 0
            or iterations % config.checkpoint.interval == 0
            or step == self._session.max_steps
        )

    def sample_is_due(self, step: int) -> bool:
        """Whether the model writes a sample after `step`."""
        settings = self._session.config.eval
        every = settings.interval if settings.sample_interval is None else settings.sample_interval
        every *= self._session.config.steps_per_iteration
        return bool(every) and step % every == 0 and self._session.sources.tokenizer is not None

    def _found_for_averages(self) -> dict[str, float]:
        """The validation loss, or reward, of each average of the weights."""
        averages = self._session.optimizer.averages
        found: dict[str, float] = {}
        for name in averages.names:
            with averages.in_place(name):
                measured = self._measured()
                found[f"{measured.metric}_{name}"] = measured.metrics[measured.metric]
        for key, value in found.items():
            step = self._session.progress.step
            self._writer.say(f"[INFO] step {step} | {key}: {value:.4f}")
        return found

    def _measured(self) -> Evaluation | PairEvaluation | MixedEvaluation | RewardEvaluation:
        session = self._session
        held = session.sources.validation
        if isinstance(held, MixedValidation):
            found = {
                one.name: self._evaluated(one.batches, one.bytes_per_token) for one in held.sources
            }
            return MixedEvaluation(
                {name: one.loss for name, one in found.items()},
                {one.name: one.share for one in held.sources},
                {o.name: o.bytes_per_token for o in held.sources if o.bytes_per_token is not None},
            )
        if isinstance(held, Prompts):
            assert self._rewarded is not None
            return self._rewarded(held)
        if isinstance(held, HeldPairs):
            return evaluate_pairs(
                session,
                held,
                self._micro_batch,
                self._writer.progress,
                self._hooks.before_forward,
            )
        return self._evaluated(held, session.sources.bytes_per_token)

    def _evaluated(self, batches: Collection[Batch], bytes_per_token: float | None) -> Evaluation:
        session = self._session
        parallel = session.learner.parallel
        return parallel.call(
            evaluate,
            session.model,
            batches,
            session.compute,
            bytes_per_token=bytes_per_token,
            progress=self._writer.progress,
            micro_batch=self._micro_batch,
            before_forward=self._hooks.before_forward,
            group=session.group,
            lockstep=parallel.lockstep,
        )

    def evaluate(self, *, for_patience: bool = True) -> dict[str, float]:
        """Evaluate the current step, record the result, and return its metrics.

        `for_patience`: it is one of those in a row that patience counts.
        """
        session, writer = self._session, self._writer
        step = session.progress.step
        result = self._measured()
        state, metric = writer.state, result.metric
        value = result.metrics[metric]
        known = state.best_loss if state.best_metric == metric else None
        improved = math.isfinite(value) and (known is None or is_better(metric, value, known))
        if for_patience:
            self.patience.note(improved=improved)
        if improved:
            writer.event("new_best", step=step, metric=metric, value=value)
        self._step, self._metric, self._value = step, metric, value
        metrics = result.metrics | self._found_for_averages()
        writer.event("evaluated", step=step, **metrics)
        writer.say(f"[INFO] step {step} | {result}")
        return metrics

    def evaluate_first(self) -> None:
        """Evaluate the model that the run begins with, if there is data for it."""
        if self._session.sources.validation:
            self._writer.say("[INFO] Before training:")
            self._writer.log(self._session.progress.step, **self.evaluate(for_patience=False))

    def sample_if_due(self) -> None:
        """Write a sample of the model's text, if one is due at this step."""
        if not self.sample_is_due(self._session.progress.step):
            return
        if self._session.learner.parallel.lockstep:
            self._sample()
        else:
            self._session.group.decided(self._sample)

    def _sample(self) -> None:
        session, writer = self._session, self._writer
        tokenizer, settings = session.sources.tokenizer, session.config.eval
        assert tokenizer is not None
        path = writer.run.samples / f"step_{session.progress.step}.txt"
        try:
            text = session.learner.parallel.alike(
                write_sample,
                session.model,
                tokenizer,
                settings.sample_prompt,
                settings.sample_tokens,
                seed=session.config.train.seed,
                end_ids=session.end_ids,
            )
            if session.group.writes:
                replace_file(path, text.encode("utf-8", "replace"), durable=False)
        except Exception as error:
            # Only people read samples: neither a diverged model nor a full disk ends a run here.
            if not isinstance(error, (UserError, OSError)) and not is_out_of_memory(error):
                raise
            session.model.train()
            writer.event("warning", message=f"no sample: {error}")
            writer.say(f"[WARN] no sample: {error}")
        else:
            writer.event("sample", file=f"samples/{path.name}", text=text[:2000])
        writer.progress()
