"""A conversation with a model: what was said, what still fits, the answer as it comes."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

from shared.errors import UserError
from trainer.data.tokenizer import Tokenizer
from trainer.generate.decoding import generate, stream_text
from trainer.generate.sampling import Sampling
from trainer.generate.stopping import until
from trainer.generate.templates import ChatTemplate, Message
from trainer.model.language_model import LanguageModel


@dataclass(frozen=True)
class Prompt:
    """Token ids to be answered; the turns before `begin` no longer fit and are not in them."""

    ids: tuple[int, ...]
    begin: int


class Conversation:
    """Turns with a model that has a chat template, or with the plain one.

    `max_new_tokens` bounds an answer; at most half the context is kept free for it, and the oldest
    turns go when the rest is full. The system message stays. `end_ids` are the model's own ends of
    a text, which end an answer beside those of the template.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        *,
        max_new_tokens: int,
        sampling: Sampling,
        seed: int | None = None,
        end_ids: Iterable[int] = (),
    ) -> None:
        self.sampling = sampling
        self.seed = seed
        self.system = ""
        self.turns: list[Message] = []
        self.forgotten = 0  # of the turns, the oldest that no longer fit
        self._model = model
        self._tokenizer = tokenizer
        self._end_ids = frozenset(end_ids) | {tokenizer.eos_id}
        self._template = template
        self._max_new_tokens = max_new_tokens
        self._reserved = min(max_new_tokens, model.dimensions.T // 2)

    def ask(self, text: str) -> Prompt:
        """The prompt for what a person says next. Nothing is remembered before `answer`.

        Raises UserError when the message alone does not fit, or the template refuses it.
        """
        turns = [*self.turns, Message("user", text)]
        room = self._model.dimensions.T - self._reserved
        for begin in range(self.forgotten, len(turns), 2):
            ids = self._template.encode([*self._opening(), *turns[begin:]])
            if len(ids) <= room:
                return Prompt(tuple(ids or [self._tokenizer.eos_id]), begin)
        raise UserError(
            f"That is {len(ids)} tokens with what the template adds, and {room} fit beside the "
            "answer; say it in fewer words."
        )

    def answer(self, text: str, prompt: Prompt) -> Generator[str, None, None]:
        """The answer in pieces. It is remembered as far as it came, however it ends."""
        said: list[str] = []
        try:
            for piece in self._pieces(prompt):
                # The plain template ends in "Assistant:", so its answers begin with a blank.
                shown = piece if said or not self._template.is_plain else piece.lstrip()
                if shown:
                    said.append(shown)
                    yield shown
        finally:
            self.forgotten = prompt.begin
            self.turns += [Message("user", text), Message("assistant", "".join(said))]

    def _pieces(self, prompt: Prompt) -> Iterator[str]:
        tokens = generate(
            self._model,
            prompt.ids,
            min(self._max_new_tokens, self._model.dimensions.T - len(prompt.ids)),
            self.sampling,
            seed=self.seed,
            stop_ids=self._template.stop_ids | self._end_ids,
            allowed_ids=self._tokenizer.vocab_size,
        )
        pieces = stream_text(tokens, self._tokenizer, skip_special=True)
        return until(pieces, self._template.stop_texts)

    def reset(self) -> None:
        """Forget the turns; the system message stays."""
        self.turns, self.forgotten = [], 0

    def messages(self) -> list[Message]:
        """What has been said, the system message first."""
        return [*self._opening(), *self.turns]

    def _opening(self) -> list[Message]:
        return [Message("system", self.system)] if self.system else []


class Completion(Conversation):
    """A base model goes on with each text by itself: it was taught no turns."""

    def ask(self, text: str) -> Prompt:
        """The text's own tokens. Raises UserError when they do not fit."""
        ids = self._tokenizer.encode_prompt(text)
        room = self._model.dimensions.T - self._reserved
        if len(ids) > room:
            raise UserError(f"That is {len(ids)} tokens, and {room} fit beside what comes.")
        return Prompt(tuple(ids), 0)

    def _pieces(self, prompt: Prompt) -> Iterator[str]:
        tokens = generate(
            self._model,
            prompt.ids,
            self._max_new_tokens,
            self.sampling,
            seed=self.seed,
            stop_ids=self._end_ids,
            allowed_ids=self._tokenizer.vocab_size,
        )
        return stream_text(tokens, self._tokenizer)
