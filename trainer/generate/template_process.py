"""A model's chat template in a child process: it is somebody else's program and may never end.

    python -m trainer.generate.template_process

reads the template and the CPU seconds that one rendering may take, then variables, each as a line
of JSON. It answers each with a line and ends with its standard input. The kernel bounds its memory
and kills a rendering that takes too long, even inside a single operation of Python's. CPU time
counts, so that a busy machine does not refuse a sound template.
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
from trainer.generate.templates import ChatTemplate, TemplateTokenizer

MEMORY = 1 << 30  # bytes of address space


class TemplateProcess:
    """Renders `source`, one conversation at a time, in `seconds` of CPU time each.

    The process starts when it is first needed.
    """

    def __init__(self, source: str, seconds: float) -> None:
        self._source = source
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._turn = threading.Lock()

    def render(self, variables: Mapping[str, Any]) -> str:
        """The template's text for `variables`, which are plain JSON values.

        Raises UserError when the template refuses them, fails or takes too long.
        """
        if not self._turn.acquire(timeout=self._seconds):
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
        slow = self._process.returncode == -signal.SIGPROF
        why = f"takes more than {self._seconds:g} seconds" if slow else "cannot be rendered"
        return {"refusal": f"The model's chat template {why} for these messages."}

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="ascii",  # of JSON with escapes
            start_new_session=True,  # Ctrl-C must not reach it
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps([self._source, self._seconds]) + "\n")
        return process


class GuardedTemplate(ChatTemplate):
    """A model's own template, rendered in another process so that it cannot block this one."""

    def __init__(self, tokenizer: TemplateTokenizer, source: str, seconds: float) -> None:
        super().__init__(tokenizer, source)
        self._process = TemplateProcess(source, seconds)

    def _rendered(self, variables: Mapping[str, Any]) -> str:
        return self._process.render(variables)


def main() -> int:
    """Render until standard input ends."""
    from trainer.generate.template_sandbox import render_template

    with contextlib.suppress(OSError, ValueError):  # set lower already, or macOS
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    source, seconds = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            answer = {"text": render_template(source, json.loads(line))}
        except UserError as error:
            answer = {"refusal": str(error)}
        print(json.dumps(answer), flush=True)
        signal.setitimer(signal.ITIMER_PROF, 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
