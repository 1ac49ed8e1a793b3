"""What is recorded of an iteration's answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trainer.rl.rollouts import Group


def answer_figures(groups: Sequence[Group]) -> dict[str, float]:
    """Means over all answers of the groups: the reward, its parts, the shares that parse, compile
    and pass their tests (of those that were tested), tokens and the share that was cut off."""
    verdicts = [verdict for group in groups for verdict in group.verdicts]
    answers = [answer for group in groups for answer in group.answers]
    rewards = np.array([verdict.reward for verdict in verdicts])
    names = dict.fromkeys(name for verdict in verdicts for name in verdict.parts)
    tested = [verdict.tested for verdict in verdicts if verdict.tested is not None]
    return {
        "reward": float(rewards.mean()),
        "reward_std": float(rewards.std()),
        **{
            f"reward_{name}": float(np.mean([v.parts.get(name, 0.0) for v in verdicts]))
            for name in names
        },
        "parse_rate": float(np.mean([verdict.parsed for verdict in verdicts])),
        "compile_rate": float(np.mean([verdict.compiled for verdict in verdicts])),
        **({"test_rate": float(np.mean(tested))} if tested else {}),
        "completion_length": float(np.mean([len(answer.tokens) for answer in answers])),
        "truncated_share": float(np.mean([answer.truncated for answer in answers])),
    }


def iteration_figures(
    groups: Sequence[Group], dropped: int, rollout_seconds: float, reward_seconds: float
) -> dict[str, float]:
    """What is recorded of an iteration; `groups` are all that were answered, `dropped` of them
    because their answers were all worth the same."""
    found = answer_figures(groups)
    return {
        "reward_mean": found.pop("reward"),
        **found,
        "dropped_groups": dropped,
        "rollout_seconds": rollout_seconds,
        "reward_seconds": reward_seconds,
    }


def held_out_figures(groups: Sequence[Group]) -> dict[str, float]:
    """What is recorded of held-out prompts."""
    found = answer_figures(groups)
    kept = ("reward", "parse_rate", "compile_rate", "test_rate", "completion_length")
    return {f"val_{key}": found[key] for key in kept if key in found}


def policy_gap(groups: Sequence[Group], trained: Sequence[NDArray[np.float32]]) -> float:
    """How far the model that is trained is from what wrote the answers, though both have the same
    weights: the mean distance of their log-probabilities of a token, in nats. `trained` has those
    of each answer's tokens. It is rounding, and more where answers are written in another precision
    or by another program.
    """
    wrote = [answer.logprobs for group in groups for answer in group.answers]
    apart = [np.abs(own - np.array(other)) for own, other in zip(trained, wrote, strict=True)]
    return float(np.concatenate(apart).mean())
