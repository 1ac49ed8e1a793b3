"""docs/guides.md names every item of the five guides once, and proves what it says works."""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "guides.md").read_text(encoding="utf-8")
#: How many items each guide has; they are numbered from 1.
ITEMS = {"000": 49, "001": 55, "002": 40, "003": 27, "004": 54}
STATUS = re.compile(r"works|not yet|dropped, because \S.*\S")
TEST_ID = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


ROWS = [cells(line) for line in PAGE.splitlines() if re.match(r"\| \d{3}-\d", line)]


@cache
def functions(path: str) -> frozenset[str]:
    """The names of all functions and methods in a Python file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def kind_of(status: str) -> str:
    return status.partition(",")[0]


def test_every_item_has_one_row() -> None:
    expected = [f"{guide}-{n:02}" for guide, count in ITEMS.items() for n in range(1, count + 1)]
    assert [row[0] for row in ROWS] == expected


def test_every_row_says_what_and_how_far() -> None:
    for row in ROWS:
        assert len(row) == 5, row
        number, asks, ours, status, proof = row
        assert asks, number
        assert ours, number
        assert STATUS.fullmatch(status), f"{number}: {status}"
        if status != "works":
            assert proof == "", f"{number}: a proof of what does not work"


def test_what_works_is_proven_by_a_test_that_exists() -> None:
    for number, _, _, status, proof in ROWS:
        named = TEST_ID.findall(proof)
        if status == "works":
            assert named, f"{number} names no test"
        for path, name in named:
            assert (ROOT / path).is_file(), f"{number}: {path}"
            assert name.startswith("test_"), f"{number}: {name}"
            assert name in functions(path), f"{number}: {path} has no {name}"


def test_the_counts_are_those_of_the_rows() -> None:
    told = {
        row[0]: [int(cell) for cell in row[-4:]]
        for row in map(cells, PAGE.splitlines())
        if len(row) == 6 and row[0] in {*ITEMS, "all"}
    }
    counted = {}
    for guide, items in ITEMS.items():
        kinds = Counter(kind_of(row[3]) for row in ROWS if row[0].startswith(guide))
        counted[guide] = [kinds["works"], kinds["not yet"], kinds["dropped"], items]
    counted["all"] = [sum(column) for column in zip(*counted.values(), strict=True)]
    assert told == counted


def test_files_the_page_names_exist() -> None:
    for path in re.findall(
        r"`((?:configs|docs|benchmarks|trainer|monitor|shared)/[\w./-]+)`", PAGE
    ):
        assert (ROOT / path).exists(), path
