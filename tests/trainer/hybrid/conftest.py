"""Runs of tiny models, as the loop's tests make them."""

from __future__ import annotations

from tests.trainer.loop.conftest import text_data, train, trained

__all__ = ["text_data", "train", "trained"]
