"""Message classes and CDR, ROS 2's serialization, from the .msg files, without ROS."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from hand_perception.interface_definitions import VISION_MSGS
from hand_perception.messages import MessageTypes

_MSG_FOLDER = Path(__file__).parent / "assets" / "msg"


@cache
def type_store(distro: str = "jazzy") -> Typestore:
    """Definitions of a ROS 2 distribution's messages and of this package's own."""
    store = get_typestore(Stores[f"ROS2_{distro.upper()}"])
    own: dict = {}
    for path in sorted(_MSG_FOLDER.glob("*.msg")):
        own.update(get_types_from_msg(path.read_text(), f"hand_perception/msg/{path.stem}"))
    for name, text in VISION_MSGS.items():
        if name not in store.types:
            own.update(get_types_from_msg(text, name))
    store.register(own)
    return store


def message_types(store: Typestore) -> MessageTypes:
    """The store's classes; they take numpy arrays for sequences of numbers."""
    return MessageTypes(find=lambda name: store.types[name], sequence=np.ascontiguousarray)


def serialize(store: Typestore, message: Any) -> memoryview:
    """CDR with its encapsulation header, padded to four bytes as readers of DDS expect."""
    data = store.serialize_cdr(message, message.__msgtype__, little_endian=True)
    padding = -len(data) % 4
    return memoryview(bytes(data) + bytes(padding)) if padding else data
