"""Where alerts go: a command, a webhook, the terminal's bell, the desktop."""

from __future__ import annotations

import contextlib
import email.utils
import html
import math
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from shared import __version__
from shared.errors import UserError
from shared.json_text import encode_line
from shared.text import one_line
from trainer.alerts.alert import Alert
from trainer.alerts.payloads import PAYLOADS, asked_to_wait
from trainer.alerts.settings import AlertSettings, CommandSettings, WebhookSettings

if TYPE_CHECKING:
    from urllib.error import HTTPError

LONGEST_WAIT = 300.0  # seconds between two tries, even if the server asks for more
_DESKTOP_TIMEOUT = 10.0
_TRANSIENT = frozenset({408, 425, 429})
_MAX_ANSWER = 1 << 16  # bytes of a refusal


class DeliveryError(Exception):
    """An alert could not be delivered. The message holds no secret and may be shown.

    `again` says that another try may succeed, after `wait` seconds if the other side named them.
    """

    def __init__(self, message: str, *, again: bool = False, wait: float | None = None) -> None:
        super().__init__(message)
        self.again = again
        self.wait = wait


class Sink(Protocol):
    """One destination. `retries` is how often a failed delivery is repeated."""

    name: str
    retries: int

    def deliver(self, alert: Alert, limit: float) -> None:
        """Deliver the alert within about `limit` seconds. Raises DeliveryError."""


def sinks_of(settings: AlertSettings) -> list[Sink]:
    """The configured sinks."""
    sinks: list[Sink] = []
    if settings.command:
        sinks.append(CommandSink(settings.command))
    sinks += [WebhookSink(webhook) for webhook in settings.webhook]
    if settings.bell:
        sinks.append(BellSink())
    if settings.desktop:
        sinks.append(DesktopSink())
    return sinks


def back_off(attempt: int) -> float:
    """Seconds before the next try: 1, 2, 4, … up to a minute, each shortened at random.

    Random, so that many runs that lost the same server do not all come back at once.
    """
    return min(60.0, 2.0**attempt) * random.uniform(0.5, 1.0)


