"""The section `rl`: how `trainer rl` learns from answers that a language judges."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat

from trainer.config.section import Count, CountOrZero, Section


class RlConfig(Section):
    """How `trainer rl` learns from answers that are judged (data.dataset prompts)."""

    prompts: str | None = Field(None, description="File of tasks to train on.")
    val_prompts: str | None = Field(
        None, description="File of held-out tasks, answered every eval.interval iterations."
    )
    val_answers: Annotated[int, Field(ge=1, le=1024)] = Field(
        1, description="Answers to each held-out task."
    )
    language: str = Field("rust", description="What judges the answers: rust or python.")
    iterations: Count = Field(
        100, description="Iterations: rounds of answers, each followed by optimizer steps."
    )
    prompts_per_iteration: Annotated[int, Field(ge=1, le=65536)] = Field(
        8, description="Prompts that are answered in an iteration."
    )
    group_size: Annotated[int, Field(ge=2, le=4096)] = Field(
        16, description="Answers to each prompt, which are compared with each other."
    )
    epochs: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="Passes over the answers of an iteration."
    )
    max_new_tokens: Annotated[int, Field(ge=1, le=2**20)] = Field(
        256, description="Tokens of an answer at most."
    )
    temperature: float = Field(
        1.0, gt=0, le=100, description="Temperature of the answers, and of the loss."
    )
    top_p: float = Field(
        1.0, gt=0, le=1, description="Draw from the likeliest tokens that reach this probability."
    )
    loss: Literal["grpo", "cispo"] = Field(
        "grpo",
        description="grpo clips the objective, cispo the weight of a token's log-probability.",
    )
    clip_low: float = Field(
        0.2, gt=0, le=1, description="A ratio of probabilities counts down to 1 - clip_low (grpo)."
    )
    clip_high: float | None = Field(
        None,
        gt=0,
        le=100,
        description="A ratio counts up to 1 + clip_high; null: 0.28 for grpo, 4 for cispo.",
    )
    kl_beta: NonNegativeFloat = Field(
        0.0, description="Weight of the KL divergence from the model that the run began from."
    )
    kl_interval: CountOrZero = Field(
        10,
        description="Iterations between two measurements of that divergence where kl_beta is 0; "
        "0: never.",
    )
    normalize_parts: bool = Field(
        True,
        description="Normalize each part of a reward within its group, then sum; false: sum first.",
    )
    weights: dict[str, NonNegativeFloat] = Field(
        {}, description="Weight of each part of a reward by its name; 1 for those not named."
    )
    refill: CountOrZero = Field(
        2,
        description="Rounds of other prompts in place of groups whose answers are all alike.",
    )
    mask_truncated: bool = Field(
        True, description="Leave answers that were cut off out of the loss."
    )
    min_pass_rate: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of prompts with an answer that compiles below which RL does not start.",
    )
    curriculum: bool = Field(
        False, description="Begin with most of each reference answer given, and shorten it."
    )
    run_tests: bool | None = Field(
        None, description="Run the tasks' tests; null: where the sandbox can hold them."
    )
    sample_files: Annotated[int, Field(ge=2, le=10**6)] = Field(
        100, description="Files of sampled answers to keep: the first, the last, and some between."
    )
    rollouts: Literal["engine", "vllm"] = Field(
        "engine", description="What answers the prompts: the model itself, or a vLLM server."
    )
    vllm_url: str = Field(
        "http://127.0.0.1:8000", description="The vLLM server, on a copy of the model's folder."
    )

    @property
    def answers(self) -> int:
        """Answers of an iteration."""
        return self.prompts_per_iteration * self.group_size

    @property
    def ratio_limit(self) -> float:
        """The largest ratio that counts."""
        high = (0.28 if self.loss == "grpo" else 4.0) if self.clip_high is None else self.clip_high
        return 1 + high
