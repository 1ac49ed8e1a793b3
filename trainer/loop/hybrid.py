"""Steps whose weights are predicted, and the real ones after them that judge it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from shared.run_writer import RunWriter
from shared.text import plural
from trainer.hybrid.cycle import Cycle
from trainer.hybrid.predictors import PREDICTORS, Kept, Predictor, Situation
from trainer.loop.phases import Phases
from trainer.loop.session import Session
from trainer.loop.step import StepResult
from trainer.loop.validation import Validation
from trainer.optim.schedule import learning_rate
from trainer.sharded import here, is_sharded

_BEFORE = "before"
_ANCHOR = "anchor"


class Hybrid:
    """Predicts weights in place of some steps. Costs nothing where `hybrid.predictor` is null.

    What it keeps of the weights is in the optimizer's state, where it is in its cycle in the
    session's progress: both are saved with every checkpoint, and a rollback to one brings them
    back.
    """

    def __init__(
        self, session: Session, writer: RunWriter, phases: Phases, validation: Validation
    ) -> None:
        self._session = session
        self._writer = writer
        self._phases = phases
        self._validation = validation
        self._config = config = session.config.hybrid
        self._predictor: Predictor | None = None
        if config.predictor is not None:
            self._predictor = PREDICTORS[config.predictor]
            phases.special = self._phase
        self._forget_another()

    def _forget_another(self) -> None:
        """Drop what the checkpoint that was loaded kept for another predictor, or for one that is
        not used now."""
        kept, predictor, saved = self._session.optimizer.kept, self._predictor, self._cycle
        if predictor is None:
            fits = not kept.names
        else:
            own = {_ANCHOR, *predictor.keeps}
            fits = saved.predictor in ("", self._config.predictor) and (
                not kept.names or own <= kept.names
            )
        if not fits:
            kept.clear()
            self._session.progress.hybrid = {}

    @property
    def _cycle(self) -> Cycle:
        return Cycle.read(self._session.progress.hybrid)

    def _keep(self, cycle: Cycle) -> None:
        self._session.progress.hybrid = vars(cycle)

    def _phase(self) -> str | None:
        return "correct" if self._cycle.left else None

    @property
    def is_on(self) -> bool:
        """Whether the run predicts weights at all."""
        return self._predictor is not None

    def is_due(self, step: int) -> bool:
        """Whether the figures of `step` decide on something that comes next.

        All steps before the present one have been taken in; `step` is that one or a later one.
        """
        if self._predictor is None:
            return False
        cycle, session = self._cycle, self._session
        then = cycle.ahead(step - (session.progress.step - 1))
        return bool(cycle.left) or self._predicts(then, step + 1)

    def _predicts(self, cycle: Cycle, step: int) -> bool:
        plan = self._session.plan
        last = plan.stages[plan.stage].last_step
        return cycle.is_due(self._config, step, plan.max_steps, last)

    def predict_if_due(self) -> bool:
        """Make the next step by a prediction, if it is time for one. Returns whether it was."""
        predictor, session, config = self._predictor, self._session, self._config
        step = session.progress.step + 1
        if predictor is None or not self._predicts(self._cycle, step):
            return False
        started = time.perf_counter()
        cycle, kept = self._cycle, session.optimizer.kept
        rate = learning_rate(session.config.optim, step, session.max_steps)
        if _ANCHOR in kept:
            self._remember()
            strength = (config.rate or predictor.rate) * cycle.strength
            momentum = predictor.momentum if config.momentum is None else config.momentum
            relative = rate / session.config.optim.learning_rate
            now = Situation(cycle.since, relative, strength, momentum)
            with torch.no_grad():
                predictor.predict(self._weights(), self._kept(predictor), now)
            kept.copy(_ANCHOR)
            cycle.predicted(config)
        else:  # the first time there is nothing to predict from
            self._begin(predictor, cycle)
            cycle.since = 0
            self._keep(cycle)
            return False
        self._keep(cycle)
        self._record(step, rate, time.perf_counter() - started)
        return True

    def follow(self, result: StepResult) -> dict[str, float]:
        """Take in a real step. Returns what is recorded of a prediction that it decides on."""
        predictor = self._predictor
        if predictor is None:
            return {}
        cycle = self._cycle
        kept = self._session.optimizer.kept
        if predictor.observe is not None and _ANCHOR in kept:
            with torch.no_grad():
                predictor.observe(self._weights(), self._kept(predictor), cycle.since + 1)
        finite = result.finite and result.updated
        verdict = cycle.follow(self._config, result.loss, finite=finite)
        figures: dict[str, float] = {}
        if verdict == "accepted":
            figures["prediction_error"] = self._error()
            kept.drop(*self._all_before())
        elif verdict == "rejected":
            self._go_back(predictor, cycle, result)
        if verdict in ("accepted", "rejected"):
            figures["prediction_confidence"] = cycle.confidence
        self._keep(cycle)
        return figures

    def _begin(self, predictor: Predictor, cycle: Cycle) -> None:
        kept = self._session.optimizer.kept
        cycle.predictor = self._config.predictor or ""
        kept.copy(_ANCHOR)
        for name in predictor.keeps:
            kept.zeros(name)

    def _weights(self) -> Sequence[Tensor]:
        """This process's rows of what is trained."""
        return [here(p.detach()) for p in self._session.parameters.values()]

    def _kept(self, predictor: Predictor) -> Kept:
        kept = self._session.optimizer.kept
        return {name: kept.here(name) for name in (_ANCHOR, *predictor.keeps)}

    def _remember(self) -> None:
        """Keep weights and optimizer as they are."""
        optimizer = self._session.optimizer
        optimizer.kept.copy(_BEFORE)
        for key, tensors in optimizer.states().items():
            optimizer.kept.copy(f"{_BEFORE}_{key}", tensors)

    def _all_before(self) -> list[str]:
        return [n for n in self._session.optimizer.kept.names if n.startswith(_BEFORE)]

    @torch.no_grad()
    def _go_back(self, predictor: Predictor, cycle: Cycle, result: StepResult) -> None:
        """Make weights and optimizer what they were before the prediction."""
        session, writer = self._session, self._writer
        optimizer, kept = session.optimizer, session.optimizer.kept
        _put_back(kept.whole(_BEFORE), session.parameters)
        for key, tensors in optimizer.states().items():
            if f"{_BEFORE}_{key}" in kept:  # an average may be asked for since
                _put_back(kept.whole(f"{_BEFORE}_{key}"), tensors)
        kept.drop(*self._all_before())
        self._begin(predictor, cycle)
        if cycle.off:
            kept.clear()
        mean = sum(cycle.after) / len(cycle.after)
        message = (
            f"a prediction was taken back: the loss was {mean:.4f} in the "
            f"{plural(len(cycle.after), 'step')} after it"
        )
        if cycle.off:
            message += (
                f"; after {plural(cycle.rolled_back, 'rollback')} (hybrid.rollbacks) nothing is "
                "predicted any more"
            )
        cycle.after = []
        step = result.position.step
        writer.event("prediction_rolled_back", step=step, off=cycle.off, message=message)
        writer.say(f"[WARN] step {step}: {message}")

    def _error(self) -> float:
        """How far the weights that the real steps reached lie from the predicted ones, as a share
        of how far the prediction went."""
        kept = self._session.optimizer.kept
        anchors = kept.here(_ANCHOR)
        apart = self._squares(anchors, self._weights())
        went = self._squares(anchors, kept.here(_BEFORE))
        return float((apart / went) ** 0.5) if went else 0.0

    def _squares(self, ones: Sequence[Tensor], others: Sequence[Tensor]) -> float:
        """The sum of the squares of all differences, of the rows of all ranks."""
        norms = torch._foreach_norm(torch._foreach_sub(list(ones), list(others)))
        squares = torch.stack(norms).double().square()
        session = self._session
        sharded = [is_sharded(p) for p in session.parameters.values()]
        return float(session.optimizer.sharing.sum_of_squares(squares, sharded).sum())

    def _record(self, step: int, rate: float, seconds: float) -> None:
        session, writer = self._session, self._writer
        progress = session.progress
        progress.step = step
        (seconds,) = session.group.agree(seconds)  # all ranks end at the same time
        progress.seconds += seconds
        session.optimizer.averages.update(step, session.max_steps)
        self._phases.enter_phase("predict", step)
        writer.log(
            step,
            was_predicted=True,
            learning_rate=rate,
            step_time_ms=seconds * 1000,
            tokens_total=progress.tokens_total,
            **self._validation.evaluate_if_due(),
        )


def _put_back(old: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        here(tensor.detach()).copy_(here(old[name]))
