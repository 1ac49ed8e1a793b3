"""A process is told from a later one with the same number."""

from __future__ import annotations

import dataclasses

from shared.process import this_process


def test_who_lives() -> None:
    me = this_process()
    assert me.is_here()
    assert me.is_alive()
    for change in (
        {"started": me.started - 10},
        {"boot": "another boot"},
        {"pid": 0},
        {"pid": -1},
        {"pid": 10**30},
    ):
        assert not dataclasses.replace(me, **change).is_alive()
    assert not dataclasses.replace(me, host="elsewhere").is_here()


def test_a_zombie_is_dead(spawn, wait_until) -> None:
    code = "from shared.process import *; i = this_process(); print(i.pid, repr(i.started))"
    child = spawn(code)
    pid, started = child.stdout.readline().split()
    identity = dataclasses.replace(this_process(), pid=int(pid), started=float(started))
    wait_until(lambda: not identity.is_alive())  # nobody has waited for the child yet
    assert child.returncode is None
