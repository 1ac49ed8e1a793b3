"""A model's chat template in a child process: it is a program of somebody else, and may never end.

    python -m trainer.serve.template_process

reads the template with the seconds that a rendering may take, and then variables, a line of JSON
each; answers variables with a line, and ends when its standard input does. The kernel ends a
rendering that takes too long, also where Python itself could not, and bounds its memory.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from shared.errors import UserError

SECONDS = 10  # for one rendering
MEMORY = 1 << 30  # bytes of the process's addresses


class TemplateProcess:
    """Renders `source`, one conversation at a time. Started when it is first needed."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._process: subprocess.Popen[str] | None = None
        self._turn = threading.Lock()

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text that the template makes of `variables`, which are plain JSON values.

        Raises UserError when it refuses them, fails, or does not come to an end.
        """
        if not self._turn.acquire(timeout=SECONDS):
            raise UserError("The model's chat template is busy with other messages; try again.")
        try:
            answer = self._ask(json.dumps(variables))
        finally:
            self._turn.release()
        if "text" in answer:
            return str(answer["text"])
        raise UserError(answer["refusal"])

    def _ask(self, line: str) -> dict[str, str]:
        if self._process is None or self._process.poll() is not None:
            self._process = self._start()
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if answer:
            return json.loads(answer)
        self._process.communicate()
        slow = self._process.returncode == -signal.SIGALRM
        why = f"takes more than {SECONDS} seconds" if slow else "cannot be rendered"
        return {"refusal": f"The model's chat template {why} for these messages."}

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="ascii",  # of JSON with escapes
            start_new_session=True,  # Ctrl-C is for us
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps([self._source, SECONDS]) + "\n")
        return process


def main() -> int:
    """Render until nobody holds the other end of our standard input."""
    from trainer.generate.template_sandbox import render_template

    with contextlib.suppress(OSError, ValueError):  # a lower limit holds already, or macOS has none
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    source, seconds = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        signal.alarm(seconds)
        try:
            answer = {"text": render_template(source, json.loads(line))}
        except UserError as error:
            answer = {"refusal": str(error)}
        print(json.dumps(answer), flush=True)
        signal.alarm(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
