"""Running a suite: answers are written, judged and kept, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from trainer.checkpoint.opening import OpenedModel
from trainer.evaluate.suites.answering import Answerer, Asking, Written
from trainer.evaluate.suites.judged import MAX_MESSAGE, MAX_MESSAGES, AnswersFile, Judged
from trainer.evaluate.suites.suite import Suite
from trainer.rewards.interface import Language

JUDGED_AT_ONCE = 32  # answers: as many as one compiler takes together


def run_suite(
    opened: OpenedModel,
    suite: Suite,
    language: Language,
    asking: Asking,
    *,
    store: AnswersFile | None = None,
    progress: Callable[[int], None] = lambda _count: None,
) -> Iterator[Judged]:
    """Every answer to the suite, those that `store` knows first; new ones are put into it.

    What was yielded is in `store`. `progress` receives numbers of answers. Raises RunError when the
    model's output is not finite or `store` cannot be written.
    """
    wanted = [(prompt, sample) for prompt in suite.prompts for sample in range(asking.samples)]
    asked = {(prompt.id, sample) for prompt, sample in wanted}
    known = [j for j in (store.known if store else ()) if (j.task, j.sample) in asked]
    progress(len(known))
    yield from known
    done = {(judged.task, judged.sample) for judged in known}
    missing = [(prompt, sample) for prompt, sample in wanted if (prompt.id, sample) not in done]
    answers = Answerer(opened, language, asking).answers(missing)
    while batch := list(islice(answers, JUDGED_AT_ONCE)):
        judged = _judge(language, batch)
        if store is not None:
            store.add(judged)
        progress(len(judged))
        yield from judged


def _judge(language: Language, written: Sequence[Written]) -> list[Judged]:
    verdicts = language.judge([one.answer for one in written])
    parsed = [n for n, verdict in enumerate(verdicts) if verdict.parsed]
    measured = language.measure([written[n].answer for n in parsed])
    qualities = dict(zip(parsed, measured, strict=True))
    return [
        Judged(
            task=one.prompt.id,
            sample=one.sample,
            completion=one.completion,
            ending=one.ending,
            tokens=one.tokens,
            reward=verdict.reward,
            parts=dict(verdict.parts),
            parsed=verdict.parsed,
            compiled=verdict.compiled,
            tested=verdict.tested,
            messages=tuple(text[:MAX_MESSAGE] for text in verdict.messages[:MAX_MESSAGES]),
            quality=qualities.get(place),
        )
        for place, (one, verdict) in enumerate(zip(written, verdicts, strict=True))
    ]
