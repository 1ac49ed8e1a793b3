"""`prepare-data --shards`: the same tokens as one file, made in parts that survive a kill."""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from trainer.data.batches import TokenBatches
from trainer.data.file_set import FileSet
from trainer.data.prepare import PrepareSettings, prepare
from trainer.data.shards.cuts import divide
from trainer.data.shards.manifest import read_manifest
from trainer.data.shards.prepare import prepare_shards
from trainer.data.shards.stream import ShardedTokens
from trainer.data.shards.text_kind import TextKind
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokens import MANIFEST, open_tokens
from trainer.evaluate.datasets import open_data

WORDS = ("fn", "main", "let", "été", "42", "<|endoftext|>", "日本", "x", "\n", "-", "")


def sharded(chosen: PrepareSettings, count: int, folder: Path) -> Path:
    """The manifest of shards that this process made."""
    return prepare_shards(TextKind(replace(chosen, output=str(folder))), count, 1).train


def joined(manifest: Path) -> bytes:
    """The tokens of all shards, one after the other."""
    files = [manifest.parent / shard.file for shard in read_manifest(manifest).shards]
    return b"".join(file.read_bytes() for file in files)


def write_records(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Documents that take a few kilobytes."""
    return write_records(tmp_path / "c.jsonl", [f"fn f{n}() {{ {n * n} }}\n" for n in range(400)])


texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join), max_size=8)


@settings(max_examples=12, deadline=None)
@given(
    files=st.lists(
        st.tuples(st.sampled_from(["jsonl", "txt", "gz"]), texts), min_size=1, max_size=4
    ),
    count=st.integers(2, 9),
    val_split=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 3),
)
def test_shards_are_the_tokens_of_one_file(
    files: list[tuple[str, list[str]]],
    count: int,
    val_split: float,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    source = folder / "in"
    source.mkdir()
    for number, (suffix, documents) in enumerate(files):
        if suffix == "txt":
            (source / f"{number}.txt").write_text(" ".join(documents))
        else:
            path = write_records(source / f"{number}.jsonl", documents)
            if suffix == "gz":
                path.with_name(f"{number}.jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
                path.unlink()
    chosen = PrepareSettings(
        [str(source)],
        str(folder / "one"),
        val_split=val_split,
        seed=seed,
        kind="char",
    )
    try:
        whole = prepare(chosen)
    except UserError as error:
        with pytest.raises(UserError, match=str(error)[:20]):
            sharded(chosen, count, folder / "many")
        return
    manifest = sharded(chosen, count, folder / "many")
    assert joined(manifest) == whole.train.read_bytes()
    val = folder / "many/val.bin"
    assert val.exists() == (whole.val is not None)
    if whole.val is not None:
        assert val.read_bytes() == whole.val.read_bytes()
    opened = open_tokens(manifest)
    described, stream = whole.train_sidecar, opened.sidecar
    assert stream is not None
    for name in ("num_tokens", "num_documents", "text_bytes", "tokenizer_hash", "split_rule"):
        assert getattr(stream, name) == getattr(described, name), name


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_stream_is_one_array(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("stream")
    counts = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=6))
    dtype = data.draw(st.sampled_from(["<u4", "<u2"]))
    whole = np.arange(sum(counts), dtype=np.uint32)
    paths, start = [], 0
    for number, count in enumerate(counts):
        paths.append(folder / str(number))
        # What follows in the file is not part of the stream.
        whole[start : start + count].astype(dtype).tofile(paths[-1])
        start += count
    stream = ShardedTokens(paths, counts, dtype, most_open=1)
    assert len(stream) == len(whole)
    for _ in range(5):
        part = slice(*data.draw(st.tuples(*[st.none() | st.integers(-70, 140)] * 2)))
        assert stream[part].dtype == np.uint32
        assert stream[part].tolist() == whole[part].tolist()


def test_threads_share_a_stream(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(8)]
    for number, path in enumerate(paths):
        np.full(1000, number, dtype="<u4").tofile(path)
    stream = ShardedTokens(paths, [1000] * 8, most_open=2)
    wrong: list[int] = []

    def read(seed: int) -> None:
        for start in np.random.default_rng(seed).integers(0, 7900, 300).tolist():
            expected = np.arange(start, start + 100) // 1000
            if not np.array_equal(stream[start : start + 100], expected):
                wrong.append(start)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_batches_of_shards_are_those_of_one_file(corpus: Path, tmp_path: Path) -> None:
    chosen = PrepareSettings([str(corpus)], str(tmp_path / "one"), vocab_size=300)
    one = TokenBatches(open_tokens(prepare(chosen).train), 32, 7, document_end=0)
    many = TokenBatches(open_tokens(sharded(chosen, 7, tmp_path / "many")), 32, 7, document_end=0)
    for first in (0, one.num_windows - 3, 5 * one.num_windows):
        for ours, theirs in zip(many.batch(first, 9), one.batch(first, 9), strict=True):
            assert np.array_equal(ours, theirs)


def test_a_cut_depends_on_the_inputs_alone(corpus: Path, tmp_path: Path) -> None:
    chosen = PrepareSettings([str(corpus)], "unused", kind="char")
    files = TextKind(chosen).inputs(set()).files
    parts = divide(files, 8, "utf-8")
    assert len(parts) == 8
    assert [part[0].start for part in parts[1:]] == [part[0].stop for part in parts[:-1]]
    sizes = [sum(file.size for file in part) for part in parts]
    assert sum(sizes) == corpus.stat().st_size and max(sizes) < 2 * min(sizes)
    with corpus.open("rb") as file:
        for part in parts[1:]:
            file.seek(part[0].start - 1)
            assert file.read(1) == b"\n"


def test_the_same_command_finishes_a_set(corpus: Path, tmp_path: Path) -> None:
    chosen = PrepareSettings([str(corpus)], "unused", kind="char")
    manifest = sharded(chosen, 4, tmp_path / "many")
    before = joined(manifest)
    files = [manifest.parent / shard.file for shard in read_manifest(manifest).shards]
    # A damaged shard is made again, and only that one.
    files[2].write_bytes(files[2].read_bytes()[:-4] + b"\1\0\0\0")
    times = [file.stat().st_mtime_ns for file in files]
    sharded(chosen, 4, tmp_path / "many")
    assert joined(manifest) == before
    again = [file.stat().st_mtime_ns for file in files]
    assert [a != b for a, b in zip(again, times, strict=True)] == [False, False, True, False]


def test_validation_tokens_that_were_lost_are_made_again(corpus: Path, tmp_path: Path) -> None:
    chosen = PrepareSettings([str(corpus)], "unused", kind="char")
    manifest = sharded(chosen, 4, tmp_path / "many")
    val = manifest.with_name("val.bin")
    before = val.read_bytes()
    val.unlink()
    sharded(chosen, 4, tmp_path / "many")
    assert val.read_bytes() == before and open_tokens(val).sidecar is not None


def test_other_inputs_and_options_are_told(corpus: Path, tmp_path: Path) -> None:
    chosen = PrepareSettings([str(corpus)], "unused", kind="char")
    manifest = sharded(chosen, 4, tmp_path / "many")
    for wanted, told in (
        (replace(chosen, val_split=0.2), "--val-split was 0.05 and is 0.2"),
        (replace(chosen, seed=3), "--seed was 0 and is 3"),
    ):
        with pytest.raises(UserError, match=told):
            sharded(wanted, 4, tmp_path / "many")
    manifest.unlink()  # as if it had not been finished
    with pytest.raises(UserError, match=r"unfinished shards of something else \(--shards was 4"):
        sharded(chosen, 5, tmp_path / "many")
    write_records(corpus, ["another text"] * 50)
    with pytest.raises(UserError, match=r"has changed\).*--overwrite to begin again"):
        sharded(chosen, 4, tmp_path / "many")
    sharded(replace(chosen, overwrite=True), 4, tmp_path / "many")
    assert len(list((tmp_path / "many").glob("shards-*"))) == 1


def test_one_kind_of_files_replaces_the_other(corpus: Path, tmp_path: Path) -> None:
    chosen = PrepareSettings([str(corpus)], str(tmp_path / "out"), kind="char")
    sharded(chosen, 3, tmp_path / "out")
    with pytest.raises(UserError, match="exists already: pass --overwrite"):
        prepare(chosen)
    prepare(replace(chosen, overwrite=True))
    assert open_tokens(tmp_path / "out").path.name == "train.bin"
    with pytest.raises(UserError, match=r"train.bin exists already"):
        sharded(chosen, 3, tmp_path / "out")
    sharded(replace(chosen, overwrite=True), 3, tmp_path / "out")
    assert open_tokens(tmp_path / "out").path.name == MANIFEST


def test_readers_name_what_is_missing(corpus: Path, tmp_path: Path) -> None:
    chosen = PrepareSettings([str(corpus)], "unused", kind="char")
    folder = tmp_path / "many"
    manifest = sharded(chosen, 4, folder)
    (work,) = folder.glob("shards-*")
    kept = (work / "00001.bin").read_bytes()

    def refused(told: str) -> None:
        with pytest.raises(UserError, match=told):
            open_tokens(folder)

    (work / "00001.bin").write_bytes(kept[:-4])
    refused(r"00001.bin has \d+ bytes and its manifest says")
    (work / "00001.bin").write_bytes(bytes(len(kept)))
    refused("00001.bin is not the file that its manifest describes")
    (work / "00001.bin").unlink()
    refused(r"lists files that are not there: shards-\w+/00001.bin; copy them")
    manifest.unlink()
    (work / "00001.bin.json").unlink()
    refused("unfinished shards: 3 of 4 are made, and 1 are missing; run the same")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_manifest_may_hold_anything(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A person is told in a sentence; nothing outside the folder is opened."""
    folder = tmp_path_factory.getbasetemp() / "hostile"
    if not folder.exists():
        folder.mkdir()
        (folder / "a.txt").write_text("some words that are tokens " * 20)
        sharded(PrepareSettings([str(folder / "a.txt")], "", kind="char"), 2, folder)
        (folder / MANIFEST).rename(folder / "kept.json")
    content = json.loads((folder / "kept.json").read_bytes())
    values = st.none() | st.integers(-3, 2**70) | st.text(max_size=5) | st.just([]) | st.just({})
    values |= st.sampled_from(["../a.txt", "/etc/passwd", "a.txt", "shards", "\x1b[31m"])
    place = content if data.draw(st.booleans()) else content["shards"][0]
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(values)
    (folder / MANIFEST).write_text(json.dumps(content))
    try:
        open_tokens(folder)
    except UserError as error:
        assert "\x1b" not in str(error)


def test_bad_records_have_their_places_in_the_file(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"words {n}"}) for n in range(60)]
    lines[40], lines[55] = "{broken", '{"text": "caf\\ud800"}'
    source = tmp_path / "c.jsonl"
    source.write_text("\n".join(lines) + "\n")
    chosen = PrepareSettings([str(source)], str(tmp_path / "one"), kind="char")
    with pytest.raises(UserError, match=r"c.jsonl line 41"):
        sharded(chosen, 6, tmp_path / "many")
    # Nothing was finished, so the mended file is not in the way of anything.
    source.write_text("\n".join([*lines[:40], *lines[41:]]) + "\n")
    assert len(read_manifest(sharded(chosen, 6, tmp_path / "many")).shards) == 6
    assert len(list((tmp_path / "many").glob("shards-*"))) == 1
    source.write_text("\n".join(lines) + "\n")
    skipping = replace(chosen, skip_bad=True)
    whole = prepare(skipping)
    made = prepare_shards(TextKind(replace(skipping, output=str(tmp_path / "more"))), 6, 1)
    assert joined(made.train) == whole.train.read_bytes()
    reports = [tmp_path / folder / "bad_records.jsonl" for folder in ("one", "more")]
    assert reports[0].read_bytes() == reports[1].read_bytes()
    assert [n.replace("/one/", "/more/") for n in whole.notes] == list(made.notes)


