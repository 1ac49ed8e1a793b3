"""What is recorded of each step: metrics, counters of the state, now and then a log line."""

from __future__ import annotations

from collections.abc import Mapping

from shared.run_writer import RunWriter
from shared.text import format_count, format_duration
from trainer.distributed.peaks import peak_flops, utilization
from trainer.loop.adviser import Adviser, RewardAdviser
from trainer.loop.hardware import peak_memory
from trainer.loop.session import Session
from trainer.loop.step import StepResult


class StepRecords:
    """Writes what every step measured."""

    def __init__(self, session: Session, writer: RunWriter) -> None:
        self._session = session
        self._writer = writer
        self._on_gpu = session.compute.device.type == "cuda"
        self._adviser, self._advised = Adviser(writer), session.plan
        rewarded = session.config.data.dataset == "prompts"
        self._of_rewards = RewardAdviser(writer) if rewarded else None
        self._first = True  # of this attempt, whose log begins with it
        peak = peak_flops(session.compute)
        self._peak = peak and peak * session.group.world.size

    def write(self, result: StepResult, evaluated: Mapping[str, float]) -> None:
        """Record a step; `evaluated` are the metrics of its validation."""
        session, writer = self._session, self._writer
        position, plan = result.position, session.plan
        rate = plan.tokens_per_step / result.seconds
        metrics = {
            "loss": result.loss,
            "gradient_norm": result.gradient_norm,
            "was_predicted": False,
            "prediction_error": None,
            "step_time_ms": result.seconds * 1000,
            "learning_rate": result.learning_rate,
            "tokens_total": position.tokens_total,
            "tokens_per_second": rate,
            "mfu": self._peak and utilization(rate, session.learner.flops_per_token, self._peak),
            **result.named,
        }
        if self._on_gpu:  # the most that a rank has taken
            memory = peak_memory(session.compute.device) or 0
            metrics["gpu_memory_bytes"] = int(session.group.agree(memory)[0])
        metrics.update(evaluated)
        writer.record(
            position.step,
            metrics,
            total_forward=position.total_forward,
            total_backward=position.total_backward,
        )
        if plan is not self._advised:
            self._adviser.forget()
            self._advised = plan
        if self._of_rewards is not None:  # the loss of answers tells nothing by itself
            self._of_rewards.take(position.step, {**result.named, **evaluated})
        else:
            self._adviser.take(result, rate)
            if "val_loss" in evaluated:
                self._adviser.look(position.step, evaluated["val_loss"])
        due = position.step % plan.config.log.interval == 0
        if due or self._first or position.step == plan.max_steps:
            self._say(position.step, result, rate)
        self._first = False

    def _say(self, step: int, result: StepResult, rate: float) -> None:
        left = format_duration(self._writer.eta_seconds())
        # `loss=` ends the line for the guides' `grep "loss=" | sort -t= -k2 -n`.
        self._writer.say(
            f"[INFO] step {step} | loss: {result.loss:.3f} | lr: {_rate(result.learning_rate)} | "
            f"time: {result.seconds * 1000:.0f}ms | {format_count(rate)} tok/s | ETA {left} | "
            f"loss={result.loss:.4f}"
        )


def _rate(rate: float) -> str:
    """A learning rate as the guides print it; a smaller one with the digits that it has."""
    return f"{rate:.6f}" if rate >= 1e-5 or not rate else f"{rate:.3g}"
