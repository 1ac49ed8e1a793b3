"""`ssh://[user@]host[:port]/path/to/runs`, checked before any of it reaches ssh."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from shared.errors import UserError
from shared.text import one_line

SCHEME = "ssh://"
_FORM = re.compile(
    r"ssh://(?:(?P<user>[^@/]*)@)?(?P<host>\[[^\]/]*\]|[^:/@]*)(?::(?P<port>[^/]*))?(?P<path>/.*)?",
    re.DOTALL,
)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,252}")
_ADDRESS = re.compile(r"\[[0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9]{1,16})?\]")


@dataclass(frozen=True)
class Address:
    """A folder of runs on a host, as ssh names it. `path` may begin with `~/`."""

    host: str
    path: str
    user: str = ""
    port: int | None = None

    @property
    def shown(self) -> str:
        """As a person would write it, safe to show."""
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = self.path if self.path.startswith("/") else f"/{self.path}"
        return one_line(f"{SCHEME}{user}{host}{port}{path}", 300)


def is_address(text: str) -> bool:
    """Whether it names runs on another host."""
    return text.lower().startswith(SCHEME)


def parse_address(text: str) -> Address:
    """Read an address. Raises UserError for others, and for what ssh might take as an option."""
    shown = one_line(text, 120)
    found = _FORM.fullmatch(SCHEME + text[len(SCHEME) :]) if is_address(text) else None
    if found is None:
        raise UserError(f"{shown} is no address of runs; write ssh://[user@]host[:port]/path.")
    user, host, port = found["user"], found["host"], found["port"]
    if user is not None and ":" in user:
        raise UserError(
            "A password in an address can be seen by everybody on this machine; leave it out, and "
            "ssh asks for it."
        )
    if user is not None and not _NAME.fullmatch(user):
        raise UserError(
            f"{one_line(user, 60)!r} in {shown} is no user name; write ssh://user@host."
        )
    if not (_NAME.fullmatch(host) or _ADDRESS.fullmatch(host)):
        raise UserError(
            f"{one_line(host, 60)!r} in {shown} is no host name; use letters, digits, dots and "
            "dashes (not first), or a name from your ssh configuration."
        )
    path = _path(found["path"] or "", shown)
    return Address(host.strip("[]"), path, user or "", _port(port, shown))


def _port(text: str | None, shown: str) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise UserError(f"{one_line(text, 20)!r} in {shown} is no port; use 1 to 65535.")
    return int(text)


def _path(text: str, shown: str) -> str:
    path = unquote(text)
    if any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise UserError(f"The path in {shown} has a control character in it; name another folder.")
    if path in ("", "/"):
        raise UserError(
            f"{shown} names no folder; add its path, such as /home/me/runs, or /~/runs for runs in "
            "your home folder."
        )
    return path[1:] if path.startswith("/~") else path
