"""The types that only llama.cpp writes, with llama-cpp-python in a separate process.

    python -m trainer.export.llama_quantize SOURCE TARGET TYPE

writes TARGET from the F32 file SOURCE; a library that logs to our terminal, or dies, stays apart.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from shared.errors import RunError, UserError
from shared.text import one_line
from trainer.llama_cpp.server import end_with

_COMMAND = (sys.executable, "-m", "trainer.export.llama_quantize")


def check_installed(kind: str) -> None:
    """Raise UserError if llama-cpp-python is not installed."""
    if importlib.util.find_spec("llama_cpp") is None:
        raise UserError(
            f"{kind} is written by llama.cpp: install it with `pip install llama-cpp-python`, "
            "or choose Q8_0, Q5_1, Q5_0, Q4_1 or Q4_0, which need nothing else."
        )


def quantize_file(
    source: Path, target: Path, kind: str, *, command: Sequence[str] = _COMMAND
) -> None:
    """Convert `source` to the type `kind` in `target`. Raises RunError with the reason.

    `command` is the child process, which ends with this one.
    """
    arguments = [*command, str(source), str(target), kind]
    until_we_end, ours = os.pipe()  # its other end closes with this process, however that ends
    try:
        done = subprocess.run(arguments, stdin=until_we_end, capture_output=True, check=False)
    finally:
        os.close(until_we_end)
        os.close(ours)
    if done.returncode:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        said = one_line(words[-1]) if words else f"it ended with {done.returncode}"
        raise RunError(f"llama.cpp could not write {kind}: {said}.")


def main() -> int:
    """Quantize the file named on the command line."""
    end_with(sys.stdin.fileno())
    import llama_cpp

    source, target, kind = sys.argv[1:]
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    settings.nthread = os.cpu_count() or 1
    return int(llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), settings))


if __name__ == "__main__":
    sys.exit(main())
