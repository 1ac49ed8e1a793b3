"""The `trainer` command, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared import __version__
from shared.errors import ExitCode, UserError
from shared.text import many_lines, one_line
from trainer.cli.checkpoints import checkpoints, grow
from trainer.cli.data import prepare, tasks, tokenizer
from trainer.cli.empty_values import refuse_empty_values
from trainer.cli.ending import SignalledError, end_by, signals_raise
from trainer.cli.examples import EXAMPLES
from trainer.cli.fleet import alerts, daemon
from trainer.cli.help import add_defaults, add_examples, command_groups, name_values
from trainer.cli.hub import upload
from trainer.cli.models import chat, compare, evaluate, export, generate, serve
from trainer.cli.needs import check_before_they_begin, without_the_trainer
from trainer.cli.options import FITTED, SETTINGS
from trainer.cli.runs import control, logs, runs, status
from trainer.cli.sweeps import sweep
from trainer.cli.training import config, demo, dpo, pipeline, profile, resume, rl, train

if TYPE_CHECKING:
    from trainer.loop.hooks import Hooks

COMMANDS: dict[str, dict[str, typer.Typer | Callable[..., Any]]] = {
    "Data": {
        "prepare-data": prepare.prepare_data,
        "tokenizer": tokenizer.app,
        "tasks": tasks.app,
    },
    "Train": {
        "train": train.train,
        "dpo": dpo.dpo,
        "rl": rl.rl,
        "resume": resume.resume,
        "pipeline": pipeline.pipeline,
        "sweep": sweep.app,
        "profile": profile.profile,
        "config": config.app,
        "demo": demo.demo,
    },
    "Watch and control": {
        "status": status.status,
        "logs": logs.logs,
        "pause": control.pause,
        "continue": control.continue_,
        "checkpoint": control.checkpoint,
        "stop": control.stop,
        "runs": runs.app,
        "daemon": daemon.app,
        "alerts": alerts.app,
    },
    "Checkpoints": {
        "checkpoints": checkpoints.app,
        "grow": grow.grow,
    },
    "Use a model": {
        "generate": generate.generate,
        "chat": chat.chat,
        "eval": evaluate.evaluate,
        "compare": compare.compare,
        "export": export.export,
        "serve": serve.serve,
    },
    "Publish": {
        "upload": upload.upload,
    },
}

INTERRUPTED = 130  # the exit code of a shell's command that Ctrl-C ended

app = typer.Typer(
    name="trainer",
    help="Train small language models headless; watch them with train-monitor.",
    cls=command_groups({heading: list(commands) for heading, commands in COMMANDS.items()}),
    subcommand_metavar="COMMAND",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its table cuts long option names on a terminal of 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _commands in COMMANDS.values():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            app.add_typer(_command, name=_name)
        else:
            app.command(_name)(_command)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"trainer {__version__}")
        raise typer.Exit


@app.callback()
def callback(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Train small language models headless; watch them with train-monitor."""


#: Click's error for a wrong command line: typer bundles click and only exports a subclass.
_UsageError: Any = typer.BadParameter.__bases__[0]


@functools.cache
def command_tree() -> Any:
    """All commands as click knows them. Built once: that takes longer than most commands."""
    tree: Any = typer.main.get_command(app)
    name_values(tree)
    add_examples(tree, EXAMPLES)
    for name in ("train", "sweep"):
        add_defaults(tree.commands[name], SETTINGS)
    for recipe, fitted in FITTED.items():
        fixed = {name: key for name, key in SETTINGS.items() if key not in fitted}
        add_defaults(tree.commands[recipe], fixed, recipe)
    check_before_they_begin(tree)
    return tree


def main(arguments: list[str] | None = None, hooks: Hooks | None = None) -> int:
    """Run one command line; returns its exit code. A user's mistake never gives a traceback.

    `hooks` are called by a training in this process.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        # A file name that is not UTF-8 must not end the command that prints it.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        refuse_empty_values(arguments)
        with signals_raise():
            result = command_tree()(
                args=arguments, prog_name="trainer", standalone_mode=False, obj=hooks
            )
            sys.stdout.flush()
        if result == INTERRUPTED:  # what typer makes of Ctrl-C
            _complain("interrupted")
    except SignalledError as error:
        end_by(error.number)
    except UserError as error:
        _complain(str(error))
        return int(error.exit_code)
    except typer.Exit as error:
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        _complain("interrupted")
        return INTERRUPTED
    except _UsageError as error:
        context = getattr(error, "ctx", None)
        where = f"; see {context.command_path} --help" if context else ""
        _complain(_wrong_use(error) + where)
        return int(ExitCode.USAGE)
    except BrokenPipeError:
        # The reader of our output (head, less) went away; the flush at exit must not fail.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        place = f"{one_line(error.filename)}: " if error.filename else ""
        _complain(f"{place}{error.strerror or one_line(error)}.")
        return int(ExitCode.FAILURE)
    except ModuleNotFoundError as error:
        sentence = without_the_trainer(error)
        if sentence is None:
            raise
        _complain(str(sentence))
        return int(sentence.exit_code)
    except MemoryError as error:
        _complain(f"Out of memory: {one_line(error) or 'use smaller sizes'}.")
        return int(ExitCode.FAILURE)
    except RuntimeError as error:
        if str(error).startswith("Symlink loop"):  # as Path.resolve says it
            _complain(f"A path is a loop of links: {one_line(error)}.")
            return int(ExitCode.USAGE)
        # torch has no exception class for a failed CPU allocation.
        if "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        _complain(
            f"Out of memory ({one_line(error)}); lower --batch-size and raise --accumulation-steps."
        )
        return int(ExitCode.FAILURE)
    return int(result) if isinstance(result, int) else 0


def _wrong_use(error: Any) -> str:
    """Click's message, with the value that could not be read."""
    from pydantic import ValidationError  # with which typer reads numbers

    message = str(error.format_message()).rstrip(".")
    if isinstance(error.__cause__, ValidationError):
        value = error.__cause__.errors()[0]["input"]
        message = message.replace(": Input should be ", f": {one_line(value, 60)!r} is not ")
        message = message.partition(", unable to")[0]
    return message


def _complain(message: str) -> None:
    if os.environ.get("RANK") and os.environ.get("LOCAL_RANK", "0") != "0":
        return  # one of torchrun's ranks: the first of this machine makes the same mistake
    print(f"trainer: {many_lines(message)}", file=sys.stderr)
