"""Real runs that something goes wrong with."""

from tests.trainer.loop.conftest import text_data, train

__all__ = ["text_data", "train"]
