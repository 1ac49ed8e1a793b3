"""What may follow ssh://, and what might be an option to ssh."""

from __future__ import annotations

import pytest

from shared.errors import UserError
from shared.remote.address import Address, parse_address
from shared.remote.client import ssh_command


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://box/data/runs", Address("box", "/data/runs")),
        ("ssh://me@box:2222/~/runs", Address("box", "~/runs", "me", 2222)),
        ("SSH://[::1]/a%20b", Address("::1", "/a b")),
    ],
)
def test_an_address_is_read(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "ssh://-oProxyCommand=x/runs",
        "ssh://-l@box/runs",
        "ssh://a b/runs",
        "ssh://box;id/runs",
        "ssh://$(id)/runs",
        "ssh://me:secret@box/runs",
        "ssh://box:0/runs",
        "ssh://box:99999/runs",
        "ssh://box:-1/runs",
        "ssh:///runs",
        "ssh://box",
        "ssh://box/",
        "ssh://box/a%0ab",
        "ssh://b\x1b[0mox/r",
    ],
)
def test_anything_else_is_refused_in_a_sentence(text):
    with pytest.raises(UserError) as told:
        parse_address(text)
    assert "secret" not in str(told.value)
    assert str(told.value).isprintable()


def test_nothing_of_an_address_is_an_option_or_a_command():
    address = parse_address("ssh://me@box:22/it's $(touch x); -rf")
    command = ssh_command(address, ask=False)
    assert command[command.index("--") + 1] == "me@box"
    assert len(command) == command.index("--") + 3
    assert "BatchMode=yes" in command
    assert "BatchMode=yes" not in ssh_command(address, ask=True)
