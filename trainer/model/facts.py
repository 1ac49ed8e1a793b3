"""What a run's state says of its model."""

from __future__ import annotations

from shared.json_text import Json
from trainer.config.model import ModelConfig
from trainer.model.dimensions import dimensions
from trainer.model.shapes import parameter_count


def model_facts(model: ModelConfig) -> Json:
    """Name, flavour, sizes and number of parameters; of those trained, if they are fewer."""
    n, count = dimensions(model), parameter_count(model)
    return {
        "name": model.name,
        "flavour": model.flavour,
        "parameters": count.total,
        **({"trained": count.trained} if count.trained != count.total else {}),
        "layers": n.L,
        "width": n.D,
        "vocab_size": n.V,
        "context": n.T,
    }
