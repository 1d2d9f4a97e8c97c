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


def dds_name(name: str) -> str:
    """std_msgs/msg/Header is std_msgs::msg::dds_::Header_ on the wire."""
    package, group, kind = name.split("/")
    return f"{package}::{group}::dds_::{kind}_"


def dds_fields(store: Typestore, name: str) -> dict[str, Any]:
    """The fields of a message with their DDS types."""
    return _dds_fields(store, name, {})


def _dds_type(store: Typestore, name: str, made: dict[str, type[IdlStruct]]) -> type[IdlStruct]:
    if name not in made:
        fields = _dds_fields(store, name, made)
        made[name] = make_idl_struct(f"{name.split('/')[-1]}_", dds_name(name), fields)
    return made[name]


def _dds_fields(store: Typestore, name: str, made: dict[str, type[IdlStruct]]) -> dict[str, Any]:
    fields = {
        field: _dds_field(store, description, made)
        for field, description in store.fielddefs[name][1]
    }
    # rosidl fills empty messages likewise.
    return fields or {"structure_needs_at_least_one_member": idl.uint8}


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
