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
from trainer.model.shapes import block_parameters, gathered_in_bf16, parameter_count

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


def computed_flops_per_token(config: Config) -> float:
    """The FLOPs per token that training `config` computes: collider leaves out a share of the
    backward pass, which is two thirds of a step's arithmetic."""
    kept = config.train.collider_keep if config.train.collider else 1.0
    return flops_per_token(config.model, config.seq_len) * (1 + 2 * kept) / 3


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of training memory: exact for the state, within 10 % of the peak as a whole.

    `late` are those of the gradients that a step makes when it has freed as many activations: all
    but the output head's, in a step of one pass. `scratch` is what the optimizer takes besides the
    gradients while it updates, when activations are gone. `copy` is the second copy of weights and
    optimizer in main memory, from which a checkpoint is written while training goes on; `process`
    what Python, torch and its libraries take. Both are 0 for the memory of a GPU.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    copy: int = 0
    process: int = 0
    #: What a rank gathers of the others' rows at a time, where the model is spread over ranks.
    gathered: int = 0
    late: int = 0
    scratch: int = 0
    #: Where gradients are exchanged, besides the gradients themselves (DDP).
    buckets: int = 0

    @property
    def state(self) -> int:
        """What must be there whatever the batch: weights, gradients, optimizer."""
        return self.weights + self.gradients + self.optimizer

    @property
    def in_step(self) -> int:
        """The most that comes and goes in a step: when the backward pass begins, or at its end."""
        backward = self.activations + self.gradients - self.late
        return max(backward, self.gradients + self.scratch)

    @property
    def total(self) -> int:
        """Everything."""
        lasting = self.weights + self.optimizer + self.gathered + self.buckets
        return lasting + self.in_step + self.copy + self.process

    def __str__(self) -> str:
        parts = (
            ("weights", self.weights),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("gathered", self.gathered),
            ("buckets of gradients", self.buckets),
            ("activations about", self.activations),
            ("copy for saving", self.copy),
            ("process", self.process),
        )
        told = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts if size)
        once = self.activations + self.gradients - self.in_step
        less = f", less {format_bytes(once)} that are never there at once" if once > 0 else ""
        more = f", more {format_bytes(-once)} while the optimizer works" if once < 0 else ""
        return f"{format_bytes(self.total)}: {told}{less}{more}"


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
    n, tied = dimensions(config.model), config.model.tie_embeddings
    head = 4 * n.V * n.D
    once = sequences_at_once(config, ranks) >= math.ceil(config.sequences_per_step / ranks)
    # A tied matrix's first gradient counts as an activation, and the second is added at the end.
    late = max(0, trained - (0 if tied else head)) if once else 0
    scratch = min(head, trained) if tied else 0
    return MemoryEstimate(
        weights, trained, optimizer, activations, copy, late=late, scratch=scratch
    )


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
    narrow = gathered_in_bf16(config.model, bf16=bf16)
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
        late=0,
        scratch=estimate.scratch // ranks,
    )


def sequences_at_once(config: Config, ranks: int) -> int:
    """Sequences that go through the model at once, in each of `ranks`."""
    train = config.train
    most = train.micro_batch if isinstance(train.micro_batch, int) else train.batch_size
    return min(most, math.ceil(config.sequences_per_step / ranks))


def _activations(config: Config, *, bf16: bool, cuda: bool, ranks: int) -> int:
    """Bytes that a forward pass keeps for the backward pass, and what the latter adds at its start.

    Counted with saved-tensor hooks, in numbers per token and layer: those of the residual stream
    and norms are fp32 even under autocast, the others are not.
    """
    n, model = dimensions(config.model), config.model
    tokens = sequences_at_once(config, ranks) * config.rows * config.seq_len
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
    logits = _logits(config, tokens)
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
    # When layers are computed again, logits are gone: their memory is used again, but on a CPU only
    # by tensors that are as large, for which the system is asked.
    again = layers * (layer if cuda else attention if _is_large(attention * tokens) else 0)
    twice = min(tokens * again, logits) if every and (cuda or _is_large(logits)) else 0
    kept = tokens * (layers * layer + inputs + ends) + logits - twice + tied + mask
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


def _is_large(size: float) -> bool:
    """Whether the C library asks the system for a tensor's memory, and gives it back at once. The
    memory of smaller ones stays the process's (glibc, once it has seen large ones freed)."""
    return size >= 32 << 20


def _logits(config: Config, tokens: int) -> int:
    """Bytes for the output heads' logits, and for what a loss in pieces keeps."""
    n, heads = dimensions(config.model), 1 + config.model.mtp_heads
    held = loss_memory(config.train.loss_chunk_tokens).held(tokens, n.V)
    if held == tokens:
        # The logits' log-softmax, its gradient and theirs, in fp32.
        return 12 * heads * tokens * n.V
    # Of one head at a time, in fp32: logits and their log-softmax, from which the gradient is made.
    piece = 8 * held * n.V
    # The gradients of hidden states; those of the matrix are among the gradients.
    return piece + 4 * heads * tokens * n.D
