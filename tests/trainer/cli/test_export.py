"""`trainer export` as a person types it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from shared.checkpoints.compression import pack_checkpoint
from tests.trainer.export.conftest import make_model, make_ternary, make_tokenizer, save_folder
from trainer.checkpoint.opening import OpenedModel


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small Llama."""
    place = tmp_path_factory.mktemp("checkpoint")
    opened = OpenedModel(make_model(num_layers=1), make_tokenizer("qwen2"), place)
    return save_folder(opened, place / "small")


def test_both_at_once_with_what_was_written(run_cli, folder: Path, tmp_path: Path) -> None:
    gguf, hf = tmp_path / "model.gguf", tmp_path / "hf"
    done = run_cli(
        "export", "--checkpoint", folder, "--gguf", gguf, "--quant", "q8_0", "--hf", hf, "--verify"
    )
    assert done.code == 0, done.err
    assert "blk.*.attn_q.weight" in done.out and "Q8_0" in done.out
    assert "1.88x smaller than in F16" in done.out
    assert done.out.count("passed") == 2
    assert gguf.is_file() and (hf / "model.safetensors").is_file()
    again = run_cli("export", "--checkpoint", folder, "--gguf", gguf)
    assert again.code == 2 and "--force" in again.err


def test_verify_alone_leaves_nothing(
    run_cli, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_cli("export", "--checkpoint", folder, "--quant", "F32", "--verify")
    assert done.code == 0 and "passed" in done.out
    assert list(tmp_path.iterdir()) == []


def test_verify_looks_at_a_file_that_is_there(run_cli, folder: Path, tmp_path: Path) -> None:
    gguf = tmp_path / "model.gguf"
    assert run_cli("export", "--checkpoint", folder, "--gguf", gguf, "--quant", "q8_0").code == 0
    before = gguf.stat()
    done = run_cli("export", "--checkpoint", folder, "--gguf", gguf, "--verify")
    assert done.code == 0 and "passed" in done.out and "0.005" in done.out
    assert gguf.stat() == before
    done = run_cli("export", "--checkpoint", folder, "--gguf", gguf, "--verify", "--quant", "f32")
    assert done.code == 2 and "--force" in done.err and gguf.stat() == before


def test_a_verification_that_fails_is_exit_1(run_cli, folder: Path, tmp_path: Path) -> None:
    done = run_cli(
        "export", "--checkpoint", folder, "--gguf", tmp_path / "m.gguf", "--quant", "tq2_0",
        "--lossy", "--verify",
    )  # fmt: skip
    assert done.code == 1 and "failed: predictions diverge" in done.out


def test_the_guides_command_lines(run_cli, folder: Path, tmp_path: Path) -> None:
    """`export --checkpoint --gguf --mhc`, and `export_gguf --checkpoint --output`."""
    mhc = tmp_path / "model.mhc"
    done = run_cli(
        "export", "--checkpoint", folder, "--gguf", tmp_path / "model.gguf", "--mhc", mhc
    )
    assert done.code == 0 and "no hyper-connections" in done.out and not mhc.exists()
    done = run_cli("export", "--checkpoint", folder, "--output", tmp_path / "two.gguf")
    assert done.code == 0 and (tmp_path / "two.gguf").is_file()


def test_hyper_connections_by_the_guides_command(run_cli, tmp_path: Path) -> None:
    opened = OpenedModel(make_model(hyper_streams=2), make_tokenizer("qwen2"), tmp_path)
    model = save_folder(opened, tmp_path / "hyper")
    gguf, mhc = tmp_path / "model.gguf", tmp_path / "model.mhc"
    done = run_cli("export", "--checkpoint", model, "--gguf", gguf, "--mhc", mhc)
    assert done.code == 0 and "llama.cpp refuses this file" in done.out
    assert mhc.stat().st_size == 16 + 4 * 36  # two blocks, 9 scalars per sub-layer
    said = run_cli("generate", "--checkpoint", gguf, "--prompt", "a", "--max-new-tokens", 3)
    assert said.code == 0 and said.out.startswith("a")


def test_a_gguf_file_becomes_a_folder(run_cli, folder: Path, tmp_path: Path) -> None:
    gguf = tmp_path / "model.gguf"
    assert run_cli("export", "--checkpoint", folder, "--gguf", gguf, "--quant", "f32").code == 0
    done = run_cli("export", "--checkpoint", gguf, "--hf", tmp_path / "hf")
    assert done.code == 0, done.err
    weights = "model.safetensors"
    assert (tmp_path / "hf" / weights).read_bytes() == (folder / weights).read_bytes()


def test_ternary_by_the_guides_name(run_cli, tmp_path: Path) -> None:
    opened = OpenedModel(make_ternary(make_model()), make_tokenizer("qwen2"), tmp_path)
    model = save_folder(opened, tmp_path / "ternary")
    done = run_cli(
        "export", "--checkpoint", model, "--gguf", tmp_path / "t.gguf", "--quant", "q1_58"
    )
    assert done.code == 0, done.err
    assert "q1_58 is written as TQ2_0" in done.out
    assert "the vocabulary is never ternary: token_embd.weight" in done.out


def test_a_packed_checkpoint_is_exported_as_it_is(run_cli, folder: Path, tmp_path: Path) -> None:
    from shared.checkpoints.manifest import write_manifest

    copy = tmp_path / "step_1"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    write_manifest(copy, 1, {})
    pack_checkpoint(copy)
    assert not (copy / "model.safetensors").exists()
    for source, name in ((folder, "a"), (copy, "b")):
        done = run_cli("export", "--checkpoint", source, "--gguf", tmp_path / f"{name}.gguf")
        assert done.code == 0, done.err
    a, b = ((tmp_path / f"{name}.gguf").read_bytes() for name in "ab")
    assert len(a) == len(b) and a[-(1 << 20) :] == b[-(1 << 20) :]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "othing to do"),
        (["--quant", "q9", "--verify"], "type 'q9'"),
        (["--quant", "tq1_0", "--verify"], "not ternary"),
        (["--mhc", "x.mhc"], "othing to do"),
        (["--mhc", "x.mhc", "--verify"], "--mhc goes with a GGUF file"),
        (["--hf", "x", "--dtype", "int8"], "--dtype is 'int8'"),
        (
            ["--hf", "x", "--quant", "q8_0"],
            "--quant, --vocabulary-quant and --lossy are for a GGUF",
        ),
        (["--gguf", "x.gguf", "--dtype", "bf16"], "--dtype is for a transformers folder"),
        (["--gguf", "none/x.gguf"], "no folder"),
        (["--gguf", "-"], "cannot be written to standard output"),
        (["--gguf", "x.gguf", "--mhc", "x.gguf"], "named twice"),
        (["--gguf", "x.gguf", "--vocabulary-quant", "tq1_0"], "cannot be TQ1_0"),
    ],
)
def test_wrong_use_is_one_sentence(
    arguments: list[str], words: str, run_cli, folder: Path, tmp_path: Path
) -> None:
    with contextlib.chdir(tmp_path):
        done = run_cli("export", "--checkpoint", folder, *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err and done.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
