from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from shared.errors import RunError, UserError
from trainer.cli.data import prepare as prepare_command
from trainer.cli.data import tokenizer as tokenizer_command
from trainer.cli.output import LINE_INTERVAL, show_progress
from trainer.data.file_set import FileSet, partial_path
from trainer.data.outputs import Targets, open_writers
from trainer.data.prepare import Prepared, PrepareSettings, prepare
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokenizer_training import TrainSettings, train_on_files
from trainer.data.tokens import open_tokens

STDLIB = Path(sysconfig.get_paths()["stdlib"])


def documents_of(path: Path, tokenizer: Tokenizer) -> list[str]:
    """The texts in a token file, taken apart at the end-of-text ids."""
    tokens = open_tokens(path, tokenizer_hash=tokenizer.hash).tokens
    ends = np.flatnonzero(tokens == tokenizer.eos_id)
    assert ends[-1] == len(tokens) - 1
    parts = np.split(tokens, ends + 1)[:-1]
    return [tokenizer.decode(part[:-1].tolist()) for part in parts]


def check(prepared: Prepared) -> tuple[list[str], list[str]]:
    """The documents of both sides, after checking that the sidecars tell the truth."""
    tokenizer = Tokenizer.load(prepared.tokenizer_directory)
    sides: list[list[str]] = []
    for path, sidecar in (
        (prepared.train, prepared.train_sidecar),
        (prepared.val, prepared.val_sidecar),
    ):
        if path is None or sidecar is None:
            sides.append([])
            continue
        assert open_tokens(path).sidecar == sidecar
        documents = documents_of(path, tokenizer)
        assert sidecar.num_documents == len(documents)
        assert sidecar.text_bytes == sum(len(text.encode()) for text in documents)
        assert sidecar.vocab_size == tokenizer.vocab_size
        assert sidecar.eos_id == tokenizer.eos_id
        sides.append(documents)
    return sides[0], sides[1]


