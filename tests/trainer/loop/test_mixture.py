"""A run on several sources: shares, a loss for each, an exact resume, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shared.errors import UserError
from tests.conftest import RunCli
from trainer.config.mixture import parse_sources, source_names
from trainer.config.resolve import resolve
from trainer.data.marks import mask_path
from trainer.data.tokens import Sidecar, fingerprint, read_sidecar
from trainer.loop.sources import data_changes, open_sources

SETTINGS = {"model.vocab_size": 258, "train.seq_len": 16, "eval.batches": 2}


@pytest.fixture(scope="module")
def other(token_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same data under another name, without what is held back."""
    folder = tmp_path_factory.mktemp("sources") / "other"
    shutil.copytree(token_data, folder)
    for name in ("val.bin", "val.bin.json"):
        (folder / name).unlink()
    return folder


def mixture(*sources: tuple[Path, float], **more: object) -> dict[str, object]:
    rows = [{"path": str(path), "weight": weight} for path, weight in sources]
    return {**SETTINGS, "data.sources": rows, **more}


@pytest.mark.slow
def test_a_mixed_run_resumes_exactly(
    run_cli: RunCli, token_data: Path, other: Path, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(token_data, plain)

    def train(runs: str, steps: int) -> None:
        arguments = ["train", "--config", "minigpt-small", "--runs-dir", tmp_path / runs]
        arguments += ["--source", f"{plain}=2", "--source", other, "--device", "cpu"]
        arguments += ["--max-steps", 6, "--seq-len", 16, "--batch-size", 3, "--deterministic"]
        arguments += ["--set", "model.hidden_size=32", "--set", "model.num_layers=1"]
        arguments += ["--set", "model.intermediate_size=32", "--eval-interval", 3]
        arguments += ["--set", "eval.batches=2", "--set", "optim.schedule=constant"]
        done = run_cli(*arguments, "--max-steps", steps)
        assert done.code == 0, done.err

    def losses(runs: str) -> dict[int, float]:
        (log,) = (tmp_path / runs).glob("*/metrics.jsonl")
        records = [json.loads(line) for line in log.read_text().splitlines()]
        assert "val_loss/plain" in records[-1] and "val_loss/other" not in records[-1]
        assert records[-1]["val_loss/plain"] == records[-1]["val_loss"]
        return {record["step"]: record["loss"] for record in records}

    train("whole", 6)
    train("half", 3)
    again = run_cli("resume", "latest", "--runs-dir", tmp_path / "half", "--max-steps", 6)
    assert again.code == 0, again.err
    assert losses("half") == losses("whole")
    assert "source plain: 66.7 % of the sequences" in again.out
    scored = run_cli("eval", "latest", "--runs-dir", tmp_path / "half", "--max-tokens", 40)
    assert scored.code == 0 and "val.bin" in scored.out, scored.err


def test_each_source_is_evaluated_for_itself(token_data: Path, other: Path) -> None:
    sources = open_sources(resolve(mixture((token_data, 3), (other, 1))))
    assert len(sources.validation) == 2  # type: ignore[arg-type]
    named = open_sources(
        resolve(mixture((token_data, 3), (other, 1), **{"data.val_path": str(token_data)}))
    )
    assert isinstance(named.validation, tuple) and named.bytes_per_token


def test_sources_that_do_not_fit_are_refused(token_data: Path, other: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    shutil.copytree(other, foreign)
    sidecar = json.loads((foreign / "train.bin.json").read_text())
    (foreign / "train.bin.json").write_text(json.dumps(sidecar | {"tokenizer_hash": "0" * 16}))
    (foreign / "tokenizer.json").unlink()
    (foreign / "train.bin.json").write_text(
        json.dumps(sidecar | {"tokenizer_hash": "0" * 16, "set_id": ""})
    )
    with pytest.raises(UserError, match=r"made with different tokenizers: .* with 0{16}; prepare"):
        open_sources(resolve(mixture((token_data, 1), (foreign, 1))))
    for wrong, told in (
        (mixture((token_data, 1), **{"data.path": "x"}), "data.path and data.sources are both"),
        (mixture((token_data, 0)), "data.sources.0.weight is 0"),
        ({"data.sources": [{"weight": 1}]}, "data.sources.0.path is missing"),
        ({"data.sources": []}, "data.sources is a list, but"),
        ({"data.sources": [{"path": "a", "name": "x/y"}]}, "data.sources.0.name is 'x/y'"),
        (
            {"data.sources": [{"path": "a", "name": "x"}, {"path": "b", "name": "x"}]},
            "two sources of the name x",
        ),
        (mixture((token_data, 1), **{"data.dataset": "synthetic"}), "data.sources is given, but"),
    ):
        with pytest.raises(UserError, match=told):
            resolve(wrong)


def test_a_change_of_the_sources_is_told(token_data: Path, other: Path) -> None:
    one = open_sources(resolve(mixture((token_data, 3), (other, 1))))
    two = open_sources(resolve(mixture((token_data, 1), (other, 1))))
    (told,) = data_changes(one.identity, two.identity)
    assert told.startswith("the sources were ") and "0.75" in told and "0.5" in told
    assert not data_changes(one.identity, one.identity)
    alone = open_sources(resolve({**SETTINGS, "data.path": str(token_data)}))
    assert data_changes(alone.identity, one.identity)


def test_text_and_conversations_are_mixed(token_data: Path, tmp_path: Path) -> None:
    talks = tmp_path / "talks"
    shutil.copytree(token_data, talks)
    path = talks / "train.bin"
    count = path.stat().st_size // 4
    marks = np.ones(count, dtype=np.uint8)
    marks[::10] |= 2
    marks.tofile(mask_path(path))
    sidecar = read_sidecar(path)
    assert sidecar is not None
    fields = sidecar.to_plain() | {"mask": fingerprint(mask_path(path)), "longest": 10}
    Sidecar(**fields).write(path)
    for name in ("val.bin", "val.bin.json"):
        (talks / name).unlink()
    sources = open_sources(resolve(mixture((token_data, 1), (talks, 1))))
    inputs, _, weights = sources.train.batch(0, 4)
    assert inputs.shape == weights.shape == (4, 16)


def test_the_flags_of_sources() -> None:
    assert parse_sources(["a=b=0.5", "c"]) == [
        {"path": "a=b", "weight": 0.5},
        {"path": "c", "weight": 1.0},
    ]
    for wrong in ("=1", "a=", "a=x", "a=-1", "a=nan", "a=inf", ""):
        with pytest.raises(UserError, match="give PATH=WEIGHT"):
            parse_sources([wrong])
    rows = [{"path": p} for p in ("/d/web", "/e/web/", "/f/web/train.bin", "/g/ü b.bin", "/")]
    assert source_names(resolve({"data.sources": rows}).data) == [
        *("web", "web-2", "web-3", "b", "source")
    ]


def test_the_later_of_path_and_sources_counts(token_data: Path) -> None:
    rows = {"data.sources": [{"path": "a"}]}
    assert resolve({"data.path": "x"}, rows).data.path is None
    assert resolve(rows, {"data.path": "x"}).data.sources is None
