"""Importing the contract costs neither torch nor a screen."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import shared

HEAVY = ["torch", "textual", "rich", "pydantic", "typer", "transformers", "trainer", "monitor"]


def test_no_module_of_the_contract_loads_torch_or_textual() -> None:
    modules = [m.name for m in pkgutil.walk_packages(shared.__path__, "shared.")]
    assert len(modules) >= 40
    code = f"import sys, {', '.join(modules)}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
