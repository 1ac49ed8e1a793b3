"""datatrove tokenizes with docs/datatrove_tokenize.py, and its folder is trained on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import RunCli
from trainer.data.tokenizer import Tokenizer
from trainer.data.tokens import open_tokens

pytest.importorskip("datatrove")

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "docs" / "datatrove_tokenize.py"


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    """Three files of documents, in tmp_path/in."""
    documents = [f"Text {n} says: {'word ' * (n % 9)}and ends.\n" for n in range(90)]
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        lines = [json.dumps({"text": text, "id": str(n)}) for n, text in enumerate(documents)]
        (folder / f"{number}.jsonl").write_text("\n".join(lines[number::3]) + "\n")
    return documents


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
        env=os.environ | {"PYTHONPATH": path} | environment,
    )


def test_what_datatrove_writes_is_trained_on(
    run_cli: RunCli, texts: list[str], token_data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["--input", tmp_path / "in", "--output", out, "--tokenizer", token_data]
    done = run(*arguments, "--val-split", 0.1, "--tasks", 3, "--workers", 2)
    assert done.returncode == 0, done.stderr
    tokenizer, found = Tokenizer.load(token_data), []
    for place in (out, out / "val.bin"):
        file = open_tokens(place, tokenizer_hash=tokenizer.hash)
        ids = file.view[: file.count]
        ends = np.flatnonzero(ids == tokenizer.eos_id)
        found += [tokenizer.decode(part.tolist()) for part in np.split(ids, ends + 1)[:-1]]
    assert sorted(text.removesuffix(tokenizer.eos_token) for text in found) == sorted(texts)
    assert file.sidecar is not None and 6 <= file.sidecar.num_documents <= 15
    trained = run_cli(
        *("train", "--config", "minigpt-small", "--data-path", out, "--document-mask"),
        *("--runs-dir", tmp_path / "runs", "--max-steps", 2, "--seq-len", 16, "--device", "cpu"),
        *("--set", "model.hidden_size=32", "--set", "model.num_layers=1"),
        *("--set", "model.intermediate_size=32"),
    )
    assert trained.code == 0, trained.err
    # The same command again repeats no task, and describes the same.
    again = run(*arguments, "--val-split", 0.1, "--tasks", 3, "--workers", 2)
    assert again.returncode == 0 and "already been completed" in again.stderr + again.stdout


def test_slurm_is_given_two_jobs(texts: list[str], token_data: Path, tmp_path: Path) -> None:
    """A stand-in for sbatch keeps what it is given: there is no Slurm here."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nfor last; do :; done\n'
        f'cat "$last" >> {tmp_path}/scripts\necho Submitted batch job 17\n'
    )
    (programs / "sbatch").chmod(0o755)
    arguments = ["--input", tmp_path / "in", "--output", tmp_path / "out"]
    arguments += ["--tokenizer", token_data, "--tasks", 3, "--workers", 2]
    arguments += ["--slurm", "cpus", "--time", "1:00:00", "--venv", "/shared/venv"]
    done = run(*arguments, PATH=f"{programs}{os.pathsep}{os.environ['PATH']}")
    assert done.returncode == 0, done.stderr
    scripts = (tmp_path / "scripts").read_text()
    assert "#SBATCH --array=0-2%2" in scripts and "#SBATCH --job-name=describe" in scripts
    assert "source /shared/venv/bin/activate" in scripts and "launch_pickled_pipeline" in scripts
    assert "--dependency=afterok:17" in (tmp_path / "calls").read_text()
