from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import os
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from trainer.data.documents import PIECE_CHARACTERS, READ_BYTES, DocumentReader, Piece, safe_cut
from trainer.data.inputs import find_inputs

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESS = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
}


def read(*patterns: str | Path, field: str = "text") -> tuple[list[str], DocumentReader]:
    """The documents put together again from their pieces, and the reader with its counts."""
    reader = DocumentReader(find_inputs([str(p) for p in patterns]).files, field)
    return join(list(reader)), reader


def join(pieces: list[Piece]) -> list[str]:
    documents: list[str] = []
    open_document = False
    for piece in pieces:
        assert piece.first is not open_document
        assert piece.text
        assert piece.num_bytes == len(piece.text.encode())
        assert len(piece.text) <= PIECE_CHARACTERS
        if piece.first:
            documents.append("")
        documents[-1] += piece.text
        open_document = not piece.last
    assert not open_document
    return documents


def test_files_directories_and_globs_are_read_sorted_and_once(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.rs").write_text("two")
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "z.md").write_text("three")
    (tmp_path / "link.txt").symlink_to("z.md")
    (tmp_path / "b" / "ring").symlink_to(tmp_path)
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "image.png").write_bytes(b"no")
    inputs = find_inputs([str(tmp_path), str(tmp_path / "*.txt"), str(tmp_path / "**" / "*.rs")])
    assert [file.path.name for file in inputs.files] == ["a.txt", "two.rs", "link.txt"]
    assert inputs.other_extensions == 1
    assert inputs.size == 11
    assert read(tmp_path)[0] == ["one", "two", "three"]


def test_a_named_file_is_read_whatever_its_extension(tmp_path: Path) -> None:
    (tmp_path / "notes.weird").write_text("text")
    assert read(tmp_path / "notes.weird")[0] == ["text"]
    with pytest.raises(UserError, match="no text file in"):
        read(tmp_path)


def test_a_path_with_glob_characters_names_itself(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("here")
    assert read(tmp_path / "a[1].txt")[0] == ["here"]


def test_our_own_outputs_in_a_directory_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "merges.txt").write_text("x y")
    merges = (tmp_path / "merges.txt").resolve()
    names = [f.path.name for f in find_inputs([str(tmp_path)], {merges}).files]
    assert names == ["a.txt"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("*.nothing", "no file matches"),
        ("corpsu.txt", r"does not exist \(did you mean corpus.txt\?\)"),
        ("empty", "no text file in"),
    ],
)
def test_inputs_that_name_nothing(tmp_path: Path, pattern: str, message: str) -> None:
    (tmp_path / "corpus.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        find_inputs([str(tmp_path / pattern)])


def test_no_inputs() -> None:
    with pytest.raises(UserError, match="no input given"):
        find_inputs([])


def test_records_of_json_lines(tmp_path: Path) -> None:
    lines = [{"text": "one\n"}, {"text": "zwei ü"}, {"text": None}, {"text": "\ud800!"}]
    content = "\n".join(json.dumps(line) for line in lines).encode() + b"\n\n"
    (tmp_path / "a.jsonl").write_bytes(content)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(content))
    documents, reader = read(tmp_path)
    assert documents == ["one\n", "zwei ü", "\ufffd!"] * 2
    assert reader.counts.documents == 6
    assert reader.counts.empty_documents == 2
    assert reader.counts.replaced_characters == 2
    assert reader.counts.text_bytes == sum(len(d.encode()) for d in documents)
    assert reader.counts.disk_bytes == sum(f.size for f in reader.files)


def test_another_text_field(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"content": "c", "text": "t"}')
    assert read(tmp_path, field="content")[0] == ["c"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\n{"text": ', r"a.jsonl line 2 is not valid JSON"),
        (b'{"body": "a", "id": 1}', r"line 1 has no field 'text'; its fields are body, id"),
        (b'{"text": 5}', r"line 1: field 'text' is a number, not text"),
        (b"[1]", r"line 1 is a list in JSON"),
        (b"[" * 100_000, r"line 1 is not valid JSON"),
    ],
)
def test_bad_records_name_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "flip", "plain"])
def test_damaged_gzip(tmp_path: Path, damage: str) -> None:
    data = gzip.compress(json.dumps({"text": "word " * 5000}).encode())
    data = {
        "cut": data[: len(data) // 2],
        "flip": data[:20] + b"\xff\xff\xff\xff" + data[24:],
        "plain": b'{"text": "not compressed"}',
    }[damage]
    (tmp_path / "a.jsonl.gz").write_bytes(data)
    with pytest.raises(UserError, match=r"a\.jsonl\.gz"):
        read(tmp_path)


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    table = pa.table({"text": ["one", None, "drei ü", ""], "id": [1, 2, 3, 4]})
    pq.write_table(table, tmp_path / "a.parquet")
    documents, reader = read(tmp_path)
    assert documents == ["one", "drei ü"]
    assert reader.counts.empty_documents == 2
    with pytest.raises(UserError, match=r"no column 'body'; its columns are text, id"):
        read(tmp_path, field="body")
    with pytest.raises(UserError, match=r"row 1: field 'id' is a number"):
        read(tmp_path, field="id")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read(tmp_path)


def test_invalid_utf8_is_replaced_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"ok \xff\xfe bad \xe2\x82 and \xef\xbf\xbd written\xe2")
    documents, reader = read(tmp_path)
    assert documents == ["ok \ufffd\ufffd bad \ufffd and \ufffd written\ufffd"]
    assert reader.counts.replaced_characters == 4


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_a_replacement_character_the_author_wrote_is_not_counted(
    tmp_path: Path, shift: int
) -> None:
    text = "a" * (READ_BYTES - 3 + shift) + "\ufffd"  # whole, and straddling two blocks
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    documents, reader = read(tmp_path)
    assert documents == [text]
    assert reader.counts.replaced_characters == 0


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-be-bom", "utf-16-le-bom"]
)
def test_byte_order_marks_are_obeyed(tmp_path: Path, encoding: str) -> None:
    text = "Grüße 😀\r\n"
    if encoding.endswith("-bom"):
        name = encoding.removesuffix("-bom")
        mark = codecs.BOM_UTF16_BE if name == "utf-16-be" else codecs.BOM_UTF16_LE
        data = mark + text.encode(name)
    else:
        data = text.encode(encoding)
    (tmp_path / "a.txt").write_bytes(data)
    assert read(tmp_path)[0] == [text]


