"""What a stage at work uses: commands, trainings and a served model, as processes of their own."""

from __future__ import annotations

import re
import shlex
import signal
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from shared.checkpoints.owner import owner_of
from shared.run.directory import RunDirectory
from shared.text import one_line
from trainer.config.schema import Config
from trainer.daemon.memory import killed_for_memory, oom_kills
from trainer.pipeline.children import Child, end_child, signal_child
from trainer.pipeline.following import KEPT, at_its_end
from trainer.pipeline.means import Means
from trainer.pipeline.place import Place
from trainer.pipeline.stages.interface import StageError, Trained
from trainer.pipeline.training import Trainings

COMMANDS_LOG = "commands.log"  # the output of the stages' commands, in the pipeline's run
_ADDRESS = re.compile(r"https?://\S+")
_SERVED_SECONDS = 600.0  # to load a model


class Working:
    """The `Work` of stages."""

    def __init__(self, place: Place, run: RunDirectory, means: Means) -> None:
        """`run` is that of the pipeline."""
        self.place = place
        self._run = run
        self._following, self._steering = means.following, means.steering
        self._means = means
        self._trainings = Trainings(place, means)
        self._stage = ""
        self._output = at_its_end(run.path / COMMANDS_LOG)

    @property
    def folder(self) -> Path:
        """The run directory of the pipeline."""
        return self._run.path

    @property
    def trains(self) -> bool:
        """Whether a training is at work."""
        return bool(self._stage)

    @property
    def training_run(self) -> RunDirectory | None:
        """The run of the stage that trains."""
        return owner_of(self.place.folder(self._stage)) if self._stage else None

    def say(self, line: str) -> None:
        """Write a line to the log."""
        self._following.say(line)

    def train(self, stage: str, config: Config) -> Trained:
        """Train a run of this configuration, or continue the one that there is, to its end."""
        self._stage = stage
        trained = self._trainings.train(stage, config)
        self._stage = ""
        return trained

    def command(self, *arguments: str, again: int | None = None) -> str:
        """Run `trainer ARGUMENTS` to its end; returns the last lines that it printed.

        One that a signal killed is run again, at most `again` times. Raises StageError with its
        last line where it fails, and Stopped.
        """
        tries = self._means.limits.max_restarts if again is None else again
        while True:
            self._steering.wait_while_paused(self._following.pause)
            kills = oom_kills()
            child, lines = self._start(arguments)
            code = self._following.end_of(child, self._output, lines=lines)
            self._steering.check()
            if code == 0:
                return "\n".join(lines)
            how = _how_ended(code)
            if code == -signal.SIGKILL and killed_for_memory(kills, oom_kills()):
                how += ", probably by the kernel because it was out of memory"
            if code is None or code >= 0 or not tries:
                raise StageError(_told(arguments[0], how, lines))
            tries -= 1
            self.say(f"[WARN] trainer {arguments[0]} {how}; it is started again")

    def serve(self, arguments: Sequence[str], ask: Callable[[str], Any]) -> Any:
        """Run `trainer serve ARGUMENTS`, call `ask` with its address, and end it."""
        child, lines = self._start(["serve", *arguments, "--port", "0"])
        address: list[str] = []

        def listens() -> bool:
            for line in lines:
                if line.startswith("Serving ") and (found := _ADDRESS.search(line)):
                    address[:] = [found[0]]
            return bool(address)

        try:
            code = self._following.end_of(child, self._output, until=listens, lines=lines)
            self._steering.check()
            if code is not None:
                raise StageError(_told("serve", _how_ended(code), lines))
            return ask(address[0])
        finally:
            signal_child(child, signal.SIGINT)
            self._end(child)

    def _end(self, child: Child) -> None:
        for _ in range(50):
            if child.poll() is not None:
                return
            self._following.pause()
        end_child(child)
        while child.poll() is None:
            self._following.pause()

    def _start(self, arguments: Sequence[str]) -> tuple[Child, deque[str]]:
        self.say(f"[INFO] trainer {one_line(shlex.join(arguments), 1000)}")
        path = self._run.path / COMMANDS_LOG
        self._output = at_its_end(path)
        return self._means.launch(arguments, path, True), deque(maxlen=KEPT)


def _how_ended(code: int | None) -> str:
    """`ended with exit code 2`, `was killed by SIGKILL`."""
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _told(command: str, how: str, lines: Sequence[str]) -> str:
    """Why a command failed: its own last words."""
    said = next((line for line in reversed(lines) if line.startswith("trainer: ")), "")
    words = said.removeprefix("trainer: ") or (lines[-1] if lines else "")
    return f"trainer {command} {how}" + (f": {words}" if words else ".")
