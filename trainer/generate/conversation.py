"""A conversation with a model: its turns, what still fits the context, the answer as it comes."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass

from shared.errors import UserError
from trainer.data.tokenizer import Tokenizer
from trainer.generate.decoding import generate, stream_text
from trainer.generate.remembered import Remembered
from trainer.generate.sampling import Sampling
from trainer.generate.stopping import until
from trainer.generate.templates import ChatTemplate, Message
from trainer.model.language_model import LanguageModel


@dataclass(frozen=True)
class Prompt:
    """Token ids to answer. The turns before `begin` no longer fit and are left out."""

    ids: tuple[int, ...]
    begin: int


class Conversation:
    """A chat with a model through its chat template, or through the plain one.

    `max_new_tokens` limits an answer. At most half the context is kept free for it; when the rest
    is full, the oldest turns are dropped. The system message stays. An answer ends with one of the
    model's own `end_ids` or with an end of the template's.
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
        self.forgotten = 0  # the number of oldest turns that no longer fit
        self._model = model
        self._remembered = Remembered()
        self._tokenizer = tokenizer
        self._end_ids = frozenset(end_ids) | {tokenizer.eos_id}
        self._template = template
        self._max_new_tokens = max_new_tokens
        self._reserved = min(max_new_tokens, model.dimensions.T // 2)

    def ask(self, text: str) -> Prompt:
        """The prompt for the next message. It becomes a turn only in `answer`.

        Raises UserError if the message alone does not fit or the template refuses it.
        """
        turns = [*self.turns, Message("user", text)]
        room = self._model.dimensions.T - self._reserved
        for begin in range(self.forgotten, len(turns), 2):
            ids = self._template.encode([*self._opening(), *turns[begin:]])
            if len(ids) <= room:
                return Prompt(tuple(ids or [self._tokenizer.eos_id]), begin)
        raise UserError(
            f"The message has {len(ids)} tokens with the template's own, and {room} fit beside "
            "the answer; shorten it."
        )

    def answer(self, text: str, prompt: Prompt) -> Generator[str, None, None]:
        """The answer in pieces. It becomes a turn as far as it got, even if it is interrupted."""
        said: list[str] = []
        try:
            for piece in self._pieces(prompt):
                # The plain template ends in "Assistant:", so its answers begin with a space.
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
            remembered=self._remembered,
        )
        pieces = stream_text(tokens, self._tokenizer, skip_special=True)
        return until(pieces, self._template.stop_texts)

    def reset(self) -> None:
        """Forget the turns; the system message stays."""
        self.turns, self.forgotten = [], 0

    def messages(self) -> list[Message]:
        """The system message and all turns."""
        return [*self._opening(), *self.turns]

    def _opening(self) -> list[Message]:
        return [Message("system", self.system)] if self.system else []


class Completion(Conversation):
    """A base model, which was not trained on turns: it continues each text on its own."""

    def ask(self, text: str) -> Prompt:
        """The text's own tokens. Raises UserError when they do not fit."""
        ids = self._tokenizer.encode_prompt(text)
        room = self._model.dimensions.T - self._reserved
        if len(ids) > room:
            raise UserError(
                f"The text has {len(ids)} tokens, and {room} fit beside the continuation."
            )
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
            remembered=self._remembered,
        )
        return stream_text(tokens, self._tokenizer)
