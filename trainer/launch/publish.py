"""`hub.upload`: a completed run goes to the Hugging Face Hub by itself."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import TYPE_CHECKING

from shared.errors import ExitCode, UserError
from shared.run.directory import RunDirectory, slug
from shared.text import one_line
from trainer.config.schema import Config

if TYPE_CHECKING:
    from shared.hub.settings import UploadSettings

Send = Callable[[RunDirectory, "UploadSettings"], None]
"""Uploads a run, showing progress as the caller likes."""


def send_quietly(run: RunDirectory, settings: UploadSettings) -> None:
    """Upload a run without showing progress."""
    from shared.hub.upload import upload_checkpoint

    print(one_line(upload_checkpoint(run, settings), 500), flush=True)


def check_upload(config: Config) -> None:
    """Raise UserError when the run could not be uploaded at its end, as far as is known offline."""
    if not config.hub.upload:
        return
    from huggingface_hub import get_token

    repository(config)
    check_license(config)
    if not get_token():
        raise UserError(
            "--upload sends the model to the Hub when the run is complete, and you are not logged "
            "in: run `hf auth login` once, or set HF_TOKEN."
        )


def repository(config: Config) -> str:
    """The repository of the run: `NAME`, or `OWNER/NAME`. Raises UserError for two owners."""
    name = config.hub.repo or slug(config.name)
    if config.hub.user and "/" in name:
        raise UserError(
            f"hub.repo {one_line(name, 80)} names its owner, and so does hub.user "
            f"{one_line(config.hub.user, 80)}; give one of them."
        )
    return f"{config.hub.user}/{name}" if config.hub.user else name


def check_license(config: Config) -> str:
    """The license for the card. Raises UserError if it is not an identifier."""
    from shared.hub.card import check_identifier

    return check_identifier("hub.license", config.hub.license or "")


def publish(run: RunDirectory, config: Config, send: Send) -> int:
    """Upload a completed run where its configuration asks for it; returns the exit code.

    The run stays completed when the upload fails.
    """
    state = run.read_state()
    if not config.hub.upload or state is None or state.status != "completed":
        return ExitCode.OK
    from shared.hub.settings import UploadSettings

    settings = UploadSettings(
        repo=repository(config),
        private=not config.hub.public,
        license=check_license(config),
    )
    try:
        send(run, settings)
    except UserError as error:
        again = f"trainer upload {shlex.quote(one_line(run.path))} --repo {settings.repo}"
        message = f"The run is complete, but its upload failed: {error} Try again: {again}"
        raise type(error)(message) from error
    return ExitCode.OK
