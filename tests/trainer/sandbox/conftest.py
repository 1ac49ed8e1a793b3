"""Sandboxes with all layers, and with some of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox import needs
from trainer.sandbox.launcher.plan import NAMESPACES
from trainer.sandbox.sandbox import Sandbox


@pytest.fixture(scope="session")
def whole() -> Iterator[Sandbox]:
    """All layers that this machine has."""
    with Sandbox(parallel=4) as opened:
        yield opened


@pytest.fixture(scope="session")
def bare() -> Iterator[Sandbox]:
    """Landlock and limits, nothing else."""
    with Sandbox(parallel=4, refused=(*NAMESPACES, "seccomp")) as opened:
        yield opened


@pytest.fixture(scope="session")
def namespaces() -> Iterator[Sandbox]:
    """Namespaces without Landlock and without the filter of system calls."""
    with Sandbox(parallel=4, refused=("landlock", "seccomp")) as opened:
        yield opened


@pytest.fixture(params=["whole", "bare", "namespaces"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    """Each layer has to hold without the others."""
    opened = request.getfixturevalue(request.param)
    needs(opened, "mount namespace" if request.param == "namespaces" else "landlock")
    return opened


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that anybody may read and write, were it not for the sandbox."""
    path = tmp_path / "secret"
    path.write_text("password")
    path.chmod(0o666)
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    return path
