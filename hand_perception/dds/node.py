"""The hand node over plain DDS: a process without ROS that ROS sees as a node."""

from __future__ import annotations

import logging
from typing import Any

from hand_perception.dds.participant import BEST_EFFORT, LATCHED, RELIABLE, Participant
from hand_perception.dds.stop import Stop
from hand_perception.node import (
    OUTPUTS,
    HandNode,
    Output,
    ReconstructorWithTopology,
    input_topics,
)
from hand_perception.parameters import NodeParameters

log = logging.getLogger("hand_perception.node")


class DdsTransport:
    """The node's outputs as DDS writers."""

    def __init__(self, participant: Participant) -> None:
        self._participant = participant
        self._publishers = {
            output: participant.publisher(
                output.topic, output.type_name, LATCHED if output.latched else RELIABLE
            )
            for output in OUTPUTS
        }

    def publish(self, output: Output, message: Any) -> None:
        self._publishers[output].publish(message)

    def has_listener(self, output: Output) -> bool:
        return self._publishers[output].num_listeners > 0

    def resolve(self, topic: str) -> str:
        return self._participant.resolve(topic)


def serve(
    participant: Participant,
    parameters: NodeParameters,
    reconstructor: ReconstructorWithTopology,
    stop: Stop,
) -> None:
    """Run the hand node on a participant until ``stop`` is set."""
    transport = DdsTransport(participant)
    node = HandNode(parameters, reconstructor, participant.types, transport, log)
    (image_topic, image_type), (info_topic, info_type) = input_topics(parameters)
    participant.subscribe(
        info_topic, info_type, lambda message, *_: node.on_camera_info(message), BEST_EFFORT
    )
    participant.subscribe(
        image_topic, image_type, lambda message, *_: node.on_image(message), BEST_EFFORT
    )
    log.info("ready: %s on %s", reconstructor.identity, participant.resolve(image_topic))
    try:
        while not stop.wait(parameters.diagnostics_period):
            node.publish_diagnostics()
    finally:
        node.stop()
