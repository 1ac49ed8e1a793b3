"""From events to what arrives: which, how often, and that nobody waits for it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.control.daemons import DaemonDirectory
from shared.ownership.lock import RunLock
from shared.run.directory import RunDirectory
from shared.run_writer import RunWriter
from tests.trainer.alerts.conftest import ENDED, TOKEN, Server, Wait, event, settings
from trainer.alerts.alert import Alert
from trainer.alerts.alerter import Alerter, alerts_of_run, is_told_by_daemon
from trainer.alerts.limits import RateLimiter
from trainer.alerts.settings import VARIABLE, AlertSettings, RateLimit
from trainer.alerts.sinks import sinks_of

ALL = "on: {new_best: true}\nbell: true\nrate_limit: {per_run_seconds: 0, per_hour: 1000}"


class Ear:
    """A sink that remembers. While `hold` is cleared it hangs, as a slow endpoint does."""

    name = "ear"
    retries = 0

    def __init__(self) -> None:
        self.heard: list[Alert] = []
        self.hold = threading.Event()
        self.hold.set()

    def deliver(self, alert: Alert, limit: float) -> None:
        self.hold.wait(limit)
        self.heard.append(alert)

    @property
    def kinds(self) -> list[str]:
        return [a.kind for a in self.heard]


@pytest.fixture
def ear() -> Ear:
    return Ear()


def alerter_of(text: str, **options: Any) -> Alerter:
    # The state of these runs is not that of the events, so there is nothing to wait for.
    return Alerter(settings(text), state_seconds=0.02, **options)


def hook(server: Server, **more: Any) -> AlertSettings:
    webhook = {"url": server.url, **more}
    limits = {"per_run_seconds": 0, "per_hour": 1000}
    return settings(json.dumps({"webhook": webhook, "rate_limit": limits}))


# -- which ---------------------------------------------------------------------------------------


def heard_of(ear: Ear, run: RunDirectory, text: str, *records: dict[str, Any]) -> list[str]:
    alerter = alerter_of(text, sinks=[ear])
    for record in records:
        alerter.notice(run, record)
    alerter.close(60)
    return ear.kinds


FAILED = event("status", status="failed", previous="running", code=1, reason="ValueError: x")


def test_what_is_worth_an_alert(ear: Ear, run: RunDirectory) -> None:
    kinds = heard_of(
        ear,
        run,
        ALL,
        event("started", previous_status=None, pid=1),
        event("status", status="running", previous="initializing"),
        event("new_best", metric="val_loss", value=1.25),
        event("spike", loss=9.0, zscore=7.0, skipped=True),
        event("rolled_back", message="back to step 20", from_step=40, to_step=20),
        event("advice", rule="plateau", message="The loss stands still"),
        event("alarm", alarm="disk", message="No room"),
        event("alarm", alarm="directory", message="Gone"),
        event("alarm", alarm="other", message="Something"),
        event("alarm_over", alarm="disk", message="Room"),
        event("crashed", message="killed by signal 9", code=-9, signal=9),
        FAILED,
        event("status", status="cancelled", previous="running", reason="asked"),
        event("status", status="preempted", previous="running", reason="SIGTERM"),
    )
    assert kinds == [
        "new_best",
        "rolled_back",
        "advice",
        "disk_low",
        "disk_low",
        "crashed",
        "failed",
    ]
    messages = [a.message for a in ear.heard]
    assert messages[0] == "val_loss 1.25"
    assert messages[-1] == "ValueError: x"
    assert ear.heard[0].best_loss == 1.25


def test_an_alert_knows_the_run(ear: Ear, run: RunDirectory) -> None:
    heard_of(ear, run, ALL, ENDED)
    [alert] = ear.heard
    assert (alert.kind, alert.run_id, alert.run_name) == ("finished", run.run_id, "my model")
    assert (alert.step, alert.max_steps, alert.loss, alert.best_loss) == (40, 100, 1.5, 1.5)
    assert (alert.message, alert.runs_dir) == ("reached step 100", str(run.path.parent))


def test_a_divergence_is_told_once(ear: Ear, run: RunDirectory) -> None:
    diverged = event("diverged", message="three rollbacks", first_bad_step=9)
    assert heard_of(ear, run, ALL, diverged, FAILED) == ["diverged"]
    ear.heard.clear()
    assert heard_of(ear, run, ALL.replace("on: {", "on: {diverged: false, "), diverged, FAILED) == [
        "failed"
    ]
    ear.heard.clear()
    again = event("started", previous_status="failed", pid=2)
    assert heard_of(ear, run, ALL, diverged, again, FAILED) == ["diverged", "failed"]


def test_a_stall_is_told_once_though_two_watch_for_it(ear: Ear, run: RunDirectory) -> None:
    stalled, over = event("stalled", message="no step for 31 s"), event("stall_over", message="")
    kinds = heard_of(ear, run, ALL, stalled, stalled, over, over, stalled)
    assert kinds == ["stalled", "stalled"]


def test_what_is_switched_off_is_not_told(ear: Ear, run: RunDirectory) -> None:
    off = "on: {finished: false}\nbell: true"
    assert heard_of(ear, run, off, ENDED, event("new_best", metric="loss", value=1.0)) == []


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"event": None},
        {"event": "crashed", "message": 7, "step": "x", "time": None},
        {"event": "status", "status": ["completed"]},
        {"event": "alarm", "alarm": {}},
        {"event": "new_best", "value": "low"},
    ],
)
def test_strange_records_are_no_trouble(
    ear: Ear, run: RunDirectory, record: dict[str, Any]
) -> None:
    assert heard_of(ear, run, ALL, record, ENDED)[-1] == "finished"


# -- how often -----------------------------------------------------------------------------------


def test_the_limit_of_a_run_and_of_an_hour() -> None:
    clock = [0.0]
    limiter = RateLimiter(RateLimit(per_run_seconds=60, per_hour=3), clock=lambda: clock[0])

    def admit(run: str, kind: str = "stalled", *, is_end: bool = False) -> bool:
        return limiter.admit(run, kind, is_end=is_end)

    assert admit("a")
    clock[0] += 59
    assert not admit("a")
    assert admit("a", "rolled_back")  # another kind
    assert admit("b")  # another run
    clock[0] += 1
    assert not admit("a")  # the hour's three are out
    assert admit("a", "crashed", is_end=True)  # an end is told all the same
    assert not admit("a", "crashed", is_end=True)  # but not again and again
    assert limiter.take_suppressed("a") == 3
    assert limiter.take_suppressed("a") == 0
    clock[0] += 3600
    assert admit("a")


def test_what_was_held_back_is_told_in_the_next_one(
    ear: Ear, run: RunDirectory, wait_until: Wait
) -> None:
    clock = [0.0]
    alerter = alerter_of("bell: true", sinks=[ear], clock=lambda: clock[0])
    disk = event("alarm", alarm="disk", message="No room")
    for _ in range(4):
        alerter.notice(run, disk)
    alerter.notice(run, ENDED)
    wait_until(lambda: len(ear.heard) == 2)
    clock[0] = 61
    alerter.notice(run, disk)
    alerter.close(60)
    assert [(a.kind, a.suppressed) for a in ear.heard] == [
        ("disk_low", 0),
        ("finished", 3),
        ("disk_low", 0),
    ]
    assert "3 more were held back" in ear.heard[1].text


def test_a_flood_is_bounded_and_counted(ear: Ear, run: RunDirectory) -> None:
    ear.hold.clear()
    alerter = alerter_of(ALL, sinks=[ear])
    for _ in range(5000):  # it does not wait for the sink, which hangs
        alerter.notice(run, event("crashed", message="again"))
    assert not ear.heard
    ear.hold.set()
    alerter.close(60)
    assert len(ear.heard) <= 1200


# -- over the network ----------------------------------------------------------------------------


def quick(attempt: int) -> float:
    """A back-off for people in a hurry."""
    return 0.01 * 2**attempt


def test_it_is_tried_again(server: Server, run: RunDirectory, wait_until: Wait) -> None:
    server.answers.extend([(500, {}), (502, {})])
    warnings: list[str] = []
    alerter = Alerter(hook(server), warnings.append, back_off=quick)
    alerter.notice(run, ENDED)
    wait_until(lambda: len(server.posted) == 3)
    alerter.close(60)
    assert server.kinds() == ["finished"] * 3
    assert warnings == []


def test_it_is_tried_again_until_somebody_is_there(
    run: RunDirectory, server: Server, closed_port: int, wait_until: Wait
) -> None:
    tries: list[int] = []

    class Moving:
        """An endpoint that comes back, elsewhere as far as this test goes."""

        name, retries = "webhook", 5

        def deliver(self, alert: Alert, limit: float) -> None:
            [sink] = sinks_of(hook(server)) if 2 in tries else sinks_of(settings(nobody))
            sink.deliver(alert, limit)

    def then_there(attempt: int) -> float:
        tries.append(attempt)
        return 0.01

    nobody = f"webhook: {{url: 'http://127.0.0.1:{closed_port}/x'}}"
    alerter = Alerter(settings(nobody), sinks=[Moving()], back_off=then_there)
    alerter.notice(run, ENDED)
    wait_until(lambda: server.posted)
    alerter.close(60)
    assert tries == [0, 1, 2]


def test_what_the_server_asks_for_is_kept_to(
    server: Server, run: RunDirectory, wait_until: Wait
) -> None:
    server.answers.append((429, {"Retry-After": "0.4"}))
    alerter = Alerter(hook(server), back_off=lambda _: 0.0)
    alerter.notice(run, ENDED)
    wait_until(lambda: len(server.posted) == 2)
    alerter.close(60)
    assert server.posted[1].at - server.posted[0].at >= 0.4


def test_giving_up_is_told_once_and_shows_no_secret(
    server: Server,
    run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    wait_until: Wait,
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", TOKEN)
    monkeypatch.setenv("HOOK_URL", server.url)
    webhook = {"url_env": "HOOK_URL", "token_env": "HOOK_TOKEN", "retries": 2}
    limits = {"per_run_seconds": 0}
    found = settings(json.dumps({"webhook": webhook, "rate_limit": limits}))
    warnings: list[str] = []

    def warn(message: str) -> None:
        warnings.append(message)
        print(message, flush=True)

    server.answers.extend([(500, {})] * 6)
    alerter = Alerter(found, warn, back_off=quick)
    alerter.notice(run, ENDED)
    alerter.notice(run, ENDED)
    wait_until(lambda: len(server.posted) == 6)
    wait_until(lambda: alerter.held_back(run.run_id) == 2)
    alerter.notice(run, ENDED)  # it works again
    wait_until(lambda: len(server.posted) == 7)
    server.answers.append((403, {}))
    alerter.notice(run, ENDED)
    alerter.close(60)
    assert len(warnings) == 2
    assert f"webhook http://127.0.0.1:{server.port} answers 500; finished was not" in warnings[0]
    assert "answers 403" in warnings[1]
    assert server.posted[6].body["suppressed"] == 2  # those that got lost
    shown = "".join(capfd.readouterr()) + repr(found) + repr(vars(alerter))
    shown += "".join(p.read_text() for p in run.path.glob("*") if p.is_file())
    assert TOKEN not in shown
    assert "T0PSECRET" not in shown


def test_a_slow_server_delays_neither_the_run_nor_its_end(
    server: Server, run: RunDirectory
) -> None:
    """All of this comes back while the server does not answer."""
    server.hold.clear()
    alerter = Alerter(hook(server), lambda _: None, back_off=quick)
    for _ in range(100):
        alerter.notice(run, ENDED)
    alerter.close(0.5)
    alerter.notice(run, ENDED)  # too late, and no harm
    assert not server.posted


def test_a_slow_way_of_telling_does_not_hold_up_the_others(
    server: Server, run: RunDirectory, wait_until: Wait
) -> None:
    slow, fast = Ear(), Ear()
    slow.hold.clear()
    alerter = alerter_of(ALL, sinks=[slow, fast])
    alerter.notice(run, ENDED)
    wait_until(lambda: fast.heard)
    assert not slow.heard
    slow.hold.set()
    alerter.close(60)
    assert slow.kinds == ["finished"]


def test_the_end_gives_what_waits_one_more_try(
    server: Server, run: RunDirectory, wait_until: Wait
) -> None:
    server.answers.append((500, {}))
    alerter = Alerter(hook(server), back_off=lambda _: 3600.0)
    alerter.notice(run, ENDED)
    wait_until(lambda: server.posted)
    alerter.close(60)
    assert len(server.posted) == 2


def test_the_end_does_not_try_for_ever(server: Server, run: RunDirectory, wait_until: Wait) -> None:
    server.answers.extend([(500, {})] * 9)
    alerter = Alerter(hook(server), lambda _: None, back_off=lambda _: 3600.0)
    alerter.notice(run, ENDED)
    wait_until(lambda: server.posted)
    alerter.close(60)
    assert len(server.posted) == 2


EXITING = """
import sys
from pathlib import Path
from shared.run.directory import RunDirectory
from tests.trainer.alerts.conftest import ENDED, settings
from trainer.alerts.alerter import Alerter
alerter = Alerter(settings(sys.argv[2]))
alerter.notice(RunDirectory(Path(sys.argv[1])), ENDED)
print("noticed", flush=True)
if sys.argv[3] == "close":
    alerter.close(0.5)
