"""`train-monitor`: parses the command line first and imports the rest only when it is needed."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from monitor.shown import Shown, shown_runs
from shared import __version__
from shared.errors import ExitCode, UserError

if TYPE_CHECKING:
    from textual.driver import Driver


DESCRIPTION = "Watch and steer the training runs in a folder. Training never waits for the monitor."
KEYS = """\
keys: j/k or arrows select a run · 1-8 pages · Enter charts · / filter · p pause · c checkpoint now
      s stop · R resume · u upload · P prune · ? all keys · q quit (training continues)
settings: $XDG_CONFIG_HOME/train-monitor/settings.yaml (~/.config by default)
"""

#: Objects made between two looks for garbage in cycles. A parsed log is many objects and no cycle:
#: with Python's 700 these looks are a seventh of the reading.
GARBAGE = 20_000

WEB_PORT = 8765


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="train-monitor",
        description=DESCRIPTION,
        epilog=KEYS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--runs-dir",
        metavar="DIR|FILE",
        help="the folder that holds the runs (default: ./runs), or another tool's log",
    )
    parser.add_argument(
        "addresses",
        metavar="ssh://[USER@]HOST[:PORT]/PATH",
        nargs="*",
        help="watch the runs in a folder of another host, through ssh; several are shown together",
    )
    parser.add_argument("--serve", metavar="DIR", help=argparse.SUPPRESS)
    parser.add_argument(
        "--run", metavar="RUN", help="a run id, its beginning, a run name, or `latest`"
    )
    parser.add_argument(
        "--json", action="store_true", help="print what the screen would show as JSON, and exit"
    )
    parser.add_argument(
        "--follow", action="store_true", help="with --json: one line of JSON per change, for ever"
    )
    parser.add_argument(
        "--poll",
        metavar="SECONDS",
        default="0.5",
        help="check the files at least this often (default: 0.5)",
    )
    parser.add_argument(
        "--theme", metavar="NAME", help="colours: night, day or clear (for any colour vision)"
    )
    parser.add_argument(
        "--web", action="store_true", help="show the same in a browser of this machine"
    )
    parser.add_argument(
        "--port", metavar="N", help=f"with --web: the port, 0 for any (default: {WEB_PORT})"
    )
    parser.add_argument("--in-browser", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--no-color", action="store_true", help="no colours, as with NO_COLOR=1")
    parser.add_argument(
        "--show-completion",
        metavar="SHELL",
        help="print what lets bash, zsh or fish complete this command, and exit",
    )
    parser.add_argument("--version", action="version", version=f"train-monitor {__version__}")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    if argv is None and threading.current_thread() is threading.main_thread():
        # Ctrl-C ends the command without a traceback, also in the middle of an import.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        gc.set_threshold(GARBAGE)
    arguments = build_parser().parse_args(argv)
    try:
        if arguments.show_completion is not None:
            return _print_completion(arguments.show_completion)
        if arguments.serve is not None:
            from monitor.serving import acts_in, figures_of
            from shared.remote.server import serve

            return serve(arguments.serve, acts_in, figures_of)
        poll = _seconds(arguments.poll)
        addresses = _addresses(arguments)
        if arguments.follow and not arguments.json:
            raise UserError("--follow streams JSON; use it with --json.")
        if arguments.port is not None and not arguments.web:
            raise UserError("--port is for the browser; use it with --web.")
        if arguments.web and addresses:
            raise UserError("--web shows runs of this host; start it on the host of the runs.")
        if arguments.web:
            shown_runs(arguments.runs_dir, arguments.run)  # a mistake in them is told here
            return _serve(arguments)
        if addresses:
            return _run_elsewhere(addresses, arguments, poll)
        return _run(shown_runs(arguments.runs_dir, arguments.run), arguments, poll)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except UserError as error:
        print(f"train-monitor: {error}", file=sys.stderr)
        return int(error.exit_code)
    except BrokenPipeError:
        # The reader closed the pipe; Python must not report it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    finally:
        _flush()


def _run(shown: Shown, arguments: argparse.Namespace, poll: float) -> int:
    if arguments.follow:
        return _follow_json(shown, poll)
    if arguments.json:
        return _print_json(shown)
    return _show(shown, arguments, poll)


def _addresses(arguments: argparse.Namespace) -> list[str]:
    """The other hosts that are asked for. Raises UserError when a folder of this one is too."""
    folder = arguments.runs_dir
    named = [*arguments.addresses]
    if folder is not None and folder.lower().startswith("ssh://"):
        named.insert(0, folder)
    elif named and folder is not None:
        raise UserError("Name either a folder with --runs-dir or addresses of other hosts.")
    return named


def _run_elsewhere(named: Sequence[str], arguments: argparse.Namespace, poll: float) -> int:
    """Watch runs on other hosts. Ctrl-C must leave no copy behind, so it is an exception here."""
    from shared.remote.address import parse_address
    from shared.remote.watching import remote_runs

    addresses = [parse_address(one) for one in named]
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, _leave)
    with remote_runs(addresses) as elsewhere:
        if arguments.json and not arguments.follow:
            elsewhere.catch_up()
        shown = shown_runs(str(elsewhere.folder), arguments.run)
        shown = dataclasses.replace(shown, elsewhere=elsewhere)
        if shown.run_id is not None:
            elsewhere.look_at(shown.run_id)
            if arguments.json and not arguments.follow:
                elsewhere.catch_up()
        if not arguments.json or arguments.follow:
            elsewhere.start()
        return _run(shown, arguments, poll)


def _leave(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _flush() -> None:
    """Write what is left; where nobody takes it, the exit code must not become Python's 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except ValueError:  # closed
            pass


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.05 <= seconds <= 3600:
        raise UserError(
            f"--poll {text[:40]!r} is not a number of seconds from 0.05 to 3600; try --poll 1."
        )
    return seconds


