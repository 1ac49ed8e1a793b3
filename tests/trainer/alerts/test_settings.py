"""What `alerts.yaml` may say, and where it may lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import UserError
from shared.run.directory import RunDirectory, create_run
from tests.trainer.alerts.conftest import TOKEN, settings
from trainer.alerts.settings import VARIABLE, default_path, load_settings

WHOLE = """
on: {finished: true, stalled: false, new_best: true}
command: [notify, --urgent]
webhook:
  url: https://example.org/hook
  headers: {X-Team: lab}
  token_env: MY_TOKEN
  timeout: 3
  retries: 2
  format: slack
bell: true
desktop: false
rate_limit: {per_run_seconds: 5, per_hour: 7}
"""


def test_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", f" {TOKEN}\n")
    file = tmp_path / "a.yaml"
    file.write_text(WHOLE)
    found = load_settings(file)
    assert found is not None
    on = found.on
    assert (on.finished, on.failed, on.stalled, on.new_best) == (True, True, False, True)
    assert found.command is not None
    assert found.command.arguments() == ["notify", "--urgent"]
    [webhook] = found.webhook
    assert (webhook.address(), webhook.token()) == ("https://example.org/hook", TOKEN)
    assert (found.rate_limit.per_run_seconds, found.rate_limit.per_hour) == (5.0, 7)
    assert "example.org" not in repr(found)
    assert TOKEN not in repr(found)


def test_by_default_all_but_the_new_best_is_told() -> None:
    on = settings("bell: true").on
    assert {k for k, wanted in on.model_dump().items() if not wanted} == {"new_best"}


def test_where_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings() is None  # an empty variable: none are wanted
    monkeypatch.delenv(VARIABLE)
    assert load_settings() is None
    own = default_path()
    assert own == tmp_path / "config" / "train-monitor" / "alerts.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("bell: true\n")
    assert load_settings() is not None
    named = tmp_path / "named.yaml"
    monkeypatch.setenv(VARIABLE, str(named))
    with pytest.raises(UserError, match=f"{VARIABLE} names .*named.yaml, which is not a file"):
        load_settings()
    named.write_text("desktop: true\n")
    found = load_settings()
    assert found is not None
    assert (found.bell, found.desktop) == (False, True)
    monkeypatch.setenv(VARIABLE, "")
    assert load_settings() is None
    with pytest.raises(UserError, match="Cannot read"):
        load_settings(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bel: true", r"unknown key bel \(did you mean bell\?\)"),
        ("on: {finishd: true}\nbell: true", r"on.finishd \(did you mean finished\?\)"),
        ("webhook: {url: 'https://x/y', retry: 1}", r"webhook.retry \(did you mean retries\?\)"),
        ("webhook: {url: 'https://x/y', token: TOP}", "webhook.token would put a secret"),
        ("webhook: {url: 'https://x/y', headers: {Authorization: TOP}}", "would put a secret"),
        ("webhook: {url: 'https://x/y', headers: {X-Api-Key: TOP}}", "name an environment var"),
        ('webhook: {url: "https://x/y", headers: {X: "a\\u0001TOP"}}', "cannot be sent"),
        ("webhook: {format: json}", "needs one of url, url_env and url_file"),
        ("webhook: {url: TOP, url_env: X}", "needs one of url, url_env and url_file"),
        ("webhook: {url: 'https://x/y', token_env: A, token_file: B}", "one is enough"),
        ("command: ''", "must name a program"),
        ("command: 'echo TOP | mail x'", "has shell operators"),
        ('command: "echo \'TOP"', "write it as a list"),
        ("command: {run: [a, b], shell: true}", "must be one string"),
        ("rate_limit: {per_hour: 0}\nbell: true", "per_hour must be greater"),
        ("on: {finished: 3}\nbell: true", "on.finished must be a valid boolean"),
        ("on: {}", "does not say how to send alerts"),
        ("[1]", "must hold keys"),
        ("a: [TOP", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_told_without_the_value(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        settings(text)
    assert "TOP" not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "url", ["ftp://x", "https://", "x", "https://user:TOP@x/y", "http://x:99999/", "http://x/a b"]
)
def test_an_address_that_is_none(tmp_path: Path, url: str) -> None:
    secret = tmp_path / "url"
    secret.write_text(url)
    file = tmp_path / "a.yaml"
    file.write_text(f"webhook: {{url_file: {secret}}}")
    with pytest.raises(UserError, match="not a URL of the form") as told:
        load_settings(file)
    assert "TOP" not in str(told.value)


def test_secrets_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.yaml"
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for text, message in (
        ("url_env: NO_SUCH_URL", r"\$NO_SUCH_URL, which is not set"),
        (f"url_file: {tmp_path / 'nowhere'}", "cannot be read: No such file"),
        (f"url: 'https://x/y', token_file: {empty}", "is empty"),
    ):
        file.write_text(f"webhook: {{{text}}}")
        with pytest.raises(UserError, match=message):
            load_settings(file)
    monkeypatch.setenv("BROKEN", "a\nTOP")
    file.write_text("webhook: {url: 'https://x/y', token_env: BROKEN}")
    with pytest.raises(UserError, match="characters that a token cannot have") as told:
        load_settings(file)
    assert "TOP" not in str(told.value)


def test_nothing_of_it_may_lie_among_runs(tmp_path: Path, run: RunDirectory) -> None:
    runs = run.path.parent
    create_run(runs, "other")
    for folder in (runs, run.path, run.path / "control"):
        file = folder / "alerts.yaml"
        file.write_text("bell: true")
        with pytest.raises(UserError, match="inside a runs directory"):
            load_settings(file)
    token = run.path / "token"
    token.write_text(TOKEN)
    file = tmp_path / "alerts.yaml"
    file.write_text(f"webhook: {{url: 'https://x/y', token_file: {token}}}")
    with pytest.raises(UserError, match="inside a runs directory"):
        load_settings(file)
