"""Where a caller can watch a training, or disturb it: fault tests inject their faults here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from trainer.checkpoint.disk import Disk
from trainer.checkpoint.memory import available_memory

if TYPE_CHECKING:
    from trainer.loop.figures import Part
    from trainer.loop.session import Session
    from trainer.loop.step import StepResult
    from trainer.loop.training import Training
    from trainer.rewards.interface import Language

#: What a forward pass is for: a step, a validation, or finding the micro-batch that fits.
Purpose = Literal["train", "evaluate", "probe"]

#: What the loop spends the time of a step on. wait: for the figures that a GPU has not computed
#: yet; other: all that is not one of these, such as an evaluation or a checkpoint.
Stage = Literal["data", "forward", "backward", "optimizer", "wait", "records", "other"]


def nothing(*_: Any) -> None:
    """The default of every hook."""


@dataclass(frozen=True)
class Hooks:
    """Calls into the caller's code, from the loop's thread; each does nothing by default.

    A hook may raise: a MemoryError in `before_forward` or `after_backward` is handled as one of
    torch's own would be.
    """

    #: Between two steps, when requests and signals have been served.
    before_step: Callable[[Training], None] = nothing
    #: The loop turns to this stage; it lasts until the next call.
    enter: Callable[[Stage], None] = nothing
    #: Before so many sequences go through the model.
    before_forward: Callable[[Purpose, int], None] = nothing
    #: When the gradients of a step are complete and not clipped yet; both may be changed in place.
    after_backward: Callable[[Session, Sequence[Part]], None] = nothing
    #: When a step has been made, before it is recorded.
    after_step: Callable[[Session, StepResult], None] = nothing
    #: What judges answers in reinforcement learning; None: the configured language.
    language: Language | None = None
    #: Whether the figures of a step are read while the next one is computed; None: on a GPU.
    late: bool | None = None
    #: Before the tensors of a checkpoint are copied, to be written while training goes on.
    before_copy: Callable[[Session], None] = nothing
    #: Bytes of main memory that are free, for the copies.
    available_memory: Callable[[], int] = available_memory
    #: What checkpoints are written to.
    disk: Disk = field(default_factory=Disk)
    #: Seconds until a save that failed is tried again.
    retry_seconds: float = 10.0


NO_HOOKS = Hooks()
