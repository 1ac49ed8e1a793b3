"""A run's page, its picture and the files they go into."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import cairosvg
import pytest

from shared.errors import RunError, UserError
from shared.export.page import export_text, run_page
from shared.export.picture import export_png, export_svg, run_figure, runs_figure
from shared.library.labels import change_labels
from shared.library.repeat import repeat_command, shell_line
from shared.output_file import write_output
from shared.run.directory import RunDirectory
from shared.run.event_text import event_text
from shared.run.records import RunState
from shared.run_writer import RunWriter

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    model = {"name": "tiny", "parameters": 1234567, "layers": 2}
    with RunWriter(tmp_path / "runs", "it", max_steps=50, device="cpu", model=model) as writer:
        for step in range(1, 51):
            writer.log(step, loss=NAN if step == 20 else 5 / step, val_loss=3.0)
        writer.event("checkpoint_saved", name="step_50", bytes=2048, val_loss=3.0)
        writer.say("the last words")
    writer.run.config_path.write_text("train:\n  max_steps: 50\n")
    change_labels(writer.run, name="Nice", note="first\nsecond", add_tags=["good"])
    return writer.run


# -- the page ----------------------------------------------------------------------------------


def test_the_page_tells_what_the_details_do(run: RunDirectory, tmp_path: Path) -> None:
    assert export_text(run, tmp_path / "page.txt") == (tmp_path / "page.txt").stat().st_size
    page = (tmp_path / "page.txt").read_text()
    facts = dict(
        re.split(r"\s{2,}", line, maxsplit=1) for line in page.splitlines() if "  " in line.strip()
    )
    assert page.startswith("Nice\n====")
    assert facts["status"] == "completed"
    assert facts["progress"] == "step 50 of 50 (100.0%)"
    assert facts["parameters"] == "1.235M (1,234,567)"
    assert facts["model"] == "tiny  layers 2"
    assert facts["best"] == "3 val loss at step 1"
    assert facts["tags"] == "good"
    assert facts["process"].startswith(f"{os.getpid()} on ")
    assert "note\n  first\n  second\n" in page
    assert "  loss           0.1 at step 50\n" in page
    assert "checkpoint saved   step_50, 2.0 KiB, val loss 3\n" in page
    assert "last log lines\n  the last words\n" in page
    assert "config.yaml\n  train:\n    max_steps: 50\n" in page


def test_the_page_of_a_run_that_failed(tmp_path: Path) -> None:
    writer = RunWriter(tmp_path, "bad")
    writer.log(3, loss=NAN)
    writer.finish("failed", 1, "out of luck")
    page = "\n".join(run_page(writer.run))
    assert re.search(r"^status +failed \(exit code 1\)$", page, re.MULTILINE)
    assert re.search(r"^reason +out of luck$", page, re.MULTILINE)
    assert re.search(r"^loss +nan$", page, re.MULTILINE)
    assert "  loss           nan at step 3" in page


HOSTILE = "x\x1b]52;c;aGk=\x07[@click=app.quit]\u202e\n\x9b31m" + "\ud800"


@pytest.mark.parametrize("value", [HOSTILE, [1], {"a": 1}, 1e308, -1, None, True, 1 << 62])
def test_whatever_is_in_the_files_there_is_a_page(tmp_path: Path, value: object) -> None:
    keys = {field.name for field in dataclasses.fields(RunState)} - {"schema_version"}
    record = dict.fromkeys(keys, value) | {"model": {HOSTILE: value, "parameters": value}}
    record["exit"] = {"code": value, "reason": value, "last_log_lines": [HOSTILE, value]}
    record["phase_transitions"] = [{"step": value, "from": value, "to": value}]
    run = RunDirectory(tmp_path)
    run.state_path.write_text(json.dumps(record))
    event = dict.fromkeys(("time", "event", "step", "name", "message", "bytes", "loss"), value)
    run.events_path.write_text(json.dumps(event) + "\n" + json.dumps(event | {"event": "spike"}))
    run.metrics_path.write_text(json.dumps({"step": 1, HOSTILE: 2, "loss": value}) + "\n")
    run.log_path.write_text(HOSTILE, errors="replace")
    run.config_path.write_text(HOSTILE, errors="replace")
    text = "\n".join(run_page(run))
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", text)
    export_text(run, tmp_path / "page.txt")


def test_a_page_of_nothing(tmp_path: Path) -> None:
    assert run_page(RunDirectory(tmp_path / "nothing"))[0] == "nothing"


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"event": "started", "attempt": 2, "previous_status": "failed"}, "attempt 2, was failed"),
        ({"event": "phase", "previous": "", "phase": "full"}, "start → full"),
        ({"event": "nonfinite", "nonfinite": {"loss": "nan"}, "gradient_norm": 2}, None),
        ({"event": "uploaded", "name": "step_5", "url": "https://x/y"}, "step_5 to https://x/y"),
        ({"event": "new_kind", "message": "words"}, "words"),
        ({"event": "other", "step": 3, "a": 1, "b": 2}, "a 1, b 2"),
    ],
)
def test_an_event_is_a_sentence(record: dict[str, object], text: str | None) -> None:
    assert event_text(record) == (text or "loss nan, gradient norm 2")


# -- the picture -------------------------------------------------------------------------------


def words(path: Path) -> list[str]:
    return [e.text or "" for e in ElementTree.parse(path).iter() if e.tag.endswith("text")]


def test_a_picture_is_named_as_the_run_is_shown(run: RunDirectory, tmp_path: Path) -> None:
    change_labels(run, name="<b> & 'more'")
    export_svg(run_figure(run), tmp_path / "a.svg")
    assert {"<b> & 'more'", "loss", "val_loss", "1 NaN or inf"} <= set(words(tmp_path / "a.svg"))
    cairosvg.svg2png(url=str(tmp_path / "a.svg"))
    assert export_png(run_figure(run), tmp_path / "a.png") == (tmp_path / "a.png").stat().st_size
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_metric_of_ones_own_choice(run: RunDirectory, tmp_path: Path) -> None:
    export_svg(run_figure(run, ["val_loss"]), tmp_path / "a.svg")
    assert "loss" not in words(tmp_path / "a.svg")
    with pytest.raises(UserError, match=r"no metric 'val_los' \(did you mean val_loss\?\)"):
        run_figure(run, ["val_los"])
    with pytest.raises(UserError, match="no metric 'a'"):
        run_figure(run, ["a", "b", "c"])


def test_phases_events_and_averages_are_in_the_picture(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "it") as writer:
        for step in range(1, 101):
            if step in (1, 50):
                writer.set_phase("warmup" if step == 1 else "full", step)
            writer.log(step, loss=5 / step)
        writer.event("rolled_back", step=70, from_step=70, to_step=60, checkpoint="step_60")
        writer.event("spike", step="junk")
    export_svg(run_figure(writer.run, smooth=0.9), tmp_path / "a.svg")
    told = words(tmp_path / "a.svg")
    assert {"warmup", "full", "rolled back"} <= set(told)
    assert "moving average 0.9 over the raw values" in told
    assert "spike" not in told
    notes = [
        e.text for e in ElementTree.parse(tmp_path / "a.svg").iter() if e.tag.endswith("title")
    ]
    assert "rolled back at step 70: from step 70 to 60, step_60" in notes


def test_a_short_curve_is_not_smoothed(run: RunDirectory) -> None:
    assert [c.smooth is not None for c in run_figure(run, smooth=0.9).curves] == [True, True]
    assert not run_figure(run, smooth=0.99).is_smoothed


def test_a_run_with_rewards_shows_them(tmp_path: Path) -> None:
    for name in ("rl", "lm"):
        (tmp_path / name).mkdir()
    rewarded, plain = (RunDirectory(tmp_path / name) for name in ("rl", "lm"))
    rewarded.metrics_path.write_text('{"step": 1, "loss": 0.0, "reward_mean": 0.5}\n')
    plain.metrics_path.write_text('{"step": 1, "loss": 2.0}\n')
    assert [curve.label for curve in run_figure(rewarded).curves] == ["reward_mean"]
    both = runs_figure([rewarded, plain])
    assert [len(both.curves), both.title] == [2, "reward_mean, loss of 2 runs"]


def test_nothing_to_draw(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with pytest.raises(UserError, match="has no metrics yet"):
        run_figure(run)
    run.metrics_path.write_text('{"step": 1, "reward": 2}\n{"step": 2, "loss": null}\n')
    with pytest.raises(UserError, match=r"no loss to draw; name a metric .* it has reward"):
        run_figure(run)
    run.metrics_path.write_text('{"step": 1, "loss": NaN}\n')
    export_svg(run_figure(run), tmp_path / "a.svg")
    assert "1 NaN or inf" in words(tmp_path / "a.svg")
    export_png(run_figure(run), tmp_path / "a.png")


# -- the file ----------------------------------------------------------------------------------


def test_a_file_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "a"
    assert write_output(path, [b"one", b"two"]) == 6
    with pytest.raises(UserError, match="a already exists; --force replaces it"):
        write_output(path, [b"three"])
    assert path.read_bytes() == b"onetwo"
    write_output(path, [b"three"], force=True)
    assert path.read_bytes() == b"three"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_file_that_came_while_we_wrote_stays(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"ours"
        (tmp_path / "a").write_bytes(b"theirs")

    with pytest.raises(UserError, match="already exists"):
        write_output(tmp_path / "a", chunks())
    assert (tmp_path / "a").read_bytes() == b"theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_file_that_cannot_be_finished_is_as_it_was(tmp_path: Path) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(RunError, match=r"Cannot write .*/a: No space left on device\."):
        write_output(tmp_path / "a", chunks(), force=True)
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "a").symlink_to("far/b")
    with pytest.raises(UserError, match="already exists"):
        write_output(tmp_path / "a", [b"x"])
    write_output(tmp_path / "a", [b"x"], force=True)
    assert (tmp_path / "far" / "b").read_bytes() == b"x"
    assert (tmp_path / "a").is_symlink()


def test_places_that_will_not_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, told in (
        (tmp_path, "is a folder; name a file in it"),
        (tmp_path / "none" / "a", "there is no folder"),
        (tmp_path / "file" / "a", "there is no folder"),
        (Path("/dev/null"), "is not a regular file"),
        (tmp_path / ("n" * 300), "File name too long"),
    ):
        with pytest.raises(UserError, match=told):
            write_output(path, iter(()), force=True)


def test_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert write_output(Path("-"), [b"a", b"b\n"]) == 3
    assert capfdbinary.readouterr().out == b"ab\n"


# -- the command -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["plain", "two words", "it's $HOME", "esc\x1b[31m\nline", "\udcff"]
)
def test_a_shell_reads_the_words_as_they_were(tmp_path: Path, name: str) -> None:
    line = shell_line(["printf", r"%s\0", name, "--set", "a=[1, 2]"])
    assert line.isprintable()
    out = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert out == b"\0".join((os.fsencode(name), b"--set", b"a=[1, 2]", b""))


def test_a_run_without_configuration_cannot_be_repeated(tmp_path: Path, run: RunDirectory) -> None:
    with pytest.raises(UserError, match=r"nothing has no config\.yaml"):
        repeat_command(RunDirectory(tmp_path / "nothing"))
    words = repeat_command(run)
    assert words == ["trainer", "train", "--config", f"{run.path}/config.yaml", "--runs-dir",
                     f"{run.path.parent}"]  # fmt: skip
