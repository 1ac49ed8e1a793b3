"""An alert: what happened to which run, as JSON for programs and as text for people."""

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
    "advice": "advice",
    "new_best": "new best",
    "test": "test",
}


@dataclass(frozen=True)
class Alert:
    """One alert. Losses are in nats per token, `time` in Unix seconds; None is unknown.

    `suppressed` is how many alerts of this run were held back since the last one sent.
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
        """The alert with the missing facts from the run's state."""
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
        """The documented object; a non-finite loss is null and named in `nonfinite`."""
        return asdict(self)

    def encode(self) -> bytes:
        """`to_json` as bytes."""
        return encode_line(self.to_json())

    @property
    def title(self) -> str:
        """The run and what happened, in a few words."""
        return f"{self.run_name or self.run_id}: {_WORDS.get(self.kind, self.kind)}"

    @property
    def text(self) -> str:
        """The whole alert in one line."""
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
    """The alert for an event's record, without the run's state."""
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
