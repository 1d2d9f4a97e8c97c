"""The hand node over plain DDS: a process without ROS that ROS sees as a node."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from hand_perception.dds.parameter_services import ParameterServices
from hand_perception.dds.participant import BEST_EFFORT, LATCHED, RELIABLE, Participant
from hand_perception.dds.stop import Stop
from hand_perception.messages import nanoseconds_of
from hand_perception.node import TICK_PERIOD, HandNode, ReconstructorWithTopology
from hand_perception.parameters import NodeParameters, ParameterError
from hand_perception.topics import SERVICES, Input, Output, Service, node_outputs

log = logging.getLogger("hand_perception.node")


class DdsTransport:
    """The node's outputs as DDS writers, its inputs as readers.

    change_parameters: see node.Transport.
    """

    def __init__(
        self,
        participant: Participant,
        parameters: NodeParameters,
        change_parameters: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.change_parameters = change_parameters
        self._participant = participant
        self._publishers = {
            output: participant.publisher(
                output.topic, output.type_name, LATCHED if output.latched else RELIABLE
            )
            for output in node_outputs(parameters)
        }
        self._subscriptions: dict[Input, Any] = {}

    def publish(self, output: Output, message: Any) -> None:
        self._publishers[output].publish(message)

    def has_listener(self, output: Output) -> bool:
        return self._publishers[output].num_listeners > 0

    def subscribe(self, source: Input, callback: Callable[[Any], None]) -> None:
        self._subscriptions[source] = self._participant.subscribe(
            source.topic, source.type_name, lambda message, *_: callback(message), BEST_EFFORT
        )

    def unsubscribe(self, source: Input) -> None:
        self._subscriptions.pop(source).close()

    def resolve(self, topic: str) -> str:
        return self._participant.resolve(topic)


class Clock:
    """The system's time, or where ``simulated`` that of ``/clock``: 0 until it first ticks."""

    def __init__(self, participant: Participant, simulated: bool) -> None:
        self.now_ns: Callable[[], int] = time.time_ns
        if simulated:
            self._simulated_ns = 0
            self.now_ns = lambda: self._simulated_ns
            participant.subscribe("/clock", "rosgraph_msgs/msg/Clock", self._on_clock, BEST_EFFORT)

    def _on_clock(self, message: Any, *_: Any) -> None:
        self._simulated_ns = nanoseconds_of(message.clock)


class DdsNode:
    """The hand node, its services and its parameters on a participant."""

    def __init__(
        self,
        participant: Participant,
        parameters: NodeParameters,
        reconstructor: ReconstructorWithTopology,
    ) -> None:
        transport = DdsTransport(participant, parameters, self._change_parameters)
        clock = Clock(participant, parameters.use_sim_time)
        self._core = HandNode(
            parameters, reconstructor, participant.types, transport, log, clock.now_ns
        )
        for service in SERVICES:
            participant.service(service.name, service.type_name, self._answer_to(service))
        ParameterServices(participant, lambda: self._core.parameters, self._change_parameters)
        participant.every(TICK_PERIOD, self._core.tick)
        log.info("ready: %s on %s", reconstructor.identity, self._core.image_topics)

    def stop(self) -> None:
        self._core.stop()

    def _answer_to(self, service: Service) -> Callable[[Any], dict[str, Any]]:
        def answer(request: Any) -> dict[str, Any]:
            success, message = self._core.call(service, request)
            return {"success": success, "message": message}

        return answer

    def _change_parameters(self, values: Mapping[str, Any]) -> None:
        changed = self._core.parameters.changed(values)
        settled = changed.settled_names_in(values)
        if settled:
            raise ParameterError(
                f"{', '.join(settled)} cannot change while the node runs: start it anew"
            )
        self._core.parameters = changed


def serve(
    participant: Participant,
    parameters: NodeParameters,
    reconstructor: ReconstructorWithTopology,
    stop: Stop,
) -> None:
    """Run the hand node on a participant until ``stop`` is set."""
    node = DdsNode(participant, parameters, reconstructor)
    try:
        stop.wait()
    finally:
        node.stop()
