"""rosbag2 recordings (mcap) of serialized messages, without ROS."""

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
from rosbags.typesys.store import Typestore

from hand_perception.errors import DataError

_FOREVER = QosTime(2147483647, 4294967295)  # what ROS writes for an unlimited duration


class BagWriter:
    """Records messages as they came over the wire; ``ros2 bag play`` reads them.

    Raises DataError when the folder exists or, with the first message, cannot be written. Use as a
    context manager: the bag's index is written at the end. Without a message there is no bag.
    """

    def __init__(self, folder: Path, store: Typestore) -> None:
        self._store = store
        self._connections: dict[str, Connection] = {}
        try:
            # Version 8 is what Humble reads as well.
            self._writer = Writer(folder, version=8, storage_plugin=StoragePlugin.MCAP)
        except WriterError as error:
            raise DataError(
                f"cannot record a bag in {folder}: choose a folder that does not exist"
            ) from error
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connections:
            self._writer.close()

    def write(
        self, topic: str, type_name: str, cdr: bytes, stamp_ns: int, *, latched: bool = False
    ) -> None:
        """topic: absolute. cdr: with its encapsulation header. stamp_ns: when it was received."""
        if not self._connections:
            self._open()
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic,
                type_name,
                typestore=self._store,
                offered_qos_profiles=[_qos(latched)],
            )
        self._writer.write(self._connections[topic], stamp_ns, cdr)

    def _open(self) -> None:
        try:
            self._writer.open()
        except (OSError, WriterError) as error:
            raise DataError(f"cannot record a bag in {self._writer.path} ({error})") from error


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
