"""How a long pass over bytes reports its progress: the caller decides what is shown."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

Update = Callable[[int], None]
"""Called with the bytes done so far."""

ProgressFactory = Callable[[str, int], AbstractContextManager[Update]]
"""Called with a title and the total in bytes; 0 when it is not known how much there is to do."""


@contextlib.contextmanager
def silent(title: str, total: int) -> Iterator[Update]:
    """No output."""
    yield lambda done: None
