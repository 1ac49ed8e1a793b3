"""The command line: quick, and plain about mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from monitor.__main__ import main
from shared import __version__
from shared.checkpoints.catalogue import step_folder
from shared.checkpoints.manifest import write_manifest
from shared.library.labels import change_labels
from shared.run.directory import RunDirectory
from tests.monitor.support import metric_lines, write_run

HEAVY = ("textual", "plotext", "numpy", "rich", "watchdog", "psutil", "torch", "orjson")


def loaded_by(*arguments: str) -> set[str]:
    """Top-level packages that `train-monitor` with these arguments imports."""
    code = (
        "import sys, io, json\n"
        "from monitor.__main__ import main\n"
        "out, sys.stdout = sys.stdout, io.StringIO()\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit:\n    pass\n"
        "json.dump(sorted({m.partition('.')[0] for m in sys.modules}), out)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout))


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_imports_nothing_heavy(argument: str) -> None:
    assert not loaded_by(argument) & set(HEAVY)


def test_json_imports_no_screen(tmp_path: Path) -> None:
    write_run(tmp_path, "r", {"status": "completed"}, metric_lines(3))
    loaded = loaded_by("--json", "--runs-dir", str(tmp_path), "--run", "r")
    assert "numpy" in loaded
    assert not loaded & {"textual", "plotext", "rich", "torch"}


def test_json_tells_what_the_screen_would_show(
    crashed_run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = b'{"step": 4, "loss": NaN, "val_loss": 2.5}\n{"step": 5, "loss": 3.0}\n'
    with crashed_run.metrics_path.open("ab") as file:
        file.write(lines)
    assert main(["--json", "--runs-dir", str(crashed_run.path.parent), "--run", "latest"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["status"] == "crashed"
    assert run["last_log_lines"][-1] == "Segmentation fault"
    assert run["percent"] == 33.33
    assert run["curve"]["points"] == 6
    assert run["curve"]["nonfinite"] == 1
    assert run["val_loss"] == 2.5
    assert main(["--json", "--runs-dir", str(crashed_run.path.parent)]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["val_loss"] == 2.5
    assert run["checkpoints"] == []


def test_json_has_every_series_and_what_happened_lately(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = b"".join(
        b'{"step": %d, "time": %d, "loss": %.3f, "lr": 0.001%s}\n'
        % (s, 1000 + s, 5 - s / 100, b', "val_loss": 4.0' if s % 50 == 0 else b"")
        for s in range(1, 201)
    )
    folder = write_run(tmp_path, "r", {"status": "completed", "run_name": "base"}, lines)
    change_labels(RunDirectory(folder), name="The one", add_tags=["good"])
    (folder / "config.yaml").write_text("model: {hidden_size: 64}\n")
    (folder / "events.jsonl").write_text('{"event": "sample", "step": 9, "text": "Once"}\n')
    made = step_folder(folder / "checkpoints", 5)
    made.mkdir()
    (made / "model.safetensors").write_bytes(b"x")
    write_manifest(made, 5, {"val_loss": 2.5})
    assert main(["--json", "--runs-dir", str(tmp_path), "--run", "r"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["machine"]["disk"]["total"] > 0
    (run,) = told["runs"]
    assert (run["run_id"], run["name"], run["label"], run["tags"]) == (
        "r",
        "base",
        "The one",
        ["good"],
    )
    assert set(run["series"]) == {"loss", "val_loss", "lr"}
    loss = run["series"]["loss"]
    assert (loss["last"], loss["min"], loss["max"], loss["points"]) == (3.0, 3.0, 4.99, 200)
    assert loss["window"]["points"] == 50
    assert (loss["window"]["min"], loss["window"]["max"]) == (3.0, 3.49)
    assert loss["window"]["mean"] == pytest.approx(3.245)
    assert run["dynamics"]["slope"] == pytest.approx(-10.0)
    assert run["dynamics"]["gap"] == pytest.approx(4.0 - 3.245)
    (checkpoint,) = run["checkpoints"]
    assert checkpoint["protected"] == "the newest"
    assert (checkpoint["packed"], checkpoint["uploaded"]) == (False, None)
    assert checkpoint["age_seconds"] >= 0
    assert run["samples"] == [{"step": 9, "time": None, "text": "Once"}]
    assert run["config"] == {"model.hidden_size": "64"}
    assert len(run["sparkline"]) == 24


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--runs-dir", "nowhere/at/all"], "nowhere/at/all"),
        (["--runs-dir", __file__], "is no log of a known format"),
        (["--runs-dir", "a\x00b"], "cannot be read"),
        (["--poll", "soon"], "'soon'"),
        (["--poll", "nan"], "--poll 1"),
        (["--port", "8000"], "use it with --web"),
        (["--web", "--port", "65536"], "'65536'"),
        (["--web", "--json"], "give one of them"),
        (["--web", "--theme", "pink"], "'pink'"),
        (["--runs-dir", ".", "--run", "nobody"], "'nobody'"),
        (["--runs-dir", "."], "--json"),
    ],
)
def test_mistakes_are_told_in_one_sentence(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert told in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_forbidden_folder_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "locked"
    folder.mkdir(mode=0)
    assert main(["--runs-dir", str(folder)]) == 2
    assert "may not read" in capsys.readouterr().err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"train-monitor {__version__}\n"
