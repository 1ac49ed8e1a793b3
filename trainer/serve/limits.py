"""What one client may cost the server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Times are in seconds.

    `connections`: open at once. `header_time`, `body_time`: for a request to arrive. `stall_time`:
    how long a client may leave its answer unread. `keep_alive`: between two requests.
    `template_time`: CPU time to render a chat template. `scores`: log-probabilities in one
    response, of some 50 bytes each.
    """

    connections: int = 1000
    header_time: float = 10.0
    body_time: float = 30.0
    stall_time: float = 30.0
    keep_alive: int = 60
    template_time: float = 10.0
    scores: int = 1 << 20


LIMITS = Limits()
