"""The messages of TensorBoard's event files, as far as curves and settings need them.

The field numbers are those of tensorflow's `event.proto`, `summary.proto`, `tensor.proto` and of
the hparams plugin. What is not needed is left out: protobuf skips unknown fields. tensorboardX has
all of them, and imports torch with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_PACKAGE = "train_monitor.tensorboard"
_SCALAR = {
    "double": 1,
    "float": 2,
    "int64": 3,
    "int32": 5,
    "bool": 8,
    "string": 9,
    "bytes": 12,
}
#: Message -> field -> (number, type). `*` before a type: repeated; a type with a capital letter is
#: another message. Bytes stand for messages that are only counted.
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Event": {
        "wall_time": (1, "double"),
        "step": (2, "int64"),
        "file_version": (3, "string"),
        "summary": (5, "Summary"),
    },
    "Summary": {"value": (1, "*Value")},
    "Value": {
        "tag": (1, "string"),
        "simple_value": (2, "float"),
        "image": (4, "bytes"),
        "histo": (5, "bytes"),
        "audio": (6, "bytes"),
        "tensor": (8, "Tensor"),
        "metadata": (9, "Metadata"),
    },
    "Metadata": {"plugin_data": (1, "PluginData"), "data_class": (4, "int32")},
    "PluginData": {"plugin_name": (1, "string"), "content": (2, "bytes")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "Shape"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "*float"),
        "double_val": (6, "*double"),
        "int_val": (7, "*int32"),
        "int64_val": (10, "*int64"),
        "half_val": (13, "*int32"),
    },
    "Shape": {"dim": (2, "*Dim")},
    "Dim": {"size": (1, "int64")},
    "HParams": {
        "session_start_info": (3, "SessionStart"),
        "session_end_info": (4, "SessionEnd"),
    },
    "SessionStart": {
        "hparams": (1, "*Setting"),
        "group_name": (4, "string"),
        "start_time_secs": (5, "double"),
    },
    "SessionEnd": {"status": (1, "int32"), "end_time_secs": (2, "double")},
    "Setting": {"key": (1, "string"), "value": (2, "SettingValue")},
    "SettingValue": {
        "number_value": (2, "double"),
        "string_value": (3, "string"),
        "bool_value": (4, "bool"),
    },
}
#: Fields of which one is set: only then can a zero be told from nothing.
_ONE_OF = {
    "Value": ("simple_value", "image", "histo", "audio", "tensor"),
    "SettingValue": ("number_value", "string_value", "bool_value"),
    "HParams": ("session_start_info", "session_end_info"),
}


@cache
def message(name: str) -> Any:
    """The class of a message above."""
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="train_monitor/tensorboard.proto", package=_PACKAGE, syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        chosen = _ONE_OF.get(name, ())
        if chosen:
            described.oneof_decl.add(name="kind")
        for field_name, (number, told) in fields.items():
            kind = told.removeprefix("*")
            label = 1 if kind == told else 3
            field = described.field.add(name=field_name, number=number, label=label)
            if kind in _SCALAR:
                field.type = _SCALAR[kind]
            else:
                field.type, field.type_name = 11, f".{_PACKAGE}.{kind}"
            if field_name in chosen:
                field.oneof_index = 0
    return file
