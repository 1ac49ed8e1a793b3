"""Validation losses and samples during a run, each when it is due."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING

from shared.errors import UserError
from shared.files import replace_file
from shared.run_writer import RunWriter
from trainer.data.pairs import HeldPairs
from trainer.loop.evaluation import Evaluation, evaluate, write_sample
from trainer.loop.hooks import Hooks
from trainer.loop.micro_batch import MicroBatch
from trainer.loop.mixture import MixedEvaluation, MixedValidation
from trainer.loop.out_of_memory import is_out_of_memory
from trainer.loop.pair_evaluation import PairEvaluation, evaluate_pairs
from trainer.loop.patience import Patience
from trainer.loop.session import Session

if TYPE_CHECKING:
    from trainer.data.batches import Batch


class Validation:
    """Evaluates the model between steps. `loss` is the newest validation loss, or None; `patience`
    tells when it no longer improves."""

    def __init__(
        self, session: Session, writer: RunWriter, micro_batch: MicroBatch, hooks: Hooks
    ) -> None:
        self._session = session
        self._writer = writer
        self._micro_batch = micro_batch
        self._hooks = hooks
        self.patience = Patience(session, writer)
        self.loss: float | None = None
        self._step = -1

    def forget(self) -> None:
        """Forget the last loss: its step was rolled back."""
        self._step, self.loss = -1, None

    def loss_now(self) -> float | None:
        """The validation loss of the current step, None if it was not evaluated."""
        return self.loss if self._step == self._session.progress.step else None

    def evaluate_if_due(self) -> dict[str, float]:
        """The metrics of an evaluation, empty if none is due at this step."""
        due = self.is_due(self._session.progress.step)
        return self.evaluate() if due and self._session.sources.validation else {}

    def is_due(self, step: int) -> bool:
        """Whether the model is evaluated after `step`, if there is data for it."""
        config = self._session.config
        return (
            step % config.eval.interval == 0
            or step % config.checkpoint.interval == 0
            or step == self._session.max_steps
        )

    def sample_is_due(self, step: int) -> bool:
        """Whether the model writes a sample after `step`."""
        settings = self._session.config.eval
        every = settings.interval if settings.sample_interval is None else settings.sample_interval
        return bool(every) and step % every == 0 and self._session.sources.tokenizer is not None

    def _losses_of_averages(self) -> dict[str, float]:
        """The validation loss of each average of the weights."""
        averages = self._session.optimizer.averages
        found: dict[str, float] = {}
        for name in averages.names:
            with averages.in_place(name):
                found[f"val_loss_{name}"] = self._measured().loss
        for key, loss in found.items():
            step = self._session.progress.step
            self._writer.say(f"[INFO] step {step} | {key}: {loss:.4f}")
        return found

    def _measured(self) -> Evaluation | PairEvaluation | MixedEvaluation:
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
        state = writer.state
        known = state.best_loss if state.best_metric == "val_loss" else None
        improved = math.isfinite(result.loss) and (known is None or result.loss < known)
        if for_patience:
            self.patience.note(improved=improved)
        if improved:
            writer.event("new_best", step=step, metric="val_loss", value=result.loss)
        self._step, self.loss = step, result.loss
        metrics = result.metrics | self._losses_of_averages()
        writer.event("evaluated", step=step, **metrics)
        writer.say(f"[INFO] step {step} | {result}")
        return metrics

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
