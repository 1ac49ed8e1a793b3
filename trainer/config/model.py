"""The section `model`: the model's shape."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, SerializerFunctionWrapHandler, model_serializer

from trainer.config.section import Count, Section, Size


class ModelConfig(Section):
    """The model's shape."""

    name: str = Field("custom", description="Name of the shape, in logs and model cards.")
    flavour: Literal["llama", "gpt2"] = Field(
        "llama",
        description="Architecture; llama is also Qwen2 (attention_bias qkv) and Qwen3 (qk_norm).",
    )
    vocab_size: Count | None = Field(
        None, description="Tokens in the vocabulary; null: as many as the data's tokenizer has."
    )
    hidden_size: Count = Field(256, description="Width of the residual stream.")
    intermediate_size: Count | None = Field(
        None,
        description="Width of the feed-forward layers; null: 8/3 (llama) or 4 (gpt2) x hidden.",
    )
    num_layers: Count = Field(4, description="Transformer blocks.")
    num_heads: Count = Field(4, description="Attention heads.")
    num_kv_heads: Count | None = Field(
        None, description="Key-value heads (grouped-query attention); null: num_heads."
    )
    head_dim: Count | None = Field(
        None, description="Channels of a head; null: hidden_size / num_heads."
    )
    max_seq_len: Size = Field(256, description="Context, in tokens.")
    rope_theta: float = Field(10000.0, gt=0, description="Base of the rotary embedding (llama).")
    rope_scaling: Literal["none", "linear", "llama3"] = Field(
        "none",
        description="Slower rotary frequencies: all of them, or low ones as in Llama 3 (llama).",
    )
    rope_factor: float = Field(
        8.0, ge=1, description="By how much rope_scaling slows frequencies down."
    )
    rope_low_freq_factor: float = Field(
        1.0,
        gt=0,
        description="llama3: wavelengths beyond rope_original_context / this are slowed in full.",
    )
    rope_high_freq_factor: float = Field(
        4.0,
        gt=0,
        description="llama3: wavelengths below rope_original_context / this stay as they are.",
    )
    rope_original_context: Size = Field(
        8192, description="llama3: the context before scaling, in tokens."
    )
    norm_eps: float = Field(1e-6, gt=0, description="Epsilon of the norms.")
    tie_embeddings: bool = Field(True, description="Use the token embedding as the output head.")
    qk_norm: bool = Field(False, description="Normalize queries and keys, as Qwen3 does (llama).")
    attention_bias: Literal["none", "qkv", "all"] = Field(
        "none",
        description="Biases in attention: qkv (as in Qwen2), or all (the output's too) (llama).",
    )
    hyper_streams: Literal[0, 1, 2, 4] = Field(
        0, description="Residual streams of hyper-connections; 0: none (llama)."
    )
    hyper_dynamic: bool = Field(
        False, description="Compute the connections from the streams, not from constants alone."
    )
    ternary: bool = Field(
        False, description="Ternary weights in the blocks' linear layers, as in BitNet (llama)."
    )
    ternary_from: float = Field(
        0.0, ge=0, lt=1, description="Share of all steps after which the weights become ternary."
    )
    ternary_group: Count | None = Field(
        None, description="Weights of a row that share a scale; null: the whole matrix."
    )
    ternary_activations: bool = Field(
        True, description="Round the inputs of ternary layers to 8 bits per token."
    )
    mtp_heads: int = Field(
        0, ge=0, le=16, description="Extra heads that predict the tokens after the next one."
    )
    mtp_kind: Literal["linear", "block"] = Field(
        "linear", description="Extra heads: linear layers, or one more block (one head, llama)."
    )
    mtp_weight: NonNegativeFloat = Field(
        0.2, description="Weight of the extra heads' losses; each head's is half the one before."
    )
    lora_r: Annotated[int, Field(ge=0, le=2**14)] = Field(
        0, description="Rank of LoRA adapters, trained in place of the weights; 0: none."
    )
    lora_alpha: float | None = Field(
        None, gt=0, description="Scale of the adapters, over lora_r; null: twice lora_r."
    )
    lora_targets: list[str] | None = Field(
        None,
        min_length=1,
        description="Linear layers that get an adapter, such as q_proj; null: all in the blocks.",
    )
    lora_dropout: float = Field(
        0.0, ge=0, lt=1, description="Dropout probability of the adapters' inputs in training."
    )
    lora_base: Literal["bf16", "fp32"] = Field(
        "bf16", description="Type in which training keeps the frozen matrices of the base model."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout probability in training.")
    parts: dict[str, dict[str, Any]] = Field(
        {}, description="Optional parts of the model by name, each with its settings."
    )

    @model_serializer(mode="wrap")
    def _leave_out_no_parts(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A model without parts is written as before there were any."""
        plain: dict[str, Any] = dump(self)
        if not self.parts:
            plain.pop("parts", None)
        return plain
