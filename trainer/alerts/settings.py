"""`alerts.yaml`: which alerts a person wants, and how they are sent.

The file belongs to a person, not to a run. It holds no secrets except perhaps a webhook's address:
tokens come from the environment or from files of their own.
"""

from __future__ import annotations

import os
import re
import shlex
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from shared.errors import UserError
from shared.files import expand_user
from shared.run.directory import RunDirectory
from shared.text import nearest, one_line
from shared.yaml_text import DuplicateKeyError
from trainer.config.resolve import parse_yaml, read_text
from trainer.config.section import Section

VARIABLE = "TRAINER_ALERTS"
#: The kinds of alerts.
KINDS = (
    "finished",
    "failed",
    "crashed",
    "stalled",
    "diverged",
    "rolled_back",
    "disk_low",
    "advice",
    "new_best",
)
_SECRET_HEADER = re.compile(r"authorization|cookie|token|secret|password|api-?key", re.IGNORECASE)
_NO_TOKEN_HERE = (
    "would put a secret into this file; name an environment variable with token_env, or a file "
    "with token_file"
)


class Switches(Section):
    """Which kinds of alerts are sent."""

    finished: bool = True
    failed: bool = True
    crashed: bool = True
    stalled: bool = True
    diverged: bool = True
    rolled_back: bool = True
    disk_low: bool = True
    advice: bool = True
    new_best: bool = False


class CommandSettings(Section):
    """A program that receives the alert. `run` is a string or a list of arguments."""

    run: str | tuple[str, ...]
    shell: bool = False
    timeout: float = Field(30.0, gt=0, le=3600)  # seconds

    @model_validator(mode="after")
    def _check(self) -> Self:
        try:
            empty = not self.arguments()
        except ValueError as error:
            raise ValueError(
                f"cannot be split into arguments ({error}); write it as a list"
            ) from None
        if empty:
            raise ValueError("must name a program")
        if self.shell and not isinstance(self.run, str):
            raise ValueError("with shell must be one string, not a list")
        if not self.shell and isinstance(self.run, str):
            lexer = shlex.shlex(self.run, posix=True, punctuation_chars=True)
            if any(set(word) <= set("();<>|&") for word in lexer if word):
                raise ValueError("has shell operators; write {run: …, shell: true} to use a shell")
        return self

    def arguments(self) -> list[str]:
        """The arguments to execute."""
        if isinstance(self.run, str):
            return ["/bin/sh", "-c", self.run] if self.shell else shlex.split(self.run)
        return list(self.run)


class WebhookSettings(Section):
    """An address that alerts are POSTed to. Its secrets are read when they are needed."""

    url: str | None = Field(None, repr=False)
    url_env: str | None = None
    url_file: Path | None = None
    headers: Mapping[str, str] = Field(default_factory=dict, repr=False)
    token_env: str | None = None  # sent as `Authorization: Bearer …`
    token_file: Path | None = None
    timeout: float = Field(10.0, gt=0, le=300)  # seconds, for each try
    retries: int = Field(5, ge=0, le=100)
    format: Literal["json", "slack", "discord", "ntfy", "telegram"] = "json"
    chat_id: str | int | None = None  # of Telegram: a number, or @channel

    @model_validator(mode="after")
    def _check(self) -> Self:
        if sum(x is not None for x in (self.url, self.url_env, self.url_file)) != 1:
            raise ValueError("needs one of url, url_env and url_file")
        if (self.chat_id is None) == (self.format == "telegram"):
            raise ValueError("needs chat_id with format: telegram, and only there")
        if self.token_env and self.token_file:
            raise ValueError("has both token_env and token_file; one is enough")
        for name, value in self.headers.items():
            if _SECRET_HEADER.search(name):
                raise ValueError(f"has a header {one_line(name, 40)} that {_NO_TOKEN_HERE}")
            if not re.fullmatch(r"[!-9;-~]+", name) or not value.isprintable():
                raise ValueError(f"has a header {one_line(name, 40)!r} that cannot be sent")
        return self

    def address(self) -> str:
        """The URL. Raises UserError if it is missing or invalid, without quoting it."""
        secret = _read_secret("webhook.url", self.url, self.url_env, self.url_file)
        try:
            parts = urllib.parse.urlsplit(secret)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname)
            usable = usable and parts.port != 0 and "@" not in parts.netloc
        except ValueError:
            usable = False
        if not usable or not re.fullmatch(r"[!-~]+", secret):
            raise UserError(
                "The address of the alerts' webhook is not a URL of the form https://host/path."
            )
        return secret

    def token(self) -> str | None:
        """The bearer token, if there is one. Raises UserError if it cannot be read."""
        if self.token_env is None and self.token_file is None:
            return None
        token = _read_secret("webhook.token", None, self.token_env, self.token_file)
        if not re.fullmatch(r"[!-~]+", token):
            raise UserError(
                "The token of the alerts' webhook has characters that a token cannot have."
            )
        return token


class RateLimit(Section):
    """Limits on how often alerts are sent."""

    per_run_seconds: float = Field(60.0, ge=0, le=1e6)  # between alerts of one kind of one run
    per_hour: int = Field(60, ge=1, le=100_000)  # of all runs together


class AlertSettings(Section):
    """All of `alerts.yaml`."""

    on: Switches = Switches()
    command: CommandSettings | None = None
    webhook: tuple[WebhookSettings, ...] = ()
    bell: bool = False
    desktop: bool = False
    rate_limit: RateLimit = RateLimit()


