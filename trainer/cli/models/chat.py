"""`trainer chat`: chat with a model in the terminal, or through a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.text import plural
from trainer.cli import options
from trainer.cli.ending import reading_a_line
from trainer.cli.models import model_options

if TYPE_CHECKING:
    from trainer.checkpoint.opening import OpenedModel
    from trainer.generate.conversation import Conversation

MODES = ("auto", "chat", "complete")
MAX_LINE = 1 << 20  # bytes
MAX_TEMPLATE = 1 << 20  # bytes
_COMPLETING = (
    "This is a base model without a chat template: it continues each text you type instead of "
    "answering. --mode chat tries a conversation anyway."
)
_PLAIN = (
    "This is a base model without a chat template: it continues the conversation as plain text, "
    "which it was not trained to do."
)


def chat(
    model: model_options.ModelArgument = None,
    *,
    checkpoint: model_options.Model = None,
    runs_dir: options.RunsDirOption = options.RUNS_DIR,
    system: Annotated[str, typer.Option(metavar="TEXT", help="System message.")] = "",
    mode: Annotated[
        str,
        typer.Option(
            metavar="auto|chat|complete",
            help="auto: chat if the model has a chat template, else complete texts.",
        ),
    ] = "auto",
    template: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Jinja chat template; default: the model's."),
    ] = None,
    max_new_tokens: model_options.MaxNewTokens = 256,
    temperature: model_options.Temperature = 0.8,
    top_k: model_options.TopK = 50,
    top_p: model_options.TopP = 1.0,
    min_p: model_options.MinP = 0.0,
    seed: model_options.Seed = None,
    tokenizer: model_options.TokenizerOption = None,
    device: model_options.Device = "auto",
    threads: options.Threads = None,
) -> int:
    """Chat with a model in the terminal.

    /help lists the commands. Ctrl-C stops an answer; Ctrl-D or /quit ends the chat. In a pipe every
    line is a message: answers go to stdout, everything else to stderr.
    """
    from shared.errors import UserError
    from shared.text import one_line
    from trainer.generate.sampling import Sampling

    sampling = Sampling(temperature, top_k, top_p, min_p)
    model_options.check_numbers(threads=threads, seed=seed, max_new_tokens=max_new_tokens)
    if mode not in MODES:
        raise UserError(f"--mode {one_line(mode, 60)!r} is not one of {', '.join(MODES)}.")
    asked = model_options.model_asked(model, checkpoint)
    source = _read_template(template) if template else None
    opened = model_options.open_asked(
        asked, runs_dir, device=device, threads=threads, tokenizer=tokenizer
    )

    from trainer.generate.conversation import Completion, Conversation
    from trainer.generate.templates import ChatTemplate

    chosen = ChatTemplate(opened.tokenizer, source or opened.chat_template)
    completes = mode == "complete" or (mode == "auto" and chosen.is_plain)
    if completes and system:
        raise UserError("--system needs a conversation: give --mode chat as well.")
    kind = Completion if completes else Conversation
    talk = kind(
        opened.model,
        opened.tokenizer,
        chosen,
        max_new_tokens=max_new_tokens,
        sampling=sampling,
        seed=seed,
        end_ids=opened.end_ids,
    )
    talk.system = system
    notice = (_COMPLETING if completes else _PLAIN) if chosen.is_plain else ""
    return Chat(talk, takes_turns=not completes).run(_greeting(opened, notice))


def _read_template(path: Path) -> str:
    from shared.errors import UserError
    from shared.files import open_file
    from shared.text import one_line

    try:
        with open_file(path) as file:  # opening a pipe would block
            return file.read(MAX_TEMPLATE + 1).decode()
    except OSError as error:
        raise UserError(f"--template {one_line(path)} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"--template {one_line(path)} is not UTF-8 text.") from error


def _greeting(opened: OpenedModel, notice: str) -> str:
    from shared.text import format_count, one_line

    parameters = format_count(sum(weight.numel() for weight in opened.model.parameters()))
    return (
        f"{one_line(opened.path, 60)}: {parameters} parameters, context {opened.context:,} tokens. "
        f"{notice + ' ' if notice else ''}/help lists the commands, Ctrl-D ends the chat."
    )


class _LeaveError(Exception):
    """/quit was typed."""


class Chat:
    """The loop around a conversation: lines in, answers and commands out."""

    def __init__(self, talk: Conversation, *, takes_turns: bool) -> None:
        self._talk = talk
        self._takes_turns = takes_turns
        self._from_person = sys.stdin is not None and sys.stdin.isatty()
        self._to_person = sys.stdout.isatty()
        self._failed = False
        self._commands: dict[str, tuple[str, Callable[[str], None]]] = {
            "/help": ("this list", self._help),
            "/reset": ("start a new conversation", self._reset),
            "/system": ("TEXT: set the system message; empty removes it", self._system),
            "/temperature": ("X: set the temperature; 0 is greedy", self._temperature),
            "/seed": (
                "N: the same seed gives the same answer; empty: a new one each time",
                self._seed,
            ),
            "/save": ("FILE: save the conversation; as JSON if it ends in .json", self._save),
            "/quit": ("end the chat, like Ctrl-D", self._quit),
        }

    def run(self, greeting: str) -> int:
        """Chat until the input ends; returns the exit code."""
        from textwrap import fill

        from shared.errors import UserError

        if self._from_person:
            self._note(fill(greeting, 79))
            self._remember_lines()
        for line in self._lines():
            try:
                self._do(line)
            except UserError as error:
                self._failed = True
                self._note(str(error))
            except _LeaveError:
                break
        # A person has read the message; a program needs the exit code.
        return 2 if self._failed and not self._from_person else 0

    def _do(self, line: str) -> None:
        from shared.errors import UserError
        from shared.text import nearest, one_line

        if not line.startswith("/") or line.startswith("//"):
            self._answer(line.removeprefix("/"))
            return
        name, _, argument = line.partition(" ")
        if name not in self._commands:
            hint = nearest(name[:60], self._commands)
            raise UserError(
                f"There is no command {one_line(name, 60)}{hint}; /help lists them, and // starts "
                "a message with a slash."
            )
        self._commands[name][1](argument.strip())

    def _answer(self, text: str) -> None:
        from shared.text import many_lines

        prompt = self._talk.ask(text)
        if prompt.begin > self._talk.forgotten:
            count = prompt.begin - self._talk.forgotten
            self._note(f"(the {count} oldest messages no longer fit and were dropped)")
        ended = "\n"
        pieces = self._talk.answer(text, prompt)
        try:
            with contextlib.closing(pieces):
                for piece in pieces:
                    shown = many_lines(piece)
                    sys.stdout.write(shown)
                    sys.stdout.flush()
                    ended = shown[-1:] or ended
        except KeyboardInterrupt:
            self._note(" (stopped)")
        sys.stdout.write("" if ended == "\n" and self._said() else "\n")
        sys.stdout.flush()

    def _said(self) -> str:
        return self._talk.turns[-1].content

    # -- lines -----------------------------------------------------------------------------------

    def _lines(self) -> Iterator[str]:
        """The lines typed or piped in, without blank ones."""
        while True:
            try:
                line = self._typed() if self._from_person else self._piped()
            except EOFError:
                if self._from_person:
                    self._note("")
                return
            except KeyboardInterrupt:
                if not self._from_person:
                    raise
                self._note("\n(Ctrl-D or /quit ends the chat)")
                continue
            if line.strip():
                yield line

    def _typed(self) -> str:
        try:
            if self._to_person:
                with reading_a_line():
                    return input("> ")
            sys.stderr.write("> ")
            sys.stderr.flush()
            with reading_a_line():
                return input()
        except UnicodeDecodeError:
            self._note("That was not UTF-8 text.")
            return ""

    def _piped(self) -> str:
        raw = sys.stdin.buffer.readline(MAX_LINE) if sys.stdin is not None else b""
        if not raw:
            raise EOFError
        return raw.decode("utf-8", "replace").rstrip("\r\n")

    def _remember_lines(self) -> None:
        """Recall earlier lines with the arrow keys, where Python has readline."""
        if self._to_person:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  (input() uses it once imported)

    def _note(self, text: str) -> None:
        from shared.text import many_lines

        sys.stdout.flush()
        print(many_lines(text), file=sys.stderr, flush=True)

    # -- commands --------------------------------------------------------------------------------

    def _help(self, _argument: str) -> None:
        width = max(map(len, self._commands))
        for name, (meaning, _) in self._commands.items():
            self._note(f"{name.ljust(width)}  {meaning}")

    def _reset(self, _argument: str) -> None:
        self._talk.reset()
        self._note("(new conversation)")

    def _system(self, argument: str) -> None:
        from shared.errors import UserError

        if not self._takes_turns:
            raise UserError(
                "There is no system message when the model completes texts; use --mode chat."
            )
        self._talk.system = argument
        self._note("(system message set)" if argument else "(system message removed)")

    def _temperature(self, argument: str) -> None:
        from dataclasses import replace

        from shared.errors import UserError
        from shared.text import one_line

        try:
            self._talk.sampling = replace(self._talk.sampling, temperature=float(argument))
        except (ValueError, UserError) as error:
            shown = one_line(argument, 40)
            raise UserError(f"/temperature {shown!r} is not a number from 0 to 100.") from error
        self._note(f"(temperature {self._talk.sampling.temperature:g})")

    def _seed(self, argument: str) -> None:
        from shared.errors import UserError
        from shared.text import one_line

        try:
            seed = int(argument) if argument else None
            model_options.check_numbers(seed=seed)
        except (ValueError, UserError) as error:
            shown = one_line(argument, 40)
            raise UserError(f"/seed {shown!r} is not a 64-bit integer.") from error
        self._talk.seed = seed
        self._note("(a new seed each time)" if seed is None else f"(seed {seed})")

    def _save(self, argument: str) -> None:
        import json
        import os

        from shared.errors import UserError
        from shared.files import expand_user
        from shared.output_file import write_output
        from shared.text import one_line

        path = expand_user(argument)
        if not argument or path.is_dir():
            raise UserError("/save needs a file name.")
        if os.path.lexists(path):
            raise UserError(f"{one_line(path)} already exists; choose another name.")
        messages = self._talk.messages()
        if path.suffix == ".json":
            said = [{"role": m.role, "content": m.content} for m in messages]
            text = json.dumps({"messages": said}, ensure_ascii=False, indent=2) + "\n"
        else:
            text = "".join(f"{m.role.capitalize()}: {m.content}\n\n" for m in messages)
        write_output(path, [text.encode("utf-8", "replace")])
        self._note(f"({plural(len(messages), 'message')} saved to {one_line(path)})")

    def _quit(self, _argument: str) -> None:
        raise _LeaveError
