"""How closely an export matches its model: the figures, and their bounds.

V vocabulary, N places in texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from trainer.export.llama_client import Logprobs
from trainer.generate.decoding import generate
from trainer.generate.sampling import Sampling
from trainer.model.language_model import LanguageModel

LIKELIEST = 1024  # tokens whose log-probabilities are compared at a position

#: Ids (1, T) to logits (1, T, V).
Forward = Callable[[torch.Tensor], torch.Tensor]
#: The predictions at each of the tokens that follow a prompt.
Predict = Callable[[list[int], list[int]], list[Logprobs]]


@dataclass(frozen=True)
class Bounds:
    """The bounds of an export. `difference` bounds every log-probability (nats); `divergence`
    the mean Kullback-Leibler divergence of a place's prediction (nats); `same_tokens` asks for the
    same greedy tokens."""

    difference: float | None = None
    divergence: float | None = None
    same_tokens: bool = False


@dataclass
class Figures:
    """The figures over all positions."""

    places: int = 0
    difference: float = 0.0  # the largest, of a log-probability
    divergence_sum: float = 0.0
    agreeing: int = 0  # positions with the same likeliest token
    greedy_equal: int = 0  # positions before the first different token, over all prompts
    different_texts: list[str] = field(default_factory=list)
    texts: int = 0  # whose tokens were compared
    normalized: bool = False  # by our tokenizer, for a program that has no normalizer

    @property
    def divergence(self) -> float:
        """Mean Kullback-Leibler divergence, nats."""
        return max(0.0, self.divergence_sum) / max(1, self.places)  # rounding may be negative

    @property
    def agreement(self) -> float:
        """The share of positions with the same likeliest token."""
        return self.agreeing / max(1, self.places)

    def problems(self, bounds: Bounds) -> list[str]:
        """The bounds that are exceeded, one clause each."""
        found = []
        if not math.isfinite(self.difference):
            found.append("it gives numbers that are not finite")
        if bounds.difference is not None and not self.difference <= bounds.difference:
            found.append(
                f"log-probabilities differ by {self.difference:.2g}, "
                f"more than {bounds.difference:g}"
            )
        if bounds.divergence is not None and not self.divergence <= bounds.divergence:
            found.append(
                f"predictions diverge by {self.divergence:.2g} nats, more than "
                f"{bounds.divergence:g}"
            )
        if bounds.same_tokens and self.greedy_equal < self.places:
            found.append("greedy text goes another way")
        if self.different_texts:
            found.append(f"{len(self.different_texts)} texts become other tokens")
        return found


def compare_predictions(
    model: LanguageModel, prompts: Sequence[list[int]], new_tokens: int, other: Predict
) -> Figures:
    """Compare at every position of the model's greedy continuation of each prompt."""
    figures = Figures()
    for prompt in prompts:
        count = min(new_tokens, model.dimensions.T - len(prompt))
        tokens = list(generate(model, prompt, count, Sampling(temperature=0)))
        ours_NV = logprobs(model, prompt, tokens)
        same = True
        for token, ours_V, place in zip(tokens, ours_NV, other(prompt, tokens), strict=True):
            likeliest = max(place, key=place.__getitem__)
            same = same and likeliest == token
            figures.greedy_equal += same
            figures.agreeing += likeliest == int(ours_V.argmax())
            _compare_place(figures, ours_V, place)
    return figures


def _compare_place(figures: Figures, ours_V: torch.Tensor, place: Logprobs) -> None:
    ours = ours_V[torch.tensor(list(place))].double()
    theirs = torch.tensor(list(place.values()), dtype=torch.float64)
    divergence = float((ours.exp() * (ours - theirs)).sum())
    if len(place) < len(ours_V):  # the other tokens count as one
        p, q = (max(1e-12, 1 - float(part.exp().sum())) for part in (ours, theirs))
        divergence += p * math.log(p / q)
    difference = float((ours - theirs).abs().max())
    if not math.isfinite(divergence + difference):  # NaN would be lost by max
        divergence = difference = math.inf
    figures.places += 1
    figures.difference = max(figures.difference, difference)
    figures.divergence_sum += divergence


def compare_tokens(
    figures: Figures,
    texts: Sequence[str],
    ours: Callable[[str], list[int]],
    theirs: Callable[[str], list[int]],
) -> None:
    """Compare the token ids of texts."""
    figures.texts += len(texts)
    figures.different_texts += [text for text in texts if ours(text) != theirs(text)]


@torch.inference_mode()
def logprobs(forward: Forward, prompt: list[int], tokens: list[int]) -> torch.Tensor:
    """Log-probabilities (N, V) from which each of `tokens` would be chosen after `prompt`."""
    logits_TV = forward(torch.tensor([[*prompt, *tokens]]))[0, len(prompt) - 1 : -1]
    return logits_TV.float().log_softmax(-1)


def predictions(forward: Forward) -> Predict:
    """The predictions of a model in this process."""

    def predict(prompt: list[int], tokens: list[int]) -> list[Logprobs]:
        return [dict(enumerate(row)) for row in logprobs(forward, prompt, tokens).tolist()]

    return predict
