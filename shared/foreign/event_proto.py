"""The messages of TensorBoard's event files, as far as curves and settings need them.

The field numbers are those of tensorflow's `event.proto`, `summary.proto`, `tensor.proto` and of
the hparams plugin. What is not needed is left out: protobuf skips unknown fields. tensorboardX has
all of them, and imports torch with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.foreign.protobuf import Messages

#: See `Messages`. Bytes stand for messages that are only counted.
_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Event": {
        "wall_time": (1, "double"),
        "step": (2, "int64"),
        "file_version": (3, "string"),
        "summary": (5, "Summary"),
        "session_log": (7, "SessionLog"),
    },
    "SessionLog": {"status": (1, "int32")},
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
    "Metadata": {"plugin_data": (1, "PluginData")},
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
        "experiment": (2, "Experiment"),
        "session_start_info": (3, "SessionStart"),
        "session_end_info": (4, "SessionEnd"),
    },
    "Experiment": {"hparam_infos": (4, "*SettingInfo"), "metric_infos": (5, "*MetricInfo")},
    "SettingInfo": {"name": (1, "string"), "type": (4, "int32")},
    "MetricInfo": {"name": (1, "MetricName")},
    "MetricName": {"tag": (2, "string")},
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
    "HParams": ("experiment", "session_start_info", "session_end_info"),
}
_KNOWN = Messages("tensorboard", _MESSAGES, _ONE_OF)


def message(name: str) -> Any:
    """The class of a message above."""
    return _KNOWN.named(name)
