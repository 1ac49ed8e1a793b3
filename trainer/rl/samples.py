"""A few answers of an iteration with what the compiler said, for people to read.

Compiler messages and answers come from foreign code: control characters are taken out, and every
text is cut, so that a file stays small and can be shown.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from shared.json_text import Json, encode_line
from shared.text import many_lines, one_line
from trainer.rewards.interface import Verdict
from trainer.rl.sampled import Sampled
from trainer.tasks.prompt import Prompt

ANSWERS = 8  # in a file
PROMPT = 4_000  # characters
COMPLETION = 8_000
MESSAGE = 1_000
MESSAGES = 8
_CUT = " […]"


@dataclass(frozen=True)
class Example:
    """An answer to a prompt, of which `given` was shown to the model, and what it is worth."""

    prompt: Prompt
    given: str
    sampled: Sampled
    verdict: Verdict


def chosen(groups: Sequence[Sequence[Example]], most: int = ANSWERS) -> list[Example]:
    """Of each prompt the best answer and the worst, of different worth if there are such; of as
    many prompts as give `most` answers, evenly spread."""
    wanted = max(1, most // 2)
    places = sorted({place * len(groups) // wanted for place in range(min(wanted, len(groups)))})
    if len(groups) < wanted:
        places = list(range(len(groups)))
    found: list[Example] = []
    for group in (groups[place] for place in places):
        if not group:
            continue
        best = max(group, key=lambda one: one.verdict.reward)
        worst = min(group, key=lambda one: one.verdict.reward)
        found += [best] if best.verdict.reward == worst.verdict.reward else [best, worst]
    return found[:most]


def surplus(iterations: Collection[int], most: int) -> list[int]:
    """Which of the iterations with a file of samples lose it, so that `most` are left.

    The first and the last stay, and so does what lies evenly between: one by one, that goes whose
    neighbours are nearest to each other, the oldest of several.
    """
    every = sorted(iterations)
    left, most = every, max(2, most)
    if len(left) > 2 * most:  # thousands, of a run that had no bound
        left = [left[place * (len(left) - 1) // (2 * most - 1)] for place in range(2 * most)]
    while len(left) > most:
        place = min(range(1, len(left) - 1), key=lambda n: left[n + 1] - left[n - 1])
        left = left[:place] + left[place + 1 :]
    return sorted(set(every) - set(left))


def lines(examples: Sequence[Example]) -> bytes:
    """The file: one JSON object per answer."""
    return b"".join(encode_line(_told(one)) + b"\n" for one in examples)


def shown(examples: Sequence[Example], limit: int = 2_000) -> str:
    """The answers as text, for an event."""
    parts = []
    for one in examples:
        verdict = one.verdict
        head = f"{one_line(one.prompt.id, 80)}: reward {verdict.reward:.3f}"
        said = [one_line(message, 300) for message in verdict.messages[:2]]
        body = _cut(one.prompt.prompt + one.given + one.sampled.text, limit)
        parts.append("\n".join([head, *said, body.rstrip()]))
    text = "\n\n".join(parts)
    return text if len(text) <= limit else text[: limit - len(_CUT)] + _CUT


def _told(one: Example) -> Json:
    sampled, verdict = one.sampled, one.verdict
    record: Json = {
        "prompt_id": one_line(one.prompt.id, 200),
        "prompt": _cut(one.prompt.prompt, PROMPT),
        "completion": _cut(one.given + sampled.text, COMPLETION),
        "reward": verdict.reward,
        "parts": {one_line(name, 40): value for name, value in verdict.parts.items()},
        "parsed": verdict.parsed,
        "compiled": verdict.compiled,
        "tested": verdict.tested,
        "messages": [_cut(message, MESSAGE) for message in verdict.messages[:MESSAGES]],
        "tokens": len(sampled.tokens),
        "truncated": sampled.truncated,
    }
    if one.given:
        record["given"] = _cut(one.given, COMPLETION)
    return record


def _cut(text: str, limit: int) -> str:
    clean = many_lines(text[: 4 * limit])  # limits the work on a hostile megabyte
    return clean if len(clean) <= limit else clean[: limit - len(_CUT)] + _CUT
