"""A ROS 2 node as the network sees it: endpoints, names, type hashes and the node graph."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from cyclonedds.idl import IdlStruct
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from hand_perception.cdr import message_types, serialize, type_store
from hand_perception.dds import wire
from hand_perception.dds.network import configuration
from hand_perception.dds.qos import BEST_EFFORT, LATCHED, RELIABLE, QosOverrides
from hand_perception.dds.service_types import (
    pack,
    register_services,
    request_name,
    response_name,
    service_dds_type,
    unpack,
)
from hand_perception.dds.types import dds_type
from hand_perception.errors import HandPerceptionError

log = logging.getLogger(__name__)

_GRAPH_TYPE = "rmw_dds_common/msg/ParticipantEntitiesInfo"
_ANY = SampleState.Any | ViewState.Any | InstanceState.Any
_SECOND = 1_000_000_000
# rmw's services keep so many requests.
_SERVICE_DEPTH = 10
# A client's reader may be found later than its request comes; rmw waits for it as long.
_REPLY_PATIENCE = 0.1  # seconds

# (message, its CDR with header, source time in nanoseconds)
Callback = Callable[[Any, bytes, int], None]


class Subscription:
    """A reader and what is done with each of its samples: (CDR with header, source time)."""

    def __init__(
        self, participant: Participant, reader: DataReader, handle: Callable[[bytes, int], None]
    ) -> None:
        self.reader = reader
        self.condition = ReadCondition(reader, _ANY)
        self.handle = handle
        self._participant = participant

    def close(self) -> None:
        """Nothing is received any more. May be called once, also from a callback."""
        self._participant.unsubscribe(self)


@dataclass
class _Timer:
    period: float
    callback: Callable[[], None]
    due: float


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
    qos_overrides: see QosOverrides. Subscriptions, services and timers are called in one thread,
    errors in them are logged. Use as a context manager or call ``close``. Raises
    HandPerceptionError when Cyclone DDS cannot start.
    """

    def __init__(
        self,
        name: str,
        namespace: str = "/",
        *,
        domain_id: int,
        localhost: bool,
        peers: Sequence[str] = (),
        distro: str = "jazzy",
        remaps: Mapping[str, str] | None = None,
        qos_overrides: QosOverrides | None = None,
    ) -> None:
        self.store = type_store(distro)
        register_services(self.store)
        self.types = message_types(self.store)
        self._name = name
        self._namespace = "/" + namespace.strip("/")
        self._distro = distro
        self._qos_overrides = qos_overrides or QosOverrides()
        self._remaps = {
            self._expanded(old): self._expanded(new) for old, new in (remaps or {}).items()
        }
        try:
            self._domain = Domain(domain_id, configuration(localhost, peers))
        except DDSException as error:
            raise HandPerceptionError(
                f"Cyclone DDS cannot join domain {domain_id} ({error}): "
                "check --domain-id and CYCLONEDDS_URI"
            ) from error
        enclave = Qos(Policy.Userdata(b"enclave=/;"), Policy.EntityName("/"))
        self._participant = DomainParticipant(domain_id, qos=enclave)
        self._topics: dict[str, Topic] = {}
        self._subscriptions: list[Subscription] = []
        self._writers: list[DataWriter] = []
        self._timers: list[_Timer] = []
        self._services = 0
        self._lock = threading.Lock()
        # Held while samples are taken and handled: a reader is not deleted meanwhile, unless by
        # the callback itself.
        self._dispatching = threading.RLock()
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
        name = self.resolve(topic)
        policies = self._qos_overrides.applied(name, "publisher", qos, depth)
        wire_topic = self._topic(f"rt{name}", dds_type(self.store, type_name))
        writer = self._make_writer(wire_topic, type_name, policies)
        return Publisher(self, writer, type_name)

    def subscribe(
        self,
        topic: str,
        type_name: str,
        callback: Callback,
        qos: tuple = BEST_EFFORT,
        depth: int = 1,
    ) -> Subscription:
        """Call back with each message; while the callback runs, the newest ``depth`` are kept."""
        name = self.resolve(topic)
        policies = self._qos_overrides.applied(name, "subscription", qos, depth)
        wire_topic = self._topic(f"rt{name}", dds_type(self.store, type_name))

        def handle(cdr: bytes, stamp: int) -> None:
            callback(self.store.deserialize_cdr(cdr, type_name), cdr, stamp)

        return self._make_subscription(wire_topic, type_name, policies, handle)

    def service(
        self, name: str, type_name: str, answer: Callable[[Any], Mapping[str, Any]]
    ) -> None:
        """Offer a service. answer: gives the fields of the response to a request.

        name: as a topic's; a leading ``~/`` stands for the node.
        """
        name = self.resolve(name)
        request, response = request_name(type_name), response_name(type_name)
        policies = (*RELIABLE, Policy.History.KeepLast(_SERVICE_DEPTH))
        # By the common id clients know which reader and which writer make one service.
        self._services += 1
        identity = self._participant.guid.bytes[:12] + self._services.to_bytes(4, "big")
        mark = f"serviceid={'.'.join(f'{byte:x}' for byte in identity)};"
        reply_topic = self._topic(f"rr{name}Reply", service_dds_type(self.store, response))
        writer = self._make_writer(reply_topic, response, policies, mark)
        sertype = wire.sertype_of(writer)

        def handle(cdr: bytes, _: int) -> None:
            message, client, number = unpack(self.store, cdr, request)
            reply = self.types.make(response, **answer(message))
            deadline = time.monotonic() + _REPLY_PATIENCE
            while len(writer.get_matched_subscriptions()) < len(
                subscription.reader.get_matched_publications()
            ):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.005)
            wire.write(writer, sertype, pack(self.store, reply, client, number))

        request_topic = self._topic(f"rq{name}Request", service_dds_type(self.store, request))
        with self._dispatching:  # a request may be waiting
            subscription = self._make_subscription(request_topic, request, policies, handle, mark)

    def every(self, period: float, callback: Callable[[], None]) -> None:
        """Call back every so many seconds."""
        with self._lock:
            self._timers.append(_Timer(period, callback, time.monotonic() + period))
        self._wake.set(True)

    def unsubscribe(self, subscription: Subscription) -> None:
        with self._dispatching:
            with self._lock:
                self._subscriptions.remove(subscription)
            self._waitset.detach(subscription.condition)
            for entity in (subscription.condition, subscription.reader):
                Entity._entities.pop(entity._ref, None)  # else Python deletes it once more
                entity._delete(entity._ref)
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
        if topic.startswith("~/"):
            topic = f"{self._name}/{topic[2:]}"
        return topic if topic.startswith("/") else f"{self._namespace.rstrip('/')}/{topic}"

    def resolve(self, topic: str) -> str:
        """A topic's full name, after namespace and remaps."""
        name = self._expanded(topic)
        return self._remaps.get(name, name)

    # -- endpoints ---------------------------------------------------------------------------

    def _topic(self, name: str, kind: type[IdlStruct]) -> Topic:
        with self._lock:
            if name not in self._topics:
                self._topics[name] = wire.create_topic(self._participant, name, kind)
            return self._topics[name]

    def _make_writer(
        self, topic: Topic, type_name: str, policies: tuple, mark: str = ""
    ) -> DataWriter:
        qos = self._endpoint_qos(type_name, policies, mark)
        writer = DataWriter(self._participant, topic, qos)
        with self._lock:
            self._writers.append(writer)
        self._announce()
        return writer

    def _make_subscription(
        self,
        topic: Topic,
        type_name: str,
        policies: tuple,
        handle: Callable[[bytes, int], None],
        mark: str = "",
    ) -> Subscription:
        qos = self._endpoint_qos(type_name, policies, mark)
        subscription = Subscription(self, DataReader(self._participant, topic, qos), handle)
        with self._lock:
            self._subscriptions.append(subscription)
        self._waitset.attach(subscription.condition)
        self._wake.set(True)
        self._announce()
        return subscription

    def _endpoint_qos(self, type_name: str, policies: tuple, mark: str = "") -> Qos:
        if self._distro != "humble":  # type hashes came with Iron
            mark += f"typehash={self.store.hash_rihs01(type_name)};"
        return Qos(*policies, Policy.Userdata(mark.encode())) if mark else Qos(*policies)

    def _dispatch(self) -> None:
        while not self._closing:
            self._waitset.wait(round(self._until_next_timer() * _SECOND))
            self._wake.set(False)
            with self._lock:
                subscriptions = list(self._subscriptions)
            for subscription in subscriptions:
                self._take_from(subscription)
            self._run_timers()

    def _take_from(self, subscription: Subscription) -> None:
        with self._dispatching:
            if subscription not in self._subscriptions:  # closed by a callback just now
                return
            for cdr, stamp in wire.take(subscription.reader):
                if self._closing or subscription not in self._subscriptions:
                    return
                try:
                    subscription.handle(cdr, stamp)
                except Exception:  # one bad message must not end the subscription
                    log.exception("a callback failed")

    def _until_next_timer(self) -> float:
        with self._lock:
            due = min((timer.due for timer in self._timers), default=float("inf"))
        return min(max(due - time.monotonic(), 0.0), 1.0)

    def _run_timers(self) -> None:
        with self._lock:
            timers = list(self._timers)
        for timer in timers:
            now = time.monotonic()
            if now >= timer.due and not self._closing:
                # Missed beats are not made up for.
                timer.due = max(timer.due + timer.period, now)
                try:
                    timer.callback()
                except Exception:
                    log.exception("a timer failed")

    # -- node graph --------------------------------------------------------------------------

    def _make_graph_publisher(self) -> Publisher:
        topic = self._topic("ros_discovery_info", dds_type(self.store, _GRAPH_TYPE))
        qos = self._endpoint_qos(_GRAPH_TYPE, (*LATCHED, Policy.History.KeepLast(1)))
        return Publisher(self, DataWriter(self._participant, topic, qos), _GRAPH_TYPE)

    def _announce(self) -> None:
        """Tell the graph which endpoints belong to this node (``ros2 node info``)."""
        make = self.types.make
        with self._lock:
            node = make(
                "rmw_dds_common/msg/NodeEntitiesInfo",
                node_namespace=self._namespace,
                node_name=self._name,
                reader_gid_seq=[self._gid(s.reader) for s in self._subscriptions],
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
