"""The link to a host: one ssh as a child, asked by any thread."""

from __future__ import annotations

import ast
import contextlib
import inspect
import os
import selectors
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

from shared.errors import ExitCode, RunError
from shared.remote import agent, protocol
from shared.remote.address import Address
from shared.remote.exchange import ANSWER, Exchange, Pending, write_all
from shared.remote.protocol import (
    GREETING,
    MAX_NOISE,
    WANTS_AGENT,
    ProtocolError,
    common_version,
    read_frame,
)
from shared.run import spread
from shared.text import many_lines, one_line

LOGIN = 600.0  # seconds for logging in, with everything that a person may be asked
#: An older train-monitor refuses --serve with status 2, a broken one ends with 1, 126 or 127.
_COMMAND = (
    "why=none; if command -v {program} >/dev/null 2>&1; then {program} --serve {path}; why=$?; "
    "case $why in 1|2|126|127) ;; *) exit $why;; esac; fi; "
    "exec python3 -c {bootstrap} {path} $why"
)
#: One line, for csh. Nothing follows the program until it has greeted: it may read ahead.
_BOOTSTRAP = (
    "import sys;w=sys.stdout.buffer;w.write({greeting!r});w.flush();r=sys.stdin.buffer;"
    "exec(compile(r.read(int(r.read(8))),'agent','exec'));sys.exit(serve(sys.argv[1],why=sys.argv[2]))"
)


class LinkError(RunError):
    """The host cannot be reached, or can no longer."""


class RefusedError(RunError):
    """The host answers that it cannot do what was asked."""


class NoFolderError(RefusedError):
    """The address names what is no folder there: wrong use, as of a folder here."""

    exit_code = ExitCode.USAGE


def ssh_command(address: Address, *, ask: bool, program: str = "train-monitor") -> list[str]:
    """What is run. `ask`: ssh may ask for a password, as long as there is no screen yet."""
    bootstrap = _BOOTSTRAP.format(greeting=WANTS_AGENT)
    path = shlex.quote(address.path)
    script = _COMMAND.format(
        program=shlex.quote(program), path=path, bootstrap=shlex.quote(bootstrap)
    )
    command = ["ssh", "-T"]
    if not ask:
        command += ["-o", "BatchMode=yes"]
    if address.port is not None:
        command += ["-p", str(address.port)]
    host = f"{address.user}@{address.host}" if address.user else address.host
    # Whatever the login shell is, this is a plain word and a quoted one to it.
    return [*command, "--", host, f"exec sh -c {shlex.quote(script)}"]


def agent_program() -> bytes:
    """The source of `protocol`, `spread` and `agent` as one program."""
    parts = ["from __future__ import annotations"]
    for module in (protocol, spread, agent):
        source = inspect.getsource(module)
        lines = source.splitlines()
        for node in ast.parse(source).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                ("shared.", "__future__")
            ):
                for number in range(node.lineno - 1, node.end_lineno or node.lineno):
                    lines[number] = ""
        parts += lines
    return "\n".join(parts).encode()


