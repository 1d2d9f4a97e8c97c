"""rclpy's parameter services without rclpy: ``ros2 param list, get, set, describe``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Any

import numpy as np

from hand_perception.dds.participant import Participant
from hand_perception.parameters import NodeParameters, ParameterError

# rcl_interfaces/msg/ParameterType, and the field of ParameterValue that holds such a value.
_NOT_SET = 0
_TYPES = {
    bool: (1, "bool_value"),
    int: (2, "integer_value"),
    float: (3, "double_value"),
    str: (4, "string_value"),
    tuple: (9, "string_array_value"),
}
_FIELD_OF_TYPE = dict(_TYPES.values())
_EMPTY_VALUE = {
    "type": _NOT_SET,
    "bool_value": False,
    "integer_value": 0,
    "double_value": 0.0,
    "string_value": "",
    "byte_array_value": np.zeros(0, np.uint8),
    "bool_array_value": np.zeros(0, bool),
    "integer_array_value": np.zeros(0, np.int64),
    "double_array_value": np.zeros(0),
    "string_array_value": [],
}
_SPECS = {spec.name: spec for spec in fields(NodeParameters)}


class ParameterServices:
    """Answers for a node. get: its parameters. set: takes changed ones, raises ParameterError."""

    def __init__(
        self,
        participant: Participant,
        get: Callable[[], NodeParameters],
        set: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._make = participant.types.make
        self._get = get
        self._set = set
        for name, kind, answer in (
            ("describe_parameters", "DescribeParameters", self._describe),
            ("get_parameters", "GetParameters", self._values),
            ("get_parameter_types", "GetParameterTypes", self._types),
            ("list_parameters", "ListParameters", self._list),
            ("set_parameters", "SetParameters", self._set_each),
            ("set_parameters_atomically", "SetParametersAtomically", self._set_all),
        ):
            participant.service(f"~/{name}", f"rcl_interfaces/srv/{kind}", answer)

    def _values(self, request: Any) -> dict[str, Any]:
        parameters = self._get()
        return {"values": [self._value(getattr(parameters, n, None)) for n in request.names]}

    def _value(self, value: Any) -> Any:
        filled = dict(_EMPTY_VALUE)
        if type(value) in _TYPES:
            number, name = _TYPES[type(value)]
            filled["type"] = number
            filled[name] = list(value) if isinstance(value, tuple) else value
        return self._make("rcl_interfaces/msg/ParameterValue", **filled)

    def _types(self, request: Any) -> dict[str, Any]:
        return {"types": np.array([_type_of(name) for name in request.names], np.uint8)}

    def _list(self, request: Any) -> dict[str, Any]:
        chosen = [
            name
            for name in _SPECS
            if not request.prefixes or any(name == p for p in request.prefixes)
        ]
        result = self._make("rcl_interfaces/msg/ListParametersResult", names=chosen, prefixes=[])
        return {"result": result}

    def _describe(self, request: Any) -> dict[str, Any]:
        return {"descriptors": [self._descriptor(name) for name in request.names]}

    def _descriptor(self, name: str) -> Any:
        spec: Field | None = _SPECS.get(name)
        floats, integers = [], []
        if spec is not None and spec.metadata["limits"]:
            low, high = spec.metadata["limits"]
            if isinstance(spec.default, float):
                floats = [self._range("FloatingPointRange", low, high, 0.0)]
            else:
                integers = [self._range("IntegerRange", low, high, 1)]
        return self._make(
            "rcl_interfaces/msg/ParameterDescriptor",
            name=name,
            type=_type_of(name),
            description=spec.metadata["description"] if spec else "",
            additional_constraints="",
            read_only=False,
            dynamic_typing=False,
            floating_point_range=floats,
            integer_range=integers,
        )

    def _range(self, kind: str, low: float, high: float, step: float) -> Any:
        return self._make(f"rcl_interfaces/msg/{kind}", from_value=low, to_value=high, step=step)

    def _set_each(self, request: Any) -> dict[str, Any]:
        return {"results": [self._attempt([parameter]) for parameter in request.parameters]}

    def _set_all(self, request: Any) -> dict[str, Any]:
        return {"result": self._attempt(request.parameters)}

    def _attempt(self, changes: list[Any]) -> Any:
        reason = ""
        try:
            self._set({change.name: _python(change.value) for change in changes})
        except ParameterError as error:
            reason = str(error)
        return self._make(
            "rcl_interfaces/msg/SetParametersResult", successful=not reason, reason=reason
        )


def _type_of(name: str) -> int:
    spec = _SPECS.get(name)
    return _TYPES[type(spec.default)][0] if spec else _NOT_SET


def _python(value: Any) -> Any:
    field = _FIELD_OF_TYPE.get(value.type)
    if field is None:
        raise ParameterError(f"values of ParameterType {value.type} are not used here")
    return getattr(value, field)
