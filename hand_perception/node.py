"""The hand node without its transport: messages in, messages out.

``ros.node`` and ``dds.node`` both are this with subscriptions and publishers around it, so that
they publish the same.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from hand_perception import messages
from hand_perception.camera_pipeline import (
    CameraPipeline,
    ReconstructorWithTopology,
    Surroundings,
)
from hand_perception.errors import DataError
from hand_perception.following import FollowingReconstructor
from hand_perception.messages import MessageTypes
from hand_perception.parameters import NodeParameters
from hand_perception.publishing import Sink
from hand_perception.snapshot import write_snapshot
from hand_perception.topics import (
    CALIBRATE,
    DIAGNOSTICS,
    PAUSE,
    SNAPSHOT,
    Input,
    Service,
    camera_names,
)
from hand_perception.worker import Worker

# How often a front end is to call ``HandNode.tick``, seconds.
TICK_PERIOD = 0.1


class Transport(Sink, Protocol):
    """What the node asks of its front end."""

    def subscribe(self, source: Input, callback: Callable[[Any], None]) -> None: ...

    def unsubscribe(self, source: Input) -> None: ...

    def resolve(self, topic: str) -> str:
        """The topic's full name, after namespace and remaps."""
        ...

    def change_parameters(self, values: Mapping[str, Any]) -> None:
        """Change parameters as a user would; the front end then sets them on the node."""
        ...


def load_reconstructor(parameters: NodeParameters) -> ReconstructorWithTopology:
    """The network the parameters name. Raises ModelError when it is missing or corrupt."""
    from hand_perception.reconstructor import HandReconstructor

    return HandReconstructor.from_pretrained(
        parameters.model, threads=parameters.threads, backend=parameters.backend
    )


class HandNode:
    """Works from construction to ``stop``: one network and one inference thread for all cameras.

    The front end calls ``tick`` every TICK_PERIOD and ``call`` for a service, both in the thread
    of its subscriptions. now_ns: the clock of the images' stamps; ROS's may be a simulation's.
    """

    def __init__(
        self,
        parameters: NodeParameters,
        reconstructor: ReconstructorWithTopology,
        types: MessageTypes,
        transport: Transport,
        log: logging.Logger | Any,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._parameters = parameters
        self._reconstructor = reconstructor
        self._types = types
        self._transport = transport
        self._log = log
        self._now_ns = now_ns
        self._paused = False
        self._subscribed: set[CameraPipeline] = set()
        self._diagnosed = -float("inf")
        self._worker = Worker(
            now_ns=now_ns,
            at_once=getattr(reconstructor, "images_at_once", 1),
            together=FollowingReconstructor.together,
        )
        surroundings = Surroundings(types, reconstructor, log, transport.resolve, now_ns)
        self.cameras = [
            CameraPipeline(name, parameters, self._worker, transport, surroundings)
            for name in camera_names(parameters)
        ]
        for camera in self.cameras:
            camera.publisher.publish_topology()
            transport.subscribe(camera.inputs.info, camera.on_info)
            self._listen(camera)

    @property
    def parameters(self) -> NodeParameters:
        return self._parameters

    @parameters.setter
    def parameters(self, parameters: NodeParameters) -> None:
        """Takes those marked live; a front end refuses the others (settled_names_in)."""
        self._parameters = parameters
        for camera in self.cameras:
            camera.parameters = parameters

    @property
    def image_topics(self) -> str:
        """Full names, for the log."""
        topics = (camera.inputs.image.topic for camera in self.cameras)
        return ", ".join(map(self._transport.resolve, topics))

    def drain(self) -> None:
        """Blocks until the images that have come are done: a recording loses none that way."""
        self._worker.drain()

    def stop(self) -> None:
        """Ends the inference and clears the markers. May be called any number of times."""
        self._worker.stop()
        for camera in self.cameras:
            camera.publisher.clear_markers(self._now_ns())

    def tick(self) -> None:
        """What happens by the clock: subscriptions, the watch over the cameras, diagnostics."""
        for camera in self.cameras:
            self._listen(camera)
            camera.tick(camera in self._subscribed)
            self._take_measurement(camera)
        now = time.monotonic()
        if now - self._diagnosed >= self._parameters.diagnostics_period:
            self._diagnosed = now
            self.publish_diagnostics()

    def publish_diagnostics(self) -> None:
        statuses = [
            status
            for camera in self.cameras
            for status in camera.statuses(self._reason_to_rest(camera))
        ]
        array = messages.diagnostics(self._types, self._now_ns(), statuses)
        self._transport.publish(DIAGNOSTICS, array)

    # -- subscriptions -----------------------------------------------------------------------

    def _reason_to_rest(self, camera: CameraPipeline) -> str | None:
        if self._paused:
            return "paused"
        listened = camera.placer.measuring or camera.publisher.has_listener()
        return "at rest: nobody listens" if self._parameters.lazy and not listened else None

    def _listen(self, camera: CameraPipeline) -> None:
        """Subscribe to the images while there is reason to, so that nothing is sent in vain."""
        inputs, wanted = camera.inputs, self._reason_to_rest(camera) is None
        if wanted == (camera in self._subscribed):
            return
        if wanted:
            if inputs.depth is not None:
                self._transport.subscribe(inputs.depth, camera.on_depth)
            self._transport.subscribe(inputs.image, camera.on_image)
            self._subscribed.add(camera)
        else:
            self._subscribed.remove(camera)
            self._transport.unsubscribe(inputs.image)
            if inputs.depth is not None:
                self._transport.unsubscribe(inputs.depth)

    # -- services ----------------------------------------------------------------------------

    def call(self, service: Service, request: Any) -> tuple[bool, str]:
        """Success and message of a service's response."""
        handlers = {PAUSE: self._pause, SNAPSHOT: self._snapshot, CALIBRATE: self._calibrate}
        return handlers[service](request)

    def _pause(self, request: Any) -> tuple[bool, str]:
        self._paused = bool(request.data)
        for camera in self.cameras:
            self._listen(camera)
        return True, "paused" if self._paused else "at work"

    def _snapshot(self, _: Any) -> tuple[bool, str]:
        folder = Path(self._parameters.snapshot_folder).expanduser()
        written = []
        try:
            for camera in self.cameras:
                if camera.last is not None:
                    topology = self._reconstructor.topology
                    written.append(write_snapshot(folder / camera.camera, camera.last, topology))
        except DataError as error:
            return False, str(error)
        if not written:
            return False, "no image was worked on yet: check the image topic"
        return True, ", ".join(map(str, written))

    def _calibrate(self, _: Any) -> tuple[bool, str]:
        with_depth = [camera for camera in self.cameras if camera.inputs.depth is not None]
        if not with_depth:
            return False, "the hand's length is measured from depth images: set depth_topic"
        for camera in with_depth:
            camera.placer.start_measuring()
        return True, "measuring: hold an open hand, palm or back to the camera, for a second"

    def _take_measurement(self, camera: CameraPipeline) -> None:
        found = camera.placer.measurement()
        if found is not None:
            self._log.info(
                f"hand_length_m: {found.metres:.3f} from {found.count} hands, spread "
                f"{1000 * found.spread_m:.0f} mm"
            )
            self._transport.change_parameters({"hand_length_m": round(found.metres, 4)})
