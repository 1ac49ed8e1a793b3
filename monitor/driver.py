"""The driver of the terminal: Textual's for Linux and macOS, whose input cannot end the app."""

from __future__ import annotations

import os
import select

from textual.drivers.linux_driver import LinuxDriver

from monitor.terminal_input import TerminalInput

_TICK = 0.1  # seconds until an Escape by itself counts as one
_READ = 4096  # bytes


class TerminalDriver(LinuxDriver):
    """Reads any bytes; what is no key, click or paste is left out."""

    def run_input_thread(self) -> None:
        """Pass on what is typed until input is disabled."""
        source = TerminalInput()
        poll = select.poll()
        poll.register(self.fileno, select.POLLIN)
        while not self.exit_event.is_set():
            ready = poll.poll(_TICK * 1000)
            if ready:
                try:
                    data = os.read(self.fileno, _READ)
                except OSError:
                    data = b""
                if not data:  # the terminal has gone, which `Leaving` notices
                    self.exit_event.wait(_TICK)
                for message in source.feed(data):
                    self.process_message(message)
            for message in source.tick():
                self.process_message(message)
        source.close()

    def _query_in_band_window_resize(self) -> None:
        """Sizes come from the kernel, never from what is typed."""
