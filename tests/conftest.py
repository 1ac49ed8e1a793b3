"""What all tests share: one torch thread, the command line in-process, small token data.

The two classes of tests, slow and quick, are told apart by `tests/quick.py`.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.garbage import Freezer
from tests.quick import (
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_ignore_collect,
    pytest_runtest_call,
)

if TYPE_CHECKING:
    from trainer.loop.hooks import Hooks

__all__ = [
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_ignore_collect",
    "pytest_runtest_call",
]

# Torch reads it when it is first imported, here and in every child process. One thread, because two
# workers of pytest share two cores; another number given by the caller stands (docs/testing.md).
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("COLUMNS", None)  # pytest-xdist gives its workers one; our commands have no terminal
os.environ["TRAINER_ALERTS"] = ""  # the tester's own alerts stay silent
os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # tests with a Hub bring their own

# A shell ignores Ctrl-C for what it starts in the background, nohup ignores SIGHUP, and children
# inherit both: tests of these signals would fail or wait there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _refuse_to_signal_the_job(event: str, arguments: tuple[Any, ...]) -> None:
    """A signal to our own process group would stop or end the whole session of tests."""
    group = event == "os.killpg" and arguments[0] in (0, os.getpgrp())
    if group or (event == "os.kill" and arguments[0] in (0, -1)):
        raise AssertionError(f"{event}{arguments} would reach the test session itself")


sys.addaudithook(_refuse_to_signal_the_job)

# Hypothesis's own time limits would make every property depend on the machine. The environment of
# the peers does without it.
with contextlib.suppress(ImportError):
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "portable", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("portable")

_freezer = Freezer()


def pytest_collection_finish() -> None:
    """From here on the garbage is the tests' own."""
    _freezer.install()
    _freezer.freeze()


def pytest_runtest_setup() -> None:
    _freezer.freeze()


collect_ignore = ["peers"]  # unless they are named: they want programs of another environment

#: About 300 kB of Python that every Python has.
SOURCES = ("argparse.py", "ast.py", "shutil.py", "subprocess.py", "textwrap.py")


class Output(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str


RunCli = Callable[..., Output]


@contextlib.contextmanager
def _torch_as_it_was() -> Iterator[None]:
    """Put back what a command sets for its whole process."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(scope="session")
def run_cli() -> RunCli:
    """Run `trainer ARGUMENTS…` in this process, as `main` runs it: (code, out, err)."""

    def run(*arguments: object, stdin: bytes = b"", hooks: Hooks | None = None) -> Output:
        from trainer.cli.main import main

        streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2)]
        previous = sys.stdin
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
        try:
            with (
                _torch_as_it_was(),
                contextlib.redirect_stdout(streams[0]),
                contextlib.redirect_stderr(streams[1]),
            ):
                code = main([str(argument) for argument in arguments], hooks)
        finally:
            sys.stdin = previous
        texts = []
        for stream in streams:
            stream.flush()
            texts.append(stream.buffer.getvalue().decode())  # type: ignore[attr-defined]
        return Output(code, *texts)

    return run


@pytest.fixture(scope="session")
def token_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.bin, val.bin and a tokenizer of bytes (258 tokens), made of Python."""
    from trainer.data.prepare import PrepareSettings, prepare

    stdlib = Path(sysconfig.get_paths()["stdlib"])
    folder = tmp_path_factory.mktemp("tokens")
    inputs = [str(stdlib / name) for name in SOURCES]
    prepare(PrepareSettings(inputs=inputs, output=str(folder), kind="char", val_split=0.1))
    return folder
