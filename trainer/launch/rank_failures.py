"""A training that fails, alone or as one of several ranks: recorded once, with its reason."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from shared.errors import ExitCode, RunError, UserError
from shared.text import one_line
from trainer.distributed.group import Group, RankError
from trainer.distributed.watch import Failure, last_words

if TYPE_CHECKING:
    from shared.run_writer import RunWriter


@contextlib.contextmanager
def failure_recorded(writer: RunWriter, group: Group) -> Iterator[None]:
    """Record how the run failed, then let the error through to the command line.

    The rank that writes records it, under the name of the rank that failed. Another rank leaves its
    last words for that, and ends with a RankError.
    """
    watch = group.watch
    if watch is not None:
        watch.leave_by(lambda failure: _leave(writer, group, failure))
    try:
        yield
    except RankError:
        raise
    except UserError as error:
        if watch is not None:
            watch.tell(f"failed: {error}", getattr(error, "micro_batch", None))
        if not group.writes:
            raise RankError(str(error), int(error.exit_code)) from error
        writer.say(f"[ERROR] {error}")
        with contextlib.suppress(OSError):  # told on the console
            writer.finish("failed", int(error.exit_code), str(error))
        raise
    except BaseException as error:
        failure = group.find_failed(error)
        if failure is None and watch is not None:
            watch.tell(f"failed: {type(error).__name__}: {one_line(error, 300)}")
        if failure is None:
            if group.writes:
                writer.__exit__(type(error), error, error.__traceback__)
            raise
        if watch is not None:
            watch.announce(failure)
        if not group.writes:
            raise RankError(str(failure), ExitCode.FAILURE) from error
        record_failure(writer, failure)
        raise RunError(str(failure)) from error


def record_failure(writer: RunWriter, failure: Failure) -> None:
    """The end of an attempt in which another rank failed: who, how, and its last lines."""
    for line in last_words(failure):
        writer.say(line)
    writer.event(
        "rank_failed",
        rank=failure.rank,
        host=failure.host,
        pid=failure.pid,
        message=str(failure),
        last_log_lines=failure.lines,
    )
    if failure.micro_batch is not None:
        writer.update(micro_batch=failure.micro_batch)
    with contextlib.suppress(OSError):
        writer.finish("failed", int(ExitCode.FAILURE), str(failure))


def _leave(writer: RunWriter, group: Group, failure: Failure) -> None:
    """End this process, whose main thread waits for a rank that will never come."""
    if group.writes:
        record_failure(writer, failure)
    os._exit(ExitCode.FAILURE)
