"""`prepare-data --chat`: tokens, masks, splits, bad records, and files that belong together."""

from __future__ import annotations

import gzip
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shared.errors import UserError
from tests.conftest import RunCli
from tests.trainer.conversations.conftest import CHATML, MARKED, said, talk, write_records
from trainer.data.marks import BEGINS, COUNTS, document_bounds
from trainer.data.own_files import REPORT
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokens import TokenFile, open_tokens


def conversations(file: TokenFile) -> list[tuple[str, str]]:
    """The text of every conversation, and what of it counts."""
    codec = Tokenizer.load(file.path.parent)
    assert file.marks is not None
    bounds = document_bounds(file.marks)
    found = []
    for begin, end in itertools.pairwise(bounds):
        ids, marks = file.tokens[begin:end], file.marks[begin:end]
        counted = ids[(marks & COUNTS) > 0]
        found.append((codec.decode(ids.tolist()), codec.decode(counted.tolist())))
    return found


def test_conversations_become_tokens_and_a_mask(
    run_cli: RunCli, chat_folder: Path, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    write_records(source / "a.jsonl", [talk(n) for n in range(30)])
    plain = [{"prompt": f"{n}?", "completion": str(n)} for n in range(12)]
    (source / "b.jsonl.gz").write_bytes(
        gzip.compress("\n".join(map(json.dumps, plain)).encode() + b"\n")
    )
    (source / "readme.txt").write_text("not a conversation")
    out = tmp_path / "out"
    arguments = ["prepare-data", "--chat", source, "--tokenizer", chat_folder, "--val-split", 0.2]
    done = run_cli(*arguments, "--output", out)
    assert done.code == 0, done.err
    assert "34 conversations" in done.out
    train, val = open_tokens(out / "train.bin"), open_tokens(out / "val.bin")
    both = conversations(train) + conversations(val)
    assert train.sidecar is not None and val.sidecar is not None
    assert train.sidecar.num_documents == 34
    assert val.sidecar.num_documents == 8
    assert train.marks is not None
    assert train.sidecar.counted_tokens == np.count_nonzero(train.marks & COUNTS)
    assert np.count_nonzero(train.marks & BEGINS) == 34
    expected = {(f"<|im_start|>user\n{n}?<|im_end|>\n<|im_start|>assistant\n{n}<|im_end|>\n",
                 f"{n}<|im_end|>\n") for n in range(12)}  # fmt: skip
    assert expected <= set(both)
    assert Tokenizer.load(out).chat_template == CHATML

    again = tmp_path / "again"
    assert run_cli(*arguments, "--output", again).code == 0
    for name in ("train.bin", "train.mask", "val.bin", "val.mask", "train.bin.json"):
        assert (again / name).read_bytes() == (out / name).read_bytes(), name


def test_a_table_gives_the_same_tokens(run_cli: RunCli, chat_folder: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    talks = [talk(n) for n in range(20)]
    write_records(tmp_path / "c.jsonl", talks)
    nulls = [{"messages": [{**m, "tool_calls": None} for m in t["messages"]]} for t in talks]
    parquet.write_table(arrow.Table.from_pylist(nulls), tmp_path / "c.parquet")
    for kind in ("jsonl", "parquet"):
        arguments = ["--chat", tmp_path / f"c.{kind}", "--tokenizer", chat_folder]
        done = run_cli("prepare-data", *arguments, "--output", tmp_path / kind)
        assert done.code == 0, done.err
    for name in ("train.bin", "train.mask", "val.bin"):
        one, other = (tmp_path / kind / name for kind in ("jsonl", "parquet"))
        assert one.read_bytes() == other.read_bytes(), name


def test_copies_are_on_one_side(run_cli: RunCli, chat_folder: Path, tmp_path: Path) -> None:
    file = write_records(tmp_path / "c.jsonl", [talk(n % 10) for n in range(40)])
    out = tmp_path / "out"
    arguments = ["--chat", file, "--tokenizer", chat_folder, "--val-split", 0.3, "--output", out]
    assert run_cli("prepare-data", *arguments).code == 0
    train, val = (set(conversations(open_tokens(out / f"{s}.bin"))) for s in ("train", "val"))
    assert train and val and not train & val


def test_bad_records_are_told_by_line(run_cli: RunCli, chat_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    long = {"messages": [said("user", "x" * 500), said("assistant", "y")]}
    lines = [json.dumps(talk(1)), "{", json.dumps({"messages": []}), json.dumps(long), "[1]"]
    half = {"messages": [said("user", "half \ud83d"), said("assistant", "a character")]}
    file.write_text("\n".join([*lines, json.dumps(half)]))
    arguments = ["prepare-data", "--chat", file, "--tokenizer", chat_folder, "--max-tokens", 300]
    out = tmp_path / "out"
    refused = run_cli(*arguments, "--output", out)
    assert refused.code == 2
    assert f"{file} line 2 is not valid JSON" in refused.err
    assert "--skip-bad" in refused.err
    assert not (out / "train.bin").exists()
    done = run_cli(*arguments, "--output", out, "--skip-bad", "--val-split", 0)
    assert done.code == 0, done.err
    assert "4 records skipped" in done.err
    listed = [json.loads(line) for line in (out / REPORT).read_text().splitlines()]
    assert listed.pop()["action"] == "mended"
    assert [entry["place"] for entry in listed] == ["line 2", "line 3", "line 4", "line 5"]
    assert "messages is empty" in listed[1]["problem"]
    assert "more than --max-tokens 300" in listed[2]["problem"]
    assert open_tokens(out).sidecar.num_documents == 2  # type: ignore[union-attr]


def test_what_is_missing_is_told_with_the_remedy(
    run_cli: RunCli, tokenizer_folder: Path, chat_folder: Path, tmp_path: Path
) -> None:
    file = write_records(tmp_path / "c.jsonl", [talk()])
    (tmp_path / "a.txt").write_text("Hi")
    (tmp_path / "bad.jinja").write_text("{% if")
    chat = ["--chat", file]
    for arguments, told in (
        (chat, "give --tokenizer with a model folder"),
        ([*chat, "--tokenizer", tokenizer_folder], "has no chat template"),
        ([*chat, "--tokenizer", tokenizer_folder, "--chat-template", "x"], "cannot read x"),
        (
            [*chat, "--tokenizer", tokenizer_folder, "--chat-template", tmp_path / "bad.jinja"],
            "chat template cannot be read",
        ),
        (["--chat", tmp_path / "a.txt", "--tokenizer", chat_folder], "is not a file of records"),
        ([*chat, "--text", file], "--text and --chat are both given"),
        ([*chat, "--vocab-size", 300], "--vocab-size and --chat are both given"),
        (["--text", file, "--chat-template", "x"], "is for --chat"),
        ([*chat, "--tokenizer", chat_folder, "--max-tokens", 1], "it must be 2 or more"),
        ([*chat, "--tokenizer", chat_folder, "--val-split", 2], "--val-split 2 is not a share"),
    ):
        done = run_cli("prepare-data", *arguments, "--output", tmp_path / "out")
        assert done.code == 2, arguments
        assert told in done.err, done.err
    assert not (tmp_path / "out" / "train.bin").exists()


def test_a_template_of_ones_own(run_cli: RunCli, tokenizer_folder: Path, tmp_path: Path) -> None:
    file = write_records(tmp_path / "c.jsonl", [talk(n) for n in range(3)])
    (tmp_path / "t.jinja").write_text(MARKED)
    out = tmp_path / "out"
    arguments = ["--tokenizer", tokenizer_folder, "--chat-template", tmp_path / "t.jinja"]
    done = run_cli("prepare-data", "--chat", file, *arguments, "--output", out)
    assert done.code == 0, done.err
    assert Tokenizer.load(out).chat_template == MARKED
    (tmp_path / "t.jinja").write_text("{% for m in messages %}{{ m.content + '\n' }}{% endfor %}")
    done = run_cli("prepare-data", "--chat", file, *arguments, "--output", out, "--overwrite")
    assert "no special token of the tokenizer ends an answer" in done.err


def test_files_that_do_not_belong_together_are_refused(
    run_cli: RunCli, chat_folder: Path, tmp_path: Path
) -> None:
    made = []
    for name, count in (("one", 12), ("other", 13)):
        file = write_records(tmp_path / f"{name}.jsonl", [talk(n) for n in range(count)])
        arguments = ["--chat", file, "--tokenizer", chat_folder, "--output", tmp_path / name]
        assert run_cli("prepare-data", *arguments).code == 0
        made.append(tmp_path / name)
    one, other = made
    mask = (one / "train.mask").read_bytes()
    (one / "train.mask").write_bytes(bytes(len(mask)))
    with pytest.raises(UserError, match="does not belong to train"):
        open_tokens(one)
    shutil.copy(other / "train.mask", one / "train.mask")
    with pytest.raises(UserError, match="does not belong to train"):
        open_tokens(one)
    (one / "train.mask").unlink()
    with pytest.raises(UserError, match=r"train\.mask is missing"):
        open_tokens(one)
    # Text in their place takes the masks away.
    (tmp_path / "a.txt").write_text("What is the weather? " * 200)
    text = ["--text", tmp_path / "a.txt", "--tokenizer", chat_folder, "--overwrite"]
    assert run_cli("prepare-data", *text, "--output", other).code == 0
    assert not list(other.glob("*.mask"))
    assert open_tokens(other).marks is None


@pytest.mark.parametrize("count", [3, 20])
def test_conversations_in_shards(
    run_cli: RunCli, chat_folder: Path, tmp_path: Path, count: int
) -> None:
    source = write_records(tmp_path / "a.jsonl", [talk(n) for n in range(40)])
    write = ["prepare-data", "--chat", source, "--tokenizer", chat_folder, "--val-split", 0.2]
    assert run_cli(*write, "--output", tmp_path / "one").code == 0
    done = run_cli(*write, "--output", tmp_path / "many", "--shards", count, "--workers", 1)
    assert done.code == 0, done.err
    one, many = open_tokens(tmp_path / "one"), open_tokens(tmp_path / "many")
    assert one.marks is not None and many.marks is not None
    assert np.array_equal(one.tokens[: one.count], many.tokens[: many.count])
    assert np.array_equal(one.marks, many.marks)
    for name in ("val.bin", "val.mask", "tokenizer_config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()
    (mask, *_) = (tmp_path / "many").glob("shards-*/00001.mask")
    mask.write_bytes(bytes(mask.stat().st_size))
    with pytest.raises(UserError, match=r"00001.mask is not the file that its manifest"):
        open_tokens(tmp_path / "many")
    assert run_cli(*write, "--output", tmp_path / "many", "--shards", count).code == 0
    assert np.array_equal(one.marks, open_tokens(tmp_path / "many").marks)
