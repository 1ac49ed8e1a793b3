"""Validation on held-out prompts: what the answers are worth, and how many compile."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RewardEvaluation:
    """Means over the answers to held-out prompts, by the names they are recorded by."""

    metrics: dict[str, float]

    @property
    def metric(self) -> str:
        """Which of the metrics tells how good the model is: more is better."""
        return "val_reward"

    def __str__(self) -> str:
        found = self.metrics
        shares = ", ".join(
            f"{100 * found[key]:.1f} % {said}"
            for key, said in (
                ("val_parse_rate", "parse"),
                ("val_compile_rate", "compile"),
                ("val_test_rate", "pass their tests"),
            )
            if key in found
        )
        return f"val_reward: {found['val_reward']:.4f} | {shares}"
