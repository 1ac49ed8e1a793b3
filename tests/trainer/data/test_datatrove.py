"""Tokens in the format of datatrove's DocumentTokenizer, described for training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import UserError
from tests.conftest import RunCli
from trainer.data.shards.datatrove import DatatroveSettings, describe_datatrove
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokens import open_tokens


def write(folder: Path, name: str, documents: list[list[int]], token_bytes: int = 2) -> Path:
    """A file as datatrove writes it."""
    path = folder / f"{name}_doc_shuffled.ds"
    path.parent.mkdir(parents=True, exist_ok=True)
    tokens = np.array([token for document in documents for token in document])
    tokens.astype(f"<u{token_bytes}").tofile(path)
    np.cumsum([len(document) for document in documents]).astype("<u8").tofile(f"{path}.index")
    Path(f"{path}.metadata").write_text(f"some/tokenizer.json|{token_bytes}\n{len(tokens)}\n1 T")
    return path


@pytest.fixture
def chosen(token_data: Path, tmp_path: Path) -> DatatroveSettings:
    """Two files of documents of several lengths."""
    eos = Tokenizer.load(token_data).eos_id
    for name in ("00000_00000", "00001_00000"):
        write(tmp_path / "ds", name, [[*range(10, 20 + n % 7), eos] for n in range(40)])
    return DatatroveSettings(str(tmp_path / "ds"), str(token_data), val_split=0.1)


def test_documents_are_read_where_they_lie(chosen: DatatroveSettings) -> None:
    prepared = describe_datatrove(chosen)
    train, val = open_tokens(chosen.folder), open_tokens(Path(chosen.folder) / "val.bin")
    assert train.sidecar is not None and val.sidecar is not None and prepared.val == val.path
    assert train.sidecar.set_id == val.sidecar.set_id
    assert train.sidecar.num_documents == 2 * 35 and val.sidecar.num_documents == 2 * 5
    files = sorted(Path(chosen.folder).glob("*.ds"))
    whole = [np.fromfile(file, dtype="<u2") for file in files]
    kept = train.count // 2
    assert np.array_equal(train.tokens[: train.count], np.concatenate([w[:kept] for w in whole]))
    assert np.array_equal(val.tokens, np.concatenate([w[kept:] for w in whole]))
    assert train.tokens[kept - 1 : kept].tolist() == [train.sidecar.eos_id]
    describe_datatrove(replace(chosen, val_split=0.0, overwrite=True))
    assert open_tokens(chosen.folder).count == sum(map(len, whole))
    assert not (Path(chosen.folder) / "val.bin").exists()


def test_what_does_not_fit_is_told(
    chosen: DatatroveSettings, run_cli: RunCli, token_data: Path
) -> None:
    folder = Path(chosen.folder)

    def refused(told: str) -> None:
        with pytest.raises(UserError, match=told):
            describe_datatrove(chosen)

    file = folder / "00000_00000_doc_shuffled.ds"
    kept = file.read_bytes()
    file.write_bytes(kept[:-2])
    refused(r"has \d+ bytes, but its documents end at token")
    file.write_bytes(b"\xff\xff" + kept[2:])
    refused("has the token 65535, and the tokenizer has 258 tokens")
    file.write_bytes(np.full(len(kept) // 2, 7, dtype="<u2").tobytes())
    refused(r"document 0 ends with token 7, not with <\|endoftext\|>.*eos_token=")
    file.write_bytes(kept)
    (folder / "00002_unshuffled.ds").write_bytes(b"")
    refused("left by a task that was interrupted: let datatrove finish")
    (folder / "00002_unshuffled.ds").unlink()
    (folder / f"{file.name}.loss").write_bytes(b"")
    refused("has a loss mask, which is not read")
    (folder / f"{file.name}.loss").unlink()
    index = folder / f"{file.name}.index"
    index.rename(folder / "kept")
    refused("has no .index file beside it")
    (folder / "kept").rename(index)
    for words, told in (
        (["--text", "x"], "--text and --datatrove are both given"),
        (["--shards", 3], "--shards and --datatrove are both given"),
        (["--output", "x"], "--output and --datatrove are both given"),
        ([], "--datatrove needs --tokenizer"),
        (["--tokenizer", token_data, "--val-split", 2], "--val-split 2 is not a share"),
        (["--tokenizer", token_data, "--workers", -1], "--workers is -1: it must be between 1"),
        (["--tokenizer", token_data, "--workers", 0], "--workers is 0: it must be between 1"),
    ):
        done = run_cli("prepare-data", "--datatrove", folder, *words)
        assert done.code == 2 and told in done.err, done.err
    done = run_cli("prepare-data", "--datatrove", folder, "--tokenizer", token_data)
    assert done.code == 0 and "train.shards.json" in done.out, done.err


@settings(max_examples=60, deadline=None)
@given(
    suffix=st.sampled_from(["", ".index", ".metadata"]),
    content=st.binary(max_size=40) | st.sampled_from([b"x|2", b"|4", b"\0" * 16, b"\xff" * 8]),
)
def test_files_may_hold_anything(
    suffix: str, content: bytes, tmp_path_factory: pytest.TempPathFactory, token_data: Path
) -> None:
    folder = tmp_path_factory.mktemp("ds")
    eos = Tokenizer.load(token_data).eos_id
    path = write(folder, "00000", [[1, eos], [2, 3, eos]])
    Path(f"{path}{suffix}").write_bytes(content)
    try:
        describe_datatrove(DatatroveSettings(str(folder), str(token_data)))
        open_tokens(folder)
    except UserError as error:
        assert "\x1b" not in str(error)
