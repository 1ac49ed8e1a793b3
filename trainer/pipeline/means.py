"""What runs the processes of stages: how they are started, followed, steered and restarted."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.daemon.policy import RestartLimits
from trainer.pipeline.children import Launch
from trainer.pipeline.following import Following
from trainer.pipeline.steering import Steering


@dataclass(frozen=True)
class Means:
    """`limits` decide how often something that dies is started again."""

    following: Following
    steering: Steering
    launch: Launch
    limits: RestartLimits