def test_tables_are_cut_between_row_groups(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pa.table({"text": [f"row {n} " * (n % 5 + 1) for n in range(200)]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=20)
    chosen = PrepareSettings([str(tmp_path / "t.parquet")], str(tmp_path / "one"), kind="char")
    whole = prepare(chosen)
    manifest = sharded(chosen, 4, tmp_path / "many")
    assert len(read_manifest(manifest).shards) == 4
    assert joined(manifest) == whole.train.read_bytes()
    more = prepare_shards(TextKind(replace(chosen, output=str(tmp_path / "more"))), 50, 1)
    assert len(read_manifest(more.train).shards) == 10 and "10 parts" in more.notes[-1]
    assert joined(more.train) == whole.train.read_bytes()


def test_one_command_at_a_time(corpus: Path, tmp_path: Path) -> None:
    chosen = PrepareSettings([str(corpus)], str(tmp_path / "out"), kind="char")
    for name in (MANIFEST, "val.bin"):  # of another that makes shards, or a single file
        with FileSet() as files:
            files.open(tmp_path / "out" / name)
            with pytest.raises(UserError, match="another prepare-data is writing"):
                sharded(chosen, 3, tmp_path / "out")
    assert open_tokens(sharded(chosen, 3, tmp_path / "out")).count
    assert not list((tmp_path / "out").glob(".*"))


def test_shards_without_validation_tokens_are_scored(corpus: Path, tmp_path: Path) -> None:
    chosen = PrepareSettings([str(corpus)], str(tmp_path / "one"), kind="char", val_split=0.0)
    prepare(chosen)
    manifest = sharded(chosen, 3, tmp_path / "many")
    tokenizer = Tokenizer.load(tmp_path / "one")
    (one,) = open_data([str(tmp_path / "one")], tokenizer, 258)
    for place in (manifest.parent, manifest):
        (many,) = open_data([str(place)], tokenizer, 258)
        assert np.array_equal(many.files[0].tokens, one.files[0].tokens)
        assert many.files[0].bytes == one.files[0].bytes
