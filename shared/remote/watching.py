"""Runs of one or several hosts in one folder, kept in step by a thread for each."""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from shared.ownership.health import Health
from shared.ownership.heartbeat import BeatWatch
from shared.remote.address import Address
from shared.remote.client import Link
from shared.remote.mirror import Mirror
from shared.run.directory import RunDirectory
from shared.run.records import RunState
from shared.temporaries import temporary_folder, temporary_place
from shared.text import one_line

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before trying again, doubled each time
_PATIENCE = 3.0  # seconds that leaving waits for a thread
_LOOK = 5.0  # seconds that the host waits for a change before it says that there is none

#: What does on the host what a key of the monitor does; `{}` is the run.
_COMMANDS = {
    "pause": "trainer pause {}",
    "checkpoint": "trainer checkpoint {}",
    "stop": "trainer stop {}",
    "resume": "trainer resume {}",
    "prune": "trainer checkpoints prune {}",
    "verify": "trainer checkpoints verify {}",
    "upload": "trainer upload {}",
    "undo": "trainer checkpoints prune {} --undo",
    "tag": "trainer runs tag {}",
    "note": "trainer runs note {}",
    "rename": "trainer runs rename {}",
    "archive": "trainer runs archive {}",
    "delete": "trainer runs delete {}",
    "copy_command": "trainer runs command {}",
}

Connect = Callable[[bool, Callable[[Link], object]], Link]


class Host:
    """One host: its link while there is one, and the copy of its runs."""

    def __init__(self, address: Address, mirror: Mirror, connect: Connect) -> None:
        """Connects; `connect(ask, begun)` makes a link. Raises LinkError and RefusedError."""
        self.address = address
        self.mirror = mirror
        self._connect = connect
        self._stopping = threading.Event()
        self._awaited = 0  # actions whose outcome is not known yet
        self._opening: Link | None = None
        link = connect(True, self._begun)
        self._link: Link | None = link
        self._limits = link.limits
        mirror.reconnected()
        self._why = ""
        self._thread = threading.Thread(target=self._run, name=f"ssh-{address.host}", daemon=True)
        #: The ids of the runs whose files come first.
        self.wanted: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """Why its runs are shown as they were, or not all of them; empty if neither is so."""
        if self._why:
            then = " What became of the last action is told then." if self._awaited else ""
            return f"{self._why} Its runs are shown as last seen; connecting again.{then}"
        return self.mirror.incomplete

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return one_line(self.address.host, 80)

    @property
    def link(self) -> Link | None:
        """The link, while there is one."""
        return self._link

    @property
    def has_figures(self) -> bool:
        """Whether it tells how busy its machine is, as far as is known."""
        link = self._link
        return link is None or link.hello.get("machine") is True

    @property
    def limits(self) -> str:
        """Why nothing can be done there, but only watched; empty if something can."""
        link = self._link
        return self._limits if link is None else link.limits

    def why_not(self, act: str) -> str:
        """Why the host cannot do this; empty if it can, as far as is known without a link."""
        link = self._link
        if link is None:
            return self._limits
        if act in link.acts:
            return ""
        return link.limits or f"{link.described} cannot do this; install a newer one there."

    @contextlib.contextmanager
    def waited_for(self) -> Iterator[None]:
        """While an action is carried out, of which a lost link must not leave a person in doubt."""
        self._awaited += 1
        try:
            yield
        finally:
            self._awaited -= 1

    def look_at(self, wanted: tuple[str, ...]) -> None:
        """Fetch these runs' files first, from now on; from any thread."""
        if wanted != self.wanted:
            self.wanted = wanted
            if (link := self._link) is not None:
                link.nudge()

    def catch_up(self) -> None:
        """Fetch everything, however long it takes. Raises LinkError."""
        assert self._link is not None
        self.mirror.step(self._link, 0.0, self._wanted)
        while self.mirror.behind:
            self.mirror.step(self._link, 0.0, self._wanted)

    def first_look(self, budget: float) -> None:
        """Fetch what a first screen shows, for at most about so long. Raises LinkError."""
        assert self._link is not None
        self.mirror.step(self._link, 0.0, self._wanted, budget, lambda: self.mirror.settled)

    def _wanted(self) -> tuple[str, ...]:
        return self.wanted

    def start(self) -> None:
        """Keep in step from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End the link."""
        self._stopping.set()
        self.break_link()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE)
        if self._link is not None and not self._thread.is_alive():
            self._link.close()

    def break_link(self) -> None:
        """End the child, whatever it is doing: it is started again unless this is the end."""
        for link in (self._opening, self._link):
            if link is not None:
                link.end()

    def _begun(self, link: Link) -> None:
        """A child is there: leaving ends it, also while it is still connecting."""
        self._opening = link
        if self._stopping.is_set():
            link.end()

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            try:
                if self._link is None:
                    link = self._connect(False, self._begun)
                    self._limits = link.limits
                    self.mirror.reconnected()
                    self._link = link
                self.mirror.step(self._link, _LOOK, self._wanted)
                self._why, pause = "", FIRST_PAUSE
            except Exception as error:  # a thread that ends would leave the runs as they were
                if self._stopping.is_set():
                    break
                if self._link is not None:
                    self._link.close()
                    self._link = None
                self._why = one_line(error, 300)
                self._stopping.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)


