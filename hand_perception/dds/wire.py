"""Serialized samples straight through Cyclone DDS's C library.

cyclonedds' own (de)serializer takes 92 ms for a 720p image and holds the interpreter's lock while
a reliable reader stalls; ctypes calls release it. The structures are those of Cyclone DDS 11.0.
"""

from __future__ import annotations

import ctypes as ct
from itertools import count
from typing import Any

import numpy as np
from cyclonedds.core import Entity
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.internal import DDS
from cyclonedds.topic import Topic

_LIBRARY = DDS._dll_handle
_FIND_LOCAL = 0  # DDS_FIND_SCOPE_LOCAL_DOMAIN
_SERDATA = 2  # SDK_DATA
_XTYPES_METADATA = 1 << 6  # DDS_TOPIC_XTYPES_METADATA
_ANY_STATE = 0x7F
_registrations = count()


class _Buffer(ct.Structure):  # ddsrt_iovec_t
    _fields_ = [("base", ct.c_void_p), ("length", ct.c_size_t)]


class _Metadata(ct.Structure):  # dds_type_meta_ser
    _fields_ = [("data", ct.c_void_p), ("size", ct.c_uint32)]


class _Descriptor(ct.Structure):  # dds_topic_descriptor_t
    _fields_ = [
        ("size", ct.c_uint32),
        ("align", ct.c_uint32),
        ("flags", ct.c_uint32),
        ("num_keys", ct.c_uint32),
        ("type_name", ct.c_char_p),
        ("keys", ct.c_void_p),
        ("num_ops", ct.c_uint32),
        ("ops", ct.c_void_p),
        ("meta", ct.c_char_p),
        ("type_information", _Metadata),
        ("type_mapping", _Metadata),
        ("restrict_representation", ct.c_uint32),
    ]


class _SampleInfo(ct.Structure):  # dds_sample_info_t
    _fields_ = [
        ("sample_state", ct.c_int32),
        ("view_state", ct.c_int32),
        ("instance_state", ct.c_int32),
        ("valid_data", ct.c_bool),
        ("source_timestamp", ct.c_int64),
        ("instance_handle", ct.c_uint64),
        ("publication_handle", ct.c_uint64),
        ("disposed_generations", ct.c_uint32),
        ("no_writers_generations", ct.c_uint32),
        ("sample_rank", ct.c_uint32),
        ("generation_rank", ct.c_uint32),
        ("absolute_generation_rank", ct.c_uint32),
    ]


def _function(name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(_LIBRARY, name)
    function.restype, function.argtypes = result, arguments
    return function


_pointer, _entity, _status = ct.c_void_p, ct.c_int32, ct.c_int32
_typeinfo_parse = _function("ddsi_typeinfo_deser", _pointer, ct.c_char_p, ct.c_uint32)
_typeinfo_free = _function("ddsi_typeinfo_free", None, _pointer)
_create_descriptor = _function(
    "dds_create_topic_descriptor",
    _status,
    ct.c_int32,
    _entity,
    _pointer,
    ct.c_int64,
    ct.POINTER(ct.POINTER(_Descriptor)),
)
_create_topic = _function(
    "dds_create_topic",
    _entity,
    _entity,
    ct.POINTER(_Descriptor),
    ct.c_char_p,
    _pointer,
    _pointer,
)
_entity_sertype = _function("dds_get_entity_sertype", _status, _entity, ct.POINTER(_pointer))
_serdata_from = _function(
    "ddsi_serdata_from_ser_iov",
    _pointer,
    _pointer,
    ct.c_int32,
    ct.c_size_t,
    ct.POINTER(_Buffer),
    ct.c_size_t,
)
_write = _function("dds_writecdr", _status, _entity, _pointer)
_take = _function(
    "dds_takecdr",
    _status,
    _entity,
    ct.POINTER(_pointer),
    ct.c_uint32,
    ct.POINTER(_SampleInfo),
    ct.c_uint32,
)
_serdata_ref = _function(
    "ddsi_serdata_to_ser_ref",
    _pointer,
    _pointer,
    ct.c_size_t,
    ct.c_size_t,
    ct.POINTER(_Buffer),
)
_serdata_release = _function("ddsi_serdata_to_ser_unref", None, _pointer, ct.POINTER(_Buffer))
_serdata_size = _function("ddsi_serdata_size", ct.c_uint32, _pointer)
_serdata_free = _function("ddsi_serdata_unref", None, _pointer)


class WireError(RuntimeError):
    """Cyclone DDS refused a call."""


def _check(status: int, what: str) -> int:
    if status < 0:
        raise WireError(f"Cyclone DDS could not {what} (return code {status})")
    return status


def create_topic(participant: DomainParticipant, name: str, kind: type[IdlStruct]) -> Topic:
    """A topic of a type without XTypes information, as ROS's own endpoints announce it.

    With the information newer Fast DDS refuses to match.
    """
    # A throw-away topic brings the type into the domain's type library, where the C library
    # finds the layout it needs.
    registration = Topic(participant, f"_register_{next(_registrations)}", kind)
    information = kind.__idl__._xt_bytedata[0]
    parsed = _typeinfo_parse(information, len(information))
    if not parsed:
        raise WireError(f"Cyclone DDS could not read the type of topic {name}")
    full = ct.POINTER(_Descriptor)()
    status = _create_descriptor(_FIND_LOCAL, participant._ref, parsed, 0, ct.byref(full))
    _typeinfo_free(parsed)
    _check(status, f"find the type of topic {name}")
    bare = _Descriptor.from_buffer_copy(full.contents)
    bare.flags &= ~_XTYPES_METADATA
    bare.type_information = bare.type_mapping = _Metadata(None, 0)
    handle = _create_topic(participant._ref, ct.byref(bare), name.encode(), None, None)
    topic = Topic.__new__(Topic)
    Entity.__init__(topic, _check(handle, f"create topic {name}"))
    topic.data_type = kind
    topic._keepalive_entities = [participant, registration]
    return topic


def sertype_of(writer: Entity) -> int:
    """What ``write`` needs to know of a writer."""
    sertype = _pointer()
    _check(_entity_sertype(writer._ref, ct.byref(sertype)), "find a writer's type")
    return sertype.value


def write(writer: Entity, sertype: int, cdr: bytes | memoryview) -> None:
    """Send a serialized sample, encapsulation header included. Raises WireError."""
    data = np.frombuffer(cdr, np.uint8)
    buffer = _Buffer(data.ctypes.data, data.nbytes)
    serdata = _serdata_from(sertype, _SERDATA, 1, ct.byref(buffer), data.nbytes)
    if not serdata:
        raise WireError("Cyclone DDS found that a message does not fit its type")
    _check(_write(writer._ref, serdata), "write a message")


def take(reader: Entity, most: int = 16) -> list[tuple[bytes, int]]:
    """The waiting samples, oldest first: CDR with header, source time in nanoseconds."""
    serdata = (_pointer * most)()
    information = (_SampleInfo * most)()
    number = _check(
        _take(reader._ref, serdata, most, information, _ANY_STATE), "take waiting messages"
    )
    samples = []
    for data, info in zip(serdata[:number], information[:number], strict=True):
        if info.valid_data:
            buffer = _Buffer()
            reference = _serdata_ref(data, 0, _serdata_size(data), ct.byref(buffer))
            samples.append((ct.string_at(buffer.base, buffer.length), info.source_timestamp))
            _serdata_release(reference, ct.byref(buffer))
        _serdata_free(data)
    return samples
