"""`trainer config`: the presets with their sizes, and a whole configuration with explanations."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from trainer.cli import options
from trainer.cli.help import command_group
from trainer.cli.output import print_json, print_table

if TYPE_CHECKING:
    from trainer.config.schema import Config

app = command_group("List the presets, or print a configuration with every key explained.")
_MEMORY_NOTE = (
    "size: all trained parameters, extra heads included; guide: the guide's figure\n"
    "memory: to train at the preset's batch size in fp32, optimizer included"
)


@dataclass(frozen=True)
class PresetSizes:
    """How large a preset is; `training_bytes` are for fp32 and its own batch size.

    `guide` is what the guide says of its parameters, empty for a preset of our own.
    """

    preset: str
    flavour: str
    parameters: int
    guide: str
    layers: int
    width: int
    heads: int
    key_value_heads: int
    context: int
    vocab_size: int
    training_bytes: int

    def cells(self) -> tuple[str, ...]:
        """The row of the table."""
        from shared.text import format_bytes, format_count

        return (
            self.preset,
            self.flavour,
            format_count(self.parameters),
            self.guide or "-",
            *(str(size) for size in (self.layers, self.width, self.heads, self.context)),
            format_bytes(self.training_bytes),
            "",
        )


@app.command("list")
def list_(json: options.Json = False) -> int:
    """List the presets with their sizes and the memory that training takes."""
    from trainer.config.resolve import load_source, preset_names, recipe_names, resolve

    presets = [_sizes(resolve(load_source(name)[0])) for name in preset_names()]
    presets.sort(key=lambda preset: preset.parameters)
    if json:
        print_json([asdict(preset) for preset in presets])
        return 0
    heading = (
        *("preset", "shape", "size", "guide", "layers", "width", "heads", "context"),
        *("memory", ""),
    )
    print_table([heading, *(preset.cells() for preset in presets)], numbers=range(2, 9))
    typer.echo(f"\n{_MEMORY_NOTE}")
    typer.echo(f"for a model that exists (--begin-from): {', '.join(recipe_names())}")
    typer.echo("every key: trainer config show PRESET")
    return 0


def _sizes(config: Config) -> PresetSizes:
    from trainer.config.guide_keys import GUIDE_SIZES
    from trainer.loop.memory_plan import optimizer_bytes
    from trainer.model.dimensions import dimensions
    from trainer.model.estimates import estimate_memory
    from trainer.model.shapes import count_parameters

    estimate = replace(estimate_memory(config, bf16=False), optimizer=optimizer_bytes(config))
    n = dimensions(config.model)
    return PresetSizes(
        preset=config.name,
        flavour=config.model.flavour,
        parameters=count_parameters(config.model),
        guide=GUIDE_SIZES.get(config.name, ""),
        layers=n.L,
        width=n.D,
        heads=n.H,
        key_value_heads=n.K,
        context=n.T,
        vocab_size=n.V,
        training_bytes=estimate.total,
    )


@app.command()
def show(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[PRESET|FILE]", help="A preset or a YAML file; without it, the defaults."
        ),
    ] = None,
    set_: options.Set = None,
) -> int:
    """Print a complete configuration as YAML, with every key explained.

    Save it, change it, and train with it: trainer train --config FILE.
    """
    from shared.text import one_line
    from trainer.config.commented import commented_yaml
    from trainer.config.resolve import load_source, resolve

    settings, is_preset = load_source(source) if source is not None else ({}, False)
    config = resolve(settings, options.given({}, set_))
    what = "The defaults" if source is None else f"Preset {source}" if is_preset else source
    heading = [f"{one_line(what)}, with every key. To train with it: trainer train --config FILE"]
    if is_preset:
        heading.append("To take the vocabulary size from your data, as --config PRESET does, set")
        heading.append("model.vocab_size to null.")
    typer.echo(commented_yaml(config, heading), nl=False)
    return 0
