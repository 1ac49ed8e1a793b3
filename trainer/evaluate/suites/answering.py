"""Answers of an opened model to the tasks of a suite, by the batched engine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from shared.checkpoints.suites import Setting
from trainer.checkpoint.opening import OpenedModel
from trainer.evaluate.suites.chat_answers import as_answer, code_in, question, reply_end
from trainer.generate.batched.building import build_decoder, plan_decoder
from trainer.generate.batched.job import Job
from trainer.generate.batched.texts import FinishedText, decode_texts
from trainer.generate.sampling import Sampling
from trainer.generate.stopping import first_stop
from trainer.generate.templates import ChatTemplate, Message
from trainer.rewards.interface import Answer, Language
from trainer.tasks.opening import open_answer
from trainer.tasks.prompt import Prompt

NO_ROOM = "no room"


@dataclass(frozen=True)
class Asking:
    """How a model is asked: `samples` answers to each task, each of at most `max_new_tokens`.

    Each answer has a seed of its own, made from `seed`, its task and its number: it is the same
    whatever else is asked. With `chat` a task is a message of a conversation, else the beginning of
    a text.
    """

    samples: int
    sampling: Sampling
    max_new_tokens: int
    seed: int = 0
    chat: bool = False
    bf16: bool = False

    def settings(self) -> dict[str, Setting]:
        """What the answers depend on, by name."""
        greedy = self.sampling.temperature == 0
        drawn = {} if greedy else {"seed": self.seed, **vars(self.sampling)}
        return {
            "samples": self.samples,
            "temperature": self.sampling.temperature,
            **drawn,
            "max_new_tokens": self.max_new_tokens,
            "asked": "chat" if self.chat else "text",
            "dtype": "bf16" if self.bf16 else "fp32",
        }


@dataclass(frozen=True)
class Written:
    """An answer as the model wrote it, and as it is judged."""

    prompt: Prompt
    sample: int
    completion: str
    ending: str
    tokens: int
    answer: Answer


class Answerer:
    """Asks `opened` for answers in `language`."""

    def __init__(self, opened: OpenedModel, language: Language, asking: Asking) -> None:
        self._opened, self._language, self._asking = opened, language, asking
        self._template = ChatTemplate(opened.tokenizer, opened.chat_template)

    def answers(self, wanted: Sequence[tuple[Prompt, int]]) -> Iterator[Written]:
        """The answers with these numbers to these tasks, in the order in which they end.

        Raises RunError when the model's output is not finite.
        """
        begun = [self._job(prompt, sample) for prompt, sample in wanted]
        jobs, given = [job for job, _ in begun], [text for _, text in begun]
        context = self._opened.context
        fit = [place for place, job in enumerate(jobs) if len(job.prompt) < context]
        for place in sorted(set(range(len(jobs))) - set(fit)):
            nothing = FinishedText(place, "", 0, "length")
            yield replace(self._written(*wanted[place], nothing), ending=NO_ROOM)
        if not fit:
            return
        longest = max(len(jobs[place].prompt) + jobs[place].max_new_tokens for place in fit)
        plan = plan_decoder(
            self._opened.model,
            context=min(context, longest),
            precision="bf16" if self._asking.bf16 else "fp32",
            draft=False,
        )
        plan = replace(plan, slots=min(plan.slots, len(fit)))
        decoder = build_decoder(self._opened.model, plan, self._opened.tokenizer.vocab_size)
        stops = [self._stop(given[place]) for place in fit]
        chosen = [jobs[place] for place in fit]
        for text in decode_texts(decoder, chosen, self._opened.tokenizer, stops):
            place = fit[text.place]
            yield self._written(*wanted[place], replace(text, text=given[place] + text.text))

    def _job(self, prompt: Prompt, sample: int) -> tuple[Job, str]:
        """What is decoded, and the part of the answer that its prompt holds already."""
        asking, codec = self._asking, self._opened.tokenizer
        ends, given = self._opened.end_ids, ""
        if asking.chat:
            ids = self._template.encode([Message("user", question(prompt))]) or [codec.eos_id]
            ends |= self._template.stop_ids
        else:
            ids, given = open_answer(prompt.prompt, codec)
        seed = seed_of(asking.seed, prompt, sample)
        return Job(tuple(ids), asking.max_new_tokens, asking.sampling, seed, ends), given

    def _stop(self, given: str) -> Callable[[str], int | None]:
        if not self._asking.chat:

            def answer_stops(text: str) -> int | None:
                end = self._language.stops(given + text)
                return None if end is None else max(0, end - len(given))

            return answer_stops
        stops = self._template.stop_texts

        def reply_stops(text: str) -> int | None:
            ends = (first_stop(text, stops), reply_end(text))
            return min((end for end in ends if end is not None), default=None)

        return reply_stops

    def _written(self, prompt: Prompt, sample: int, text: FinishedText) -> Written:
        answer = Answer(prompt, text.text)
        if self._asking.chat:
            answer = as_answer(prompt, code_in(text.text, prompt.language))
        return Written(prompt, sample, text.text, text.ending, text.tokens, answer)


def seed_of(seed: int, prompt: Prompt, sample: int) -> int:
    """The seed of one answer."""
    text = f"{seed}/{prompt.id}/{sample}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1
