"""What ends an export ends its llama.cpp and leaves no file, or the next export sweeps it."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from shared.output_file import write_output
from tests.faults.forking import ForkServer
from tests.trainer.export.conftest import make_model, make_tokenizer, save_folder
from tests.waiting import until
from trainer.checkpoint.opening import OpenedModel

pytest.importorskip("xllamacpp")
ENDS = [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose comparison takes some seconds."""
    folder = tmp_path_factory.mktemp("model") / "small"
    model = make_model(num_layers=4)
    return save_folder(OpenedModel(model, make_tokenizer("qwen2"), folder), folder)


def child_of(pid: int) -> psutil.Process | None:
    children = psutil.Process(pid).children()
    return next((child for child in children if "llama_cpp" in " ".join(child.cmdline())), None)


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE  # where nobody waits for orphans
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("number", ENDS)
def test_what_ends_an_export_ends_its_llama_cpp(
    number: signal.Signals, server: ForkServer, model: Path, tmp_path: Path
) -> None:
    out, place = tmp_path / "out", tmp_path / "place"
    place.mkdir()
    pid = server.start("export", str(model), "--verify", output=str(out), tmpdir=place)
    child = until(lambda: child_of(pid), what=out.read_text)
    psutil.Process(pid).send_signal(number)
    ended = server.wait(pid)
    assert ended == (130 if number == signal.SIGINT else -number), out.read_text()
    until(lambda: gone(child))
    assert bool(list(place.iterdir())) == (number == signal.SIGKILL)
    assert write_output(place / "next", [b""]) == 0
    assert [path.name for path in place.iterdir()] == ["next"]
