"""The records of Weights & Biases' `.wandb` files, as far as curves and settings need them.

The field numbers are those of `wandb_internal.proto`, whose numbers have stayed since 0.10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.foreign.protobuf import Messages

_MESSAGES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "Record": {
        "num": (1, "int64"),
        "history": (2, "History"),
        "summary": (3, "Summary"),
        "config": (5, "Config"),
        "stats": (7, "Stats"),
        "run": (17, "Run"),
        "exit": (18, "Exit"),
        "header": (21, "Header"),
    },
    "Header": {"version_info": (1, "Version")},
    "Version": {"producer": (1, "string"), "min_consumer": (2, "string")},
    "History": {"item": (1, "*HistoryItem"), "step": (2, "Step")},
    "HistoryItem": {
        "key": (1, "string"),
        "nested_key": (2, "*string"),
        "integer": (5, "sint64"),
        "number": (6, "double"),
        "value_json": (16, "string"),
    },
    "Summary": {"update": (1, "*Item")},
    "Step": {"num": (1, "int64")},
    "Item": {
        "key": (1, "string"),
        "nested_key": (2, "*string"),
        "value_json": (16, "string"),
    },
    "Config": {"update": (1, "*Item"), "remove": (2, "*Item")},
    "Stats": {"timestamp": (2, "Time"), "item": (3, "*Item")},
    "Run": {
        "run_id": (1, "string"),
        "entity": (2, "string"),
        "project": (3, "string"),
        "config": (4, "Config"),
        "run_group": (6, "string"),
        "job_type": (7, "string"),
        "display_name": (8, "string"),
        "notes": (9, "string"),
        "tags": (10, "*string"),
        "host": (13, "string"),
        "start_time": (17, "Time"),
    },
    "Exit": {"exit_code": (1, "int32"), "runtime": (2, "int32")},
    "Time": {"seconds": (1, "int64"), "nanos": (2, "int32")},
}
#: Newer versions may write a number as such.
_ONE_OF = {"HistoryItem": ("integer", "number", "value_json")}
_KNOWN = Messages("wandb", _MESSAGES, _ONE_OF)


def message(name: str) -> Any:
    """The class of a message above."""
    return _KNOWN.named(name)
