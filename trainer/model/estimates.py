"""What training a model takes: memory and arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from shared.text import format_bytes
from trainer.config.schema import Config, ModelConfig
from trainer.model.dimensions import dimensions
from trainer.model.loss import LOSS_MEMORY, LossMemory
from trainer.model.shapes import count_parameters, parameter_count


def flops_per_token(model: ModelConfig, seq_len: int) -> float:
    """Training FLOPs per token: 6N + 12 L H C T (the PaLM/nanoGPT convention, full attention).

    N leaves out embeddings that are looked up and not multiplied; a tied token embedding is
    multiplied once, as the output head.
    """
    n = dimensions(model)
    count = parameter_count(model)
    return 6.0 * (count.total - count.looked_up) + 12.0 * n.L * n.H * n.C * seq_len


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of training memory: exact for the state, a rule of thumb for activations."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def state(self) -> int:
        """What must be there whatever the batch: weights, gradients, optimizer."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        """Everything."""
        return self.state + self.activations

    def __str__(self) -> str:
        return (
            f"{format_bytes(self.total)}: weights {format_bytes(self.weights)}, "
            f"gradients {format_bytes(self.gradients)}, optimizer {format_bytes(self.optimizer)}, "
            f"activations about {format_bytes(self.activations)}"
        )


def estimate_memory(
    config: Config, *, bf16: bool, cuda: bool = False, loss_memory: LossMemory = LOSS_MEMORY
) -> MemoryEstimate:
    """What training needs: fp32 weights, gradients and AdamW's two moments, and activations.

    Activations per token and layer: 10 D and 4 F numbers (counted with saved-tensor hooks: within
    0.6 and 1.4 of that), the logits and their gradient on top. The attention matrix is stored only
    on a CPU: once in bf16 for short sequences, three times over with dropout.
    """
    n = dimensions(config.model)
    count = count_parameters(config.model)
    tokens = config.train.batch_size * config.seq_len
    width = 2 if bf16 else 4
    layer = tokens * n.D * (10 + 4 * n.F / n.D) * width
    if not cuda and (bf16 or config.model.dropout):
        matrices = 3 if config.model.dropout else 1
        layer += tokens * width * matrices * (n.H * config.seq_len + n.D)
    heads = 1 + config.model.mtp_heads
    logits = heads * loss_memory.held(tokens, n.V) * n.V * (4 + width)
    cast = count * 2 if bf16 else 0  # autocast keeps a bf16 copy of the matrices
    return MemoryEstimate(4 * count, 4 * count, 8 * count, int(n.L * layer + logits + cast))
