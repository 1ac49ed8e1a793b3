"""The training loop: steps, records, evaluation, checkpoints, requests, a clean end."""

from __future__ import annotations

import math
import time

import torch

from shared.errors import ExitCode, RunError, UserError
from shared.files import replace_file
from shared.run_writer import RunWriter
from shared.text import format_count, format_duration
from trainer.loop.evaluation import evaluate, write_sample
from trainer.loop.hardware import bf16_peak, peak_memory
from trainer.loop.hooks import NO_HOOKS, Hooks
from trainer.loop.keeper import ALARM, CheckpointKeeper
from trainer.loop.micro_batch import MicroBatch, is_out_of_memory, largest_that_fits
from trainer.loop.rollback import roll_back
from trainer.loop.session import Session
from trainer.loop.signals import StopSignals
from trainer.loop.stability import BadSteps, SpikeWindow
from trainer.loop.steering import Steering, Stop
from trainer.loop.step import OptimizerStep, StepResult
from trainer.model.estimates import flops_per_token
from trainer.optim.schedule import learning_rate

FIRST_LOSS_TOLERANCE = 0.25  # share of ln V


class DivergedError(RunError):
    """The loss is no number any more, and going back does not help."""


class Training:
    """One run from where its session stands to its last step, or to a stop."""

    def __init__(
        self,
        session: Session,
        writer: RunWriter,
        signals: StopSignals | None = None,
        hooks: Hooks = NO_HOOKS,
    ) -> None:
        """`signals` are already being listened to: one may have come during the start."""
        self.session = session
        self.hooks = hooks
        self.writer = writer
        self.keeper = CheckpointKeeper(session, writer, hooks)
        self._signals = signals or StopSignals()
        self._steering = Steering(
            writer, self._signals, self.keeper, self._save, self._check_directory
        )
        self._bad = BadSteps()
        stability = session.config.stability
        self._spikes = SpikeWindow(stability, session.progress.recent_losses)
        self._phase = writer.state.current_phase
        config, device = session.config, session.compute.device
        self._micro_batch = MicroBatch(self._starting_size(), self._remember_size)
        self._eval_batch = MicroBatch(config.train.batch_size, self._out_of_memory)
        self._optimizer_step = OptimizerStep(session, self._micro_batch, hooks)
        self._flops_per_token = flops_per_token(config.model, config.seq_len)
        self._peak = bf16_peak(device) if session.compute.bf16 else None
        self._evaluated_step = -1
        self._val_loss: float | None = None

    def run(self) -> ExitCode:
        """Train. The end is in the run's state; the exit code tells the caller."""
        try:
            return self._run()
        except DivergedError as error:
            self.keeper.wait()
            self.writer.finish("failed", int(error.exit_code), str(error), final=True)
            raise
        finally:
            self._steering.close()
            self.keeper.close()

    def _run(self) -> ExitCode:
        session, writer = self.session, self.writer
        self._announce()
        self._fit_micro_batch()
        writer.set_status("running")
        self._enter_phase(session.progress.step + 1)
        if session.progress.step == 0:
            self._first_loss()
        else:
            # Said again, so that each attempt's log tells its phase.
            writer.say(f"[INFO] PHASE {self._phase} (resumed)")
            self._save()  # does nothing unless the run was begun from another run's checkpoint
        stop = None
        while session.progress.step < session.max_steps and not self._time_is_up():
            stop = self._steering.interruption(session.progress.step)
            if stop:
                break
            self.hooks.before_step(self)
            self._step()
            self._scheduled_work()
            self.keeper.collect()
            self._check_directory()
        return self._end(stop)

    def _time_is_up(self) -> bool:
        hours = self.session.config.train.max_hours
        return hours is not None and self.session.progress.seconds >= 3600 * hours

    # -- one step ------------------------------------------------------------------------

    def _step(self) -> None:
        """One optimizer step, recorded, and back to a checkpoint when it was one bad too many."""
        stability, window = self.session.config.stability, self._spikes
        threshold = window.threshold()
        result = self._optimizer_step(threshold if stability.skip_spikes else math.inf)
        self.hooks.after_step(self.session, result)
        self._record(result)
        step = self.session.progress.step
        if result.finite and result.loss > threshold:
            self._tell_spike(step, result)
        window.add(result.loss)
        self._bad.add(step, result)
        if not result.finite:
            self._tell_nonfinite(step, result)
            if self._bad.count >= stability.nonfinite_steps:
                self._go_back()

    def _record(self, result: StepResult) -> None:
        session, writer = self.session, self.writer
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
        if step % config.log.interval == 0 or step == session.max_steps:
            self._say_step(step, result, rate)

    def _tell_spike(self, step: int, result: StepResult) -> None:
        writer, zscore = self.writer, self._spikes.zscore(result.loss)
        skipped = not result.updated
        writer.event("spike", step=step, loss=result.loss, zscore=zscore, skipped=skipped)
        what = "the update was skipped" if skipped else "trained on all the same"
        writer.say(
            f"[WARN] step {step}: loss {result.loss:.4f} is a spike ({zscore:.1f} standard "
            f"deviations above the last {len(self._spikes.losses)} steps): {what}"
        )

    def _tell_nonfinite(self, step: int, result: StepResult) -> None:
        writer = self.writer
        writer.event(
            "nonfinite", loss=result.loss, gradient_norm=result.gradient_norm, layer=result.layer
        )
        writer.say(
            f"[WARN] step {step}: loss {result.loss}, gradient norm {result.gradient_norm}: "
            "the update was skipped"
        )

    def _go_back(self) -> None:
        """Return to the last good checkpoint, past the data since, or give up."""
        session, writer = self.session, self.writer
        first = self._bad.first
        self.keeper.wait()
        stability, progress = session.config.stability, session.progress
        if self.keeper.last_saved_step >= progress.rolled_back_from:
            progress.rollbacks = 0  # since the last one training had come further
        if progress.rollbacks >= stability.rollbacks:
            count = progress.rollbacks
            message = (
                f"Training diverged and {count} rollback{'s' if count != 1 else ''} did not help: "
                f"{first}; go on from {writer.state.latest_checkpoint or 'the start'} with a lower "
                "--learning-rate."
            )
            writer.event(
                "diverged",
                message=message,
                first_bad_step=first.step if first else progress.step,
                layer=first.layer if first else "",
                learning_rate=first.learning_rate if first else None,
            )
            raise DivergedError(message)
        done = roll_back(session, self.keeper)
        message = f"{self._bad.count} steps in a row were not finite ({first}): {done}"
        self._bad.clear()
        self._spikes = SpikeWindow(stability, session.progress.recent_losses)
        self._evaluated_step, self._val_loss = -1, None
        writer.event("rolled_back", **vars(done), message=message)
        writer.say(f"[WARN] {message}")
        self._show_progress()
        self._enter_phase(session.progress.step + 1)

    def _say_step(self, step: int, result: StepResult, rate: float) -> None:
        left = format_duration(self.writer.eta_seconds())
        # `loss=` closes the line for the guides' `grep "loss=" | sort -t= -k2 -n`.
        self.writer.say(
            f"[INFO] step {step} | loss: {result.loss:.3f} | lr: {result.learning_rate:.6f} | "
            f"time: {result.seconds * 1000:.0f}ms | {format_count(rate)} tok/s | ETA {left} | "
            f"loss={result.loss:.4f}"
        )

    # -- memory --------------------------------------------------------------------------

    def _starting_size(self) -> int:
        """Sequences at once: as configured, or fewer where an attempt before found so."""
        train, remembered = self.session.config.train, self.writer.state.micro_batch
        if isinstance(train.micro_batch, int):
            size = min(train.micro_batch, train.batch_size * train.accumulation_steps)
        else:
            size = train.batch_size
        return max(1, min(size, remembered)) if remembered else size

    def _fit_micro_batch(self) -> None:
        """With `micro_batch: auto`, find the most that memory holds, unless it is known."""
        writer, train = self.writer, self.session.config.train
        if train.micro_batch != "auto":
            return
        if writer.state.micro_batch is None:
            writer.update(micro_batch=largest_that_fits(self.session, self.hooks.before_forward))
        size = writer.state.micro_batch or train.batch_size
        self._micro_batch.size = size
        parts = len(self._micro_batch.parts(train.batch_size * train.accumulation_steps))
        writer.say(f"[INFO] {size} sequences fit at once: {parts} micro-batches per step")

    def _out_of_memory(self, old: int, new: int, reason: str) -> None:
        writer = self.writer
        message = f"out of memory with {old} sequences at once, going on with {new}: {reason}"
        writer.event("out_of_memory", micro_batch=old, retry_with=new, message=message)
        writer.say(f"[WARN] {message}")
        writer.progress()

    def _remember_size(self, old: int, new: int, reason: str) -> None:
        self._out_of_memory(old, new, reason)
        self.writer.update(micro_batch=new)

    # -- work between steps --------------------------------------------------------------

    def _scheduled_work(self) -> None:
        config, step = self.session.config, self.session.progress.step
        every = config.eval.sample_interval
        every = config.eval.interval if every is None else every
        if every and step % every == 0:
            self._sample()
        due = step % config.checkpoint.interval == 0 and self._is_wanted()
        if (due or self.keeper.retry_due()) and 0 < step < self.session.max_steps:
            self._save_beside()

    def _evaluation_due(self, step: int) -> bool:
        config = self.session.config
        if not self.session.sources.validation:
            return False
        return (
            step % config.eval.interval == 0
            or step % config.checkpoint.interval == 0
            or step == self.session.max_steps
        )

    def _evaluate(self) -> dict[str, float]:
        session, writer = self.session, self.writer
        step = session.progress.step
        result = evaluate(
            session.model,
            session.sources.validation,
            session.compute,
            bytes_per_token=session.sources.bytes_per_token,
            progress=writer.progress,
            micro_batch=self._eval_batch,
            before_forward=self.hooks.before_forward,
        )
        state = writer.state
        known = state.best_loss if state.best_metric == "val_loss" else None
        if math.isfinite(result.loss) and (known is None or result.loss < known):
            writer.event("new_best", step=step, metric="val_loss", value=result.loss)
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
        session, writer = self.session, self.writer
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
        except Exception as error:
            # A sample is for the eye: neither a diverged model nor a full disk ends a run here.
            if not isinstance(error, (UserError, OSError)) and not is_out_of_memory(error):
                raise
            session.model.train()
            writer.event("warning", message=f"no sample: {error}")
            writer.say(f"[WARN] no sample: {error}")
        else:
            writer.event("sample", file=f"samples/{path.name}", text=text[:2000])
        writer.progress()

    def _is_wanted(self) -> bool:
        """Whether a checkpoint that is due should be saved, as things stand."""
        always = self.session.config.checkpoint.always_save
        if always or self._val_loss is None:
            return True
        self.keeper.wait()
        best = self.keeper.best_saved()
        return best is None or self._val_loss < best

    def _save_beside(self) -> None:
        if self._bad.count:
            return  # the loss is not finite: what was saved before is better
        self._note_progress()
        self.keeper.save_beside()

    def _save(self) -> None:
        """Save the present step, now. Raises RunError."""
        if self._bad.count:
            raise RunError("the last steps were not finite: the checkpoint before is better")
        self._note_progress()
        self.keeper.save()

    def _note_progress(self) -> None:
        progress = self.session.progress
        progress.val_loss = self._val_loss if self._evaluated_step == progress.step else None
        progress.recent_losses = self._spikes.losses

    def _check_directory(self) -> None:
        """Stop when the run directory has been gone for too long, or is another process's."""
        lost = self.writer.directory_lost_seconds
        if not lost:
            return
        if self.writer.taken_over:
            raise RunError(f"{self.writer.directory_problem}; training ends here.")
        if lost > self.session.config.stability.directory_grace:
            raise RunError(
                f"{self.writer.directory_problem}. It has been so for {lost:.0f} s; training ends "
                f"at step {self.session.progress.step}. When the directory is back: trainer "
                f"resume {self.writer.run.path}"
            )

    # -- start and end -----------------------------------------------------------------------

    def _announce(self) -> None:
        session, writer = self.session, self.writer
        progress = session.progress
        for line in (
            f"Run {writer.run.run_id} in {writer.run.path}",
            *session.notes,
            f"{session.max_steps - progress.step} of {session.max_steps} steps to go",
        ):
            writer.say(f"[INFO] {line}")
        self._show_progress()
        if session.resumed_from:
            name = session.resumed_from.name
            writer.event("resumed", step=progress.step, checkpoint=name)

    def _show_progress(self) -> None:
        """Bring the state to where the session stands: with lost steps, later bests are lost."""
        progress = self.session.progress
        self.writer.update(
            best_loss=progress.best_loss,
            best_step=progress.best_step,
            best_metric=progress.best_metric,
            current_step=progress.step,
            tokens_total=progress.tokens_total,
        )

    def _enter_phase(self, step: int) -> None:
        warmup = self.session.config.optim.warmup_steps
        phase = "warmup" if step <= warmup else "full"
        if phase != self._phase:
            self._phase = phase
            self.writer.set_phase(phase, step)
            self.writer.say(f"[INFO] PHASE {phase} (step {step})")

    @torch.no_grad()
    def _first_loss(self) -> None:
        """The loss before any training, which for sound weights is about ln V."""
        session, writer = self.session, self.writer
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
        session, writer = self.session, self.writer
        step = session.progress.step
        if stop:
            writer.set_status("stopping")
            writer.say(f"[INFO] Stopping after step {step}: {stop.reason}")
            reason = stop.reason + self._save_on_stopping()
            saved = writer.state.latest_checkpoint or "nothing"
            writer.say(f"[INFO] {saved} is saved; go on with: trainer resume {writer.run.path}")
            writer.finish(stop.status, stop.code, reason)
            return stop.code
        if self._bad.count:
            raise DivergedError(
                f"The last step, {step}, was not finite: there is no final checkpoint"
            )
        if session.sources.validation and self._evaluated_step != step and step < session.max_steps:
            writer.log(step, **self._evaluate())  # the clock has ended it between two evaluations
        self._save_at_last()
        best = writer.state.best_loss
        shown = f", best {writer.state.best_metric} {best:.4f}" if best is not None else ""
        reason = f"reached step {step}"
        if step < session.max_steps:
            reason += f" of {session.max_steps} in {session.config.train.max_hours:g} hours"
        writer.say(f"[INFO] Finished {step} steps{shown}: {writer.run.path}")
        writer.finish("completed", ExitCode.OK, reason)
        return ExitCode.OK

    def _save_on_stopping(self) -> str:
        """Save; returns what to add to the reason of the stop, which stands all the same."""
        self.keeper.wait()
        if self._bad.count:
            return "; the last steps were not finite and are not saved"
        try:
            self._save()
        except RunError as error:
            self.writer.say(f"[WARN] {error}")
            return f"; the last step is not saved: {error}"
        return ""

    def _save_at_last(self) -> None:
        """Save the last step; a disk that refuses it is asked again for a while.

        A run that has reached its end must not be lost to a disk that somebody is just clearing.
        """
        deadline = time.monotonic() + self.session.config.stability.directory_grace
        while True:
            try:
                self._save()
                self.keeper.finish()
                self.writer.update(durable=True)  # what is said next has to be written too
                return
            except (RunError, OSError):
                if time.monotonic() > deadline:
                    raise
            self.writer.say(f"[WARN] the last step is not saved yet: trying again ({ALARM})")
            self._wait_or_stop(min(self.hooks.retry_seconds, deadline - time.monotonic()))

    def _wait_or_stop(self, seconds: float) -> None:
        deadline = time.monotonic() + max(0.0, seconds)
        while time.monotonic() < deadline:
            if self._signals.received:
                raise RunError(f"{self._signals.received} received before the disk took the end")
            self.writer.progress()
            time.sleep(0.1)
