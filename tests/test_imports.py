"""What importing costs: the data core no screen, a help page no library that takes time to load."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

import pytest

import monitor.actions
import monitor.data

HEAVY = {"torch", "numpy", "textual", "plotext", "tokenizers", "safetensors", "transformers"}


def loaded_after(code: str) -> set[str]:
    """The top-level packages a fresh Python has loaded after `code`."""
    tell = "json.dump(sorted({m.partition('.')[0] for m in sys.modules}), sys.stderr)"
    script = f"import json, sys\n{code}\n{tell}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=240
    )
    return set(json.loads(done.stderr))


def test_the_monitors_data_core_loads_no_screen() -> None:
    packages = (monitor.data, monitor.actions)
    modules = [
        f"{package.__name__}.{module.name}"
        for package in packages
        for module in pkgutil.iter_modules(package.__path__)
    ]
    assert len(modules) >= 8
    loaded = loaded_after(f"import monitor.report, {', '.join(modules)}")
    assert "numpy" in loaded, "the test sees what is loaded"
    screen = {"textual", "plotext", "rich"}
    assert not loaded & (screen | {"torch", "trainer", "typer", "pydantic"})


@pytest.mark.parametrize(
    ("program", "more"),
    [("trainer", {"monitor"}), ("monitor", {"trainer", "typer", "pydantic", "rich", "yaml"})],
)
def test_help_loads_nothing_heavy(program: str, more: set[str]) -> None:
    """Through `python -m`, which is what the installed commands run too."""
    loaded = loaded_after(
        "import runpy\n"
        f"sys.argv = [{program!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_module({program!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code"
    )
    assert program in loaded
    assert not loaded & (HEAVY | more)


@pytest.mark.parametrize("preset", ["tiny-cpu", "shakespeare-cpu"])
def test_planning_an_optimizer_does_not_load_torchs_compiler(preset: str) -> None:
    """Some operations on torch's meta device load sympy, which takes a second at every start."""
    loaded = loaded_after(
        "from trainer.config.resolve import load_source, resolve\n"
        "from trainer.loop.memory_plan import optimizer_bytes\n"
        f"assert optimizer_bytes(resolve(load_source({preset!r})[0]))"
    )
    assert "torch" in loaded
    assert "sympy" not in loaded
