"""What each service's webhook is sent: the alert in the form that its documentation asks for."""

from __future__ import annotations

import html
import urllib.parse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from shared.errors import UserError
from shared.json_text import Json

if TYPE_CHECKING:
    from trainer.alerts.alert import Alert
    from trainer.alerts.settings import WebhookSettings

#: The address to POST to, and the object to send.
Posted = tuple[str, Json]
Payload = Callable[["Alert", str, "WebhookSettings"], Posted]

_DISCORD, _TELEGRAM, _SLACK, _NTFY = 2000, 4096, 40_000, 4000  # the longest text of each
_SPARE = 96
#: ntfy's priorities run from 1 to 5, 3 being its default; its tags name emoji.
_URGENT = frozenset({"failed", "crashed", "diverged", "disk_low"})
_TAGS: Mapping[str, str] = {
    "finished": "white_check_mark",
    "failed": "x",
    "crashed": "x",
    "diverged": "x",
    "stalled": "hourglass",
    "rolled_back": "leftwards_arrow_with_hook",
    "disk_low": "floppy_disk",
    "advice": "bulb",
    "new_best": "star",
}


def _json(alert: Alert, url: str, _: WebhookSettings) -> Posted:
    return url, alert.to_json()


def _slack(alert: Alert, url: str, _: WebhookSettings) -> Posted:
    """https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks"""
    return url, {"text": html.escape(_cut(alert.text, _SLACK // 8), quote=False)}


def _discord(alert: Alert, url: str, _: WebhookSettings) -> Posted:
    """https://discord.com/developers/docs/resources/webhook#execute-webhook"""
    return url, {"content": _cut(alert.text, _DISCORD), "allowed_mentions": {"parse": []}}


def _ntfy(alert: Alert, url: str, _: WebhookSettings) -> Posted:
    """https://docs.ntfy.sh/publish/#publish-as-json: to the server's root, the topic inside."""
    parts = urllib.parse.urlsplit(url)
    base, _slash, topic = parts.path.rstrip("/").rpartition("/")
    if not topic or parts.query:
        raise UserError(
            "The address of an ntfy webhook is the server's with the topic: https://ntfy.sh/TOPIC."
        )
    root = urllib.parse.urlunsplit((parts.scheme, parts.netloc, f"{base}/", "", ""))
    message: Json = {
        "topic": urllib.parse.unquote(topic),
        "title": _cut(alert.title, 250),
        "message": _cut(alert.text, _NTFY),
        "priority": 4 if alert.kind in _URGENT else 3,
    }
    if alert.kind in _TAGS:
        message["tags"] = [_TAGS[alert.kind]]
    return root, message


def _telegram(alert: Alert, url: str, settings: WebhookSettings) -> Posted:
    """https://core.telegram.org/bots/api#sendmessage, as plain text: no `parse_mode`."""
    return url, {
        "chat_id": settings.chat_id,
        "text": _cut(alert.text, _TELEGRAM),
        "link_preview_options": {"is_disabled": True},
    }


def _cut(text: str, most: int) -> str:
    return text[: most - _SPARE]


#: By the name in `format`.
PAYLOADS: Mapping[str, Payload] = {
    "json": _json,
    "slack": _slack,
    "discord": _discord,
    "ntfy": _ntfy,
    "telegram": _telegram,
}


def asked_to_wait(body: bytes) -> float | None:
    """The seconds to wait that a refusal names in its body, as Telegram and Discord do."""
    import json

    try:
        answer = json.loads(body)
    except ValueError:
        return None
    if not isinstance(answer, dict):
        return None
    parameters = answer.get("parameters")
    found = parameters if isinstance(parameters, dict) else answer
    seconds = found.get("retry_after")
    return float(seconds) if isinstance(seconds, (int, float)) else None
