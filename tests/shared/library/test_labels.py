"""Labels: nobody's change is lost, and no file makes a reader stumble."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RunError, UserError
from shared.files import remove_temporaries
from shared.library.labels import (
    LABELS,
    LOCK,
    MAX_BYTES,
    MAX_NAME,
    MAX_NOTE,
    MAX_TAG,
    MAX_TAGS,
    Labels,
    change_labels,
    read_labels,
)
from shared.ownership.lock import RunLock
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from tests.waiting import SECONDS


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def put(run: RunDirectory, data: bytes) -> None:
    (run.path / LABELS).write_bytes(data)


def test_what_is_changed_is_read_back_and_the_rest_stays(run: RunDirectory) -> None:
    assert read_labels(run) == Labels()
    change_labels(run, name="Better", add_tags=["good", "to keep"])
    change_labels(run, note=" two\nlines\n")
    change_labels(run, archived=True, remove_tags=["GOOD"], add_tags=["new", "New"])
    assert read_labels(run) == Labels("Better", ("to keep", "new"), "two\nlines", archived=True)
    assert change_labels(run, name="", note="", archived=False) == Labels("", ("to keep", "new"))


def test_keys_of_other_programs_stay(run: RunDirectory) -> None:
    put(run, b'{"color": "red", "tags": ["a"], "note": 7}')
    change_labels(run, name="x")
    value = json.loads((run.path / LABELS).read_bytes())
    assert value == {"schema_version": 1, "color": "red", "tags": ["a"], "note": 7, "name": "x"}


def test_a_training_run_can_be_labelled(tmp_path: Path) -> None:
    with RunWriter(tmp_path, "live") as writer:
        writer.log(1, loss=1.0)
        change_labels(writer.run, add_tags=["live"])
        writer.log(2, loss=1.0)
    assert read_labels(writer.run).tags == ("live",)


def test_a_trainer_that_starts_and_tidies_does_not_stop_a_change(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, times = os.replace, []

    def tidied(source: Path, target: Path) -> None:
        if not times:
            times.append(remove_temporaries(run.path))
        replace(source, target)

    monkeypatch.setattr(os, "replace", tidied)
    change_labels(run, name="kept")
    assert [len(removed) for removed in times] == [1]
    assert read_labels(run).name == "kept"


CHANGE = """
import sys
from pathlib import Path
from shared.library.labels import change_labels
from shared.run.directory import RunDirectory
run = RunDirectory(Path(sys.argv[1]))
print("ready", flush=True)
input()
for number in range(8):
    change_labels(run, add_tags=[f"{sys.argv[2]}-{number}"])
"""


def test_no_change_of_several_programs_is_lost(run: RunDirectory, spawn) -> None:
    children = [spawn(CHANGE, run.path, name) for name in "abc"]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    threads = [
        threading.Thread(target=change_labels, args=(run,), kwargs={"add_tags": [f"here {n}"]})
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [child.wait(SECONDS) for child in children] == [0, 0, 0]
    wanted = {f"{name}-{n}" for name in "abc" for n in range(8)} | {f"here {n}" for n in range(4)}
    assert set(read_labels(run).tags) == wanted


def test_a_writer_that_does_not_end_is_named(run: RunDirectory) -> None:
    lock = RunLock(run.path / LOCK)
    lock.acquire()
    try:
        with pytest.raises(RunError, match=f"being changed by process {os.getpid()}"):
            change_labels(run, name="x", wait=0.0)
    finally:
        lock.release()
    assert read_labels(run) == Labels()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "n" * (MAX_NAME + 1)}, "A name has at most 100 characters; this one has 101"),
        ({"note": "n" * (MAX_NOTE + 1)}, "A note has at most"),
        ({"add_tags": ["t" * (MAX_TAG + 1)]}, "A tag has at most"),
        ({"add_tags": ["a,b"]}, "'a,b' is not a tag"),
        ({"add_tags": [" \x1b "]}, "is not a tag"),
        ({"add_tags": [str(n) for n in range(MAX_TAGS + 1)]}, "at most 32 tags"),
    ],
)
def test_a_text_that_will_not_do_changes_nothing(
    run: RunDirectory, change: dict[str, object], told: str
) -> None:
    change_labels(run, name="old")
    with pytest.raises(UserError, match=told):
        change_labels(run, **change)  # type: ignore[arg-type]
    assert read_labels(run) == Labels("old")


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b"\xff", b'{"a":1}' + b" " * MAX_BYTES],
    ids=["torn", "a list", "no text", "too long"],
)
def test_words_that_cannot_be_read_are_not_overwritten(run: RunDirectory, data: bytes) -> None:
    put(run, data)
    assert read_labels(run) == Labels()
    with pytest.raises(RunError, match=r"labels\.json of .* cannot be read; repair it"):
        change_labels(run, name="x")
    assert (run.path / LABELS).read_bytes() == data


def test_what_is_no_file_makes_no_reader_wait(run: RunDirectory) -> None:
    os.mkfifo(run.path / LABELS)
    assert read_labels(run) == Labels()
    (run.path / LABELS).unlink()
    (run.path / LABELS).mkdir()
    assert read_labels(run) == Labels()


def test_a_run_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="gone cannot be labelled: No such file"):
        change_labels(RunDirectory(tmp_path / "gone"), name="x")


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
FILES = st.one_of(
    st.binary(max_size=200),
    ANYTHING.map(lambda value: json.dumps(value).encode()),
    st.fixed_dictionaries(
        {},
        optional={
            "name": ANYTHING,
            "note": ANYTHING,
            "tags": st.lists(ANYTHING, max_size=60) | ANYTHING,
            "archived": ANYTHING,
        },
    ).map(lambda value: json.dumps(value).encode()),
)


@given(FILES)
def test_any_file_is_read_as_labels_that_are_safe_to_show(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        run = RunDirectory(Path(place))
        put(run, data)
        labels = read_labels(run)
    texts = (labels.name, *labels.tags, *labels.note.split("\n"))
    assert all(not any(ord(c) < 32 and c != "\t" for c in text) for text in texts)
    assert "\x7f" not in "".join(texts)
    assert len(labels.name) <= MAX_NAME
    assert len(labels.note) <= MAX_NOTE
    assert len(labels.tags) <= MAX_TAGS
    assert all(0 < len(tag) <= MAX_TAG for tag in labels.tags)
    assert len({tag.casefold() for tag in labels.tags}) == len(labels.tags)


def test_hostile_words_are_cleaned(run: RunDirectory) -> None:
    value = {"name": "a\x1b]0;b\x07\n\u202ec", "tags": ["[@click=quit]x\x9b", 3], "archived": 1}
    put(run, json.dumps(value).encode())
    assert read_labels(run) == Labels("a]0;b c", ("[@click=quit]x",))


def test_the_page_on_the_contract_tells_of_every_field_and_limit() -> None:
    page = (Path(__file__).parents[3] / "docs" / "run-directory.md").read_text()
    section = page.partition("## `labels.json`")[2].partition("\n## ")[0]
    fields = set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE))
    assert fields == {f.name for f in dataclasses.fields(Labels)} | {"schema_version"}
    for limit in (MAX_NAME, MAX_NOTE, MAX_TAG, MAX_TAGS, MAX_BYTES >> 10):
        assert f" {limit} " in section
