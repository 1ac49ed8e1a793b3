"""The wheel and the sdist, built and installed as a stranger would, without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="hatchling is not installed")
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def run(*line: object, cwd: Path, code: int = 0) -> str:
    """What a command prints, on both streams; it must end with `code`."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("PYTHON")
    }
    done = subprocess.run(
        [str(word) for word in line],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def build(kind: str, source: Path, output: Path) -> Path:
    """A wheel or an sdist of the tree in `source`, built as pip builds it."""
    name = run(
        sys.executable,
        "-c",
        "import sys, hatchling.build as backend\n"
        "print(getattr(backend, 'build_' + sys.argv[1])(sys.argv[2]))",
        kind,
        output,
        cwd=source,
    )
    return output / name.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel and the distributions that the base requires, no other."""

    folder: Path

    def __call__(self, program: str, *words: object, cwd: Path, code: int = 0) -> str:
        return run(self.folder / "bin" / program, *words, cwd=cwd, code=code)


def required(lines: Iterator[str]) -> set[str]:
    """Names of the installed distributions that these requirements and theirs ask for."""
    found: set[str] = set()
    ahead = [Requirement(line) for line in lines]
    while ahead:
        wanted = ahead.pop()
        name = canonicalize_name(wanted.name)
        if name in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        try:
            ahead += [Requirement(line) for line in distribution(name).requires or ()]
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed")
        found.add(name)
    return found


@pytest.fixture(scope="module")
def light(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("light") / "environment"
    venv.create(folder, symlinks=True, with_pip=False)
    run(
        *(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"),
        *("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", wheel),
        cwd=folder,
    )
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (metadata,) = packages.glob("train_monitor-*.dist-info/METADATA")
    requires = (
        line.partition(": ")[2]
        for line in metadata.read_text().splitlines()
        if line.startswith("Requires-Dist: ")
    )
    for name in required(requires):
        for file in distribution(name).files or ():
            top = file.parts[0]
            link = packages / top
            if top not in ("..", "__pycache__") and not link.exists():
                link.symlink_to(Path(str(distribution(name).locate_file(top))))
    return Installed(folder)


def test_the_light_package_watches_and_writes(light: Installed, tmp_path: Path) -> None:
    heavy = "torch", "tokenizers", "safetensors", "starlette", "llguidance", "gguf"
    code = f"""
import importlib.util, shared
from shared.run_writer import RunWriter
assert "site-packages" in shared.__file__, shared.__file__
assert not [name for name in {heavy} if importlib.util.find_spec(name)]
with RunWriter("runs", name="light", max_steps=1) as run:
    run.log(1, loss=2.0)
"""
    light("python", "-c", code, cwd=tmp_path)
    (tmp_path / "runs" / "theirs.csv").write_text("step,loss\n1,2.0\n2,1.0\n")
    report = json.loads(light("train-monitor", "--json", cwd=tmp_path))
    assert {"light", "theirs"} <= {Path(run["name"]).stem for run in report["runs"]}
    assert "light" in light("trainer", "status", cwd=tmp_path)
    assert "Usage: trainer train" in light("trainer", "train", "--help", cwd=tmp_path)
    said = light("trainer", "train", cwd=tmp_path, code=2)
    assert 'pip install "train-monitor[trainer]"' in said
    assert said.count("\n") == 1


def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", ROOT, tmp_path)
    shutil.unpack_archive(sdist, tmp_path)  # tarfile's filters are newer than Python 3.11
    (source,) = (path for path in tmp_path.iterdir() if path.is_dir())
    again = build("wheel", source, tmp_path)

    def contents(path: Path) -> dict[str, int]:
        return {one.filename: one.CRC for one in zipfile.ZipFile(path).infolist()}

    assert contents(again) == contents(wheel)
    assert {f"{package}/py.typed" for package in ("shared", "monitor", "trainer")} <= set(
        contents(wheel)
    )
    assert (source / "Makefile").is_file()
