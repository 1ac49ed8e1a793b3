"""`trainer alerts`: test the alerts that `alerts.yaml` configures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trainer.cli.help import command_group

app = command_group("Test the alerts about runs that finish, fail, stall or crash.")


@app.callback()
def alerts() -> None:
    """Test the alerts about runs that finish, fail, stall or crash."""


@app.command("test")
def test(
    alerts: Annotated[
        Path | None,
        typer.Option(
            "--alerts",
            metavar="FILE",
            help="Settings; default: $TRAINER_ALERTS or ~/.config/train-monitor/alerts.yaml.",
        ),
    ] = None,
) -> int:
    """Send one test alert through every configured channel and report the result."""
    import time

    from shared.errors import RunError, UserError
    from shared.ownership.process import host_name
    from trainer.alerts.alert import Alert
    from trainer.alerts.settings import default_path, load_settings
    from trainer.alerts.sinks import DeliveryError, sinks_of

    settings = load_settings(alerts)
    if settings is None:
        raise UserError(
            f"There are no alert settings; write them to {default_path()}, or name a file with "
            "--alerts."
        )
    alert = Alert(
        kind="test",
        run_id="test",
        run_name="trainer alerts test",
        host=host_name(),
        step=None,
        max_steps=None,
        loss=None,
        best_loss=None,
        message="if you can read this, alerts reach you",
        time=time.time(),
        runs_dir="",
    )
    failed: list[str] = []
    for sink in sinks_of(settings):
        try:
            sink.deliver(alert, limit=60.0)
        except DeliveryError as error:
            print(f"{sink.name}: failed: {error}", flush=True)
            failed.append(sink.name)
        else:
            print(f"{sink.name}: delivered", flush=True)
    if failed:
        raise RunError(f"The alert was not delivered by {', '.join(failed)}.")
    return 0
