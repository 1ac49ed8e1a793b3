"""The newest model as a GGUF file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from shared.json_text import Json
from shared.text import format_bytes
from trainer.config.section import Section
from trainer.pipeline.stages.interface import Context, Outputs, Work

FILE = "model.gguf"


class ExportSection(Section):
    """The file that is handed over."""

    quant: str = Field("F16", description="Type of the weights, such as F16, Q8_0 or Q1_58.")
    vocabulary_quant: str | None = Field(
        None, description="Type of embedding and head; null: that of the weights, as far as it can."
    )
    lossy: bool = Field(False, description="Allow ternary types for weights that are not ternary.")
    verify: bool = Field(False, description="Compare the file with the model, in llama.cpp.")


class Export:
    """`trainer export --gguf`."""

    name: ClassVar[str] = "export"
    title: ClassVar[str] = "export to GGUF"
    section: ClassVar[type[Section]] = ExportSection

    def skipped(self, context: Context) -> str:
        """Never."""
        return ""

    def settings(self, context: Context) -> Json:
        """All of the section."""
        from trainer.formats.gguf_types import find_type

        asked = _section(context)
        find_type(asked.quant)
        if asked.vocabulary_quant is not None:
            find_type(asked.vocabulary_quant)
        return {**asked.model_dump(), "file": str(context.place.final / FILE)}

    def inputs(self, context: Context) -> Sequence[Path]:
        """None beside the model."""
        return ()

    def needs(self, context: Context) -> Sequence[Path]:
        """The newest model."""
        return [context.model()[1]]

    def work(self, context: Context, work: Work) -> Outputs:
        """Write the file."""
        asked = _section(context)
        stage, model = context.model()
        context.place.final.mkdir(parents=True, exist_ok=True)
        file = context.place.final / FILE
        options = ["--vocabulary-quant", asked.vocabulary_quant] if asked.vocabulary_quant else []
        options += [f"--{name}" for name in ("lossy", "verify") if getattr(asked, name)]
        work.command(
            "export",
            "--checkpoint",
            str(model),
            "--gguf",
            str(file),
            "--quant",
            asked.quant,
            "--force",
            *options,
        )
        size = file.stat().st_size
        return Outputs(
            (file,),
            {
                "file": str(file),
                "bytes": size,
                "from": str(model),
                "result": f"{file}: {format_bytes(size)} of {asked.quant}, from {stage}'s "
                f"{model.name}",
            },
        )


def _section(context: Context) -> ExportSection:
    found: ExportSection = context.config.section("export")
    return found
