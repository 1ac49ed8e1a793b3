"""The settings file: kept between sessions, never wiped out."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from monitor.palette import CHOICES, theme_for
from monitor.settings import Settings, SettingsFile, settings_path
from monitor.theme import THEMES


def test_where_it_is() -> None:
    assert settings_path({"HOME": "/h"}) == Path("/h/.config/train-monitor/settings.yaml")
    assert settings_path({"HOME": "/h", "XDG_CONFIG_HOME": "/x"}) == Path(
        "/x/train-monitor/settings.yaml"
    )
    assert settings_path({"HOME": "/h", "XDG_CONFIG_HOME": "x"}) == settings_path({"HOME": "/h"})
    assert settings_path({}) is None


def test_what_is_chosen_is_there_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "settings.yaml"
    first = SettingsFile(path)
    assert first.settings == Settings()
    wanted = Settings(
        theme="day",
        sort="loss",
        group=True,
        show_archived=True,
        smoothing=0.9,
        x_axis="tokens",
        log_y=("loss",),
        columns=("config:lr", "min:val_loss"),
        table_sort="min:val_loss",
        table_descending=True,
        machine=False,
        details=True,
    )
    first.settings = wanted
    assert first.save() == ""
    second = SettingsFile(path)
    assert (second.settings, second.problem) == (wanted, "")


def test_keys_and_values_it_does_not_know_are_told_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("them: day\nfuture: {a: 1}\nsort: lost\nsmoothing: 2\ngroup: true\n")
    file = SettingsFile(path)
    assert "did you mean theme?" in file.problem
    assert file.settings == Settings(group=True)
    file.settings = dataclasses.replace(file.settings, theme="day")
    assert file.save() == ""
    text = path.read_text()
    assert "future:" in text
    assert "them: day" in text
    assert "sort: lost" in text
    assert SettingsFile(path).settings.theme == "day"


@pytest.mark.parametrize(
    "raw",
    [b"{", b"- a\n- b\n", b"\xff\xfe", b"just words", b"a: &a [*a]\n: x", b"x" * 70_000,
     b"[" * 5000],
)  # fmt: skip
def test_a_broken_file_is_told_and_left_alone(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(raw)
    file = SettingsFile(path)
    assert str(path) in file.problem
    assert file.settings == Settings()
    file.settings = Settings(theme="day")
    file.save()
    assert path.read_bytes() == raw


def test_an_empty_file_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("")
    assert SettingsFile(path).problem == ""


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, path = tmp_path / "dotfiles.yaml", tmp_path / "settings.yaml"
    target.write_text("sort: name\n")
    path.symlink_to(target)
    file = SettingsFile(path)
    file.settings = dataclasses.replace(file.settings, sort="loss")
    assert file.save() == ""
    assert path.is_symlink()
    assert "sort: loss" in target.read_text()


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    file = SettingsFile(tmp_path / "x" / "settings.yaml")
    file.settings = Settings(theme="day")
    assert "cannot be written" in file.save()
    assert file.save() == ""
    tmp_path.chmod(0o700)


def test_a_file_in_the_way_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    file = SettingsFile(tmp_path / "x" / "settings.yaml")
    file.settings = Settings(theme="day")
    assert file.save() == "" or "cannot be written" in file.save()
    assert (tmp_path / "x").read_text() == ""


@pytest.mark.parametrize(
    ("environment", "theme"),
    [
        ({"TERM": "xterm-256color"}, "day"),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, "day"),
        ({"TERM": "xterm"}, "sixteen"),
        ({"TERM": "linux"}, "sixteen"),
        ({"TERM": "screen-16color"}, "sixteen"),
        ({"TERM": "vt100"}, "mono"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "mono"),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, "day"),
    ],
)
def test_the_terminal_decides_what_colours_there_are(
    environment: dict[str, str], theme: str
) -> None:
    assert theme_for(environment, "day") == theme


def test_every_theme_has_every_colour() -> None:
    assert set(CHOICES) < set(THEMES)
    names = {name: set(theme.variables) for name, theme in THEMES.items()}
    for name in CHOICES:
        assert names[name] == names["night"]
        assert names[name] <= names["sixteen"]
