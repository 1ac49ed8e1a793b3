"""What a shell completes of `train-monitor`."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from monitor.__main__ import build_parser, main
from monitor.completion import SHELLS

OPTIONS = ("--runs-dir", "--theme", "--web", "--json", "--help", "--show-completion")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_option_is_completed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--show-completion", shell]) == 0
    script = capsys.readouterr().out
    for option in OPTIONS:
        assert option in build_parser().format_help()
        assert (f"-l {option[2:]} " if shell == "fish" else option) in script
    assert "night" in script
    assert "in-browser" not in script


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_reads_its_script(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert main(["--show-completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    subprocess.run([shell, "-n", script], check=True, timeout=60)


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["--run"], ["--runs-dir", "--run"]),
        (["--theme", "n"], ["night"]),
        (["--theme", ""], ["night", "day", "clear"]),
        (["--runs-dir", "ru"], []),  # bash's own: names of files
    ],
)
def test_bash_completes(
    words: list[str], completed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    assert main(["--show-completion", "bash"]) == 0
    ask = f"COMP_CWORD={len(words)}; _train_monitor; echo ${{COMPREPLY[@]}}"
    line = " ".join(word or "''" for word in words)
    done = subprocess.run(
        ["bash", "-c", f"{capsys.readouterr().out}COMP_WORDS=(train-monitor {line}); {ask}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert sorted(done.stdout.split()) == sorted(completed)


def test_another_shell_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--show-completion", "ksh"]) == 2
    assert "'ksh' is none of bash, zsh, fish." in capsys.readouterr().err
