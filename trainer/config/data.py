"""The section `data`: where tokens come from."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from trainer.config.section import Count, Section


class SourceConfig(Section):
    """One of several sources of tokens."""

    path: str = Field(description="train.bin, or the folder prepare-data wrote.")
    weight: float = Field(1.0, gt=0, le=1e9, description="Its share, among all weights.")
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="Its name in metrics and messages; null: that of its folder.",
    )

    @model_serializer(mode="wrap")
    def _leave_out_no_name(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A row holds only what it says."""
        return {key: value for key, value in dump(self).items() if value is not None}


class DataConfig(Section):
    """Where tokens come from."""

    dataset: Literal["tokens", "synthetic", "pairs", "prompts"] = Field(
        "tokens",
        description="Token files, a generated sequence, pairs of answers, or prompts (trainer rl).",
    )
    path: str | None = Field(None, description="train.bin, or the folder prepare-data wrote.")
    sources: list[SourceConfig] | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="Sources to mix in place of path: {path, weight} each, a share of sequences.",
    )
    val_path: str | None = Field(
        None,
        description="Validation tokens; null: val.bin beside the training data, or each source.",
    )
    tokenizer: str | None = Field(
        None, description="tokenizer.json; null: the one beside the data, if any."
    )
    n_samples: Count = Field(100_000, description="Sequences of the synthetic data.")
