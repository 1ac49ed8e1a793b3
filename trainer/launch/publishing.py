"""Sending a run to the Hub by itself, once it is complete: `hub.upload`."""

from __future__ import annotations

from shared.errors import ExitCode, UserError
from shared.run.directory import RunDirectory, slug
from shared.text import one_line
from trainer.config.schema import Config


def check_upload(config: Config) -> None:
    """Raise UserError when the run could not be sent at its end, as far as can be told offline."""
    if not config.hub.upload:
        return
    from huggingface_hub import get_token

    repository(config)
    if not get_token():
        raise UserError(
            "--upload sends the model to the Hub when the run is complete, and you are not logged "
            "in there: run `hf auth login` once, or set HF_TOKEN."
        )


def repository(config: Config) -> str:
    """Where the run goes: `NAME`, or `OWNER/NAME`. Raises UserError for what is no such name."""
    name = config.hub.repo or slug(config.name)
    if config.hub.user and "/" in name:
        raise UserError(
            f"hub.repo {one_line(name, 80)} names its owner, and so does hub.user "
            f"{one_line(config.hub.user, 80)}; give one of them."
        )
    return f"{config.hub.user}/{name}" if config.hub.user else name


def publish(run: RunDirectory, config: Config) -> int:
    """Upload what came of a complete run, where that was asked for; the exit code.

    The run is complete whatever becomes of it.
    """
    state = run.read_state()
    if not config.hub.upload or state is None or state.status != "completed":
        return ExitCode.OK
    from shared.hub.settings import UploadSettings
    from trainer.cli.hub.upload import send

    settings = UploadSettings(repo=repository(config), private=not config.hub.public)
    try:
        return send(run, settings, dry_run=False)
    except UserError as error:
        again = f"trainer upload {one_line(run.path)} --repo {settings.repo}"
        message = (
            f"The run is complete, but it could not be sent to the Hub: {error} Again: {again}"
        )
        raise type(error)(message) from error
