"""docs/monitor.md has every key and every setting."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

from monitor.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"


def test_the_table_of_keys_is_that_of_the_registry() -> None:
    spec = importlib.util.spec_from_file_location("keys", DOCS / "keys.py")
    assert spec is not None
    assert spec.loader is not None
    keys = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(keys)
    text = (DOCS / "monitor.md").read_text()
    assert text == keys.page(text), "run: python docs/keys.py"


def test_every_setting_is_explained() -> None:
    section = (DOCS / "monitor.md").read_text().partition("## Settings")[2].partition("## Keys")[0]
    assert [f.name for f in dataclasses.fields(Settings) if f"`{f.name}`" not in section] == []