class Link:
    """A connection to a host, from its making to `close`. Any thread may ask."""

    def __init__(
        self,
        address: Address,
        *,
        ask: bool = True,
        environment: Mapping[str, str] | None = None,
        begun: Callable[[Link], object] = lambda _: None,
    ) -> None:
        """Log in, and say hello. Raises LinkError; RefusedError for the folder.

        `begun` is called once there is a child, which `end` ends from then on.
        """
        self.address = address
        self._pending = b""
        self._exchange: Exchange | None = None
        self._deadline = time.monotonic() + (LOGIN if ask else ANSWER)
        try:
            self._child = subprocess.Popen(
                ssh_command(address, ask=ask),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                bufsize=0,
                # To ask something it must be in the foreground; later Ctrl-C is not for it.
                process_group=None if ask else 0,
            )
        except OSError as error:
            raise LinkError(
                f"ssh cannot be started: {error.strerror}; install OpenSSH's client."
            ) from error
        assert self._child.stdin and self._child.stdout and self._child.stderr
        self._in, self._out = self._child.stdin, self._child.stdout
        self._telling = ask
        threading.Thread(
            target=self._hear, args=(self._child.stderr,), name="ssh-messages", daemon=True
        ).start()
        try:
            begun(self)
            self.hello = self._greet()
            rest, self._pending = self._pending, b""
            self._exchange = Exchange(self._out.fileno(), self._in.fileno(), rest, self._broken)
        except BaseException:
            self.close()
            raise
        finally:
            self._telling = False  # from now on there may be a screen

    @property
    def is_agent(self) -> bool:
        """Whether the host has no train-monitor, and runs the agent."""
        return self.hello.get("agent") is True

    @property
    def acts(self) -> frozenset[str]:
        """What the host does on request."""
        acts = self.hello.get("acts")
        return (
            frozenset(a for a in acts if isinstance(a, str))
            if isinstance(acts, list)
            else frozenset()
        )

    @property
    def described(self) -> str:
        """The program at the other end, in words."""
        version = one_line(self.hello.get("program") or "", 30)
        return f"train-monitor {version} on {self.address.host}".replace("  ", " ")

    @property
    def limits(self) -> str:
        """Why the runs of the host are only watched, as a sentence; empty if they are not."""
        host, why = self.address.host, self.hello.get("why")
        if self.acts:
            return ""
        if not self.is_agent:
            return f"{self.described} is older and only shows runs; update it to act on them."
        if why == "none":
            return f"{host} has no train-monitor, so its runs are only watched."
        if why == "2":
            return f"The train-monitor on {host} is too old to serve, so its runs are only watched."
        return f"The train-monitor on {host} does not start, so its runs are only watched."

    def ask(self, head: protocol.Head, timeout: float = ANSWER) -> Pending:
        """Send a request whose answer `answer_to` gives later."""
        assert self._exchange is not None
        return self._exchange.ask(head, timeout)

    def answer_to(
        self, pending: Pending, until: Callable[[], bool] = lambda: False
    ) -> tuple[dict[str, Any], bytes] | None:
        """The answer; None if `until` holds before it came, which is looked at after a `nudge`.

        Raises LinkError if none comes, RefusedError for an error.
        """
        assert self._exchange is not None
        self._exchange.wait(pending, until)
        if not pending.done:
            return None
        if pending.error is not None:
            raise LinkError(self._lost(pending.error)) from pending.error
        answer, body = pending.answer
        if "error" in answer:
            raise RefusedError(f"{self.address.host}: {one_line(answer['error'], 300)}")
        return answer, body

    def request(self, head: protocol.Head, timeout: float = ANSWER) -> tuple[dict[str, Any], bytes]:
        """The answer to a request. Raises LinkError if none comes, RefusedError for an error."""
        answered = self.answer_to(self.ask(head, timeout))
        assert answered is not None
        return answered

    def nudge(self) -> None:
        """Let whoever waits for an answer look at its `until`, from any thread."""
        if self._exchange is not None:
            self._exchange.nudge()

    @property
    def received(self) -> int:
        """Bytes that came over the link, as they were sent."""
        return self._exchange.received if self._exchange is not None else 0

    def _broken(self, error: Exception) -> None:
        """No answer can come any more. A child that ended by itself has a code that says why."""
        if not isinstance(error, EOFError):
            self.end()

    def end(self) -> None:
        """End the child, from any thread: whoever waits for an answer gets an error."""
        with contextlib.suppress(OSError):
            self._child.terminate()

    def close(self) -> None:
        """End the child, and wait for it."""
        self.end()
        try:
            self._child.wait(2.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if self._exchange is not None:
            self._exchange.close()
        for pipe in (self._in, self._out):
            with contextlib.suppress(OSError):
                pipe.close()

    def _greet(self) -> dict[str, Any]:
        try:
            if self._await_greeting() == WANTS_AGENT:
                program = agent_program()
                self._write(b"%8d" % len(program) + program)
                self._await_greeting()
            hello, _ = read_frame(self._read)
            common_version(hello.get("versions"))
        except (OSError, EOFError) as error:
            raise LinkError(self._lost(error)) from error
        except ProtocolError as error:
            raise LinkError(f"{self.address.host} cannot be watched: {error}.") from error
        if "error" in hello:
            raise NoFolderError(
                f"{self.address.shown} cannot be read: {one_line(hello['error'], 200)}; name "
                "another folder."
            )
        return hello

    def _await_greeting(self) -> bytes:
        """Skip what a login shell prints, up to the greeting."""
        while True:
            for greeting in (GREETING, WANTS_AGENT):
                _, found, after = self._pending.partition(greeting)
                if found:
                    self._pending = after
                    return greeting
            if len(self._pending) > MAX_NOISE:
                raise ProtocolError("its login shell prints too much")
            self._fill()

    def _hear(self, messages: IO[bytes]) -> None:
        """Pass on what ssh says while logging in: host keys, banners, why it fails."""
        with messages:
            while data := messages.read(4096):
                if self._telling:
                    text = many_lines(data.decode("utf-8", "replace"))
                    with contextlib.suppress(OSError, ValueError):
                        sys.stderr.write(text)
                        sys.stderr.flush()

    def _lost(self, error: Exception) -> str:
        host = self.address.host
        if isinstance(error, TimeoutError):
            return f"{host} does not answer."
        if isinstance(error, ProtocolError):
            return f"The link to {host} is broken: {error}."
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._child.wait(2.0)
            if code == 127:
                return f"{host} has neither train-monitor nor python3; install one of them there."
            if code == 255:
                return f"ssh could not connect to {host}, or lost it."
        return f"The link to {host} ended."

    def _read(self, size: int) -> bytes:
        while len(self._pending) < size:
            self._fill()
        data, self._pending = self._pending[:size], self._pending[size:]
        return data

    def _fill(self) -> None:
        with selectors.DefaultSelector() as ready:
            ready.register(self._out, selectors.EVENT_READ)
            if not ready.select(max(0.0, self._deadline - time.monotonic())):
                raise TimeoutError
        data = os.read(self._out.fileno(), 1 << 18)
        if not data:
            raise EOFError
        self._pending += data

    def _write(self, data: bytes) -> None:
        write_all(self._in.fileno(), data, self._deadline)
