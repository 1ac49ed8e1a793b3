"""Cells, and the runs they are sent in."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from monitor.chart.picture import Ink, Picture, cell_count, clip

TEXT, LOUD = Ink("foreground"), Ink("train", "bold")


def test_text_is_cut_at_both_edges() -> None:
    picture = Picture(5, 2)
    assert picture.write(0, -2, "abcdefghi", TEXT) == 7
    picture.write(1, 3, "xyz", LOUD)
    picture.write(7, 0, "nowhere", TEXT)
    assert picture.text() == "cdefg\n   xy"


def test_blank_cells_take_the_ink_beside_them() -> None:
    picture = Picture(12, 1)
    picture.write(0, 2, "a", LOUD)
    picture.write(0, 5, "b", LOUD)
    picture.write(0, 9, "c", TEXT)
    (row,) = picture.rows()
    assert [(run.text, run.ink) for run in row] == [("  a  b   ", LOUD), ("c  ", TEXT)]


def test_a_ground_makes_a_run_of_its_own() -> None:
    picture = Picture(4, 1)
    picture.grounds[0, 2:] = picture.ground("phase-full")
    (row,) = picture.rows()
    assert [(run.text, run.ground) for run in row] == [("  ", ""), ("  ", "phase-full")]


def test_wide_characters_take_two_cells_and_those_without_width_none() -> None:
    picture = Picture(6, 1)
    picture.write(0, 0, "日a\u0301\u202e\u200b本", TEXT)
    assert picture.text() == "日a本 "
    assert cell_count("日a\u0301\u202e本") == 5
    assert "".join(run.text for run in picture.rows()[0]) == "日a本 "
    picture.write(0, 5, "本", TEXT)  # half of it does not fit
    assert picture.text() == "日a本 "
    assert clip("日本語", 4) == "日…"
    assert clip("short", 9) == "short"
    assert clip("short", 0) == ""


cell = st.tuples(st.sampled_from(" ab\u2800⣿"), st.integers(0, 2), st.integers(0, 1))


@given(st.integers(1, 12).flatmap(lambda w: st.lists(st.lists(cell, min_size=w, max_size=w))))
def test_runs_say_what_the_cells_say(found: list[list[tuple[str, int, int]]]) -> None:
    width = len(found[0]) if found else 0
    picture = Picture(width, len(found))
    inks = [picture.ink(name) for name in ("a", "b", "c")]
    ground = picture.ground("g")
    for y, row in enumerate(found):
        for x, (character, ink, grounded) in enumerate(row):
            picture.characters[y, x] = ord(character)
            picture.inks[y, x] = inks[ink]
            picture.grounds[y, x] = ground * grounded
    for row, runs in zip(found, picture.rows(), strict=True):
        told = [(c, run.ink.name, run.ground) for run in runs for c in run.text]
        assert len(told) == width
        for (character, ink, grounded), (shown, name, under) in zip(row, told, strict=True):
            assert shown == character.replace("\u2800", " ")
            assert shown == " " or name == "abc"[ink]
            assert under == ("g" if grounded else "")
        assert all(a[1:] != b[1:] for a, b in itertools.pairwise(runs))


def test_ascii_leaves_no_other_character() -> None:
    picture = Picture(20, 1)
    picture.write(0, 0, "┤┈━┯▲✕◆…日é", TEXT)
    picture.characters[0, 12:16] = 0x2800 + np.array([0, 1, 255, 0x40])
    picture.to_ascii()
    assert picture.text() == "+.=+^x*~???  '#.    "
