"""What training a model takes: memory and arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from shared.text import format_bytes
from trainer.config.model import ModelConfig
from trainer.config.schema import Config
from trainer.model.attention import EXPLICIT_POSITIONS, EXPLICIT_WEIGHTS
from trainer.model.dimensions import dimensions
from trainer.model.loss import loss_memory
from trainer.model.parts.registry import active_parts
from trainer.model.shapes import (
    block_parameters,
    meta_model,
    only_multiplies,
    parameter_count,
)
from trainer.model.shapes import blocks as blocks_of

#: What the allocator of a CPU takes for memory that is freed and asked for all the time.
FRAGMENTS = 1.05
#: What it takes for what parts keep, measured with hyper-connections, learned skips and ternary
#: weights: a freed piece of memory that was aligned has no room for the next of its size.
PART_FRAGMENTS = 3.0


def flops_per_token(model: ModelConfig, seq_len: int) -> float:
    """Training FLOPs per token: 6N + 12 L H C T (the PaLM/nanoGPT convention, full attention).

    N leaves out embeddings that are looked up and not multiplied; a tied token embedding is
    multiplied once, as the output head. Frozen weights have no gradient, so they count 4, not 6.
    An extra block attends, and predicts through the output head once more.
    """
    n = dimensions(model)
    count = parameter_count(model)
    frozen = max(0, count.total - count.trained - count.looked_up)
    products = 6.0 * (count.total - count.looked_up) - 2.0 * frozen
    extra = 1 if model.mtp_heads and model.mtp_kind == "block" else 0
    return products + 6.0 * extra * n.V * n.D + 12.0 * (n.L + extra) * n.H * n.C * seq_len


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of training memory: exact for the state, within 15 % of the peak as a whole.

    `copy` is the second copy of weights and optimizer in main memory, from which a checkpoint is
    written while training goes on; `process` what Python, torch and its libraries take. Both are 0
    for the memory of a GPU.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    copy: int = 0
    process: int = 0
    #: What a rank gathers of the others' rows at a time, where the model is spread over ranks.
    gathered: int = 0

    @property
    def state(self) -> int:
        """What must be there whatever the batch: weights, gradients, optimizer."""
        return self.weights + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        """Everything."""
        return self.state + self.gathered + self.activations + self.copy + self.process

    def __str__(self) -> str:
        parts = (
            ("weights", self.weights),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("gathered", self.gathered),
            ("activations about", self.activations),
            ("copy for saving", self.copy),
            ("process", self.process),
        )
        told = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts if size)
        return f"{format_bytes(self.total)}: {told}"


def estimate_memory(
    config: Config, *, bf16: bool, cuda: bool = False, ranks: int = 1
) -> MemoryEstimate:
    """What training needs: fp32 weights, gradients and AdamW's two moments, and activations.

    Frozen weights have none of the rest. The process itself is not known here and is left 0. Each
    of `ranks` has a share of a step's sequences.
    """
    count = parameter_count(config.model)
    activations = _activations(config, bf16=bf16, cuda=cuda, ranks=ranks)
    if bf16:
        # A bf16 copy of the matrices is kept, unless they are in bf16 already.
        narrow = config.model.lora_r and config.model.lora_base == "bf16"
        activations += 2 * (count.trained if narrow else count.total)
    trained, optimizer = 4 * count.trained, 8 * count.trained
    copy = trained + optimizer if config.checkpoint.background and not cuda else 0
    weights = trained + count.frozen_bytes
    return MemoryEstimate(weights, trained, optimizer, activations, copy)


def spread_over(
    estimate: MemoryEstimate, config: Config, ranks: int, *, bf16: bool, whole_gradients: bool
) -> MemoryEstimate:
    """What each of `ranks` takes where every rank holds some rows of each matrix (FSDP).

    Two blocks are gathered at a time, one that is computed and the next, in bf16 if the matrices
    are multiplied in it, and their gradients are whole until they are reduced; what is not in a
    block is gathered once a step, in fp32. `copy` is rank 0's, which gathers a checkpoint.
    """
    count, block = parameter_count(config.model), block_parameters(config.model)
    outside = count.total - config.model.num_layers * block
    blocks = min(2, config.model.num_layers) * block
    one = meta_model(config.model.model_copy(update={"num_layers": 1}))
    narrow = bf16 and all(map(only_multiplies, blocks_of(one)))
    gathered = 4 * outside + (2 if narrow else 4) * blocks
    gradients = 4 * (count.trained if whole_gradients else outside + blocks)
    # The matrices that are gathered in bf16 need no copy in bf16.
    copies = 2 * (count.total - outside) if narrow else 0
    return replace(
        estimate,
        weights=estimate.weights // ranks,
        gradients=estimate.gradients // ranks,
        optimizer=estimate.optimizer // ranks,
        gathered=gathered + gradients,
        activations=estimate.activations - copies,
    )


def _activations(config: Config, *, bf16: bool, cuda: bool, ranks: int) -> int:
    """Bytes that a forward pass keeps for the backward pass, and what the latter adds at its start.

    Counted with saved-tensor hooks, in numbers per token and layer: those of the residual stream
    and norms are fp32 even under autocast, the others are not.
    """
    n, model = dimensions(config.model), config.model
    sequences = config.train.batch_size
    if isinstance(config.train.micro_batch, int):
        sequences = config.train.micro_batch
    sequences = min(sequences, math.ceil(config.sequences_per_step / ranks))
    tokens = sequences * config.rows * config.seq_len
    width = 2 if bf16 else 4
    gpt2 = model.flavour == "gpt2"
    heads, groups = n.H * n.C, n.K * n.C
    # fp32: the inputs of the norms; a GPU keeps what they make of them, too.
    norms = 2 * n.D + (heads + groups if model.qk_norm else 0)
    stream = norms if gpt2 or not cuda else 2 * norms
    # The inputs of attention and feed-forward; queries, keys, values and the result of attention.
    narrow = 2 * n.D + 2 * heads + 2 * groups + (2 if gpt2 else 4) * n.F
    if bf16 and not gpt2:
        narrow += 3 * n.D  # an input is cast anew for each of q, k, v and of gate, up
    if model.dropout:
        narrow += 2 * n.D  # two masks
    weights = n.H * config.seq_len  # attention weights of a token
    explicit = config.seq_len <= EXPLICIT_POSITIONS and weights * tokens <= EXPLICIT_WEIGHTS
    attention = 0  # bytes
    if not cuda and model.dropout:
        # Before and after dropout, and the mask. SDPA computes all of it in fp32.
        attention = 3 * weights * (width if explicit else 4)
    elif not cuda and bf16 and explicit:
        attention = width * weights
    parts = [part.kept(model, width) for part in active_parts(model)]
    layer = 4 * stream + width * narrow + attention
    logits = _logits(config, tokens, width)
    ends = 4 * 3 * n.D  # the embedding, the final norm's input and output
    # A tied matrix has two gradients before they are added.
    tied = 4 * n.V * n.D if model.tie_embeddings else 0
    mask = tokens * config.seq_len * (1 + width) if config.train.document_mask else 0
    # Of layers that are computed again, one piece is in memory at a time, and inputs of all.
    every = config.train.grad_checkpoint_every or 0
    pieces = math.ceil(n.L / every) if every else 0
    inputs = pieces * (4 * n.D + sum(part.input_token for part in parts))
    # One layer more: the gradients of a layer's activations.
    layers = (min(every, n.L) if every else n.L) + 1
    kept = tokens * (layers * layer + inputs + ends) + logits + tied + mask
    among, between = (
        sum(
            tokens * (n.L + 1 if part.lasting else layers) * part.layer_token + part.whole
            for part in parts
            if part.scattered == scattered
        )
        for scattered in (False, True)
    )
    if cuda:
        return int(kept + among + between)
    return int(FRAGMENTS * (kept + among) + PART_FRAGMENTS * between)


def _logits(config: Config, tokens: int, width: int) -> int:
    """Bytes for the output heads' logits, and for what a loss in pieces keeps."""
    n, heads = dimensions(config.model), 1 + config.model.mtp_heads
    held = loss_memory(config.train.loss_chunk_tokens).held(tokens, n.V)
    if held == tokens:
        # The logits' log-softmax, its gradient and theirs, in fp32.
        return 12 * heads * tokens * n.V
    # Of one head at a time: logits, their log-softmax or gradient in fp32, and its narrow form.
    piece = (8 + width) * held * n.V
    # The gradients of hidden states; those of the matrix are among the gradients.
    return piece + 4 * heads * tokens * n.D
