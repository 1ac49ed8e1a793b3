"""What every section of a configuration is, and the numbers in it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

# Far beyond any use, and small enough that what is computed from them fits 64 bits.
Count = Annotated[int, Field(ge=1, le=10**12)]
CountOrZero = Annotated[int, Field(ge=0, le=10**12)]
Size = Annotated[int, Field(ge=1, le=2**24)]


class Section(BaseModel):
    """A frozen section; unknown keys are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML's `yes` must not count as the number 1."""
        kind = cls.model_fields[str(info.field_name)].annotation
        words = get_origin(kind) is Literal and isinstance(get_args(kind)[0], str)
        if isinstance(value, bool) and not words and bool not in (kind, *get_args(kind)):
            raise ValueError("must not be a truth value")
        return value