def test_binary_files_are_skipped_in_directories_and_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.txt").write_bytes(b"\x7fELF\0\0")
    documents, reader = read(tmp_path)
    assert documents == ["text"]
    assert reader.counts.binary_files == 1
    assert reader.counts.empty_documents == 0
    with pytest.raises(UserError, match="is not text"):
        read(tmp_path / "b.txt")


def test_unreadable_files_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    inputs = find_inputs([str(tmp_path)])
    (tmp_path / "a.txt").unlink()
    with pytest.raises(UserError, match=r"cannot read .*a\.txt: No such file"):
        list(DocumentReader(inputs.files))


@settings(max_examples=40, deadline=None)
@given(
    unit=st.sampled_from(["a", "ab ", "é\n", "😀 x", "\r\n", "日本。", "\ufffd"]),
    length=st.integers(0, 3 * PIECE_CHARACTERS),
    end=st.text(max_size=5),
)
def test_long_documents_come_in_pieces_and_whole(
    tmp_path_factory: pytest.TempPathFactory, unit: str, length: int, end: str
) -> None:
    text = (unit * (length // len(unit) + 1))[:length] + end.replace("\0", "")
    path = tmp_path_factory.mktemp("long") / "a.txt"
    path.write_bytes(text.encode())
    documents, reader = read(path)
    expected = text.removeprefix("\ufeff")
    assert documents == ([expected] if expected else [])
    assert reader.counts.replaced_characters == 0


@given(st.text("ab1 \n.é", max_size=60), st.integers(0, 60))
def test_safe_cut_falls_between_a_letter_and_a_space(text: str, limit: int) -> None:
    cut = safe_cut(text, limit)
    places = [i for i in range(1, len(text)) if text[i - 1].isalnum() and text[i] in " \n"]
    assert cut == max((i for i in places if i <= limit), default=limit)


def test_a_huge_file_is_never_held(tmp_path: Path) -> None:
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        for _ in range(24):
            file.write(b"some words in a line\n" * 50_000)
    reader = DocumentReader(find_inputs([str(path)]).files)
    tracemalloc.start()
    try:
        assert sum(piece.num_bytes for piece in reader) == path.stat().st_size
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024 * 1024
    assert reader.counts.documents == 1


@pytest.mark.parametrize("ending", [".gz", ".zst", ".xz", ".bz2"])
@pytest.mark.parametrize("kind", [".txt", ".jsonl"])
def test_compressed_files(tmp_path: Path, ending: str, kind: str) -> None:
    content = {".txt": "one text é\n" * 50, ".jsonl": '{"text": "one"}\n{"text": "two"}\n'}[kind]
    path = tmp_path / f"a{kind}{ending}"
    path.write_bytes(COMPRESS[ending](content.encode()))
    expected = [content] if kind == ".txt" else ["one", "two"]
    assert [piece.text for piece in DocumentReader(find_inputs([str(tmp_path)]).files)] == expected
    for damaged in (path.read_bytes()[:-6], b"no such format"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged or cut short"):
            list(DocumentReader(find_inputs([str(path)]).files))


def test_a_nested_field_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"data": {"text": "one"}}\n{"data.text": "two"}\n{"data": {"text": null}}\n')
    files = find_inputs([str(path)]).files
    assert [piece.text for piece in DocumentReader(files, "data.text")] == ["one", "two"]
    for field in ("data.no", "data.text.x", "no.text"):
        with pytest.raises(UserError, match="line 1 has no field"):
            list(DocumentReader(files, field))


def test_a_pipe_is_refused_as_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UserError, match="fifo is a pipe or device; name regular files or folders"):
        find_inputs([str(tmp_path / "fifo")])