class CommandSink:
    """Runs a program with the alert as JSON on its input and in its environment."""

    retries = 0

    def __init__(self, settings: CommandSettings) -> None:
        self._settings = settings
        self._arguments = settings.arguments()
        shown = settings.run if isinstance(settings.run, str) else settings.run[0]
        self.name = f"command {one_line(shown.split()[0], 60)}"

    def deliver(self, alert: Alert, limit: float) -> None:
        """Raises DeliveryError when it cannot be started, fails, or takes too long."""
        timeout = min(limit, self._settings.timeout)
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    self._arguments,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    env={**os.environ, **environment_of(alert)},
                    start_new_session=True,  # so that its children can be killed with it
                )
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "it cannot be run"
                raise DeliveryError(f"cannot be started: {reason}") from None
            try:
                process.communicate(alert.encode() + b"\n", timeout)
            except subprocess.TimeoutExpired:
                raise DeliveryError(f"took longer than {timeout:.0f} s and was killed") from None
            finally:
                if process.poll() is None:
                    with contextlib.suppress(OSError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            if process.returncode != 0:
                raise DeliveryError(f"ended with {_exit(process.returncode)}{_last_line(errors)}")


def environment_of(alert: Alert) -> dict[str, str]:
    """The alert as TRAIN_MONITOR_* variables; unknown values are empty."""
    values = {**alert.to_json(), "text": alert.text}
    return {
        f"TRAIN_MONITOR_{key.upper()}": "" if value is None else str(value).replace("\0", "")
        for key, value in values.items()
    }


def _exit(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"


def _last_line(errors: Any) -> str:
    errors.seek(max(0, errors.seek(0, os.SEEK_END) - 4096))
    lines = [x for x in errors.read().decode("utf-8", "replace").splitlines() if x.strip()]
    return f": {one_line(lines[-1], 200)}" if lines else ""


class WebhookSink:
    """POSTs the alert to an address, whose path and token are secrets and never shown."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self.retries = settings.retries
        parts = urllib.parse.urlsplit(settings.address())
        port = f":{parts.port}" if parts.port else ""
        self.name = f"webhook {parts.scheme}://{parts.hostname}{port}"

    def deliver(self, alert: Alert, limit: float) -> None:
        """Raises DeliveryError unless the answer is a 2xx. Redirects are not followed."""
        import http.client
        import urllib.error
        import urllib.request

        class NoRedirects(urllib.request.HTTPRedirectHandler):
            def redirect_request(self, *_: Any) -> None:
                """A redirect must not receive the token."""

        timeout = min(limit, self._settings.timeout)
        try:
            headers = {
                "User-Agent": f"train-monitor/{__version__}",
                **self._settings.headers,
                "Content-Type": "application/json",
            }
            token = self._settings.token()
            if token:
                headers["Authorization"] = f"Bearer {token}"
            payload = PAYLOADS[self._settings.format]
            url, body = payload(alert, self._settings.address(), self._settings)
            request = urllib.request.Request(url, encode_line(body), headers, method="POST")
            opener = urllib.request.build_opener(NoRedirects)
            with opener.open(request, timeout=timeout):
                return
        except UserError as error:
            raise DeliveryError(str(error).rstrip(".")) from None
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except urllib.error.URLError as error:
            raise _unreachable(error.reason, timeout) from None
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(error, timeout) from None
        except ValueError:  # its message may hold a header
            raise DeliveryError("cannot be used: its address or a header is malformed") from None


def _refusal(error: HTTPError) -> DeliveryError:
    code = error.code
    if 300 <= code < 400:
        return DeliveryError(f"answers {code}, a redirect; use the address it leads to")
    if code >= 500 or code in _TRANSIENT:
        wait = _wait(error) if code in (429, 503) else None
        return DeliveryError(f"answers {code}", again=True, wait=wait)
    return DeliveryError(f"answers {code}")


def _wait(error: HTTPError) -> float | None:
    """The seconds that a refusal asks to wait, in its header or else in its body."""
    named = retry_after(error.headers.get("Retry-After"))
    if named is not None:
        return named
    try:
        body = error.read(_MAX_ANSWER)
    except (OSError, ValueError):
        return None
    seconds = asked_to_wait(body)
    return None if seconds is None else retry_after(str(seconds))


def _unreachable(reason: object, timeout: float) -> DeliveryError:
    if isinstance(reason, TimeoutError):
        return DeliveryError(f"does not answer within {timeout:.0f} s", again=True)
    import ssl

    if isinstance(reason, ssl.SSLCertVerificationError):
        return DeliveryError(f"has an invalid certificate: {reason.verify_message}")
    told = getattr(reason, "strerror", None) or type(reason).__name__
    return DeliveryError(f"cannot be reached: {one_line(told, 100)}", again=True)


def retry_after(value: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Seconds to wait, from the header's number or date; None for anything else."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - now()
        except (ValueError, OverflowError):
            return None
    return None if math.isnan(seconds) else min(LONGEST_WAIT, max(0.0, seconds))


class BellSink:
    """Rings the bell of the terminal the process was started from, and writes a line."""

    name = "bell"
    retries = 0

    def deliver(self, alert: Alert, limit: float) -> None:
        """Raises DeliveryError when there is no terminal."""
        try:
            terminal = os.open("/dev/tty", os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            raise DeliveryError("this process has no terminal") from None
        try:
            os.write(terminal, f"\a\r\n[ALERT] {one_line(alert.text, 1000)}\r\n".encode())
        except OSError as error:
            raise DeliveryError(f"the terminal is gone: {error.strerror}") from None
        finally:
            os.close(terminal)


class DesktopSink:
    """Shows a desktop notification, through `notify-send`."""

    name = "desktop"
    retries = 0

    def deliver(self, alert: Alert, limit: float) -> None:
        """Raises DeliveryError when it cannot be shown."""
        program = shutil.which("notify-send")
        if program is None:
            raise DeliveryError("notify-send is not installed")
        body = html.escape(alert.text, quote=False)
        arguments = [program, "--app-name=train-monitor", "--", alert.title, body]
        try:
            subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=min(limit, _DESKTOP_TIMEOUT),
                check=True,
            )
        except subprocess.CalledProcessError as error:
            raise DeliveryError(f"notify-send ended with {_exit(error.returncode)}") from None
        except (OSError, subprocess.SubprocessError):
            raise DeliveryError("notify-send cannot be run, or hangs") from None
