"""Writing GGUF: the header with the `gguf` package, then the tensors as a stream of bytes.

Only some rows of one tensor are converted at a time.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter, RopeScalingType
from gguf.gguf_writer import WriterState
from numpy.typing import NDArray

from shared.errors import UserError
from trainer.config.model import ModelConfig
from trainer.formats.gguf_rope import FACTORS, rope_factors
from trainer.formats.gguf_types import encode, file_type, stored_bytes
from trainer.model.dimensions import dimensions

_AT_ONCE = 1 << 20  # numbers

#: Maps rows in fp32 to rows of blocks.
Encode = Callable[[NDArray[np.float32]], NDArray[Any]]


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of the file: `shape` rows first, `read` gives its fp32 numbers in that shape.

    `encode` makes blocks of `kind` of them; None: the usual way.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    read: Callable[[], NDArray[np.float32]]
    encode: Encode | None = None

    @property
    def bytes(self) -> int:
        """Bytes in the file, without padding."""
        return stored_bytes(self.kind, self.shape)


def add_shape(writer: GGUFWriter, model: ModelConfig) -> None:
    """Add the keys from which a runtime builds the model. It silently guesses missing ones."""
    n = dimensions(model)
    writer.add_vocab_size(n.V)
    writer.add_context_length(n.T)
    writer.add_embedding_length(n.D)
    writer.add_block_count(n.L)
    writer.add_feed_forward_length(n.F)
    writer.add_head_count(n.H)
    if model.flavour == "gpt2":
        writer.add_layer_norm_eps(model.norm_eps)
        return
    writer.add_head_count_kv(n.K)
    writer.add_key_length(n.C)
    writer.add_value_length(n.C)
    writer.add_layer_norm_rms_eps(model.norm_eps)
    writer.add_rope_dimension_count(n.C)
    writer.add_rope_freq_base(model.rope_theta)
    if model.rope_scaling == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(model.rope_factor)
    elif model.rope_scaling == "llama3":
        # Beside the factors in a tensor, for the reader here: llama.cpp does not need it.
        writer.add_rope_scaling_orig_ctx_len(model.rope_original_context)


def rope_tensors(model: ModelConfig) -> list[StoredTensor]:
    """The factors of rotary frequencies, if the model has any."""
    factors = rope_factors(model)
    if factors is None:
        return []
    return [StoredTensor(FACTORS, factors.shape, "F32", lambda: factors)]


def add_general(
    writer: GGUFWriter, name: str, kind: str, *, license_: str = "", author: str = ""
) -> None:
    """Add the general keys: a model called `name`, mostly in the type `kind`."""
    writer.add_type("model")
    writer.add_name(name)
    if author:
        writer.add_author(author)
    if license_:
        writer.add_license(license_)
    writer.add_file_type(file_type(kind))
    writer.add_quantization_version(GGML_QUANT_VERSION)


def gguf_chunks(writer: GGUFWriter, tensors: Sequence[StoredTensor]) -> Iterator[bytes]:
    """The bytes of the file, whose keys are in `writer` (made without a path).

    Raises UserError naming a tensor with numbers that its type cannot hold.
    """
    for tensor in tensors:
        kind = GGMLQuantizationType[tensor.kind]
        writer.add_tensor_info(
            tensor.name, tensor.shape, np.dtype(np.float32), tensor.bytes, raw_dtype=kind
        )
    header = _header(writer)
    yield header + bytes(_padding(writer, len(header)))
    for tensor in tensors:
        for rows in _encoded(tensor):
            yield rows.tobytes()
        yield bytes(_padding(writer, tensor.bytes))


def _encoded(tensor: StoredTensor) -> Iterator[NDArray[Any]]:
    """The tensor in its type, some rows at a time."""
    weight = tensor.read()
    rows = weight.reshape(-1, weight.shape[-1])
    step = max(1, _AT_ONCE // rows.shape[-1])
    try:
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            yield tensor.encode(some) if tensor.encode else encode(some, tensor.kind)
    except UserError as error:
        raise UserError(f"The tensor {tensor.name} cannot be written: {error}.") from error


def _padding(writer: GGUFWriter, size: int) -> int:
    return writer.ggml_pad(size, writer.data_alignment) - size


def _header(writer: GGUFWriter) -> bytes:
    """All bytes before the tensors' data."""
    header = io.BytesIO()
    # In memory instead of a file.
    writer.fout, writer.state = [cast(io.BufferedWriter, header)], WriterState.EMPTY
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    return header.getvalue()
