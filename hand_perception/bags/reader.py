"""Recordings as one stream of serialized messages: rosbag2 (sqlite3, mcap) and videos."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rosbags.interfaces import ConnectionExtRosbag2, MessageDefinitionFormat, Qos
from rosbags.rosbag2 import Reader

from hand_perception.errors import DataError

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"


@dataclass(frozen=True)
class Topic:
    """A recorded topic.

    definition: the type's .msg or .idl text as recorded, "" where the recording has none.
    type_hash: RIHS01 of the type, "" where the recording has none. qos: as its publisher offered.
    """

    name: str
    type_name: str
    count: int = 0
    definition: str = ""
    type_hash: str = ""
    qos: tuple[Qos, ...] = ()


@dataclass(frozen=True)
class Record:
    """A message as it came over the wire. stamp_ns: when it was recorded."""

    topic: Topic
    stamp_ns: int
    cdr: bytes


class Recording(Protocol):
    """What is processed. files: what it is read from."""

    path: Path
    topics: list[Topic]

    @property
    def files(self) -> list[Path]: ...

    def records(self, topics: list[Topic] | None = None) -> Generator[Record, None, None]:
        """In the order of recording; only those of some topics if given. Raises DataError."""
        ...


class BagRecording:
    """A rosbag2 folder, or a single .mcap or .db3 file.

    Raises DataError when it is none, was never closed or is truncated; ``records`` likewise.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._errors_named():
            self._reader = Reader(path)
            with self._reader as reader:
                self.topics = [_topic(connection) for connection in reader.connections]
                self.storage = _storage(path)

    @property
    def files(self) -> list[Path]:
        return (
            sorted(p for p in self.path.iterdir() if p.is_file())
            if self._is_folder
            else [self.path]
        )

    @property
    def _is_folder(self) -> bool:
        return self.path.is_dir()

    def records(self, topics: list[Topic] | None = None) -> Generator[Record, None, None]:
        wanted = {(t.name, t.type_name): t for t in (self.topics if topics is None else topics)}
        with self._errors_named():
            self._reader.open()
        try:
            chosen = [c for c in self._reader.connections if (c.topic, c.msgtype) in wanted]
            messages = iter(self._reader.messages(chosen) if chosen else ())
            while True:
                # Only what the library raises is the bag's fault, not what our reader's user does.
                with self._errors_named():
                    message = next(messages, None)
                if message is None:
                    return
                connection, stamp_ns, cdr = message
                yield Record(wanted[connection.topic, connection.msgtype], stamp_ns, cdr)
        finally:
            self._reader.close()

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except Exception as error:  # from YAML, SQLite, zstd, struct or the library itself
            raise DataError(_complaint(self.path, error)) from error


def _complaint(path: Path, error: Exception) -> str:
    """One line: what is wrong with the bag, and the tool that mends it."""
    reason = " ".join(str(error).split()) or type(error).__name__
    if not path.exists():
        return f"{path} does not exist: check the path"
    if path.is_dir() and not (path / "metadata.yaml").exists():
        if any(path.glob("*.mcap")) or any(path.glob("*.db3")):
            return (
                f"{path} has no metadata.yaml, its recorder was killed: "
                f"mend it with `ros2 bag reindex {path}`"
            )
        return f"{path} is no rosbag2: there is no metadata.yaml in it"
    if path.is_file() and path.suffix not in (".mcap", ".db3"):
        return f"{path} is no recording: give a rosbag2 folder, an .mcap, a .db3 or a video"
    if _storage(path) == "mcap":
        cure = "`mcap recover` saves what can be read"
    else:
        cure = "`sqlite3 FILE.db3 .recover` saves what can be read"
    return f"{path} cannot be read, it is truncated or damaged ({reason}): {cure}"


def _storage(path: Path) -> str:
    """ "mcap" or "sqlite3"."""
    files = [path] if path.is_file() else list(path.iterdir())
    return "mcap" if any(".mcap" in file.name for file in files) else "sqlite3"


def _topic(connection: object) -> Topic:
    ext = connection.ext
    has_definition = connection.msgdef.format is not MessageDefinitionFormat.NONE
    return Topic(
        connection.topic,
        connection.msgtype,
        connection.msgcount,
        connection.msgdef.data if has_definition else "",
        connection.digest,
        tuple(ext.offered_qos_profiles) if isinstance(ext, ConnectionExtRosbag2) else (),
    )