def _print_json(shown: Shown) -> int:
    from monitor.data.poller import read_once
    from monitor.report import report
    from shared.json_text import encode_json

    snapshot = read_once(
        shown.folder,
        shown.run,
        foreign=shown.foreign,
        only=shown.only,
        elsewhere=shown.elsewhere,
    )
    if shown.run_id is not None:
        only = tuple(view for view in snapshot.runs if view.run_id == shown.run_id)
        snapshot = dataclasses.replace(snapshot, runs=only)
    sys.stdout.write(encode_json(report(snapshot), indent=True).decode() + "\n")
    sys.stdout.flush()
    return ExitCode.OK


def _follow_json(shown: Shown, poll: float) -> int:
    import contextlib

    from monitor.data.poller import Poller
    from monitor.following import follow
    from shared.json_text import Json, encode_json

    def write(line: Json) -> None:
        sys.stdout.write(encode_json(line).decode() + "\n")
        sys.stdout.flush()

    # Ctrl-C is how it ends.
    with contextlib.suppress(KeyboardInterrupt):
        poller = Poller(shown.folder, poll, only=shown.only, elsewhere=shown.elsewhere)
        follow(poller, write, only=shown.run_id)
    return ExitCode.OK


def _print_completion(shell: str) -> int:
    from monitor.completion import SHELLS, script
    from monitor.settings import THEMES

    if shell not in SHELLS:
        raise UserError(f"--show-completion {shell[:40]!r} is none of {', '.join(SHELLS)}.")
    words = {"--theme": tuple(THEMES), "--show-completion": SHELLS}
    sys.stdout.write(script(shell, build_parser(), words))
    return ExitCode.OK


def _serve(arguments: argparse.Namespace) -> int:
    if arguments.json:
        raise UserError("--json prints and --web serves; give one of them.")
    port = arguments.port or str(WEB_PORT)
    if not (port.isascii() and port.isdigit() and len(port) < 6 and int(port) < 65536):
        raise UserError(f"--port {port[:40]!r} is not a port; give a number from 0 to 65535.")
    from monitor.web import serve

    given = {
        "runs-dir": arguments.runs_dir,
        "run": arguments.run,
        "poll": arguments.poll,
        "theme": _theme(arguments.theme),
    }
    words = [f"--{name}={value}" for name, value in given.items() if value is not None]
    words += ["--no-color"] if arguments.no_color else []
    return serve(words, int(port), lambda line: print(line, flush=True))


def _show(shown: Shown, arguments: argparse.Namespace, poll: float) -> int:
    browser = arguments.in_browser
    if browser:
        os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    else:
        _check_terminal()
    if arguments.no_color:
        os.environ["NO_COLOR"] = "1"
    elif not os.environ.get("NO_COLOR", "1"):
        del os.environ["NO_COLOR"]  # set but empty means colours

    import contextlib

    from monitor import first_look
    from monitor.chart.terminal import needs_ascii
    from monitor.data.poller import Poller
    from monitor.palette import theme_for
    from monitor.settings import SettingsFile, settings_path

    settings = SettingsFile(settings_path(os.environ))
    theme = theme_for(os.environ, _theme(arguments.theme) or settings.settings.theme)
    ascii = not browser and needs_ascii(sys.stdout.encoding, os.environ.get("TERM", ""))
    # A parsing thread yields to a key press after 1 ms instead of 5.
    sys.setswitchinterval(0.001)
    poller = Poller(shown.folder, poll, only=shown.only, elsewhere=shown.elsewhere)
    at_once: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if not browser:
        screen = first_look.screen(
            poller,
            settings.settings,
            theme,
            os.environ,
            selected=shown.run_id,
            ascii=ascii,
        )
        at_once = first_look.shown(screen, _write)
    with at_once:
        from monitor.app import MonitorApp

        app = MonitorApp(
            poller,
            shown.folder,
            selected=shown.run_id,
            settings=settings,
            theme=theme,
            ascii=ascii,
            driver=_web_driver() if browser else None,
            elsewhere=shown.elsewhere,
        )
    app.run()
    farewell = app.farewell()
    if farewell and not browser and not app.return_code:
        print(farewell)
    return app.return_code or ExitCode.OK


def _theme(wanted: str | None) -> str | None:
    from monitor.settings import THEMES
    from shared.text import nearest

    if wanted is not None and wanted not in THEMES:
        raise UserError(
            f"There is no theme {wanted[:40]!r}{nearest(wanted, THEMES)}; choose one of "
            f"{', '.join(THEMES)}."
        )
    return wanted


def _web_driver() -> type[Driver]:
    from textual.drivers.web_driver import WebDriver

    return WebDriver


def _check_terminal() -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UserError("train-monitor needs a terminal; use --json in a script or a pipe.")
    if not sys.stderr.isatty():  # which is where Textual draws
        raise UserError(
            "train-monitor draws on standard error, which is redirected here; remove the "
            "redirection (2>FILE)."
        )
    from monitor.chart.terminal import why_unfit

    if unfit := why_unfit(os.environ.get("TERM", "")):
        raise UserError(
            f"{unfit}, which cannot show the monitor; use `train-monitor --json` or `trainer runs "
            "plot RUN`, or set TERM to what your terminal is, such as xterm-256color."
        )


def _write(text: str) -> None:
    """Write where Textual will draw, unbuffered: a signal handler must not re-enter a buffer."""
    data = text.encode(sys.stdout.encoding or "ascii", "replace")
    while data:
        data = data[os.write(sys.stderr.fileno(), data) :]


if __name__ == "__main__":
    sys.exit(main())
