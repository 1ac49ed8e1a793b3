"""The systemd user unit that keeps a daemon running."""

from __future__ import annotations

import shlex
from pathlib import Path

from shared.text import one_line

UNIT = "trainer-daemon.service"
_UNIT = """\
# Install it for this user (no root needed):
#   mkdir -p ~/.config/systemd/user
#   trainer daemon install-service --runs-dir {quoted} \\
#     > ~/.config/systemd/user/{name}
#   systemctl --user daemon-reload
#   systemctl --user enable --now {name}
# So that it starts with the machine and outlives your last login:
#   loginctl enable-linger
[Unit]
Description=train-monitor daemon for {description}

[Service]
Type=exec
ExecStart={command}
Restart=on-failure
RestartSec=5
# Another daemon has the lock, or the command line is wrong: a restart would not help.
RestartPreventExitStatus=2
# The trainers outlive the daemon; the next one adopts them.
KillMode=process
# A trainer that the kernel kills when out of memory must not end the unit.
OOMPolicy=continue

[Install]
WantedBy=default.target
"""


def service_unit(command: list[str], runs_dir: Path) -> str:
    """A systemd user unit that runs `command`, with installation instructions."""
    shown = one_line(runs_dir, 1000)
    return _UNIT.format(
        quoted=shlex.quote(shown),
        name=UNIT,
        description=shown.replace("%", "%%"),
        command=" ".join(_quote(part) for part in command),
    )


def _quote(part: str) -> str:
    """`part` as one word of an ExecStart line."""
    escaped = part.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    escaped = escaped.replace("%", "%%").replace("$", "$$")
    plain = bool(part) and not any(c.isspace() or c in "\"'\\;" for c in part)
    return escaped if plain else f'"{escaped}"'
