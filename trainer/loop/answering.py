"""Answering prompts with a session's present model, and judging the answers, while requests to the
run are still served.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from trainer.distributed.cores import usable_cores
from trainer.loop.vllm_weights import VllmWeights
from trainer.rl.engine import How, ModelEngine
from trainer.rl.rollouts import Answered, Rollouts
from trainer.rl.vllm import VllmEngine, VllmServer

if TYPE_CHECKING:
    from shared.run_writer import RunWriter
    from trainer.data.tokenizer import Tokenizer
    from trainer.loop.session import Session
    from trainer.loop.steering import Stop
    from trainer.rewards.interface import Language
    from trainer.rl.prompts import Asked
    from trainer.rl.sampled import Engine


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """The run must end here; what was being answered is given up."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop.reason)
        self.stop = stop


class Answering:
    """Asks the model, and the language for its verdicts. `waited` are the seconds spent in pauses
    and on other requests meanwhile."""

    def __init__(self, session: Session, writer: RunWriter, language: Language | None) -> None:
        self._session = session
        self._writer = writer
        settings = session.config.rl
        self._own = language is None
        if language is None:
            from trainer.rewards.registry import open_language

            language = open_language(settings.language, run_tests=settings.run_tests)
        self.language = language
        self.interruption: Callable[[], Stop | None] = lambda: None
        self.waited = 0.0
        self._interruptible = False
        self._vllm: tuple[VllmServer, VllmWeights] | None = None

    def close(self) -> None:
        """End the processes that judging uses."""
        if self._own:
            self.language.close()

    def answer(self, asked: Sequence[Asked], *, interruptible: bool = True) -> Answered:
        """Raises Interrupted if the run is asked to end meanwhile and this is `interruptible`."""
        session, group = self._session, self._session.group
        self._interruptible = interruptible and group.alone
        if interruptible and not group.alone:
            self._look()  # together, as long as all ranks are at the same place
        rollouts = Rollouts(self._engine(), self.language, group, ahead=self._has_spare_cores())
        with torch.no_grad():
            return session.learner.parallel.call(rollouts.answer, asked)

    def _engine(self) -> Engine:
        """What answers now. Every rank makes one."""
        session = self._session
        settings, tokenizer = session.config.rl, session.sources.tokenizer
        assert tokenizer is not None
        how = How(
            settings.max_new_tokens,
            settings.temperature,
            settings.top_p,
            context=session.config.seq_len,
        )
        if settings.rollouts == "vllm":
            return self._vllm_engine(tokenizer, how)
        return ModelEngine(
            session.model,
            tokenizer,
            self.language.stops,
            how,
            end_ids=session.end_ids,
            busy=self._busy,
        )

    def _vllm_engine(self, tokenizer: Tokenizer, how: How) -> VllmEngine:
        session = self._session
        if self._vllm is None:
            server = VllmServer(session.config.rl.vllm_url)
            self._vllm = server, VllmWeights(session, server)
        server, weights = self._vllm
        weights.bring()
        return VllmEngine(
            server,
            tokenizer,
            self.language.stops,
            how,
            end_ids=session.end_ids,
            busy=self._busy,
        )

    def _has_spare_cores(self) -> bool:
        """Whether answers can be judged while others are written without slowing that down."""
        if self._session.compute.device.type != "cpu":
            return True
        return usable_cores() > torch.get_num_threads() * self._session.group.world.local_size

    def _busy(self, here: bool) -> bool:
        """Before each pass: whether a rank has answers left, where all must make it together."""
        self._writer.progress()
        if self._interruptible:
            self._look()
        if self._session.learner.parallel.lockstep:
            return bool(self._session.group.agree(float(here))[0])
        return here

    def _look(self) -> None:
        """Serve requests. A checkpoint saved here is that of the step before."""
        started = time.perf_counter()
        device = self._session.compute.device.type
        with torch.inference_mode(False), torch.autocast(device, enabled=False):
            stop = self.interruption()
        self.waited += time.perf_counter() - started
        if stop is not None:
            raise Interrupted(stop)