#: For the suggestion at an unknown key.
_SECTIONS: dict[str, type[BaseModel]] = {
    "on": Switches,
    "command": CommandSettings,
    "webhook": WebhookSettings,
    "rate_limit": RateLimit,
}


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """The path of a person's own settings."""
    home = environment.get("XDG_CONFIG_HOME") or ""
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".config"
    return base / "train-monitor" / "alerts.yaml"


def load_settings(path: Path | None = None) -> AlertSettings | None:
    """The settings of `path`, of $TRAINER_ALERTS, or the person's own; None if there are none.

    An empty $TRAINER_ALERTS switches alerts off. Raises UserError for a named file that is missing,
    for wrong settings, for a file inside a runs directory, and for secrets that cannot be read.
    """
    named = os.environ.get(VARIABLE)
    if path is None and named is not None:
        if not named:
            return None
        path = Path(named)
        if not path.is_file():
            raise UserError(f"${VARIABLE} names {one_line(path)}, which is not a file.")
    if path is None:
        path = default_path()
        if not path.is_file():
            return None
    _refuse_among_runs(path)
    settings = parse_alerts(read_text(path), one_line(path))
    for webhook in settings.webhook:
        webhook.address()
        webhook.token()
    return settings


def parse_alerts(text: str, where: str) -> AlertSettings:
    """The settings in a YAML text; `where` names it in errors. Raises UserError."""
    try:
        raw = parse_yaml(text)
    except DuplicateKeyError as error:
        raise UserError(f"{where}: {error.problem}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise UserError(f"{where} is not valid YAML{line}.") from None  # it might show a secret
    if not isinstance(raw, dict):
        raise UserError(f"{where} must hold keys: {', '.join(AlertSettings.model_fields)}.")
    # In YAML 1.1 a bare `on` is the boolean true.
    value = {"on" if key is True else key: inner for key, inner in raw.items()}
    if isinstance(value.get("command"), (str, list)):
        value["command"] = {"run": value["command"]}
    if isinstance(value.get("webhook"), dict):
        value["webhook"] = [value["webhook"]]
    try:
        settings = AlertSettings.model_validate(value)
    except ValidationError as error:
        several = isinstance(raw.get("webhook"), list)
        problems = [
            _problem(tuple(x for x in e["loc"] if several or type(x) is str), e["type"], e["msg"])
            for e in error.errors()
        ]
        raise UserError(f"{where}: {'; '.join(dict.fromkeys(problems))}.") from None
    if not (settings.command or settings.webhook or settings.bell or settings.desktop):
        raise UserError(
            f"{where} does not say how to send alerts; give it command, webhook, bell or desktop."
        )
    return settings


def _problem(place: tuple[int | str, ...], kind: str, message: str) -> str:
    """What is wrong with a key, without its value, which may be a secret."""
    names = [one_line(x, 40) for x in place]
    key = ".".join(names)
    if kind == "extra_forbidden":
        if names[0] == "webhook" and names[-1] in ("token", "bearer", "password", "secret"):
            return f"{key} {_NO_TOKEN_HERE}"
        section = _SECTIONS.get(names[0], AlertSettings) if len(names) > 1 else AlertSettings
        known = section.model_fields if len(names) > 1 else AlertSettings.model_fields
        return f"unknown key {key}{nearest(names[-1], known)}"
    clause = message.removeprefix("Value error, ").partition(", unable to")[0]
    return f"{key} {re.sub('^Input should be ', 'must be ', clause)}"


def _refuse_among_runs(path: Path) -> None:
    """People share run directories, upload them, and delete them."""
    folder = path.resolve().parent
    if _is_runs_folder(folder) or any(_is_run(p) for p in (folder, *folder.parents)):
        raise UserError(
            f"The alert settings {one_line(path)} are inside a runs directory, where everybody "
            f"who sees the runs can read them; move them to {default_path()}."
        )


def _is_run(folder: Path) -> bool:
    run = RunDirectory(folder)
    return run.state_path.is_file() or (run.metrics_path.is_file() and run.lock_path.exists())


def _is_runs_folder(folder: Path) -> bool:
    try:
        if (folder / ".daemon").is_dir():
            return True
        with os.scandir(folder) as entries:
            return any(_is_run(Path(e.path)) for e in entries if e.is_dir())
    except OSError:
        return False


def _read_secret(key: str, literal: str | None, variable: str | None, file: Path | None) -> str:
    """Read a secret. Raises UserError naming where it should be, never the secret itself."""
    if literal is not None:
        return literal.strip()
    if variable is not None:
        secret = os.environ.get(variable, "").strip()
        if not secret:
            raise UserError(
                f"The alerts' {key}_env names ${one_line(variable, 60)}, which is not set."
            )
        return secret
    assert file is not None
    file = expand_user(file)
    _refuse_among_runs(file)
    try:
        with file.open("rb") as stream:
            secret = stream.read(1 << 16).decode().strip()
    except OSError as error:
        raise UserError(
            f"The alerts' {key}_file {one_line(file)} cannot be read: {error.strerror}."
        ) from error
    except UnicodeDecodeError:
        raise UserError(f"The alerts' {key}_file {one_line(file)} is not a text file.") from None
    if not secret:
        raise UserError(f"The alerts' {key}_file {one_line(file)} is empty.")
    return secret
