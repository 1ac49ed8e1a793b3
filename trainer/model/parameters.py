"""Parameter names, shapes and memory from the configuration alone; nothing is allocated.

Names are those of the transformers classes, so a state dict is a checkpoint as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.errors import UserError
from shared.text import format_bytes, format_count
from trainer.config.schema import Config, ModelConfig

#: Positions of models from elsewhere, at most: the table of rotations is made for all of them.
MAX_CONTEXT = 1 << 20


@dataclass(frozen=True)
class LossMemory:
    """How many logits are held at once.

    Up to `logits` numbers are computed in one piece. A larger batch is computed `chunk` tokens at a
    time, and again in the backward pass: a third more work in the output head for a fraction of
    its memory.
    """

    logits: int = 1 << 30
    chunk: int = 4096

    def held(self, tokens: int, vocabulary: int) -> int:
        """How many tokens' logits are in memory at once."""
        return tokens if tokens * vocabulary <= self.logits else self.chunk


LOSS_MEMORY = LossMemory()


Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Dimensions:
    """A model's sizes with every default filled in. V vocabulary, D width, F feed-forward width,
    L layers, H heads, K key-value heads, C channels of a head, T positions."""

    V: int
    D: int
    F: int
    L: int
    H: int
    K: int
    C: int
    T: int


def dimensions(model: ModelConfig) -> Dimensions:
    """Fill in what the configuration leaves open. Raises UserError without a vocabulary size."""
    if model.vocab_size is None:
        raise UserError(
            "model.vocab_size is not known: give it, or data with a tokenizer (prepare-data)."
        )
    width = model.hidden_size
    feed_forward = model.intermediate_size
    if feed_forward is None:
        # 8/3 keeps SwiGLU's three matrices as large as the two of a 4x GELU layer.
        feed_forward = 4 * width if model.flavour == "gpt2" else math.ceil(8 * width / 3 / 64) * 64
    return Dimensions(
        V=model.vocab_size,
        D=width,
        F=feed_forward,
        L=model.num_layers,
        H=model.num_heads,
        K=model.num_kv_heads or model.num_heads,
        C=model.head_dim or width // model.num_heads,
        T=model.max_seq_len,
    )


def parameter_shapes(model: ModelConfig) -> Shapes:
    """The shape of every parameter by its transformers name, in state-dict order."""
    return _gpt2_shapes(model) if model.flavour == "gpt2" else _llama_shapes(model)


def _llama_shapes(model: ModelConfig) -> Shapes:
    n = dimensions(model)
    shapes: Shapes = {"model.embed_tokens.weight": (n.V, n.D)}
    for i in range(n.L):
        p = f"model.layers.{i}"
        shapes[f"{p}.self_attn.q_proj.weight"] = (n.H * n.C, n.D)
        shapes[f"{p}.self_attn.k_proj.weight"] = (n.K * n.C, n.D)
        shapes[f"{p}.self_attn.v_proj.weight"] = (n.K * n.C, n.D)
        shapes[f"{p}.self_attn.o_proj.weight"] = (n.D, n.H * n.C)
        if model.qk_norm:
            shapes[f"{p}.self_attn.q_norm.weight"] = (n.C,)
            shapes[f"{p}.self_attn.k_norm.weight"] = (n.C,)
        shapes[f"{p}.mlp.gate_proj.weight"] = (n.F, n.D)
        shapes[f"{p}.mlp.up_proj.weight"] = (n.F, n.D)
        shapes[f"{p}.mlp.down_proj.weight"] = (n.D, n.F)
        shapes[f"{p}.input_layernorm.weight"] = (n.D,)
        shapes[f"{p}.post_attention_layernorm.weight"] = (n.D,)
        if model.hyper_streams:
            for connection in ("attn_hyper", "mlp_hyper"):
                for name, shape in hyper_shapes(model.hyper_streams).items():
                    shapes[f"{p}.{connection}.{name}"] = shape
    shapes["model.norm.weight"] = (n.D,)
    if not model.tie_embeddings:
        shapes["lm_head.weight"] = (n.V, n.D)
    return shapes


def hyper_shapes(streams: int) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter of one hyper-connection, in state-dict order."""
    mixing: dict[int, dict[str, tuple[int, ...]]] = {
        1: {},
        2: {"alpha_logit": (1,)},
        4: {"res_logits": (24,)},
    }
    scalars = ("pre_logits", "pre_bias", "post_logits", "post_bias")
    return mixing[streams] | dict.fromkeys(scalars, (streams,))


def _gpt2_shapes(model: ModelConfig) -> Shapes:
    n = dimensions(model)
    shapes: Shapes = {"transformer.wte.weight": (n.V, n.D), "transformer.wpe.weight": (n.T, n.D)}

    def affine(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"] = weight
        shapes[f"{name}.bias"] = weight[-1:]

    for i in range(n.L):
        p = f"transformer.h.{i}"
        affine(f"{p}.ln_1", n.D)
        affine(f"{p}.attn.c_attn", n.D, 3 * n.D)
        affine(f"{p}.attn.c_proj", n.D, n.D)
        affine(f"{p}.ln_2", n.D)
        affine(f"{p}.mlp.c_fc", n.D, n.F)
        affine(f"{p}.mlp.c_proj", n.F, n.D)
    affine("transformer.ln_f", n.D)
    if not model.tie_embeddings:
        shapes["lm_head.weight"] = (n.V, n.D)
    return shapes


def count_parameters(model: ModelConfig) -> int:
    """The number of trained scalars."""
    # From one layer and two: the shapes of a billion layers would fill the memory by themselves.
    one, two = (
        sum(math.prod(shape) for shape in parameter_shapes(shallow).values())
        for shallow in (model.model_copy(update={"num_layers": layers}) for layers in (1, 2))
    )
    return one + (model.num_layers - 1) * (two - one)


def flops_per_token(model: ModelConfig, seq_len: int) -> float:
    """Training FLOPs per token: 6N + 12 L H C T (the PaLM/nanoGPT convention, full attention).

    Position embeddings are looked up, not multiplied, so they are left out of N; a tied token
    embedding is multiplied once, as the output head.
    """
    n = dimensions(model)
    multiplied = count_parameters(model)
    if model.flavour == "gpt2":
        multiplied -= n.T * n.D
    if not model.tie_embeddings:
        multiplied -= n.V * n.D
    return 6.0 * multiplied + 12.0 * n.L * n.H * n.C * seq_len


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
    logits = loss_memory.held(tokens, n.V) * n.V * (4 + width)
    cast = count * 2 if bf16 else 0  # autocast keeps a bf16 copy of the matrices
    return MemoryEstimate(4 * count, 4 * count, 8 * count, int(n.L * layer + logits + cast))


def describe(config: Config) -> str:
    """One line about the model's size."""
    model = config.model
    n = dimensions(model)
    return (
        f"{model.name}: {format_count(count_parameters(model))} parameters, "
        f"{model.flavour}, {n.L} layers, width {n.D}, {n.H} heads"
        + (f" ({n.K} key-value)" if n.K != n.H else "")
        + (f", hyper-connections of {model.hyper_streams}" if model.hyper_streams else "")
        + f", vocabulary {n.V}, context {n.T}"
    )
