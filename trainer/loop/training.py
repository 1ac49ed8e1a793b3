"""The training loop: steps, records, evaluation, checkpoints, requests, a clean end."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from shared.errors import ExitCode, RunError, UserError
from shared.files import replace_file
from shared.run_writer import RunWriter
from shared.text import format_count, format_duration
from trainer.data.batches import to_tensors
from trainer.loop.evaluation import evaluate, write_sample
from trainer.loop.hardware import bf16_peak, peak_memory
from trainer.loop.keeper import CheckpointKeeper
from trainer.loop.session import Session
from trainer.loop.signals import StopSignals
from trainer.loop.steering import Steering, Stop
from trainer.model.parameters import flops_per_token
from trainer.optim.adamw import set_learning_rate
from trainer.optim.schedule import learning_rate

NONFINITE_LIMIT = 10  # steps in a row without a finite loss and gradient before giving up
FIRST_LOSS_TOLERANCE = 0.25  # share of ln V


@dataclass(frozen=True)
class StepResult:
    """One optimizer step: mean loss in nats per token, gradient norm before clipping, seconds."""

    loss: float
    gradient_norm: float
    learning_rate: float
    seconds: float


class Training:
    """One run from where its session stands to its last step, or to a stop."""

    def __init__(
        self, session: Session, writer: RunWriter, signals: StopSignals | None = None
    ) -> None:
        """`signals` are already being listened to: one may have come during the start."""
        self._session = session
        self._writer = writer
        self._keeper = CheckpointKeeper(session, writer)
        self._steering = Steering(writer, signals or StopSignals(), self._save)
        self._nonfinite_steps = 0
        self._phase = writer.state.current_phase
        config, device = session.config, session.compute.device
        self._loss = session.model.loss
        if session.compute.compile:
            self._loss = torch.compile(session.model.loss)
        self._flops_per_token = flops_per_token(config.model, config.seq_len)
        self._peak = bf16_peak(device) if session.compute.bf16 else None
        self._evaluated_step = -1
        self._val_loss: float | None = None

    def run(self) -> ExitCode:
        """Train. The end is in the run's state; the exit code tells the caller."""
        session, writer = self._session, self._writer
        self._announce()
        writer.set_status("running")
        self._enter_phase(session.progress.step + 1)
        if session.progress.step == 0:
            self._first_loss()
        else:
            # Said again, so that each attempt's log tells its phase.
            writer.say(f"[INFO] PHASE {self._phase} (resumed)")
            self._save()  # does nothing unless the run was begun from another run's checkpoint
        stop = None
        while session.progress.step < session.max_steps:
            stop = self._steering.interruption(session.progress.step)
            if stop:
                break
            self._record(self._step())
            self._scheduled_work()
        return self._end(stop)

    # -- one step ------------------------------------------------------------------------

    def _step(self) -> StepResult:
        """One optimizer step over `accumulation_steps` micro-batches."""
        session = self._session
        config, progress, compute = session.config, session.progress, session.compute
        started = time.perf_counter()
        step = progress.step + 1
        rate = learning_rate(config.optim, step, session.max_steps)
        set_learning_rate(session.optimizer, rate)
        batch_size, micro_batches = config.train.batch_size, config.train.accumulation_steps
        losses: list[torch.Tensor] = []
        for _ in range(micro_batches):
            batch = session.sources.train.batch(progress.samples, batch_size)
            inputs, targets = to_tensors(batch, compute.device)
            with compute.autocast():
                loss = self._loss(inputs, targets)
            (loss / micro_batches if micro_batches > 1 else loss).backward()
            losses.append(loss.detach())
            progress.samples += batch_size
        limit = config.optim.grad_clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(session.model.parameters(), limit, foreach=True)
        self._update(norm)
        session.optimizer.zero_grad(set_to_none=True)
        progress.step = step
        progress.tokens_total += config.tokens_per_step
        progress.total_forward += micro_batches
        progress.total_backward += micro_batches
        mean, norm_value = sum(x.item() for x in losses) / micro_batches, norm.item()
        progress.loss = mean if math.isfinite(mean) else None
        return StepResult(mean, norm_value, rate, time.perf_counter() - started)

    def _update(self, norm: torch.Tensor) -> None:
        """The optimizer's step, left out when the gradient is not finite."""
        optimizer = self._session.optimizer
        if norm.device.type == "cuda":
            # The fused kernel skips the update where this is 1, without the host having to wait.
            optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
            optimizer.step()
        elif math.isfinite(norm.item()):
            optimizer.step()

    def _record(self, result: StepResult) -> None:
        session, writer = self._session, self._writer
        progress, config = session.progress, session.config
        step = progress.step
        self._enter_phase(step)
        rate = config.tokens_per_step / result.seconds
        metrics = {
            "loss": result.loss,
            "gradient_norm": result.gradient_norm,
            "was_predicted": False,
            "prediction_error": None,
            "step_time_ms": result.seconds * 1000,
            "learning_rate": result.learning_rate,
            "tokens_total": progress.tokens_total,
            "tokens_per_second": rate,
        }
        if self._peak:
            metrics["mfu"] = rate * self._flops_per_token / self._peak
        memory = peak_memory(session.compute.device)
        if memory is not None:
            metrics["gpu_memory_bytes"] = memory
        if self._evaluation_due(step):
            metrics.update(self._evaluate())
        writer.log(step, **metrics)
        writer.update(total_forward=progress.total_forward, total_backward=progress.total_backward)
        self._check_finite(step, result)
        if step % config.log.interval == 0 or step == session.max_steps:
            self._say_step(step, result, rate)

    def _check_finite(self, step: int, result: StepResult) -> None:
        """Tell of a step whose update was skipped; give up when nothing else comes any more."""
        if math.isfinite(result.loss) and math.isfinite(result.gradient_norm):
            self._nonfinite_steps = 0
            return
        writer = self._writer
        self._nonfinite_steps += 1
        writer.event("nonfinite", loss=result.loss, gradient_norm=result.gradient_norm)
        writer.say(
            f"[WARN] step {step}: loss {result.loss}, gradient norm {result.gradient_norm}: "
            "the update was skipped"
        )
        if self._nonfinite_steps >= NONFINITE_LIMIT:
            saved = writer.state.latest_checkpoint
            raise RunError(
                f"{NONFINITE_LIMIT} steps in a row were not finite, up to step {step} at learning "
                f"rate {result.learning_rate:g}; go on from {saved or 'the start'} with a lower one"
            )

    def _say_step(self, step: int, result: StepResult, rate: float) -> None:
        left = format_duration(self._writer.eta_seconds())
        # `loss=` closes the line for the guides' `grep "loss=" | sort -t= -k2 -n`.
        self._writer.say(
            f"[INFO] step {step} | loss: {result.loss:.3f} | lr: {result.learning_rate:.6f} | "
            f"time: {result.seconds * 1000:.0f}ms | {format_count(rate)} tok/s | ETA {left} | "
            f"loss={result.loss:.4f}"
        )

    # -- work between steps --------------------------------------------------------------

    def _scheduled_work(self) -> None:
        config, step = self._session.config, self._session.progress.step
        every = config.eval.sample_interval
        every = config.eval.interval if every is None else every
        if every and step % every == 0:
            self._sample()
        if step % config.checkpoint.interval == 0 and step < self._session.max_steps:
            self._save_if_wanted()

    def _evaluation_due(self, step: int) -> bool:
        config = self._session.config
        if not self._session.sources.validation:
            return False
        return (
            step % config.eval.interval == 0
            or step % config.checkpoint.interval == 0
            or step == self._session.max_steps
        )

    def _evaluate(self) -> dict[str, float]:
        session, writer = self._session, self._writer
        step = session.progress.step
        result = evaluate(
            session.model,
            session.sources.validation,
            session.compute,
            session.sources.bytes_per_token,
            writer.progress,
        )
        self._evaluated_step, self._val_loss = step, result.loss
        metrics = {"val_loss": result.loss, "val_perplexity": result.perplexity}
        shown = f"val_loss: {result.loss:.4f} | perplexity: {result.perplexity:.2f}"
        if result.bits_per_byte is not None:
            metrics["val_bits_per_byte"] = result.bits_per_byte
            shown += f" | bits per byte: {result.bits_per_byte:.4f}"
        writer.event("evaluated", step=step, **metrics)
        writer.say(f"[INFO] step {step} | {shown}")
        return metrics

    def _sample(self) -> None:
        session, writer = self._session, self._writer
        tokenizer, settings = session.sources.tokenizer, session.config.eval
        if tokenizer is None:
            return
        path = writer.run.samples / f"step_{session.progress.step}.txt"
        try:
            text = write_sample(
                session.model,
                tokenizer,
                settings.sample_prompt,
                settings.sample_tokens,
                seed=session.config.train.seed,
            )
            replace_file(path, text.encode("utf-8", "replace"), durable=False)
        except (UserError, OSError) as error:
            # A sample is for the eye: neither a diverged model nor a full disk ends a run here.
            writer.event("warning", message=f"no sample: {error}")
            writer.say(f"[WARN] no sample: {error}")
        else:
            writer.event("sample", file=f"samples/{path.name}", text=text[:2000])
        writer.progress()

    def _save_if_wanted(self) -> None:
        writer = self._writer
        if self._nonfinite_steps:
            return  # the loss is not finite: what was saved before is better
        always = self._session.config.checkpoint.always_save
        if not always and self._val_loss is not None:
            best = self._keeper.best_saved()
            if best is not None and self._val_loss >= best:
                return
        try:
            self._save()
        except RunError as error:
            # Training goes on with the older checkpoint; the next interval tries again.
            writer.event("checkpoint_failed", message=str(error))
            writer.say(f"[WARN] {error}")

    def _save(self) -> None:
        progress = self._session.progress
        progress.val_loss = self._val_loss if self._evaluated_step == progress.step else None
        self._keeper.save()

    # -- start and end -----------------------------------------------------------------------

    def _announce(self) -> None:
        session, writer = self._session, self._writer
        progress = session.progress
        for line in (
            f"Run {writer.run.run_id} in {writer.run.path}",
            *session.notes,
            f"{session.max_steps - progress.step} of {session.max_steps} steps to go",
        ):
            writer.say(f"[INFO] {line}")
        # Of an attempt whose later steps are lost, later bests are lost too.
        writer.update(
            best_loss=progress.best_loss,
            best_step=progress.best_step,
            best_metric=progress.best_metric,
            current_step=progress.step,
            tokens_total=progress.tokens_total,
        )
        if session.resumed_from:
            name = session.resumed_from.name
            writer.event("resumed", step=progress.step, checkpoint=name)

    def _enter_phase(self, step: int) -> None:
        warmup = self._session.config.optim.warmup_steps
        phase = "warmup" if step <= warmup else "full"
        if phase != self._phase:
            self._phase = phase
            self._writer.set_phase(phase, step)
            self._writer.say(f"[INFO] PHASE {phase} (step {step})")

    @torch.no_grad()
    def _first_loss(self) -> None:
        """The loss before any training, which for sound weights is about ln V."""
        session, writer = self._session, self._writer
        started = time.perf_counter()
        batch = session.sources.train.batch(0, session.config.train.batch_size)
        result = evaluate(session.model, [batch], session.compute, progress=writer.progress)
        milliseconds = (time.perf_counter() - started) * 1000
        rate = learning_rate(session.config.optim, 0, session.max_steps)
        writer.say(
            f"[INFO] step 0 | loss: {result.loss:.3f} | lr: {rate:.6f} | time: {milliseconds:.0f}ms"
        )
        expected = math.log(session.model.dimensions.V)
        if abs(result.loss - expected) > FIRST_LOSS_TOLERANCE * expected:
            message = f"the first loss is {result.loss:.3f}, not near ln V = {expected:.3f}"
            writer.event("warning", message=message)
            writer.say(f"[WARN] {message}")

    def _end(self, stop: Stop | None) -> ExitCode:
        session, writer, keeper = self._session, self._writer, self._keeper
        step = session.progress.step
        if stop:
            writer.set_status("stopping")
            writer.say(f"[INFO] Stopping after step {step}: {stop.reason}")
        if not self._nonfinite_steps:
            self._save()
        if stop:
            saved = writer.state.latest_checkpoint or "nothing"
            writer.say(f"[INFO] {saved} is saved; go on with: trainer resume {writer.run.path}")
            writer.finish(stop.status, stop.code, stop.reason)
            return stop.code
        if self._nonfinite_steps:
            raise RunError(f"The last step, {step}, was not finite: there is no final checkpoint")
        keeper.finish(keeper.folder / f"step_{step}")
        best = writer.state.best_loss
        shown = f", best {writer.state.best_metric} {best:.4f}" if best is not None else ""
        writer.say(f"[INFO] Finished {step} steps{shown}: {writer.run.path}")
        writer.finish("completed", ExitCode.OK, f"reached step {step}")
        return ExitCode.OK
