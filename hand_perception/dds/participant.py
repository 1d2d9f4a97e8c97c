"""A ROS 2 node as the network sees it: endpoints, names, type hashes and the node graph."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from cyclonedds.core import (
    DDSException,
    Entity,
    GuardCondition,
    InstanceState,
    ReadCondition,
    SampleState,
    ViewState,
    WaitSet,
)
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader

from hand_perception.cdr import message_types, serialize, type_store
from hand_perception.dds import wire
from hand_perception.dds.network import configuration
from hand_perception.dds.types import dds_type
from hand_perception.errors import HandPerceptionError

log = logging.getLogger(__name__)

_MILLISECOND = 1_000_000
_GRAPH_TYPE = "rmw_dds_common/msg/ParticipantEntitiesInfo"
_ANY = SampleState.Any | ViewState.Any | InstanceState.Any
# A reliable reader that stalls may hold a writer up for so long.
_MAX_BLOCKING = 20 * _MILLISECOND

BEST_EFFORT = (Policy.Reliability.BestEffort,)
RELIABLE = (Policy.Reliability.Reliable(_MAX_BLOCKING),)
LATCHED = (*RELIABLE, Policy.Durability.TransientLocal)

# (message, its CDR with header, source time in nanoseconds)
Callback = Callable[[Any, bytes, int], None]


class Publisher:
    """Sends messages of one type on one topic."""

    def __init__(self, participant: Participant, writer: DataWriter, type_name: str) -> None:
        self._store = participant.store
        self._writer = writer
        self._sertype = wire.sertype_of(writer)
        self._type_name = type_name

    def publish(self, message: Any) -> None:
        wire.write(self._writer, self._sertype, serialize(self._store, message))

    @property
    def num_listeners(self) -> int:
        return len(self._writer.get_matched_subscriptions())


class Participant:
    """One ROS 2 node in a process of its own DDS participant.

    localhost: talk over the loopback interface only. distro: whose node graph is spoken; Humble's
    differs from the later ones'. remaps: topic names to other names, as ROS's ``a:=b``.
    Subscriptions are called in one thread, errors in them are logged. Use as a context manager
    or call ``close``. Raises HandPerceptionError when Cyclone DDS cannot start.
    """

    def __init__(
        self,
        name: str,
        namespace: str = "/",
        *,
        domain_id: int,
        localhost: bool,
        distro: str = "jazzy",
        remaps: Mapping[str, str] | None = None,
    ) -> None:
        self.store = type_store(distro)
        self.types = message_types(self.store)
        self._name = name
        self._namespace = "/" + namespace.strip("/")
        self._distro = distro
        self._remaps = {
            self._expanded(old): self._expanded(new) for old, new in (remaps or {}).items()
        }
        try:
            self._domain = Domain(domain_id, configuration(localhost))
        except DDSException as error:
            raise HandPerceptionError(
                f"Cyclone DDS cannot join domain {domain_id} ({error}): "
                "check --domain-id and CYCLONEDDS_URI"
            ) from error
        enclave = Qos(Policy.Userdata(b"enclave=/;"), Policy.EntityName("/"))
        self._participant = DomainParticipant(domain_id, qos=enclave)
        self._readers: list[tuple[DataReader, ReadCondition, str, Callback]] = []
        self._writers: list[DataWriter] = []
        self._lock = threading.Lock()
        self._closing = False
        self._wake = GuardCondition(self._participant)
        self._waitset = WaitSet(self._participant)
        self._waitset.attach(self._wake)
        self._graph = self._make_graph_publisher()
        self._announce()
        self._thread = threading.Thread(target=self._dispatch, name="dds", daemon=True)
        self._thread.start()

    def __enter__(self) -> Participant:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def publisher(
        self, topic: str, type_name: str, qos: tuple = RELIABLE, depth: int = 1
    ) -> Publisher:
        """topic: a ROS name, relative to the namespace or absolute."""
        writer = self._make_writer(f"rt{self.resolve(topic)}", type_name, qos, depth)
        with self._lock:
            self._writers.append(writer)
        self._announce()
        return Publisher(self, writer, type_name)

    def subscribe(
        self,
        topic: str,
        type_name: str,
        callback: Callback,
        qos: tuple = BEST_EFFORT,
        depth: int = 1,
    ) -> None:
        """Call back with each message; while the callback runs, the newest ``depth`` are kept."""
        wire_topic = wire.create_topic(
            self._participant, f"rt{self.resolve(topic)}", dds_type(self.store, type_name)
        )
        reader = DataReader(
            self._participant, wire_topic, self._endpoint_qos(type_name, qos, depth)
        )
        condition = ReadCondition(reader, _ANY)
        with self._lock:
            self._readers.append((reader, condition, type_name, callback))
        self._waitset.attach(condition)
        self._wake.set(True)
        self._announce()

    def close(self) -> None:
        """Leave the network. May be called any number of times."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._wake.set(True)
        self._thread.join()
        # Deleting the domain deletes its entities, so their Python shells must not.
        self._domain._delete(self._domain._ref)
        Entity._entities.pop(self._domain._ref, None)

    # -- names -------------------------------------------------------------------------------

    def _expanded(self, topic: str) -> str:
        return topic if topic.startswith("/") else f"{self._namespace.rstrip('/')}/{topic}"

    def resolve(self, topic: str) -> str:
        """A topic's full name, after namespace and remaps."""
        name = self._expanded(topic)
        return self._remaps.get(name, name)

    # -- endpoints ---------------------------------------------------------------------------

    def _make_writer(self, name: str, type_name: str, qos: tuple, depth: int) -> DataWriter:
        topic = wire.create_topic(self._participant, name, dds_type(self.store, type_name))
        return DataWriter(self._participant, topic, self._endpoint_qos(type_name, qos, depth))

    def _endpoint_qos(self, type_name: str, qos: tuple, depth: int) -> Qos:
        policies = [*qos, Policy.History.KeepLast(depth)]
        if self._distro != "humble":  # type hashes came with Iron
            type_hash = self.store.hash_rihs01(type_name)
            policies.append(Policy.Userdata(f"typehash={type_hash};".encode()))
        return Qos(*policies)

    def _dispatch(self) -> None:
        while not self._closing:
            self._waitset.wait(1_000 * _MILLISECOND)
            self._wake.set(False)
            with self._lock:
                readers = list(self._readers)
            for reader, _, type_name, callback in readers:
                for cdr, stamp in wire.take(reader):
                    if self._closing:
                        return
                    try:
                        callback(self.store.deserialize_cdr(cdr, type_name), cdr, stamp)
                    except Exception:  # one bad message must not end the subscription
                        log.exception("a callback failed on a %s", type_name)

    # -- node graph --------------------------------------------------------------------------

    def _make_graph_publisher(self) -> Publisher:
        writer = self._make_writer("ros_discovery_info", _GRAPH_TYPE, LATCHED, 1)
        return Publisher(self, writer, _GRAPH_TYPE)

    def _announce(self) -> None:
        """Tell the graph which endpoints belong to this node (``ros2 node info``)."""
        make = self.types.make
        with self._lock:
            node = make(
                "rmw_dds_common/msg/NodeEntitiesInfo",
                node_namespace=self._namespace,
                node_name=self._name,
                reader_gid_seq=[self._gid(reader) for reader, *_ in self._readers],
                writer_gid_seq=[self._gid(writer) for writer in self._writers],
            )
            graph = make(
                _GRAPH_TYPE, gid=self._gid(self._participant), node_entities_info_seq=[node]
            )
            self._graph.publish(graph)

    def _gid(self, entity: Entity) -> Any:
        size = 24 if self._distro == "humble" else 16
        data = np.frombuffer(entity.guid.bytes.ljust(size, b"\0"), np.uint8)
        return self.types.make("rmw_dds_common/msg/Gid", data=data)