def write_documents(path: Path, documents: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A hundred and fifty short documents, some of them trying to end early."""
    documents = [f"fn f{n}() -> u32 {{\n\t{n} // <|endoftext|> é😀\n}}\n" for n in range(150)]
    return write_documents(tmp_path / "corpus.jsonl", documents)


@settings(max_examples=60, deadline=None)
@given(
    documents=st.lists(st.text(max_size=30), min_size=1, max_size=8).filter(any),
    val_split=st.sampled_from([0.0, 0.05, 0.3, 0.9]),
    batch_bytes=st.sampled_from([1, 7, 10_000]),
)
def test_every_document_arrives_on_one_side_or_in_two_parts(
    tmp_path_factory: pytest.TempPathFactory, documents, val_split, batch_bytes
) -> None:
    directory = tmp_path_factory.mktemp("any")
    corpus = write_documents(directory / "a.jsonl", documents)
    settings = PrepareSettings(
        [str(corpus)], str(directory / "out"), val_split=val_split, kind="char"
    )
    prepared = prepare(settings, batch_bytes=batch_bytes)
    train, val = check(prepared)
    assert all(train + val)
    # Fewer than a hundred documents: divided by place, so in order, the last part held out.
    assert "".join(train + val) == "".join(documents)
    assert len(train + val) in (n := sum(map(bool, documents)), n + 1)
    if val_split == 0:
        assert val == []
        assert train == [text for text in documents if text]


def test_documents_are_split_whole_and_never_on_both_sides(corpus: Path, tmp_path: Path) -> None:
    prepared = prepare(
        PrepareSettings([str(corpus)], str(tmp_path / "out"), vocab_size=280, val_split=0.2)
    )
    train, val = check(prepared)
    documents = [json.loads(line)["text"] for line in corpus.read_text().splitlines()]
    assert prepared.train_sidecar.split_rule == "documents"
    assert not set(train) & set(val)
    assert sorted(train + val) == sorted(documents)
    assert train == [text for text in documents if text in set(train)]  # order is kept
    link = tmp_path / "out" / "tokens.bin"
    assert link.read_bytes() == prepared.train.read_bytes()
    assert open_tokens(link).sidecar == prepared.train_sidecar


def test_long_text_comes_back_byte_for_byte(tmp_path: Path) -> None:
    text = (STDLIB / "argparse.py").read_text() + (STDLIB / "typing.py").read_text()
    (tmp_path / "long.py").write_text(text)
    prepared = prepare(
        PrepareSettings([str(tmp_path / "long.py")], str(tmp_path / "out"), vocab_size=1000)
    )
    [train], [val] = check(prepared)
    assert train + val == text
    tokenizer = Tokenizer.load(tmp_path / "out")
    # Pieces and batches leave no trace: the same ids as encoding each side at once.
    tokens = open_tokens(prepared.train).tokens
    assert tokens.tolist() == [*tokenizer.encode(train), tokenizer.eos_id]


def outputs(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_the_same_bytes_whatever_the_batches_and_threads(corpus: Path, tmp_path: Path) -> None:
    code = (
        "import sys, trainer.data.prepare as p\n"
        "p.BATCH_BYTES, p.BATCH_PARTS = int(sys.argv[3]), int(sys.argv[4])\n"
        "p.prepare(p.PrepareSettings([sys.argv[1]], sys.argv[2], vocab_size=300))"
    )
    results = []
    for threads, batch_bytes, parts in (("1", "1", "1"), ("2", "1000", "5"), ("2", "99999", "99")):
        out = tmp_path / f"{threads}-{batch_bytes}"
        subprocess.run(
            [sys.executable, "-c", code, str(corpus), str(out), batch_bytes, parts],
            check=True,
            env=os.environ | {"RAYON_NUM_THREADS": threads},
        )
        results.append(outputs(out))
    assert results[0] == results[1] == results[2]
    assert len(results[0]) == 9


def test_the_files_mean_what_the_guides_say(corpus: Path, tmp_path: Path) -> None:
    tokenizer, _ = train_on_files(
        TrainSettings([str(tmp_path / "*.jsonl")], str(tmp_path / "processed"), vocab_size=320)
    )
    directory = tmp_path / "processed"
    prepared = prepare(
        PrepareSettings(
            [str(tmp_path / "*.jsonl")],
            str(directory / "train.bin"),
            val_output=str(tmp_path / "elsewhere" / "val.bin"),
            vocab=str(directory / "vocab.json"),
            merges=str(directory / "merges.txt"),
        )
    )
    assert prepared.train_sidecar.tokenizer_hash == tokenizer.hash
    assert prepared.val == tmp_path / "elsewhere" / "val.bin"
    assert not (directory / "tokens.bin").exists()
    raw = np.fromfile(prepared.train, dtype="<u4")
    assert len(raw) == prepared.train_sidecar.num_tokens
    assert raw.max() < 320


def test_one_bin_file_puts_the_validation_beside_it(corpus: Path, tmp_path: Path) -> None:
    prepared = prepare(PrepareSettings([str(corpus)], str(tmp_path / "rust.bin"), vocab_size=300))
    assert prepared.val == tmp_path / "rust_val.bin"


def test_the_ascii_set(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("café →\n" * 50)
    asked = PrepareSettings(
        [str(tmp_path / "a.txt")], str(tmp_path / "out"), kind="char", charset="ascii"
    )
    with pytest.raises(UserError, match=r"100 characters .* 'é' \(U\+00E9\), '→' \(U\+2192\)"):
        prepare(asked)
    assert not (tmp_path / "out" / "train.bin").exists()
    prepared = prepare(replace(asked, replace=True))
    train, val = check(prepared)
    assert "".join(train + val) == "caf? ?\n" * 50
    assert prepared.train_sidecar.vocab_size == 99
    assert "100 characters outside the character set became '?'" in prepared.notes
    again = prepare(
        PrepareSettings(
            [str(tmp_path / "a.txt")],
            str(tmp_path / "again"),
            tokenizer=str(tmp_path / "out"),
            replace=True,
        )
    )
    assert again.train.read_bytes() == prepared.train.read_bytes()


def test_what_was_left_out_is_told(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.txt").write_bytes(b"text text \xff text")
    (raw / "b.txt").write_bytes(b"\0\0")
    (raw / "c.txt").write_bytes(b"")
    (raw / "d.png").write_bytes(b"")
    out = tmp_path / "out"
    prepared = prepare(PrepareSettings([str(raw)], str(out), skip_bad=True))
    small, *others = prepared.notes
    assert small.startswith("the text gives a vocabulary of 262 tokens, not the 4096 asked for")
    assert others == [
        "1 invalid UTF-8 sequence replaced by U+FFFD",
        "1 binary file skipped",
        "1 empty document skipped",
        "1 file without a known text extension skipped",
        f"1 line replaced: all are listed in {out / 'bad_records.jsonl'}",
        f"replaced: {raw / 'a.txt'} line 1 is not UTF-8: it has the bytes FF",
    ]


def test_a_text_too_short_to_split(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("é")
    prepared = prepare(PrepareSettings([str(tmp_path / "a.txt")], str(tmp_path / "out")))
    assert check(prepared) == (["é"], [])
    assert prepared.val is None
    assert not (tmp_path / "out" / "val.bin").exists()
    assert "the text is too short to split: there is no validation file" in prepared.notes


def test_existing_results_are_replaced_only_when_asked(corpus: Path, tmp_path: Path) -> None:
    asked = PrepareSettings([str(corpus)], str(tmp_path / "out"), vocab_size=300)
    prepare(asked)
    before = outputs(tmp_path / "out")
    with pytest.raises(UserError, match=r"train.bin exists already: pass --overwrite"):
        prepare(asked)
    assert outputs(tmp_path / "out") == before
    prepared = prepare(replace(asked, val_split=0.0, overwrite=True))
    assert prepared.val is None
    # An old val.bin would be taken for this training file's.
    assert not (tmp_path / "out" / "val.bin").exists()
    assert not (tmp_path / "out" / "val.bin.json").exists()
    assert any("was removed" in note for note in prepared.notes)


def test_another_tokenizer_in_the_directory_is_not_replaced(corpus: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    train_on_files(TrainSettings([str(corpus)], out, vocab_size=280))
    with pytest.raises(UserError, match=r"is another tokenizer: use it with --tokenizer"):
        prepare(PrepareSettings([str(corpus)], out, vocab_size=300))
    prepared = prepare(PrepareSettings([str(corpus)], out, tokenizer=out))
    assert prepared.train_sidecar.vocab_size == 280
    with pytest.raises(UserError, match="exists already: pass --overwrite"):
        train_on_files(TrainSettings([str(corpus)], out))


def test_inputs_may_lie_where_the_outputs_go(corpus: Path, tmp_path: Path) -> None:
    asked = PrepareSettings([str(tmp_path)], str(tmp_path), vocab_size=300)
    first = prepare(asked)
    again = prepare(replace(asked, overwrite=True))
    assert replace(again, notes=()) == replace(first, notes=())
    assert any("files of tokens, tokenizers or models" in note for note in again.notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_split": 1.0}, "--val-split 1 is not a share"),
        ({"val_split": float("nan")}, "--val-split nan is not a share"),
        ({"vocab": "v.json"}, "--merges is missing"),
        ({"merges": "m.txt"}, "--vocab is missing"),
        ({"tokenizer": "t", "vocab": "v", "merges": "m"}, "give only one"),
        ({"tokenizer": "/nowhere"}, "no tokenizer at /nowhere"),
        ({"vocab_size": 100}, "--vocab-size 100 is too small"),
        ({"seed": 2**63}, "does not fit 64 bits"),
        ({"inputs": ["/nowhere/*.txt"]}, "no file matches '/nowhere"),
        ({"val_output": "val.txt"}, "must be a file name ending in .bin"),
        ({"output": "same.bin", "val_output": "same.bin"}, "are the same file"),
        ({"output": __file__}, "is a file: give a directory"),
        ({"output": "/proc/nowhere"}, "cannot write /proc/nowhere"),
    ],
)
def test_wrong_use_is_one_sentence(corpus: Path, tmp_path: Path, changes, message: str) -> None:
    asked = PrepareSettings([str(corpus)], str(tmp_path / "out"))
    with pytest.raises(UserError, match=message) as caught:
        prepare(replace(asked, **changes))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "train.bin").exists()


def test_a_tokenizer_that_exists_cannot_be_changed(corpus: Path, tmp_path: Path) -> None:
    train_on_files(TrainSettings([str(corpus)], str(tmp_path / "t"), vocab_size=280))
    asked = PrepareSettings([str(corpus)], str(tmp_path / "out"), tokenizer=str(tmp_path / "t"))
    with pytest.raises(UserError, match="--vocab-size 500 cannot change"):
        prepare(replace(asked, vocab_size=500))
    with pytest.raises(UserError, match="--kind char cannot change"):
        prepare(replace(asked, kind="char"))


def test_no_text_at_all(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UserError, match=r"there is no text in .*1 empty document skipped"):
        prepare(PrepareSettings([str(tmp_path / "a.txt")], str(tmp_path / "out")))


def test_a_failure_leaves_the_old_files_and_no_others(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    asked = PrepareSettings([str(corpus)], str(out), vocab_size=300, overwrite=True)
    prepare(asked)
    before = outputs(out)
    with corpus.open("a") as file:
        file.write("not json\n")
    with pytest.raises(UserError, match="line 151"):
        prepare(asked)
    assert outputs(out) == before


def test_an_input_that_changes_between_the_passes(corpus: Path, tmp_path: Path) -> None:
    @contextmanager
    def meddling(title: str, total: int):
        if title == "encoding":
            corpus.write_text(json.dumps({"text": "something else"}))
        yield lambda done: None

    with pytest.raises(RunError, match="the input changed while it was read"):
        prepare(PrepareSettings([str(corpus)], str(tmp_path / "out")), meddling)
    assert outputs(tmp_path / "out") == {}


@pytest.mark.parametrize("how", ["full", "killed"])
def test_a_full_disk_or_a_kill_leaves_the_old_files(corpus: Path, tmp_path: Path, how: str) -> None:
    out = tmp_path / "out"
    asked = PrepareSettings([str(corpus)], str(out), vocab_size=300, overwrite=True)
    prepare(asked)
    before = outputs(out)
    write_documents(tmp_path / "more.jsonl", ["some more text " * 100] * 100)
    code = (
        "import os, resource, signal, sys, trainer.data.prepare as p\n"
        "from shared.errors import RunError\n"
        "from trainer.data.file_set import FileSet\n"
        "p.BATCH_BYTES = 10_000\n"
        "if sys.argv[3] == 'full':\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "else:\n"
        "    FileSet.stage = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "try:\n"
        "    p.prepare(\n"
        "        p.PrepareSettings([sys.argv[1]], sys.argv[2], kind='char', overwrite=True)\n"
        "    )\n"
        "except RunError as error:\n"
        "    sys.exit(str(error))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "more.jsonl"), str(out), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    left = set(outputs(out)) - set(before)
    if how == "full":
        assert "no space left in" in done.stderr
        assert "Traceback" not in done.stderr
        assert left == set()
    else:
        assert done.returncode == -9
        assert left == {".train.bin.partial", ".val.bin.partial"}
    assert {name: data for name, data in outputs(out).items() if name in before} == before
    # The next run takes over what a killed one left.
    prepare(asked)
    assert outputs(out) == before


def test_two_at_once_are_kept_apart(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    targets = Targets(out / "train.bin", out / "val.bin", None)
    with (
        FileSet() as files,
        open_writers(targets, files) as writers,
        pytest.raises(UserError, match="another prepare-data is writing"),
    ):
        prepare(PrepareSettings([str(corpus)], str(out), vocab_size=300))
    assert not any(partial_path(writer.path).exists() for writer in writers.values())


# Progress and the commands


def test_log_lines_come_every_few_seconds_with_rate_and_time_left() -> None:
    now = [0.0]
    stream = io.StringIO()
    with show_progress("encoding", 100_000_000, stream=stream, clock=lambda: now[0]) as update:
        for second in range(1, 12):
            now[0] = float(second)
            update(second * 5_000_000)
    lines = stream.getvalue().splitlines()
    assert lines == [
        "encoding: 25 % of 95.4 MiB, 5.0 MB/s, 15s left",
        "encoding: 50 % of 95.4 MiB, 5.0 MB/s, 10s left",
    ]
    assert LINE_INTERVAL == 5.0


def test_a_terminal_gets_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with show_progress("encoding", 1000, stream=stream) as update:
        update(1000)
    assert "encoding" in stream.getvalue()


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command("prepare-data")(prepare_command.prepare_data)
    app.add_typer(tokenizer_command.app, name="tokenizer")
    return app


def test_the_commands_of_the_guides(app: typer.Typer, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/raw").mkdir(parents=True)
    for name in ("argparse.py", "ast.py"):
        Path("data/raw", name).with_suffix(".txt").write_text((STDLIB / name).read_text())
    run = CliRunner().invoke
    commands = """
    tokenizer train --files "data/raw/*.txt" --output-dir data/processed --vocab-size 400
    prepare-data --input "data/raw/*.txt" --output data/processed/train.bin \
        --val-output data/processed/val.bin --val-split 0.05 \
        --vocab data/processed/vocab.json --merges data/processed/merges.txt
    prepare-data --text data/raw/argparse.txt data/raw/ast.txt --vocab-size 400 --output data/
    """
    for command in commands.replace("\\\n", " ").strip().splitlines():
        result = run(app, shlex.split(command), catch_exceptions=False)
        assert result.exit_code == 0, result.output
    for directory in ("data/processed", "data"):
        train, val = open_tokens(f"{directory}/train.bin"), open_tokens(f"{directory}/val.bin")
        assert 0.04 < val.count / (train.count + val.count) < 0.06
    assert Path("data/processed/train.bin").read_bytes() == Path("data/train.bin").read_bytes()
    assert "vocabulary 400 (bpe)" in result.output


def test_help_is_quick_to_come() -> None:
    code = (
        "import sys, trainer.cli.data.prepare, trainer.cli.data.tokenizer\n"
        "heavy = {'torch', 'numpy', 'tokenizers', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
