"""Text in other encodings, bytes that are not text, records that are none: told or left out."""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from tests.conftest import RunCli
from trainer.data.bad_records import OnBad
from trainer.data.documents import DocumentReader
from trainer.data.encodings import find_encoding
from trainer.data.inputs import find_inputs

ENCODINGS = "cp1252 latin-1 koi8-r utf-16-le utf-16-be utf-32-le shift_jis euc_jp gb18030 cp037"
TEXT = "Grüße, naïve\r\nжжж 5 €\n日本語 text\n"


def read(
    path: Path, encoding: str = "utf-8", on_bad: OnBad = "skip"
) -> tuple[list[str], DocumentReader]:
    """The documents, and the reader with its counts and report."""
    files = find_inputs([str(path)]).files
    reader = DocumentReader(files, encoding=find_encoding(encoding), on_bad=on_bad)
    documents = [""]
    for piece in reader:
        documents[-1] += piece.text
        documents += [""] if piece.last else []
    return documents[:-1], reader


def report(reader: DocumentReader) -> list[tuple[str, str, str]]:
    return [(r.path.name, r.place, r.action) for r in reader.report.records]


@pytest.mark.parametrize("encoding", ENCODINGS.split())
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz"])
def test_text_in_any_encoding(encoding: str, name: str, tmp_path: Path) -> None:
    text = TEXT.encode(encoding, "ignore").decode(encoding)
    content = (json.dumps({"text": text}, ensure_ascii=False) if "json" in name else text).encode(
        encoding
    )
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    documents, reader = read(tmp_path / name, encoding, "refuse")
    assert documents == [text] and reader.report.records == []


@given(data=st.binary(max_size=300), encoding=st.sampled_from(["utf-8", *ENCODINGS.split()]))
@settings(max_examples=150)
def test_any_bytes_are_read_as_python_reads_them(
    data: bytes, encoding: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.txt"
    path.write_bytes(data)
    documents, reader = read(path, encoding)
    marked = any(data.startswith(mark) for mark in (codecs.BOM_UTF8, codecs.BOM_LE, codecs.BOM_BE))
    if marked or (b"\0" in data and not encoding.startswith(("utf-16", "utf-32", "cp037"))):
        return
    expected = data.decode(encoding, "replace")
    assert documents == ([expected] if expected else [])
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        first = f"line {data[: error.start].decode(encoding, 'replace').count(chr(10)) + 1}"
        assert report(reader)[0] == ("a.txt", first, "replaced")
        with pytest.raises(UserError, match=rf"a\.txt {first} is not .*--encoding.*--skip-bad"):
            read(path, encoding, "refuse")
    else:
        assert reader.report.records == []


LINES = st.lists(
    st.one_of(
        st.text(max_size=8).map(lambda text: (json.dumps({"text": text}).encode(), text)),
        st.sampled_from(
            [b"{", b"[1]", b'"x"', b'{"text": 3}', b'{"body": "x"}', b"\xff", b'{"text": "a"} x']
        ).map(lambda line: (line, None)),
    ),
    max_size=12,
)


@given(lines=LINES)
@settings(max_examples=80)
def test_bad_records_are_left_out_and_listed(
    lines: list[tuple[bytes, str | None]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("records") / "a.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line, _ in lines))
    documents, reader = read(path)
    whole = [text.encode("utf-8", "replace") for _, text in lines if text]
    assert len(documents) == len(whole)
    bad = [f"line {number}" for number, (_, text) in enumerate(lines, 1) if text is None]
    assert [r.place for r in reader.report.records if r.action == "skipped"] == bad
    if bad:
        with pytest.raises(UserError, match=rf"a\.jsonl {bad[0]}\b.*--skip-bad"):
            read(path, on_bad="refuse")


def test_bytes_that_are_not_utf8_in_a_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "fine"}\n{"text": "caf\xe9"}\n{"text": "\\ud83d!", "x": NaN}\n')
    documents, reader = read(path)
    assert documents == ["fine", "caf\ufffd", "\ufffd!"]
    assert report(reader) == [("a.jsonl", "line 2", "replaced"), ("a.jsonl", "line 3", "mended")]
    with pytest.raises(UserError, match=r"line 2 is not UTF-8: it has the bytes E9"):
        read(path, on_bad="refuse")
    assert read(path, "cp1252", "refuse")[0][1] == "café"


def test_a_damaged_file_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    lines = b"".join(json.dumps({"text": f"line {n} " * 50}).encode() + b"\n" for n in range(400))
    path.write_bytes(gzip.compress(lines)[:-200])
    (tmp_path / "b.txt").write_text("whole")
    documents, reader = read(tmp_path)
    assert 0 < len(documents) <= 400 and documents[-1] == "whole"
    assert {("a.jsonl.gz", "", "skipped")} <= set(report(reader))
    assert read(tmp_path)[0] == documents
    with pytest.raises(UserError, match="damaged or cut short"):
        read(tmp_path, on_bad="refuse")


def test_parquet_rows(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"text": ["one", "two"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"body": ["x"]}), tmp_path / "c.parquet")
    (tmp_path / "d.parquet").write_bytes(b"PAR1 no")
    documents, reader = read(tmp_path)
    assert documents == ["one", "two"]
    rows = [("b.parquet", "row 1", "skipped"), ("b.parquet", "row 2", "skipped")]
    assert report(reader) == [*rows, ("c.parquet", "", "skipped"), ("d.parquet", "", "skipped")]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_text_without_a_mark_is_recognized(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("Plain words, in two or four bytes each.\n".encode(encoding))
    with pytest.raises(UserError, match=f"give --encoding {encoding}"):
        read(path, on_bad="refuse")
    path.write_bytes(codecs.BOM_UTF16_LE + "words".encode("utf-16-le"))
    documents, reader = read(path, on_bad="refuse")
    assert documents == ["words"] and reader.counts.marked == {"UTF-16-LE": 1}


@pytest.mark.parametrize(
    "name", ["utf8x", "cp1522", "rot13", "base64", "idna", "undefined", "a\0b", "", "zlib", "hex"]
)
def test_names_that_are_no_encoding(name: str) -> None:
    with pytest.raises(UserError, match="is not a text encoding"):
        find_encoding(name)


def test_prepare_data_lists_what_it_left_out(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(b"caf\xe9 au lait\n" * 9 + "naïve\n".encode())
    (tmp_path / "in" / "b.jsonl").write_text('{"text": "words"}\nnot json\n')
    command = ["prepare-data", "--text", tmp_path / "in", "--output", tmp_path / "out"]
    command += ["--kind", "char", "--overwrite"]
    refused = run_cli(*command)
    assert refused.code == 2 and "a.txt line 1 is not UTF-8" in refused.err
    assert not (tmp_path / "out" / "train.bin").exists()
    done = run_cli(*command, "--skip-bad")
    assert done.code == 0, done.err
    listed = tmp_path / "out" / "bad_records.jsonl"
    assert "9 lines replaced, 1 record skipped: all are listed in" in done.err
    entries = [json.loads(line) for line in listed.read_text().splitlines()]
    assert [entry["place"] for entry in entries] == [*(f"line {n}" for n in range(1, 10)), "line 2"]
    assert entries[-1]["action"] == "skipped" and "not valid JSON" in entries[-1]["problem"]
    (tmp_path / "in" / "b.jsonl").unlink()
    again = run_cli(*command, "--encoding", "cp1252")
    assert again.code == 0 and not listed.exists()  # it was about the old tokens
