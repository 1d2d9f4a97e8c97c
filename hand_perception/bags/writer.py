"""rosbag2 recordings (mcap, sqlite3) of serialized messages, without ROS."""

from __future__ import annotations

from pathlib import Path

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from hand_perception.bags.reader import Record, Topic
from hand_perception.errors import DataError

_FOREVER = QosTime(2147483647, 4294967295)  # what ROS writes for an unlimited duration
# Written for a type that neither the recording nor ROS's common packages define.
_UNKNOWN_HASH = "unknown"


class BagWriter:
    """Records messages as they came over the wire; ``ros2 bag play`` reads them.

    storage: "mcap" (compressed) or "sqlite3". Raises DataError when the folder exists or, with the
    first message, cannot be written. Use as a context manager: the bag's index is written at the
    end. Without a message there is no bag.
    """

    def __init__(self, folder: Path, store: Typestore, storage: str = "mcap") -> None:
        self._store = store
        self._connections: dict[tuple[str, str], Connection] = {}
        plugin = StoragePlugin[storage.upper()]
        try:
            # Version 8 is what Humble reads as well.
            self._writer = Writer(folder, version=8, storage_plugin=plugin)
        except WriterError as error:
            raise DataError(
                f"cannot record a bag in {folder}: choose a folder that does not exist"
            ) from error
        if plugin is StoragePlugin.MCAP:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connections:
            self._writer.close()

    def abort(self) -> None:
        """End without an index: what there is of the folder is no bag."""
        self._writer.abort()

    def write(
        self, topic: str, type_name: str, cdr: bytes, stamp_ns: int, *, latched: bool = False
    ) -> None:
        """topic: absolute. cdr: with its encapsulation header. stamp_ns: when it was received."""
        if (topic, type_name) not in self._connections:
            self._connect(Topic(topic, type_name, qos=(_qos(latched),)))
        self._writer.write(self._connections[topic, type_name], stamp_ns, cdr)

    def copy(self, record: Record) -> None:
        """A message of another recording, with the type and QoS it was recorded with."""
        key = (record.topic.name, record.topic.type_name)
        if key not in self._connections:
            self._connect(record.topic)
        self._writer.write(self._connections[key], record.stamp_ns, record.cdr)

    def _connect(self, topic: Topic) -> None:
        if not self._connections:
            self._open()
        definition, type_hash = _definition(topic, self._store)
        self._connections[topic.name, topic.type_name] = self._writer.add_connection(
            topic.name,
            topic.type_name,
            msgdef=definition,
            rihs01=type_hash,
            offered_qos_profiles=topic.qos,
        )

    def _open(self) -> None:
        try:
            self._writer.open()
        except (OSError, WriterError) as error:
            raise DataError(f"cannot record a bag in {self._writer.path} ({error})") from error


def _definition(topic: Topic, store: Typestore) -> tuple[str, str]:
    """The type's text and RIHS01: as recorded, else computed, else of the store's distribution."""
    if topic.definition:
        return topic.definition, topic.type_hash or _hash(topic)
    if topic.type_name in store.fielddefs:
        definition, _ = store.generate_msgdef(topic.type_name, ros_version=2)
        return definition, store.hash_rihs01(topic.type_name)
    return "", topic.type_hash or _UNKNOWN_HASH  # bags of Humble lack definitions


def _hash(topic: Topic) -> str:
    store = get_typestore(Stores.EMPTY)
    parse = get_types_from_idl if "IDL: " in topic.definition[:200] else get_types_from_msg
    try:
        if parse is get_types_from_msg:
            store.register(parse(topic.definition, topic.type_name))
        else:
            store.register(parse(topic.definition))
        return store.hash_rihs01(topic.type_name)
    except Exception:  # a definition that the parser does not know is copied all the same
        return _UNKNOWN_HASH


def _qos(latched: bool) -> Qos:
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=1,
        reliability=QosReliability.RELIABLE,
        durability=QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        deadline=_FOREVER,
        lifespan=_FOREVER,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=_FOREVER,
        avoid_ros_namespace_conventions=False,
    )