"""


@pytest.mark.parametrize("ending", ["close", "forget"])
def test_a_process_ends_though_its_endpoint_hangs(
    server: Server, run: RunDirectory, ending: str
) -> None:
    server.hold.clear()
    text = json.dumps({"webhook": {"url": server.url, "timeout": 60}})
    command = [sys.executable, "-c", EXITING, str(run.path), text, ending]
    result = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    assert result.stderr == ""
    assert not server.posted  # it has still not been answered


# -- a run on its own ----------------------------------------------------------------------------


def write_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    file = tmp_path / "alerts.yaml"
    file.write_text(text)
    monkeypatch.setenv(VARIABLE, str(file))
    return file


def test_a_run_tells_of_its_own_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    write_settings(tmp_path, monkeypatch, json.dumps({"webhook": {"url": server.url}}))
    from shared.run.directory import create_run

    run = create_run(tmp_path / "runs", "mine")
    alerter = alerts_of_run(run)
    assert alerter is not None
    listen: Callable[[dict[str, Any]], None] = lambda record: alerter.notice(run, record)  # noqa: E731
    with (
        pytest.raises(ValueError, match="broken"),
        RunWriter(run=run, max_steps=9, listener=listen) as writer,
    ):
        writer.log(3, loss=float("nan"))
        raise ValueError("broken")
    alerter.close(60)
    [posted] = server.posted
    assert posted.body["kind"] == "failed"
    assert posted.body["message"] == "ValueError: broken"
    assert (posted.body["step"], posted.body["max_steps"]) == (3, 9)
    assert posted.body["loss"] is None
    assert posted.body["nonfinite"] == {"loss": "nan"}


def test_a_run_is_silent_while_its_daemon_tells(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: Server,
    run: RunDirectory,
    wait_until: Wait,
) -> None:
    limits = {"per_run_seconds": 0}
    text = json.dumps({"webhook": {"url": server.url}, "rate_limit": limits})
    write_settings(tmp_path, monkeypatch, text)
    daemon = DaemonDirectory.of(run.path.parent)
    daemon.path.mkdir(parents=True)
    lock = RunLock(daemon.lock_path)
    lock.acquire()
    (daemon.path / "heartbeat").write_bytes(run.heartbeat_path.read_bytes())  # this process's

    def care(*, alerts: bool, runs: dict[str, Any]) -> None:
        daemon.state_path.write_text(json.dumps({"alerts": alerts, "runs": runs}))

    asked: list[bool] = []

    def told_by_daemon(run: RunDirectory) -> bool:
        asked.append(is_told_by_daemon(run))
        return asked[-1]

    alerter = alerts_of_run(run, told_by_daemon=told_by_daemon)
    assert alerter is not None
    for number, (alerts, runs) in enumerate(
        [(True, {}), (False, {run.run_id: {}}), (True, {run.run_id: {}})]
    ):
        care(alerts=alerts, runs=runs)
        alerter.notice(run, ENDED)
        wait_until(lambda count=number: len(asked) == count + 1)
    assert asked == [False, False, True]
    lock.release()
    alerter.notice(run, ENDED)  # its daemon is gone
    alerter.close(60)
    assert len(server.posted) == 3


def test_wrong_settings_stop_a_start_but_no_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: RunDirectory
) -> None:
    from shared.errors import UserError

    write_settings(tmp_path, monkeypatch, "bel: true")
    with pytest.raises(UserError, match="did you mean bell"):
        alerts_of_run(run)
    warnings: list[str] = []
    assert alerts_of_run(run, warnings.append, strict=False) is None
    assert "alerts are off" in warnings[0]
    monkeypatch.setenv(VARIABLE, "")
    assert alerts_of_run(run) is None
