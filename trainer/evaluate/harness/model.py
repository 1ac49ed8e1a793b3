"""A model of ours as lm-evaluation-harness wants one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from tqdm import tqdm

from trainer.checkpoint.opening import OpenedModel
from trainer.distributed.device import Compute
from trainer.evaluate.likelihood.continuations import score_continuations
from trainer.evaluate.likelihood.scoring import score_sequences
from trainer.generate.batched.building import build_decoder, plan_decoder
from trainer.generate.batched.job import Job
from trainer.generate.batched.texts import decode_texts
from trainer.generate.sampling import Sampling
from trainer.generate.stopping import first_stop
from trainer.generate.templates import ChatTemplate, Message

USUAL_NEW_TOKENS = 256  # as the harness's own models

Encoded = tuple[tuple[str, str], list[int], list[int]]


class OurModel(TemplateLM):  # type: ignore[misc]  # it need not be installed
    """`opened` in the precision of `compute`, `batch_size` requests at once.

    Texts become tokens, and are cut to the context, as by the harness's own Hugging Face models, so
    that the figures are the same.
    """

    backend = "causal"

    def __init__(
        self, opened: OpenedModel, compute: Compute, *, batch_size: int | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self._opened, self._compute = opened, compute
        self._batch_size, self._seed = batch_size, seed
        self._codec = opened.tokenizer
        self._template = ChatTemplate(opened.tokenizer, opened.chat_template)

    # -- tokens ------------------------------------------------------------------------------

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self._codec.eos_id

    @property
    def prefix_token_id(self) -> int:
        """What the first token of a text is predicted from."""
        return self._codec.bos_id

    @property
    def max_length(self) -> int:
        """The context, in tokens."""
        return self._opened.context

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **_kwargs: Any
    ) -> list[int]:
        """The ids of a text, with those that begin every text of this model unless forbidden."""
        ids, begin = self._codec.encode(string, allow_special=True), self._codec.begin_ids
        spelled = add_special_tokens is None and ids[: len(begin)] == begin
        return ids if add_special_tokens is False or spelled else [*begin, *ids]

    # -- likelihoods -------------------------------------------------------------------------

    def _loglikelihood_tokens(
        self, requests: Sequence[Encoded], disable_tqdm: bool = False, **_kwargs: Any
    ) -> list[tuple[float, bool]]:
        room = self.max_length + 1
        sequences = []
        for _, before, after in requests:
            ids = (before + after)[-room:]
            sequences.append((ids, max(1, len(ids) - len(after))))
        with tqdm(total=len(requests), desc="likelihoods", disable=disable_tqdm or None) as bar:
            found = score_continuations(
                self._opened.model,
                sequences,
                self._compute,
                batch_size=self._batch_size,
                progress=bar.update,
            )
        answers = [(-one.nats, one.greedy) for one in found]
        for (texts, _, _), answer in zip(requests, answers, strict=True):
            self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """The log-likelihood of whole texts, in windows without overlap."""
        texts = [request.args[0] for request in requests]
        sequences = [
            np.array([self.prefix_token_id, *self.tok_encode(text)], dtype=np.uint32)
            for text in texts
        ]
        total = sum(len(tokens) - 1 for tokens in sequences)
        with tqdm(total=total, desc="tokens", disable=disable_tqdm or None) as bar:
            nats = score_sequences(
                self._opened.model,
                sequences,
                self._compute,
                seq_len=self.max_length,
                stride=self.max_length,
                batch_size=self._batch_size,
                progress=bar.update,
            )
        for text, value in zip(texts, nats, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), -value)
        return [-value for value in nats]

    # -- texts -------------------------------------------------------------------------------

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """What the model writes after each text, up to one of its own stop texts."""
        jobs, stops = [], []
        for place, request in enumerate(requests):
            job, until = self._job(request.args[0], request.args[1], self._seed + place)
            jobs.append(job)
            stops.append(_stop(until))
        if not jobs:
            return []
        longest = max(len(job.prompt) + job.max_new_tokens for job in jobs)
        plan = plan_decoder(
            self._opened.model,
            context=min(self.max_length, longest),
            precision="bf16" if self._compute.bf16 else "fp32",
            draft=False,
        )
        plan = replace(plan, slots=min(plan.slots, len(jobs)))
        decoder = build_decoder(self._opened.model, plan, self._codec.vocab_size)
        texts = [""] * len(jobs)
        with tqdm(total=len(jobs), desc="texts", disable=disable_tqdm or None) as bar:
            for finished in decode_texts(decoder, jobs, self._codec, stops):
                texts[finished.place] = finished.text
                self.cache_hook.add_partial(
                    "generate_until", requests[finished.place].args, finished.text
                )
                bar.update()
        return texts

    def _job(self, context: str, asked: dict[str, Any], seed: int) -> tuple[Job, list[str]]:
        settings = normalize_gen_kwargs(asked, USUAL_NEW_TOKENS)
        until = handle_stop_sequences(list(settings.get("until") or []), None)
        new = settings["max_gen_toks"]
        if new >= self.max_length:  # the harness's own models refuse; half is left to the prompt
            new = max(1, self.max_length // 2)
        ids = self.tok_encode(context)[-(self.max_length - new) :] or [self.eot_token_id]
        drawn = bool(settings.get("do_sample"))
        sampling = Sampling(
            temperature=float(settings.get("temperature", 1.0)) if drawn else 0.0,
            top_k=int(settings.get("top_k") or 0),
            top_p=float(settings.get("top_p") or 1.0),
        )
        return Job(tuple(ids), new, sampling, seed, self._opened.end_ids), until

    # -- conversations -----------------------------------------------------------------------

    @property
    def tokenizer_name(self) -> str:
        """What tells this model's texts from another's, for the harness's caches."""
        return self._codec.hash

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template in Jinja, if conversations are asked for."""
        return (self._opened.chat_template or "") if chat_template else None

    def apply_chat_template(
        self, chat_history: Sequence[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A conversation as the text that the model was trained on."""
        messages = [Message(turn["role"], turn["content"]) for turn in chat_history]  # type: ignore[arg-type]
        return self._template.render(messages, add_generation_prompt=add_generation_prompt)


def _stop(until: Sequence[str]) -> Any:
    """Where a text ends: before the first of these."""
    stops = [text for text in until if text]
    return lambda text: first_stop(text, stops)
