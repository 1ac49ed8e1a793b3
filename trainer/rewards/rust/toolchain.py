"""Where rustc is. Behind rustup it is a small program that starts the real one at every call."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from shared.errors import UserError

SECONDS = 60.0  # rustup may first have to read its settings on a busy machine


@dataclass(frozen=True)
class Toolchain:
    """The compiler itself, the folder of its libraries, and what it calls itself."""

    rustc: Path
    sysroot: Path
    version: str  # such as `rustc 1.95.0`


def find_toolchain(path: str | None = None, home: Path | None = None) -> Toolchain:
    """rustc on `path` (by default the environment's PATH), else in `.cargo/bin` of `home`.

    Raises UserError where there is none, or none that works.
    """
    home = home or Path.home()
    found = shutil.which("rustc", path=path) or shutil.which(
        "rustc", path=str(home / ".cargo" / "bin")
    )
    if found is None:
        raise UserError(
            "Rust needs rustc, which is neither on PATH nor in ~/.cargo/bin: install it from "
            "https://rustup.rs."
        )
    sysroot = Path(_said(found, "--print", "sysroot"))
    real = sysroot / "bin" / "rustc"
    rustc = real if real.is_file() else Path(found).resolve()
    name, _, rest = _said(str(rustc), "--version").partition(" ")
    return Toolchain(rustc, sysroot, f"{name} {rest.partition(' ')[0]}")


def _said(*command: str) -> str:
    """The one line that a command prints."""
    try:
        ended = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{command[0]} does not work ({error}): repair or reinstall it.") from error
    if ended.returncode != 0 or not ended.stdout.strip():
        why = ended.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise UserError(f"{command[0]} does not work ({why or 'it says nothing'}): reinstall it.")
    return ended.stdout.decode(errors="replace").strip()
