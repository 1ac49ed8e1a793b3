"""`trainer upload` and `hf-upload`, as a person gives them."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from shared.run.directory import RunDirectory
from tests.conftest import RunCli
from tests.hub_server import TOKEN, HubServer
from trainer.cli.hub.hf_upload import main as hf_upload
from trainer.cli.main import main as trainer


def test_upload(run: RunDirectory, hub: HubServer, run_cli: RunCli) -> None:
    output = run_cli("upload", run.path, "--repo", "lab/tiny", "--license", "mit")
    assert output.code == 0, output.err
    assert output.out == f"step_12 is at {hub.url}/lab/tiny (private, 9 files)\n"
    assert [line.split()[0] for line in output.err.splitlines()] == [
        "checking",
        "sending",
        "committing",
    ]
    again = run_cli("upload", run.run_id, "4", "--runs-dir", run.path.parent)
    assert again.out.startswith("step_4 is at ") and "/lab/tiny" in again.out
    assert TOKEN not in output.out + output.err + again.out + again.err


def test_a_dry_run_sends_nothing(run: RunDirectory, hub: HubServer, run_cli: RunCli) -> None:
    output = run_cli("upload", run.path, "--dry-run")
    assert output.code == 0
    assert "README.md" in output.out
    assert "to a repository to be named with --repo, private; nothing was sent" in output.out
    assert hub.requests == []


def test_nobody_to_ask(run: RunDirectory, hub: HubServer, run_cli: RunCli) -> None:
    output = run_cli("upload", run.path)
    assert output.code == 2
    assert output.err.count("\n") == 1
    assert "name one with --repo" in output.err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_name_is_asked_once(
    run: RunDirectory,
    hub: HubServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("tiny\nmit\n"))
    assert trainer(["upload", str(run.path)]) == 0
    asked = capsys.readouterr()
    assert "Logged in as ada." in asked.err
    assert "Repository on the Hub" in asked.err and "Repository" not in asked.out
    assert b"license: mit" in hub.repos["ada/tiny"].files["README.md"]
    monkeypatch.setattr(sys, "stdin", Terminal(""))
    assert trainer(["upload", str(run.path), "4"]) == 0
    assert "Repository" not in capsys.readouterr().err


def test_a_name_asked_for_is_kept_though_the_network_drops(
    run: RunDirectory, hub: HubServer, run_cli: RunCli
) -> None:
    hub.fail("PUT /lfs", 403, "no", times=1)
    assert run_cli("upload", run.path, "--repo", "tiny").code == 2
    state = run.read_state()
    assert state is not None and state.hub_repo == "ada/tiny"
    assert run_cli("upload", run.path).code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["99"], "There is no checkpoint of step 99"),
        (["--license", "a b"], "--license is 'a b'"),
        (["--token-file", "/no/such"], "The token file /no/such cannot be read"),
        (["--privat"], "--private"),
    ],
)
def test_wrong_use_is_one_line(
    run: RunDirectory, hub: HubServer, run_cli: RunCli, arguments: list[str], told: str
) -> None:
    output = run_cli("upload", run.path, "--repo", "tiny", *arguments)
    assert output.code == 2
    assert told in output.err
    assert output.err.count("\n") == 1
    assert hub.repos == {}


def test_the_guides_command(
    run: RunDirectory, hub: HubServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    weights = run.checkpoints / "step_8" / "model.safetensors"
    flags = ["--size", "100m", "--user", "ada", "--final-loss", "1.5", "--steps", "8"]
    cache = tmp_path / "cache"
    assert hf_upload(["--model", str(weights), *flags, "--cache-dir", str(cache)]) == 0
    output = capsys.readouterr()
    assert output.out == f"step_8 is at {hub.url}/ada/tiny-100m (private, 9 files)\n"
    repo = hub.repos["ada/tiny-100m"]
    assert repo.private
    assert repo.files["model.safetensors"] == weights.read_bytes()
    card = repo.files["README.md"].decode()
    assert "| final loss | `1.5` |" in card and "- 100m\n" in card
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "required: -m/--model; see hf-upload --help"),
        (["--model", "/no/such"], "There is no checkpoint at /no/such"),
        (["--model", ".", "--private", "--public"], "not allowed with"),
        (["--model", ".", "--final-loss", "x"], "invalid float value: 'x'"),
    ],
)
def test_wrong_use_of_the_guides_command(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hf_upload(flags) == 2
    error = capsys.readouterr().err
    assert told in error and error.startswith("hf-upload: ")
    assert error.count("\n") == 1


def test_two_owners(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(run.checkpoints / "step_8")
    assert hf_upload(["-m", folder, "-u", "ada", "-r", "lab/x"]) == 2
    assert "name two owners" in capsys.readouterr().err


def test_as_a_process_of_its_own(run: RunDirectory, hub: HubServer, tmp_path: Path) -> None:
    """With what only a real start shows: the endpoint from the environment, Xet installed."""
    import os

    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-m", "trainer.cli.hub.hf_upload", "-m", str(run.path), "-r", "tiny"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert (done.returncode, done.stdout.partition(" ")[0]) == (0, "final"), done.stderr
    assert "Traceback" not in done.stderr and TOKEN not in done.stderr
    assert set(hub.repos) == {"ada/tiny"}


def test_the_door_loads_no_client() -> None:
    code = (
        "import sys, shared.hub.upload, shared.hub.staging, trainer.cli.hub.upload\n"
        "names = ('huggingface_hub', 'httpx2', 'torch', 'textual', 'pydantic')\n"
        "print([n for n in names if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
