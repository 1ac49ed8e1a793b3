"""Messages of protobuf, declared by hand with the fields that are needed.

protobuf skips fields that a message does not declare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_SCALAR = {
    "double": 1,
    "float": 2,
    "int64": 3,
    "int32": 5,
    "bool": 8,
    "string": 9,
    "bytes": 12,
    "sint64": 18,
}
_MESSAGE, _OPTIONAL, _REPEATED = 11, 1, 3


class Messages:
    """The messages of one format; nothing is imported or built before the first is asked for."""

    def __init__(
        self,
        package: str,
        fields: Mapping[str, Mapping[str, tuple[int, str]]],
        one_of: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`fields`: message -> field -> (number, type). A `*` before a type: repeated; a type with
        a capital letter is another message. `one_of`: fields of which one is set; only then can a
        zero be told from nothing.
        """
        self._package = f"train_monitor.{package}"
        self._fields = fields
        self._one_of = one_of or {}
        self._classes: dict[str, Any] = {}

    def named(self, name: str) -> Any:
        """The class of a message."""
        found = self._classes.get(name)
        if found is None:
            self._classes = self._built()
            found = self._classes[name]
        return found

    def _built(self) -> dict[str, Any]:
        from google.protobuf import descriptor_pool, message_factory

        pool = descriptor_pool.DescriptorPool()
        pool.Add(self._file())
        found = {
            name: pool.FindMessageTypeByName(f"{self._package}.{name}") for name in self._fields
        }
        return {name: message_factory.GetMessageClass(one) for name, one in found.items()}

    def _file(self) -> Any:
        from google.protobuf import descriptor_pb2

        file = descriptor_pb2.FileDescriptorProto(
            name=f"{self._package}.proto", package=self._package, syntax="proto3"
        )
        for name, fields in self._fields.items():
            described = file.message_type.add(name=name)
            chosen = self._one_of.get(name, ())
            if chosen:
                described.oneof_decl.add(name="kind")
            for field_name, (number, told) in fields.items():
                kind = told.removeprefix("*")
                label = _OPTIONAL if kind == told else _REPEATED
                field = described.field.add(name=field_name, number=number, label=label)
                if kind in _SCALAR:
                    field.type = _SCALAR[kind]
                else:
                    field.type, field.type_name = _MESSAGE, f".{self._package}.{kind}"
                if field_name in chosen:
                    field.oneof_index = 0
        return file
