"""What a chat template writes around each turn, found by rendering it.

Ollama has templates in another language. Most templates put the same text around every message of
a role; from those texts the same prompts can be made without Jinja.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.errors import UserError
from trainer.generate.templates import Message

#: Renders messages, with or without the beginning of an answer.
Render = Callable[[Sequence[Message], bool], str]

_SYSTEM, _ASKED, _SAID = "qzSYSTEMzq", ("qzASKED1zq", "qzASKED2zq", "qzASKED3zq"), "qzSAID{}zq"
_CONVERSATION = (
    Message("system", _SYSTEM),
    Message("user", _ASKED[0]),
    Message("assistant", _SAID.format(1)),
    Message("user", _ASKED[1]),
    Message("assistant", _SAID.format(2)),
    Message("user", _ASKED[2]),
)


@dataclass(frozen=True)
class Turns:
    """The texts before and after a message of each role.

    `start` comes first, `answer` last. `system_default` is the system message of a conversation
    that has none.
    """

    start: str
    system: tuple[str, str]
    user: tuple[str, str]
    assistant: tuple[str, str]
    answer: str
    system_default: str = ""

    def write(self, messages: Sequence[Message]) -> str:
        """The prompt for `messages`."""
        around = {"system": self.system, "user": self.user, "assistant": self.assistant}
        text = self.start
        if self.system_default and messages[0].role != "system":
            messages = (Message("system", self.system_default), *messages)
        for message in messages:
            before, after = around[message.role]
            text += before + message.content + after
        return text + self.answer


def find_turns(render: Render) -> Turns | None:
    """The turns of a template; None if it writes conversations in another way."""
    try:
        turns = _found(render)
        if turns is None:
            return None
        checked = (_CONVERSATION, _CONVERSATION[1:], _CONVERSATION[:2], _CONVERSATION[1:2])
        same = all(turns.write(messages) == render(messages, True) for messages in checked)
    except UserError:  # it refuses a system message, or anything else
        return None
    return turns if same else None


def _found(render: Render) -> Turns | None:
    pieces = _split(render(_CONVERSATION, True), _CONVERSATION)
    alone = _split(render(_CONVERSATION[1:2], True), _CONVERSATION[1:2])
    unanswered = _split(render(_CONVERSATION, False), _CONVERSATION)
    answered = _split(render(_CONVERSATION[:-1], False), _CONVERSATION[:-1])
    if pieces is None or alone is None or unanswered is None or answered is None:
        return None
    before_system, system_user, user_said, said_user, *_, end = pieces
    after_user = unanswered[-1]
    if not (end.startswith(after_user) and user_said.startswith(after_user)):
        return None
    before_user = said_user.removeprefix(answered[-1])
    if not (system_user.endswith(before_user) and alone[0].endswith(before_user)):
        before_user = _common_end(system_user, said_user, alone[0])
    after_system = system_user.removesuffix(before_user)
    head = alone[0].removesuffix(before_user)  # of a conversation without a system message
    start, default = "", ""
    if before_system.startswith(head):
        start, before_system = head, before_system[len(head) :]
    elif head.startswith(before_system) and head.endswith(after_system):
        default = head[len(before_system) : len(head) - len(after_system)]
    else:
        return None
    return Turns(
        start,
        (before_system, after_system),
        (before_user, after_user),
        (user_said[len(after_user) :], said_user.removesuffix(before_user)),
        end[len(after_user) :],
        default,
    )


def _split(text: str, messages: Sequence[Message]) -> list[str] | None:
    """The texts around the messages' contents; None unless each stands there once, in order."""
    pieces = []
    for message in messages:
        before, found, text = text.partition(message.content)
        if not found or message.content in text:
            return None
        pieces.append(before)
    return [*pieces, text]


def _common_end(*texts: str) -> str:
    shortest = min(texts, key=len)
    return next(
        shortest[start:]
        for start in range(len(shortest) + 1)
        if all(text.endswith(shortest[start:]) for text in texts)
    )
