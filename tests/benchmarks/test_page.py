"""The page of figures: a section is replaced where it stands, and nothing else is touched."""

from __future__ import annotations

import re

from benchmarks.__main__ import PAGE as FIGURES
from benchmarks.__main__ import replace_sections
from benchmarks.record import Hold, Result, Row, as_markdown

PAGE = "# Benchmarks\n\nWhat this is.\n\n## One\n\nold\n\n## Mine\n\nby hand\n"


def test_a_section_is_replaced_where_it_stands() -> None:
    new = replace_sections(PAGE, {"One": "## One\n\nnew"})
    assert new == PAGE.replace("old", "new")


def test_a_new_section_comes_last() -> None:
    new = replace_sections(PAGE, {"Two": "## Two\n\nfresh"})
    assert new == PAGE + "\n## Two\n\nfresh\n"


def test_the_head_is_kept_when_there_is_no_section_yet() -> None:
    assert replace_sections("# Head\n", {"A": "## A\n\ntext"}) == "# Head\n\n## A\n\ntext\n"


def test_a_number_that_does_not_hold_is_told() -> None:
    result = Result(
        [Row("peer", 1000.0, "tok/s"), Row("ours", 900.0, "tok/s", "peer", 0.9)],
        [Hold("≥ 1x the peer", "0.90x", holds=False)],
    )
    text = as_markdown(result)
    assert "| ours | 900 | tok/s | 0.90x peer |" in text
    assert "- ≥ 1x the peer: 0.90x, **does not hold**" in text
    assert not result.passed
    assert Result.from_json(result.to_json()) == result


def test_the_guides_generation_is_told_as_it_was_measured() -> None:
    """64 tokens of the 25M model for one client, from the request to the last byte."""
    (found,) = re.findall(
        r"^- 64 tokens of the 25M model < 100 ms: (\d+) ms ", FIGURES.read_text(), re.M
    )
    guides = FIGURES.with_name("guides.md").read_text()
    (row,) = [line for line in guides.splitlines() if line.startswith("| 004-53 |")]
    assert f" {found} ms " in row


def test_the_guides_100m_on_a_cpu_is_told_as_it_was_measured() -> None:
    """Steps per second of a core, not below the guide's 0.2."""
    line = r"^\| 101.6M, (bf16|fp32): steps per second of a core \| ([\d.]+) "
    found = re.findall(line, FIGURES.read_text(), re.M)
    guides = FIGURES.with_name("guides.md").read_text()
    (row,) = [line for line in guides.splitlines() if line.startswith("| 002-34 |")]
    assert [dtype for dtype, _ in found] == ["bf16", "fp32"]
    for dtype, rate in found:
        assert float(rate) >= 0.2
        assert f"{rate} in {dtype}" in row
