"""DDS types of ROS messages."""

from __future__ import annotations

from typing import Any

from cyclonedds.idl import IdlStruct, make_idl_struct
from cyclonedds.idl import types as idl
from rosbags.interfaces import Nodetype
from rosbags.typesys.store import Typestore

_SCALARS = {
    "bool": bool,
    "byte": idl.uint8,
    "char": idl.uint8,
    "int8": idl.int8,
    "uint8": idl.uint8,
    "int16": idl.int16,
    "uint16": idl.uint16,
    "int32": idl.int32,
    "uint32": idl.uint32,
    "int64": idl.int64,
    "uint64": idl.uint64,
    "float32": idl.float32,
    "float64": idl.float64,
}


def dds_type(store: Typestore, name: str) -> type[IdlStruct]:
    """The DDS type of a ROS message, under the name rmw gives it on the wire.

    It is final (cyclonedds' default): as with ROS's own endpoints the data travels as XCDR1.
    """
    return _dds_type(store, name, {})


def _dds_type(store: Typestore, name: str, made: dict[str, type[IdlStruct]]) -> type[IdlStruct]:
    if name not in made:
        package, _, kind = name.split("/")
        fields = {
            field: _dds_field(store, description, made)
            for field, description in store.fielddefs[name][1]
        }
        # rosidl fills empty messages likewise.
        fields = fields or {"structure_needs_at_least_one_member": idl.uint8}
        made[name] = make_idl_struct(f"{kind}_", f"{package}::msg::dds_::{kind}_", fields)
    return made[name]


def _dds_field(store: Typestore, description: Any, made: dict[str, type[IdlStruct]]) -> Any:
    kind, argument = description
    if kind == Nodetype.BASE:
        scalar, bound = argument
        if scalar == "string":
            return idl.bounded_str[bound] if bound else str
        return _SCALARS[scalar]
    if kind == Nodetype.NAME:
        return _dds_type(store, argument, made)
    element = _dds_field(store, argument[0], made)
    if kind == Nodetype.ARRAY:
        return idl.array[element, argument[1]]
    return idl.sequence[element, argument[1]] if argument[1] else idl.sequence[element]
