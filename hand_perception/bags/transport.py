"""A recording as the node's transport: what it subscribes to is fed, what it publishes is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from hand_perception.topics import DIAGNOSTICS, Input, Output

# Several times the size of the hands themselves; recorded on request only.
_HEAVY = (
    "sensor_msgs/msg/Image",
    "sensor_msgs/msg/PointCloud2",
    "visualization_msgs/msg/MarkerArray",
)


class RecordingTransport:
    """callbacks: of the node, by the topic it asked for. namespace: of the topics written.

    outputs: what the node may publish. also: topics wanted besides the light ones.
    """

    def __init__(self, outputs: Iterable[Output], namespace: str, also: Iterable[str]) -> None:
        self.callbacks: dict[str, Callable[[Any], None]] = {}
        self._namespace = namespace.strip("/")
        also = {topic.strip("/") for topic in also}
        self._wanted = {
            output
            for output in outputs
            if output.topic in also
            or not (output.type_name in _HEAVY or output.topic == DIAGNOSTICS.topic)
        }
        self._published: list[tuple[Output, Any]] = []

    @property
    def written_topics(self) -> set[str]:
        """Full names of all that may be published."""
        return {self.resolve(output.topic) for output in self._wanted}

    def take(self) -> list[tuple[Output, Any]]:
        """What was published since the last call."""
        published, self._published = self._published, []
        return published

    # -- the node's side ---------------------------------------------------------------------

    def publish(self, output: Output, message: Any) -> None:
        if output in self._wanted:
            self._published.append((output, message))

    def has_listener(self, output: Output) -> bool:
        return output in self._wanted

    def subscribe(self, source: Input, callback: Callable[[Any], None]) -> None:
        self.callbacks[source.topic] = callback

    def unsubscribe(self, source: Input) -> None:
        del self.callbacks[source.topic]

    def resolve(self, topic: str) -> str:
        if topic.startswith("/"):
            return topic
        return f"/{self._namespace}/{topic}" if self._namespace else f"/{topic}"

    def change_parameters(self, values: Mapping[str, Any]) -> None:
        raise RuntimeError("only a service changes parameters, and a recording calls none")
