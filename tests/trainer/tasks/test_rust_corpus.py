from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import UserError
from tests.conftest import RunCli
from trainer.tasks.rust_corpus import make_corpus

SCRIPT = Path(__file__).parents[3] / "scripts" / "rust_corpus.sh"
FILES = {
    "Cargo.toml": '[package]\nname = "small"\nlicense = "MIT OR Apache-2.0"\n',
    "LICENSE-MIT": "Permission is hereby granted, free of charge\n",
    "src/lib.rs": "pub fn one() -> u32 {\n    1\n}\n",
    "src/copy.rs": "pub fn one() -> u32 {\n    1\n}\n",
    "tests/größe.rs": "#[test]\nfn ok() {}\n",
    "README.md": "Not Rust.\n",
}


def _git(place: Path, *arguments: str) -> None:
    ident = ("-c", "user.name=a", "-c", "user.email=a@b")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(
        ["git", "-C", str(place), *ident, *arguments],
        check=True,
        capture_output=True,
        env=environment,
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small repository with the tag v1, and a file after it."""
    place = tmp_path_factory.mktemp("small repo")
    for name, content in FILES.items():
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text(content)
    (place / "src" / "bytes.rs").write_bytes(b"// \xff\n")
    (place / "src" / "link.rs").symlink_to("lib.rs")
    _git(place, "init", "-q")
    _git(place, "add", "-A")
    _git(place, "commit", "-qm", "one")
    _git(place, "tag", "v1")
    (place / "src" / "later.rs").write_text("fn later() {}\n")
    _git(place, "add", "-A")
    _git(place, "commit", "-qm", "two")
    return place


def _script(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPT), *map(str, arguments)]
    env = {**os.environ, "PYTHON": sys.executable, **environment}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=240, env=env
    )


def test_the_script_makes_a_corpus_of_a_tag(
    tmp_path: Path, repository: Path, run_cli: RunCli
) -> None:
    output = tmp_path / "out put"
    made = _script("--output", output, "--repo", f"small={repository}@v1")
    assert made.returncode == 0, made.stderr
    records = [json.loads(line) for line in (output / "rust.jsonl").open()]
    assert [record["path"] for record in records] == ["src/copy.rs", "tests/größe.rs"]
    assert {record["license"] for record in records} == {"MIT OR Apache-2.0"}
    (part,) = json.loads((output / "corpus.json").read_text())["repositories"]
    assert (part["documents"], part["skipped"]) == (2, 3), "a copy, a link, no UTF-8"
    assert part["bytes"] == sum(len(record["text"].encode()) for record in records)
    assert (output / "licences" / "small" / "LICENSE-MIT").is_file()
    prepared = run_cli(
        *("prepare-data", "--text", output / "rust.jsonl", "--output", tmp_path / "data"),
        *("--kind", "char", "--val-split", 0),
    )
    assert prepared.code == 0 and "2 documents" in prepared.out
    again = _script(  # the clone is used again: its source is not needed
        *("--output", output, "--repo", f"small={tmp_path / 'gone'}@v1"),
        *("--tokenizer", tmp_path / "data"),
    )
    assert again.returncode == 0, again.stderr
    (counted,) = json.loads((output / "corpus.json").read_text())["repositories"]
    assert counted["tokens"] == part["bytes"], "a token for each byte"


def test_what_cannot_be_fetched_is_told(tmp_path: Path, repository: Path) -> None:
    missing = _script("--output", tmp_path / "a", "--repo", f"small={repository}@v9")
    assert missing.returncode == 1 and "at v9" in missing.stderr
    assert "--repo small=DIR@v9" in missing.stderr
    assert not list((tmp_path / "a" / ".sources").iterdir())
    for wrong in (["--repo", "nonsense"], ["--output"], ["--more"], ["--repo", "../x=a@b"]):
        assert _script("--output", tmp_path / "b", *wrong).returncode == 2
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "sed", "dirname"):
        found = next(p for p in ("/bin", "/usr/bin") if Path(p, tool).exists())
        (tmp_path / "bin" / tool).symlink_to(Path(found, tool))
    without = _script("--output", tmp_path / "c", PATH=str(tmp_path / "bin"))
    assert without.returncode == 2 and "git is not installed" in without.stderr


def test_text_without_a_licence_is_refused(tmp_path: Path, repository: Path) -> None:
    bare = tmp_path / "bare"
    (bare / "src").mkdir(parents=True)
    (bare / "src" / "lib.rs").write_text("fn a() {}\n")
    _git(bare, "init", "-q")
    _git(bare, "add", "-A")
    _git(bare, "commit", "-qm", "one")
    with pytest.raises(UserError, match="bare names no licence"):
        make_corpus([("bare", bare)], tmp_path / "out")
    (bare / "COPYING").write_text("Apache License\nVersion 2.0\n")
    (part,) = make_corpus([("bare", bare)], tmp_path / "out")
    assert (part.licence, part.documents) == ("Apache-2.0", 1)
    with pytest.raises(UserError, match="not a git checkout"):
        make_corpus([("none", tmp_path)], tmp_path / "out2")
