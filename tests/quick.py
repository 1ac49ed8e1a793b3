"""Which tests are slow, which come first, and the guard that keeps `pytest --quick` quick.

A test is slow when it trains a model, starts a process, asks a server, loads transformers or
llama.cpp, or drives dialogs through the whole app: its file is in one of `SLOW_PLACES`, it or a
fixture of it names what starts a process, directly or through functions of the tests, or it is
marked `slow`. Every other test is quick, so a new one is too. In a quick session a test that starts
a process all the same is skipped when it does so.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from tests.faults.counts import SOAK

TESTS = Path(__file__).parent
#: Folders and files in which every test is slow; a quick session does not even load them.
SLOW_PLACES = (
    "faults",
    "benchmarks",
    "peers",
    "shared/hub",
    "test_demo.py",
    "test_guide_commands.py",
    "test_readme.py",
    "test_tour.py",
    "trainer/rewards/test_python.py",
    "trainer/sandbox",
    "monitor/data/test_bulk.py",
    "monitor/screens",
    "monitor/test_acting.py",
    "monitor/test_hostile.py",
    "monitor/test_looking.py",
    "monitor/test_metrics.py",
    "monitor/test_table.py",
    "trainer/checkpoint/test_checkpoint_folder.py",
    "trainer/checkpoint/test_foreign_folder.py",
    "trainer/export/test_llama_cpp.py",
    "trainer/llama_cpp",
    "trainer/loop",
    "trainer/serve",
)
#: The files that take longest, in the order in which they begin: one that begins last leaves the
#: other cores idle. They come first when a worker takes whole files (`make test`).
LONGEST = (
    "test_tour.py",
    "monitor/test_looking.py",
    "monitor/test_hostile.py",
    "monitor/test_real_runs.py",
    "faults/test_corrupt_records.py",
    "monitor/test_snapshots.py",
    "trainer/export/test_llama_cpp.py",
    "faults/test_out_of_memory.py",
    "test_readme.py",
    "monitor/screens/test_dialog_box.py",
    "test_guide_commands.py",
)
#: Fixtures that train. Those of a session or module that use `run_cli` count without being named:
#: what they make with it is a trained run.
SLOW_FIXTURES = frozenset({"train", "trained"})
#: Names by which processes are started.
STARTERS = frozenset({"subprocess", "Popen", "fork", "forkpty", "pty", "start_process"})
#: Examples of a property test: at most so many in a quick session, and at most so many in another.
#: Its own number is for `make soak`. Every session draws others.
QUICK_EXAMPLES = 15
EXAMPLES = 60
#: Snapshots are compared at one size and in one theme when it has to be quick.
SNAPSHOT_SIZE = "120x40"
OTHER_THEMES = ("day", "clear", "sixteen", "mono")

STARTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"})
_guarded = False


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick", action="store_true", help="leave out the slow tests; no process may be started"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Importing the slow files alone would take seconds."""
    if not config.getoption("--quick") or not _is_slow_place(collection_path):
        return None
    named = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return not any(path.is_relative_to(collection_path) for path in named)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--quick"):
        sys.addaudithook(_refuse_processes)


def _refuse_processes(event: str, arguments: tuple[Any, ...]) -> None:
    if not _guarded or event not in STARTS:
        return
    what = arguments[0] if arguments else event
    if threading.current_thread() is not threading.main_thread():
        raise AssertionError(f"a quick test starts a process ({what}): mark it slow")
    pytest.skip(f"slow: it starts a process ({what})")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    global _guarded
    _guarded = bool(item.config.getoption("--quick"))
    try:
        return (yield)
    finally:
        _guarded = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the slow ones, and leave them out when asked to be quick; the longest files first."""
    places = {TESTS / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))
    for item in items:
        if _is_slow(item):
            item.add_marker(pytest.mark.slow)
    if config.getoption("--quick"):
        left_out = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=left_out)
    if not SOAK:
        most = QUICK_EXAMPLES if config.getoption("--quick") else EXAMPLES
        for item in items:
            _take_fewer_examples(getattr(item, "obj", None), most)


def _take_fewer_examples(test: Any, most: int) -> None:
    """Let a property test try that many at most."""
    own = getattr(test, "_hypothesis_internal_use_settings", None)
    if own is not None and own.max_examples > most:
        test._hypothesis_internal_use_settings = type(own)(own, max_examples=most)


def _is_slow(item: pytest.Item) -> bool:
    if _is_slow_place(item.path):
        return True
    if _is_another_size(item) or _starts_process(getattr(item, "function", None)):
        return True
    return any(_trains(f) or _starts_process(f.func) for f in _fixtures(item))


@functools.cache
def _is_slow_place(path: Path) -> bool:
    return any(path.is_relative_to(TESTS / slow) for slow in SLOW_PLACES)


def _fixtures(item: pytest.Item) -> list[Any]:
    """The definitions of all fixtures that a test uses, directly or not."""
    info = getattr(item, "_fixtureinfo", None)
    return [d for found in info.name2fixturedefs.values() for d in found] if info else []


def _trains(fixture: Any) -> bool:
    lasting = fixture.scope != "function"
    return fixture.argname in SLOW_FIXTURES or (lasting and "run_cli" in fixture.argnames)


@functools.cache
def _starts_process(target: object) -> bool:
    """Whether the code of a function or class of the tests names something of `STARTERS`."""
    return _names_starter(target, set())


def _names_starter(target: object, seen: set[object]) -> bool:
    if target in seen or not str(getattr(target, "__module__", "")).startswith("tests."):
        return False
    seen.add(target)
    if isinstance(target, type):
        return any(
            _names_starter(member, seen)
            for member in list(vars(target).values())
            if callable(member)
        )
    function = inspect.unwrap(target)  # type: ignore[arg-type]
    if not isinstance(function, types.FunctionType):
        return False
    names = _names(function.__code__)
    if names & STARTERS:
        return True
    used = (function.__globals__.get(name) for name in names)
    return any(
        _names_starter(one, seen) for one in used if isinstance(one, type | types.FunctionType)
    )


def _names(code: types.CodeType) -> set[str]:
    """All global and attribute names in a function and the functions in it."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _is_another_size(item: pytest.Item) -> bool:
    """Whether it compares pictures of a size, theme or page that quick sessions leave out."""
    if item.path.name != "test_snapshots.py":
        return False
    size = re.search(r"\d+x\d+", item.name)
    other_size = size is not None and size[0] != SNAPSHOT_SIZE
    several = item.name.startswith(("test_dialogs", "test_page"))
    return other_size or several or any(theme in item.name for theme in OTHER_THEMES)
