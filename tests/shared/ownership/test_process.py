"""A process is told from a later one with the same number."""

from __future__ import annotations

import dataclasses
import json
import signal

from shared.ownership.process import STOPPED, ProcessIdentity, boot_id, host_name, this_process


def test_who_lives() -> None:
    me = this_process()
    assert me.is_here()
    assert me.is_alive()
    for change in (
        {"since_boot": me.since_boot - 10},
        {"since_boot": None, "started": me.started - 10},
        {"boot": "another boot"},
        {"pid": 0},
        {"pid": -1},
        {"pid": 10**30},
    ):
        assert not dataclasses.replace(me, **change).is_alive()
    assert not dataclasses.replace(me, host="elsewhere").is_here()


def test_a_clock_that_was_set_makes_nobody_a_stranger() -> None:
    """The start in wall-clock time is reckoned from the boot's, which moves with the clock."""
    me = this_process()
    for day in (-86_400, 86_400):
        seen_later = dataclasses.replace(me, started=me.started + day)
        assert seen_later.is_alive()
        assert seen_later.is_same(me)
    assert not dataclasses.replace(me, pid=1).is_same(me)


def test_a_stopped_process_says_so(spawn, wait_until) -> None:
    code = "from shared.ownership.process import *; import json, dataclasses, sys;"
    code += "print(json.dumps(dataclasses.asdict(this_process())), flush=True); sys.stdin.read()"
    child = spawn(code)
    identity = ProcessIdentity.from_json(json.loads(child.stdout.readline()))
    assert identity.condition() not in (None, STOPPED)
    child.send_signal(signal.SIGSTOP)
    wait_until(lambda: identity.condition() == STOPPED)
    assert identity.is_alive()
    child.send_signal(signal.SIGCONT)
    wait_until(lambda: identity.condition() != STOPPED)
    child.kill()
    wait_until(lambda: not identity.is_alive())


def test_a_zombie_is_dead(spawn, wait_until) -> None:
    code = (
        "from shared.ownership.process import *; i = this_process(); print(i.pid, repr(i.started))"
    )
    child = spawn(code)
    pid, started = child.stdout.readline().split()
    identity = ProcessIdentity(host_name(), int(pid), boot_id(), float(started))
    wait_until(lambda: not identity.is_alive())  # nobody has waited for the child yet
    assert child.returncode is None
