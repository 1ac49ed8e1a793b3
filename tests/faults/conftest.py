"""Real runs that something goes wrong with."""

from collections.abc import Iterator

import pytest

from tests.faults.forking import ForkServer, fork_server
from tests.trainer.loop.conftest import text_data, train, trained

__all__ = ["server", "text_data", "train", "trained"]


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """Forks trainers."""
    with fork_server() as ready:
        yield ready
