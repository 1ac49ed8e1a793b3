"""An alert: what happened to which run, in a form for programs and one for people."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from shared.json_text import Json, encode_line
from shared.run.directory import RunDirectory
from shared.run.records import RunState
from shared.text import one_line

_WORDS = {
    "finished": "finished",
    "failed": "failed",
    "crashed": "crashed",
    "stalled": "stalled",
    "diverged": "diverged",
    "rolled_back": "rolled back",
    "disk_low": "disk trouble",
    "new_best": "new best",
    "test": "test",
}


@dataclass(frozen=True)
class Alert:
    """What is sent. Losses in nats per token, `time` in Unix seconds; None is unknown.

    `suppressed` are the alerts of this run that were held back since the last one sent.
    """

    kind: str
    run_id: str
    run_name: str
    host: str
    step: int | None
    max_steps: int | None
    loss: float | None
    best_loss: float | None
    message: str
    time: float
    runs_dir: str
    suppressed: int = 0

    def with_state(self, state: RunState) -> Alert:
        """Completed by what the run's state tells."""
        return replace(
            self,
            run_name=one_line(state.run_name, 120) or self.run_name,
            host=one_line(state.host, 80) or self.host,
            step=state.current_step if self.step is None else self.step,
            max_steps=state.max_steps,
            loss=state.current_loss,
            best_loss=state.best_loss if self.best_loss is None else self.best_loss,
        )

    def to_json(self) -> Json:
        """The documented object; a loss that is not finite is null, named in `nonfinite`."""
        return asdict(self)

    def encode(self) -> bytes:
        """The same as JSON."""
        return encode_line(self.to_json())

    @property
    def title(self) -> str:
        """A few words: the run and what happened."""
        return f"{self.run_name or self.run_id}: {_WORDS.get(self.kind, self.kind)}"

    @property
    def text(self) -> str:
        """One line that says it all."""
        facts: list[str] = []
        if self.step is not None:
            last = f" of {self.max_steps:,}" if self.max_steps else ""
            facts.append(f"step {self.step:,}{last}")
        facts += [
            f"{name} {value:.4g}"
            for name, value in (("loss", self.loss), ("best", self.best_loss))
            if value is not None and (math.isfinite(value) or name == "loss")
        ]
        if self.host:
            facts.append(f"on {self.host}")
        told = f": {self.message}" if self.message else ""
        more = f"; {self.suppressed} more were held back" if self.suppressed else ""
        return f"{self.title}{told} ({', '.join(facts)}{more})"


def alert_of(kind: str, run: RunDirectory, record: Json, message: str) -> Alert:
    """What an event's record alone tells of."""
    step, moment = record.get("step"), record.get("time")
    best = record.get("value") if kind == "new_best" else None
    return Alert(
        kind=kind,
        run_id=one_line(run.run_id, 120),
        run_name="",
        host="",
        step=step if type(step) is int else None,
        max_steps=None,
        loss=None,
        best_loss=float(best) if isinstance(best, (int, float)) else None,
        message=one_line(message, 500),
        time=float(moment) if isinstance(moment, (int, float)) else 0.0,
        runs_dir=one_line(Path(run.path).absolute().parent, 500),
    )
