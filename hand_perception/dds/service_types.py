"""ROS 2's services as rmw_cyclonedds carries them: definitions, and the header of each sample.

A request travels on ``rq/<name>Request``, its response on ``rr/<name>Reply``. Both begin with the
client's number and the request's; clients pick out the responses that bear their own number.
(Fast DDS's rmw carries the two outside of the sample: it does not see these services.)
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from cyclonedds.idl import IdlStruct, make_idl_struct
from cyclonedds.idl import types as idl
from rosbags.typesys import get_types_from_msg
from rosbags.typesys.store import Typestore

from hand_perception.cdr import serialize
from hand_perception.dds.types import dds_fields, dds_name

# The wire type of a service; rosbags knows messages only. Before and after ROS's own "---".
_DEFINITIONS = {
    "std_srvs/srv/SetBool": ("bool data", "bool success\nstring message"),
    "std_srvs/srv/Trigger": ("", "bool success\nstring message"),
    "rcl_interfaces/srv/DescribeParameters": (
        "string[] names",
        "rcl_interfaces/ParameterDescriptor[] descriptors",
    ),
    "rcl_interfaces/srv/GetParameters": (
        "string[] names",
        "rcl_interfaces/ParameterValue[] values",
    ),
    "rcl_interfaces/srv/GetParameterTypes": ("string[] names", "uint8[] types"),
    "rcl_interfaces/srv/ListParameters": (
        "string[] prefixes\nuint64 depth",
        "rcl_interfaces/ListParametersResult result",
    ),
    "rcl_interfaces/srv/SetParameters": (
        "rcl_interfaces/Parameter[] parameters",
        "rcl_interfaces/SetParametersResult[] results",
    ),
    "rcl_interfaces/srv/SetParametersAtomically": (
        "rcl_interfaces/Parameter[] parameters",
        "rcl_interfaces/SetParametersResult result",
    ),
}
_HEADER = (("client_guid", idl.uint64), ("sequence_number", idl.int64))
_HEADER_SIZE = 16
_ENCAPSULATION_SIZE = 4


def request_name(service_type: str) -> str:
    return f"{service_type}_Request"


def response_name(service_type: str) -> str:
    return f"{service_type}_Response"


def register_services(
    store: Typestore, definitions: Mapping[str, tuple[str, str]] = _DEFINITIONS
) -> None:
    """Make the services' requests and responses known to a store. May be called again.

    definitions: by the service's type, the texts of request and response.
    """
    for service, texts in definitions.items():
        for name, text in zip((request_name, response_name), texts, strict=True):
            wanted = name(service)
            # The parser knows messages only, so their name is changed afterwards.
            parsed = get_types_from_msg(text, wanted.replace("/srv/", "/msg/"))
            (definition,) = parsed.values()
            if wanted not in store.types:
                store.register({wanted: definition})


def service_dds_type(store: Typestore, name: str) -> type[IdlStruct]:
    """The DDS type of a request or a response, header included."""
    kind = name.split("/")[-1]
    return make_idl_struct(f"{kind}_", dds_name(name), {**dict(_HEADER), **dds_fields(store, name)})


def pack(store: Typestore, message: Any, client: int, number: int) -> bytes:
    """CDR of a request or response of a client's request."""
    body = bytes(serialize(store, message))
    header = struct.pack("<Qq", client, number)
    return body[:_ENCAPSULATION_SIZE] + header + body[_ENCAPSULATION_SIZE:]


def unpack(store: Typestore, cdr: bytes, name: str) -> tuple[Any, int, int]:
    """The message of type ``name`` in a sample, its client and the request's number."""
    order = "<" if cdr[1] & 1 else ">"
    client, number = struct.unpack_from(f"{order}Qq", cdr, _ENCAPSULATION_SIZE)
    # The header's length is a multiple of every alignment, so the rest stands as if alone.
    body = cdr[:_ENCAPSULATION_SIZE] + cdr[_ENCAPSULATION_SIZE + _HEADER_SIZE :]
    return store.deserialize_cdr(body, name), client, number