class RemoteRuns:
    """The runs of hosts, in `folder`."""

    def __init__(self, folder: Path, hosts: Sequence[Host]) -> None:
        self.folder = folder
        self.hosts = tuple(hosts)
        self._looked_at: str | None = None

    @property
    def shown(self) -> str:
        """What is watched, instead of the folder's name."""
        return " ".join(host.address.shown for host in self.hosts)

    @property
    def problem(self) -> str:
        """Which links are down, in sentences; empty while none is."""
        return " ".join(filter(None, (host.problem for host in self.hosts)))

    def health(self, run: RunDirectory, state: RunState, now: float, watch: BeatWatch) -> Health:
        """The real status of a run, as judged on its host."""
        for host in self.hosts:
            if host.mirror.has(run.run_id):
                return host.mirror.health(run, state, now, watch)
        return Health(state.status, alive=False)

    def look_at(self, *wanted: str) -> None:
        """Fetch these runs' files first, and all of their metrics; of others a sketch is enough."""
        self._looked_at = wanted[0] if wanted else None
        for host in self.hosts:
            host.look_at(wanted)

    @property
    def looked_at(self) -> Host | None:
        """The host of the run that is looked at, or the only one."""
        only = self.hosts[0] if len(self.hosts) == 1 else None
        return only or (self.host_of(self._looked_at) if self._looked_at is not None else None)

    def host_of(self, run_id: str) -> Host | None:
        """The host of a run."""
        return next((host for host in self.hosts if host.mirror.has(run_id)), None)

    def why_only_watched(self, run_id: str | None, action: str) -> str:
        """Why a key does nothing here, and what does it on the host."""
        host = self.host_of(run_id) if run_id is not None else None
        host = host or (self.hosts[0] if len(self.hosts) == 1 else None)
        if host is None:
            return "Runs on another host are only watched."
        why = host.limits or f"The train-monitor on {host.name} cannot do this."
        command = _COMMANDS.get(action, "train-monitor")
        folder = shlex.quote(one_line(host.address.path))
        if "{}" in command:
            if run_id is None:
                return why
            name = shlex.quote(one_line(host.mirror.remote_name(run_id)))
            command = f"{command.format(name)} --runs-dir {folder}"
        return f"{why} Run there: {command}"

    @property
    def notice(self) -> str:
        """Which hosts are only watched, and why; empty if none is."""
        return " ".join(dict.fromkeys(filter(None, (host.limits for host in self.hosts))))

    def catch_up(self) -> None:
        """Fetch all that a report tells of. Raises LinkError."""
        for host in self.hosts:
            host.catch_up()

    def start(self) -> None:
        """Keep all in step from now on."""
        for host in self.hosts:
            host.start()


@contextlib.contextmanager
def remote_runs(
    addresses: Sequence[Address],
    *,
    first_look: float = 2.0,
    environment: Mapping[str, str] | None = None,
) -> Iterator[RemoteRuns]:
    """Log in to all hosts, one after the other, and copy what a first screen shows, for at most
    `first_look` seconds each.

    Raises LinkError and RefusedError when one cannot be watched. The copies are removed at the end.
    """
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder(temporary_place() / "train-monitor"))
        folder.chmod(0o700)
        hosts: list[Host] = []
        for address, prefix in zip(addresses, _prefixes(addresses), strict=True):
            mirror = Mirror(folder, prefix)

            def connect(
                ask: bool, begun: Callable[[Link], object], address: Address = address
            ) -> Link:
                return Link(address, ask=ask, environment=environment, begun=begun)

            host = Host(address, mirror, connect)
            stack.callback(host.stop)
            hosts.append(host)
        for host in hosts:
            host.first_look(first_look)
        yield RemoteRuns(folder, hosts)


def _prefixes(addresses: Sequence[Address]) -> list[str]:
    """What tells the runs of several hosts apart: nothing for one."""
    if len(addresses) == 1:
        return [""]
    hosts = [address.host for address in addresses]
    return [
        f"{host}:" if hosts.count(host) == 1 else f"{host}:{hosts[:n].count(host) + 1}:"
        for n, host in enumerate(hosts)
    ]
