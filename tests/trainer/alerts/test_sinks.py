"""Each way of telling, by itself: a real server, real programs, a real terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RunCli
from tests.trainer.alerts.conftest import PATH, TOKEN, Server, settings
from tests.waiting import SECONDS
from trainer.alerts.alert import Alert
from trainer.alerts.settings import KINDS
from trainer.alerts.sinks import DeliveryError, Sink, retry_after, sinks_of

ALERT = Alert(
    kind="finished",
    run_id="x_1",
    run_name="a <b> & @everyone",
    host="box",
    step=1000,
    max_steps=1000,
    loss=1.25,
    best_loss=None,
    message="reached step 1000",
    time=1_790_000_000.0,
    runs_dir="/runs",
)


def sink_of(text: str) -> Sink:
    [sink] = sinks_of(settings(text))
    return sink


def webhook(server: Server, **more: Any) -> Sink:
    return sink_of(json.dumps({"webhook": {"url": server.url, **more}}))


# -- the webhook ---------------------------------------------------------------------------------


def test_the_payload_and_the_token(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_TOKEN", TOKEN)
    sink = webhook(server, token_env="HOOK_TOKEN", headers={"X-Team": "lab"})
    sink.deliver(ALERT, 10)
    [posted] = server.posted
    assert posted.path == PATH
    assert posted.headers["Authorization"] == f"Bearer {TOKEN}"
    assert posted.headers["X-Team"] == "lab"
    assert posted.headers["Content-Type"] == "application/json"
    assert posted.body == {
        "kind": "finished",
        "run_id": "x_1",
        "run_name": "a <b> & @everyone",
        "host": "box",
        "step": 1000,
        "max_steps": 1000,
        "loss": 1.25,
        "best_loss": None,
        "message": "reached step 1000",
        "time": 1_790_000_000.0,
        "runs_dir": "/runs",
        "suppressed": 0,
    }
    assert "T0PSECRET" not in sink.name


def test_texts_for_chats_call_nobody(server: Server) -> None:
    webhook(server, format="slack").deliver(ALERT, 10)
    webhook(server, format="discord").deliver(ALERT, 10)
    slack, discord = (p.body for p in server.posted)
    line = "finished: reached step 1000 (step 1,000 of 1,000, loss 1.25, on box)"
    assert slack == {"text": f"a &lt;b&gt; &amp; @everyone: {line}"}
    assert discord == {
        "content": f"a <b> & @everyone: {line}",
        "allowed_mentions": {"parse": []},
    }


def test_ntfy_gets_its_topic_in_the_message(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NTFY_TOKEN", TOKEN)
    url = f"http://127.0.0.1:{server.port}/below/my%20topic"
    sink = sink_of(
        json.dumps({"webhook": {"url": url, "format": "ntfy", "token_env": "NTFY_TOKEN"}})
    )
    sink.deliver(ALERT, 10)
    sink.deliver(replace(ALERT, kind="crashed", message="x" * 9000), 10)
    done, crashed = server.posted
    assert done.path == "/below/"
    assert done.headers["Authorization"] == f"Bearer {TOKEN}"
    assert done.body == {
        "topic": "my topic",
        "title": "a <b> & @everyone: finished",
        "message": ALERT.text,
        "priority": 3,
        "tags": ["white_check_mark"],
    }
    assert crashed.body["priority"] == 4
    assert len(crashed.body["message"].encode()) < 4096  # beyond it ntfy makes it an attachment
    with pytest.raises(DeliveryError, match=r"with the topic: https://ntfy.sh/TOPIC"):
        sink_of(
            json.dumps({"webhook": {"url": f"http://127.0.0.1:{server.port}", "format": "ntfy"}})
        ).deliver(ALERT, 10)


def test_telegram_gets_plain_text_and_says_when_to_try_again(server: Server) -> None:
    sink = webhook(server, format="telegram", chat_id=-100123)
    sink.deliver(ALERT, 10)
    [posted] = server.posted
    assert posted.path == PATH
    assert posted.body == {
        "chat_id": -100123,
        "text": ALERT.text,
        "link_preview_options": {"is_disabled": True},
    }
    answer = {"ok": False, "error_code": 429, "parameters": {"retry_after": 4}}
    server.answers.append((429, {}))
    server.bodies.append(json.dumps(answer).encode())
    with pytest.raises(DeliveryError) as told:
        sink.deliver(ALERT, 10)
    assert (told.value.again, told.value.wait) == (True, 4.0)


@pytest.mark.parametrize(
    ("body", "wait"),
    [
        (b'{"retry_after": 0.65}', 0.65),  # Discord
        (b'{"parameters": {"retry_after": "4"}}', None),
        (b'{"retry_after": 1e99}', 300.0),
        (b"[1]", None),
        (b"<html>", None),
        (b"\xff" * 40, None),
        (b"", None),
    ],
)
def test_a_wait_in_the_body_of_a_refusal(server: Server, body: bytes, wait: float | None) -> None:
    server.answers.append((429, {}))
    server.bodies.append(body)
    with pytest.raises(DeliveryError) as told:
        webhook(server, format="discord").deliver(ALERT, 10)
    assert (told.value.again, told.value.wait) == (True, wait)


@pytest.mark.parametrize(
    ("code", "headers", "again", "wait"),
    [
        (500, {}, True, None),
        (503, {"Retry-After": "7"}, True, 7.0),
        (429, {"Retry-After": "1e9"}, True, 300.0),
        (429, {"Retry-After": "soon"}, True, None),
        (400, {"Retry-After": "7"}, False, None),
        (404, {}, False, None),
    ],
)
def test_what_a_server_answers(
    server: Server, code: int, headers: dict[str, str], again: bool, wait: float | None
) -> None:
    server.answers.append((code, headers))
    with pytest.raises(DeliveryError, match=f"answers {code}") as told:
        webhook(server).deliver(ALERT, 10)
    assert (told.value.again, told.value.wait) == (again, wait)


def test_a_date_to_wait_for() -> None:
    now = 1_800_000_000.0
    assert retry_after(formatdate(now + 60, usegmt=True), now=lambda: now) == 60.0
    assert retry_after(formatdate(0)) == 0.0
    assert retry_after("nan") is None
    assert retry_after(None) is None


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_the_token_does_not_follow_a_redirect(
    server: Server, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", TOKEN)
    server.answers.append((code, {"Location": f"http://127.0.0.1:{server.port}/elsewhere"}))
    with pytest.raises(DeliveryError, match="a redirect") as told:
        webhook(server, token_env="HOOK_TOKEN").deliver(ALERT, 10)
    assert len(server.posted) == 1
    assert not told.value.again


def test_nobody_there_and_nobody_answering(server: Server, closed_port: int) -> None:
    nobody = sink_of(f"webhook: {{url: 'http://127.0.0.1:{closed_port}{PATH}'}}")
    with pytest.raises(DeliveryError, match="cannot be reached: Connection refused") as told:
        nobody.deliver(ALERT, 10)
    assert told.value.again
    server.hold.clear()
    with pytest.raises(DeliveryError, match="does not answer within") as told:
        webhook(server, timeout=0.2).deliver(ALERT, 10)
    assert told.value.again
    assert not server.posted


def test_a_name_that_is_none_shows_no_path(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    sink = sink_of(f"webhook: {{url: 'http://no-such-host.invalid{PATH}'}}")
    with pytest.raises(DeliveryError, match="cannot be reached: Name or service") as told:
        sink.deliver(ALERT, 10)
    assert "T0PSECRET" not in str(told.value)


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl to make a certificate with")
def test_a_certificate_nobody_vouches_for_gets_no_token(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    make += ["-subj", "/CN=127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(make, check=True, capture_output=True, timeout=SECONDS)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]

        def serve() -> None:
            with contextlib.suppress(OSError):
                context.wrap_socket(listening.accept()[0], server_side=True)

        thread = threading.Thread(target=serve)
        thread.start()
        sink = sink_of(f"webhook: {{url: 'https://127.0.0.1:{port}{PATH}'}}")
        with pytest.raises(DeliveryError, match="invalid certificate") as told:
            sink.deliver(ALERT, 10)
        thread.join()
    assert not told.value.again


# -- the command ---------------------------------------------------------------------------------

RECORDER = """
import json, os, sys
mine = {k: v for k, v in os.environ.items() if k.startswith("TRAIN_MONITOR_")}
json.dump([json.load(sys.stdin), mine, sys.argv[2:]], open(sys.argv[1], "w"))
"""


def test_a_command_is_given_the_alert(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    command = [sys.executable, "-c", RECORDER, str(out), "$HOME; *"]
    sink_of(json.dumps({"command": command})).deliver(ALERT, 30)
    given, environment, arguments = json.loads(out.read_text())
    assert given == ALERT.to_json()
    assert environment["TRAIN_MONITOR_KIND"] == "finished"
    assert environment["TRAIN_MONITOR_STEP"] == "1000"
    assert environment["TRAIN_MONITOR_BEST_LOSS"] == ""
    assert environment["TRAIN_MONITOR_TEXT"] == ALERT.text
    assert arguments == ["$HOME; *"]  # no shell looks at it


def test_a_shell_only_where_it_is_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = json.dumps({"command": {"run": f"echo $TRAIN_MONITOR_KIND > {out}", "shell": True}})
    sink_of(text).deliver(ALERT, 30)
    assert out.read_text() == "finished\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["/no/such/program"], "cannot be started: No such file"),
        (["sh", "-c", "echo first >&2; echo worse >&2; exit 3"], "ended with exit code 3: worse"),
        (["sh", "-c", "kill -9 $$"], "ended with signal 9"),
    ],
)
def test_a_command_that_fails(command: list[str], message: str) -> None:
    with pytest.raises(DeliveryError, match=message):
        sink_of(json.dumps({"command": command})).deliver(ALERT, 30)


def test_a_command_that_hangs_is_killed_with_all_it_started(
    tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    pids = tmp_path / "pids"
    hang = f"trap '' TERM; sleep 600 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; sleep 600"
    for timeout in (1, 10, 100):  # on a busy machine it may be killed before it has begun
        sink = sink_of(json.dumps({"command": {"run": hang, "shell": True, "timeout": timeout}}))
        with pytest.raises(DeliveryError, match=f"took longer than {timeout} s and was killed"):
            sink.deliver(ALERT, 300)
        if pids.exists():
            break
    for pid in pids.read_text().split():
        wait_until(lambda pid=pid: _is_gone(int(pid)))


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


# -- the terminal and the desktop ----------------------------------------------------------------

RING = """
import sys
from tests.trainer.alerts.test_sinks import ALERT, sink_of
sink_of("bell: true").deliver(ALERT, 5)
"""


def test_the_bell_rings_in_the_terminal_whatever_the_output_is() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        sink = open(os.devnull, "w")  # noqa: PTH123, SIM115
        os.dup2(sink.fileno(), 1)
        os.execv(sys.executable, [sys.executable, "-c", RING])
    heard = b""
    while b"\n" not in heard.partition(b"[ALERT]")[2]:
        try:
            heard += os.read(terminal, 4096)
        except OSError:
            break
    os.waitpid(pid, 0)
    os.close(terminal)
    assert b"\a" in heard
    assert b"[ALERT] a <b> & @everyone: finished" in heard


def test_the_desktop_is_asked_politely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sink: Sink = sink_of("desktop: true")
    with pytest.raises(DeliveryError, match="notify-send is not installed"):
        sink.deliver(ALERT, 5)
    program = tmp_path / "notify-send"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/shown\n')
    program.chmod(0o755)
    sink.deliver(ALERT, 5)
    shown = (tmp_path / "shown").read_text().splitlines()
    assert shown[-2] == "a <b> & @everyone: finished"
    assert shown[-1].startswith("a &lt;b&gt; &amp; @everyone: finished: reached step 1000 (step")
    program.write_text("#!/bin/sh\nexit 2\n")
    with pytest.raises(DeliveryError, match="exit code 2"):
        sink.deliver(ALERT, 5)


# -- trainer alerts test -------------------------------------------------------------------------


def test_the_command_line_says_what_became_of_each(
    tmp_path: Path, run_cli: RunCli, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_URL", server.url)
    file = tmp_path / "alerts.yaml"
    file.write_text("webhook: {url_env: HOOK_URL}\ncommand: 'true'\n")
    code, out, err = run_cli("alerts", "test", "--alerts", file)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "command true: delivered",
        f"webhook http://127.0.0.1:{server.port}: delivered",
    ]
    assert server.posted[0].body["kind"] == "test"
    server.answers.append((500, {}))
    code, out, err = run_cli("alerts", "test", "--alerts", file)
    assert code == 1
    assert f"webhook http://127.0.0.1:{server.port}: failed: answers 500" in out
    assert err == (
        f"trainer: The alert was not delivered by webhook http://127.0.0.1:{server.port}.\n"
    )
    assert PATH not in out + err


def test_the_command_line_without_settings(run_cli: RunCli) -> None:
    code, out, err = run_cli("alerts", "test")
    assert (code, out) == (2, "")
    assert "There are no alert settings" in err
    assert "--alerts" in err


# -- the page ------------------------------------------------------------------------------------


def test_the_page_says_what_is_so() -> None:
    page = (Path(__file__).parents[3] / "docs" / "alerts.md").read_text()
    first, whole, several = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    [webhook] = settings(first).webhook
    assert webhook.format == "slack"
    assert [w.format for w in settings(several).webhook] == ["ntfy", "telegram"]
    found = settings(whole)
    assert found.command is not None
    assert found.command.arguments() == ["notify-me", "--now"]
    assert found == settings(whole.replace("retries: 5", "")), "the page shows the defaults"
    assert found.on == settings("bell: true").on
    assert found.rate_limit == settings("bell: true").rate_limit
    keys = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert keys == ALERT.to_json().keys() | {"nonfinite"}
    assert set(KINDS) == set(found.on.model_dump())
    assert all(f"`{kind}`" in page for kind in KINDS)
