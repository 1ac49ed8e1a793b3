"""`trainer runs`, on copies of a real run."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from shared.library.labels import LABELS
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from tests.conftest import RunCli
from tests.waiting import SECONDS

Finished = Callable[..., Path]
RunRuns = Callable[..., object]


@pytest.fixture
def run(finished: Finished) -> RunDirectory:
    return RunDirectory(finished("it"))


@pytest.fixture
def runs(run_cli: RunCli, run: RunDirectory) -> RunRuns:
    """`trainer runs … --runs-dir` of that run."""

    def call(*arguments: object) -> object:
        return run_cli("runs", *arguments, "--runs-dir", run.path.parent)

    return call


def listed(runs: RunRuns, *options: str) -> list[dict[str, object]]:
    return json.loads(runs("list", "--json", *options).out)  # type: ignore[attr-defined]


def test_labels(runs, run: RunDirectory) -> None:
    assert runs("tag", "it").out == "no tags\n"
    assert runs("tag", "it", "good", "first try").out == "good, first try\n"
    assert runs("tag", "it", "more", "--remove", "Good").out == "first try, more\n"
    assert runs("note", "it").out == "no note\n"
    assert runs("note", "it", "a long story\nof two lines").out == "note saved\n"
    assert runs("note", "it").out == "a long story\nof two lines\n"
    assert runs("rename", "it", "Nice").out == "it is shown as Nice\n"
    [row] = listed(runs)
    assert (row["run_id"], row["name"], row["tags"], row["note"], row["status"]) == (
        "it", "Nice", ["first try", "more"], "a long story\nof two lines", "completed",
    )  # fmt: skip
    lines = runs("list").out.splitlines()
    assert lines[0].split() == ["run", "status", "step", "name", "tags", "note"]
    assert lines[1].split("  ")[-1] == "a long story"
    assert listed(runs, "--tag", "MORE", "--tag", "first try") == [row]
    assert listed(runs, "--tag", "good") == []
    assert runs("note", "it", "").out == "note removed\n"
    assert runs("rename", "it", "").out == "it is shown as its original name\n"
    assert runs("note", "it", "x" * 5000).code == 2
    (run.path / LABELS).write_text("{")
    code, _, err = runs("tag", "it", "x")
    assert code == 1
    assert "labels.json of it cannot be read" in err


def test_a_note_from_standard_input(run_cli: RunCli, run: RunDirectory) -> None:
    assert run_cli("runs", "note", run.path, "-", stdin="eins\nzwei ü\n".encode()).code == 0
    assert run_cli("runs", "note", run.path).out == "eins\nzwei ü\n"


def test_what_is_archived_is_out_of_sight(runs, finished: Finished) -> None:
    finished("other")
    assert runs("archive", "it").out == "it is archived\n"
    assert [row["run_id"] for row in listed(runs)] == ["other"]
    assert "1 archived; --archived lists them" in runs("list").out
    assert [row["run_id"] for row in listed(runs, "--archived")] == ["it"]
    assert [row["run_id"] for row in listed(runs, "--all")] == ["it", "other"]
    assert "completed, archived" in runs("list", "--all").out
    assert runs("unarchive", "it", "other").code == 0
    assert len(listed(runs)) == 2


def test_deleted_and_brought_back(runs, run: RunDirectory, finished: Finished) -> None:
    finished("other")
    code, out, _ = runs("delete", "it", "--dry-run")
    assert code == 0
    assert "3 checkpoints, the newest final" in out
    assert "uploaded nowhere" in out
    code, _, err = runs("delete", "it")
    assert code == 2
    assert "give --yes" in err
    assert len(listed(runs)) == 2
    code, out, _ = runs("delete", "it", "other", run.path, "--yes")
    assert code == 0
    assert "2 runs moved to the trash" in out
    assert f"trainer runs restore --runs-dir {run.path.parent}" in out
    assert listed(runs) == []
    assert [r["run_id"] for r in json.loads(runs("list", "--trash", "--json").out)] == [
        "it",
        "other",
    ]
    assert runs("restore", "it").out == "it is back\n"
    run.path.with_name("other").mkdir()
    assert runs("restore").out == "other is back as other_2, since its old name is taken\n"
    assert runs("restore").code == 2
    assert runs("list", "--trash").out == "the trash is empty\n"
    assert runs("empty-trash").out == "the trash is empty\n"
    runs("delete", "it", "-y")
    assert runs("empty-trash").code == 2
    code, out, _ = runs("empty-trash", "--dry-run")
    assert code == 0
    assert "KiB to free" in out
    assert out.splitlines()[1].startswith("it ")
    assert runs("empty-trash", "--yes").out.endswith("KiB freed\n")
    assert runs("restore").code == 2


def test_a_living_run_is_not_deleted(run_cli: RunCli, tmp_path: Path) -> None:
    with RunWriter(tmp_path, "live") as writer:
        code, _, err = run_cli("runs", "delete", writer.run.path, "--yes")
    assert code == 2
    assert "stop it first: trainer stop live_" in err
    assert err.endswith("Nothing was deleted.\n")
    assert writer.run.path.is_dir()


@pytest.mark.parametrize(("typed", "gone"), [("delete\n", True), ("y\n", False), ("\n", False)])
def test_a_word_is_typed_to_delete(run: RunDirectory, typed: str, gone: bool) -> None:
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "trainer", "runs", "delete", str(run.path)]
    with subprocess.Popen(
        command, stdin=child, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(child)
        os.write(parent, typed.encode())
        out, err = process.communicate(timeout=SECONDS)
    os.close(parent)
    assert "Type delete to move it to the trash:" in out
    assert run.path.is_dir() is not gone
    assert process.returncode == (0 if gone else 130), err


def test_exports(runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = runs(
        "export", "it", "--csv", "a.csv", "--text", "a.txt", "--svg", "a.svg", "--png", "a.png"
    )
    assert code == 0
    assert "wrote a.csv (4 rows, " in out
    assert out.count("wrote ") == 4
    assert (tmp_path / "a.csv").read_text().startswith("step,loss,")
    assert (tmp_path / "a.txt").read_text().startswith("done\n")
    assert (tmp_path / "a.svg").read_text().startswith("<svg ")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    smooth = ("export", "it", "--svg", "b.svg", "--smooth")
    assert runs(*smooth, "0.5").code == 0
    assert "moving average 0.5 over the raw values" in (tmp_path / "b.svg").read_text()
    assert runs(*smooth, "2", "--force").code == 2
    code, _, err = runs("export", "it", "--text", "b.txt", "--csv", "a.csv")
    assert code == 2
    assert "a.csv already exists; --force replaces it" in err
    assert not (tmp_path / "b.txt").exists(), "nothing is written when not all can be"
    assert runs("export", "it", "--csv", "a.csv", "--keys", "loss", "--force").code == 0
    assert (tmp_path / "a.csv").read_text().startswith("step,loss\n1,")
    assert runs("export", "it", "--csv", "-", "--keys", "loss,").out.count("\n") == 5


def test_the_command_repeats_the_run(runs, run_cli: RunCli, run: RunDirectory) -> None:
    code, out, err = runs("command", "it")
    assert (code, err) == (0, "")
    words = shlex.split(out)
    assert words[:2] == ["trainer", "train"]
    shown = run_cli(*words[1:], "--dry-run")
    assert shown.code == 0, shown.err
    again = yaml.safe_load(shown.out.partition("Configuration:\n")[2])
    assert again == yaml.safe_load(run.config_path.read_text())


def test_the_command_of_a_run_with_checkpoints_elsewhere(
    run_cli: RunCli, tiny: tuple[object, ...], tmp_path: Path
) -> None:
    place = ("--runs-dir", tmp_path / "my runs", "--checkpoint-dir", tmp_path / "elsewhere")
    assert run_cli("train", *tiny, *place, "--name", "far", "--max-steps", 2).code == 0
    [path] = (tmp_path / "my runs").iterdir()
    code, out, err = run_cli("runs", "command", path)
    assert code == 0
    assert f"note: checkpoint.dir is {tmp_path}/elsewhere in this run, which keeps it" in err
    assert run_cli(*shlex.split(out)[1:]).code == 0
    first, second = sorted((tmp_path / "my runs").iterdir())
    configs = [yaml.safe_load((p / "config.yaml").read_text()) for p in (first, second)]
    assert configs[0]["checkpoint"].pop("dir") == str(tmp_path / "elsewhere")
    assert configs[1]["checkpoint"].pop("dir") is None
    assert configs[0] == configs[1]


def test_data_that_is_gone_is_told(runs, run: RunDirectory) -> None:
    config = yaml.safe_load(run.config_path.read_text())
    config["data"] |= {"dataset": "tokens", "path": "/gone/train.bin"}
    run.config_path.write_text(yaml.safe_dump(config))
    code, out, err = runs("command", "it")
    assert code == 0
    assert out.startswith("trainer train --config ")
    assert err == "note: data.path /gone/train.bin no longer exists\n"


WRONG = {
    "unknown run": (("tag", "nope", "x"), "no run 'nope'"),
    "unknown run to delete": (("delete", "it", "nope", "--yes"), "no run 'nope'"),
    "a tag with a comma": (("tag", "it", "a,b"), "'a,b' is not a tag"),
    "nothing in the trash": (("restore",), "nothing to restore"),
    "nothing to export": (
        ("export", "it"),
        "give --csv, --text, --svg, --png, --tensorboard or --wandb-offline",
    ),
    "no such metric": (("export", "it", "--csv", "{}/x", "--keys", "los"), "did you mean loss"),
    "no metric at all": (("export", "it", "--csv", "{}/x", "--keys", " , "), "names no metric"),
    "a folder": (("export", "it", "--csv", "{}"), "is a folder; name a file in it"),
    "no folder": (("export", "it", "--svg", "{}/no/x.svg"), "there is no folder"),
    "a link": (("delete", "{}/link", "--yes"), "is a link; give its target"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_told_in_a_sentence(
    runs, run: RunDirectory, tmp_path: Path, case: str
) -> None:
    arguments, told = WRONG[case]
    (tmp_path / "link").symlink_to(run.path)
    code, _, err = runs(*(a.replace("{}", str(tmp_path)) for a in arguments))
    assert code == 2, err
    assert told in err
    assert err.count("\n") == 1
    assert run.path.is_dir()


def test_no_runs_folder(run_cli: RunCli, tmp_path: Path) -> None:
    code, _, err = run_cli("runs", "list", "--runs-dir", tmp_path / "none")
    assert code == 2
    assert "name your runs folder with --runs-dir" in err
    assert run_cli("runs", "list", "--runs-dir", tmp_path).out == "no runs to list\n"


def test_a_plot_of_one_run_and_of_two(run_cli: RunCli, finished: Finished) -> None:
    runs_dir = finished("it").parent
    one = run_cli("runs", "plot", "it", "--runs-dir", runs_dir, "--width", "60", "--height", "12")
    assert "loss" in one.out
    assert len(one.out.splitlines()) <= 12
    assert all(len(line) <= 60 for line in one.out.splitlines())
    assert "\x1b" not in one.out
    with RunWriter(runs_dir, name="other") as writer:
        for step in range(1, 4):
            writer.log(step, loss=1.0 / step)
    two = run_cli("runs", "plot", "it", "other", "--log", "--runs-dir", runs_dir)
    assert "loss of 2 runs" in two.out
    assert "* other" in two.out
    wrong = run_cli("runs", "plot", "other", "--metric", "losss", "--runs-dir", runs_dir)
    assert wrong.code == 2
    assert "has no metric 'losss'" in wrong.err
