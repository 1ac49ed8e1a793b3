from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import UserError
from trainer.config.resolve import resolve
from trainer.data.file_set import FileSet
from trainer.data.prepare import PrepareSettings, prepare
from trainer.data.tokenizer_training import TrainSettings, train_on_files
from trainer.data.tokens import fingerprint
from trainer.loop.sources import data_changes, open_sources

NAMES = ("a", "b", "c")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def prepared(folder: Path, words: str, vocab_size: int = 300) -> Path:
    text = folder.with_suffix(".txt")
    text.write_text("".join(f"{words} {n} {words[::-1]}\n" for n in range(400)))
    prepare(PrepareSettings([str(text)], str(folder), vocab_size=vocab_size))
    return folder


def open_folder(folder: Path) -> None:
    settings = {"data.path": str(folder), "model.vocab_size": 512, "train.seq_len": 16}
    open_sources(resolve(settings))


@pytest.mark.parametrize("bad", NAMES)
def test_a_rename_that_fails_leaves_all_old_files(tmp_path: Path, bad: str) -> None:
    for name in NAMES:
        (tmp_path / name).write_text("old")
    (tmp_path / bad).unlink()
    (tmp_path / bad).mkdir()  # a file cannot replace a folder
    before = contents(tmp_path)
    with FileSet() as files, pytest.raises(OSError):
        for name in NAMES:
            files.stage(tmp_path / name, b"new")
        files.commit()
    assert contents(tmp_path) == before


def test_files_are_replaced_added_and_removed_together(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").write_text("old")
    with FileSet() as files:
        files.stage(tmp_path / "a", b"new")
        files.remove(tmp_path / "b")
        files.stage_link(tmp_path / "c", "a")
        assert (tmp_path / "a").read_text() == "old"
        files.commit()
    assert contents(tmp_path) == {"a": b"new", "c": b"new"}


def test_a_disk_that_fills_up_anywhere_changes_nothing(tmp_path: Path) -> None:
    """With each limit on the size of a file the command fails and the old set stays."""
    old, new = prepared(tmp_path / "old", "one two"), prepared(tmp_path / "new", "three four", 280)
    train_on_files(TrainSettings([str(tmp_path / "old.txt")], str(tmp_path / "tok")))
    before, tokenizer = contents(old), contents(tmp_path / "tok")
    sizes = sorted({len(data) for data in contents(new).values()})
    code = (
        "import resource, sys\n"
        "from shared.errors import RunError\n"
        "from trainer.data.prepare import PrepareSettings, prepare\n"
        "from trainer.data.tokenizer_training import TrainSettings, train_on_files\n"
        "text, out, tok = sys.argv[1:4]\n"
        "for size in map(int, sys.argv[4:]):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, resource.RLIM_INFINITY))\n"
        "    for work in (\n"
        "        lambda: prepare(PrepareSettings([text], out, vocab_size=280, overwrite=True)),\n"
        "        lambda: train_on_files(TrainSettings([text], tok, 280, overwrite=True)),\n"
        "    ):\n"
        "        try:\n"
        "            work()\n"
        "        except RunError as error:\n"
        "            assert 'the old files are unchanged' in str(error), error\n"
        "            print('refused')\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "new.txt"), str(old)]
    command += [str(tmp_path / "tok"), *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("refused") >= len(sizes)
    assert contents(old) == before
    assert set(contents(tmp_path / "tok")) == set(tokenizer)


@pytest.mark.parametrize(
    "name", ["train.bin", "train.bin.json", "val.bin", "val.bin.json", "tokenizer.json"]
)
def test_a_set_that_does_not_belong_together_is_refused(tmp_path: Path, name: str) -> None:
    ours, theirs = prepared(tmp_path / "a", "one two"), prepared(tmp_path / "b", "three four")
    open_folder(ours)
    (ours / name).write_bytes((theirs / name).read_bytes())
    with pytest.raises(UserError, match=name.removesuffix(".json")):
        open_folder(ours)


@pytest.mark.parametrize("name", ["val.bin.json", "tokenizer.json"])
def test_a_missing_file_of_a_set_is_named(tmp_path: Path, name: str) -> None:
    ours = prepared(tmp_path / "a", "one two")
    (ours / name).unlink()
    with pytest.raises(UserError, match=name):
        open_folder(ours)


def test_the_validation_file_of_a_folder_is_its_val_bin(tmp_path: Path) -> None:
    train, other = prepared(tmp_path / "a", "one two"), prepared(tmp_path / "b", "one two")
    settings = {"data.path": str(train), "model.vocab_size": 512, "train.seq_len": 16}
    here = open_sources(resolve(settings | {"data.val_path": str(other)}))
    assert here.identity["validation"] == fingerprint(other / "val.bin")
    (other / "val.bin").unlink()
    with pytest.raises(UserError, match=r"is a folder without a val\.bin"):
        open_sources(resolve(settings | {"data.val_path": str(other)}))


def test_a_validation_file_that_is_too_short_says_so(tmp_path: Path) -> None:
    folder = prepared(tmp_path / "a", "one two")
    count = (folder / "val.bin").stat().st_size // 4
    settings = {"data.path": str(folder), "model.vocab_size": 512, "train.seq_len": count}
    told = open_sources(resolve(settings | {"model.max_seq_len": count})).description
    assert f"val.bin has {count:,} tokens, and one sequence needs {count + 1:,}" in told


def test_what_changed_in_the_data_is_named(tmp_path: Path) -> None:
    one = {"tokens": 5, "fingerprint": "a", "seed": 1}
    assert data_changes(one, one | {"validation": "new"}) == []
    assert data_changes(one, one | {"tokens": 6, "fingerprint": "b"}) == [
        "the number of training tokens was 5 and is 6",
        "the content of the training file was a and is b",
    ]
