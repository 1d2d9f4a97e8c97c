"""A recording through the node, image by image: the same bag with its hands."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

import hand_perception
from hand_perception.bags.journal import Journal, JournaledReconstructor
from hand_perception.bags.reader import IMAGE, BagRecording, Record, Recording, Topic
from hand_perception.bags.topics import CameraTopics, choose_topics, named_topic
from hand_perception.bags.transport import RecordingTransport
from hand_perception.bags.video import SUFFIXES, VideoRecording
from hand_perception.bags.writer import BagWriter
from hand_perception.cdr import message_types, serialize, type_store
from hand_perception.depth_matching import PATIENCE
from hand_perception.errors import DataError
from hand_perception.frames import camera_info_message, image_from_compressed, image_from_message
from hand_perception.hands import KEYPOINT_NAMES, Camera
from hand_perception.node import HandNode, ReconstructorWithTopology, load_reconstructor
from hand_perception.parameters import NodeParameters
from hand_perception.topics import MESH, TF, node_outputs

log = logging.getLogger("hand_perception.bag")

_STORE = type_store()
_TYPES = message_types(_STORE)
Load = Callable[[NodeParameters], ReconstructorWithTopology]


@dataclass(frozen=True)
class Settings:
    """image, info: topics, found by themselves where None. namespace: of the topics added.

    also: heavy topics wanted as well, such as "hands/markers". storage: "mcap" or "sqlite3", the
    recording's own where None. intrinsics: fx, fy, cx, cy for a recording without CameraInfo.
    """

    parameters: NodeParameters = field(default_factory=NodeParameters)
    image: str | None = None
    info: str | None = None
    namespace: str = ""
    also: tuple[str, ...] = ()
    storage: str | None = None
    intrinsics: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Summary:
    """What was done. known: images that an earlier, interrupted run had done already."""

    images: int
    known: int
    failed: int
    hands: int
    seconds: float


def open_recording(path: Path, settings: Settings) -> Recording:
    """A rosbag2 or, by its suffix, a video. Raises DataError when it cannot be read."""
    if path.suffix.lower() in SUFFIXES:
        return VideoRecording(path, settings.intrinsics)
    return BagRecording(path)


def process(
    path: Path, output: Path, settings: Settings, load: Load = load_reconstructor
) -> Summary:
    """Write the recording at ``path`` with its hands to the new folder ``output``.

    Every image is worked on, none is dropped. The topics that the node publishes live are added
    with the image's own stamp, at the image's place in the recording; all other topics are copied.
    Topics of that name in the recording are replaced.

    What an interrupted run has found stays in ``output``.partial, and the next run of the same
    settings goes on from there; ``output`` itself appears when it is complete. Raises DataError
    when the recording cannot be read, ``output`` exists or cannot be written.
    """
    if output.exists():
        raise DataError(f"{output} exists: choose another output, or remove it")
    recording = open_recording(path, settings)
    camera = choose_topics(recording.topics, settings.image, settings.info)
    parameters = _parameters_for(settings.parameters, camera, recording)
    reconstructor = load(parameters)
    partial = output.with_name(f"{output.name}.partial")
    unfinished = partial / output.name
    started = time.monotonic()
    with Journal(
        partial / "hands.sqlite3", _settings_of_hands(recording, parameters, reconstructor)
    ) as journal:
        known = journal.length
        if known:
            log.info("%s: going on after %d images", path.name, known)
        shutil.rmtree(unfinished, ignore_errors=True)
        job = _Job(
            recording,
            camera,
            parameters,
            settings,
            JournaledReconstructor(reconstructor, journal),
            BagWriter(unfinished, _STORE, settings.storage or recording.storage),
        )
        with _writing(output):
            job.run()
        _finish(unfinished, output)
    shutil.rmtree(partial, ignore_errors=True)
    return Summary(job.images, known, job.failed, job.hands, time.monotonic() - started)


def _parameters_for(
    parameters: NodeParameters, camera: CameraTopics, recording: Recording
) -> NodeParameters:
    name, depth = camera.image.name, parameters.depth_topic
    if depth:
        images = [topic for topic in recording.topics if topic.type_name == IMAGE]
        depth = named_topic(images, depth, "depth").name
    return parameters.changed(
        {
            "image_topic": name.removesuffix("/compressed") if camera.compressed else name,
            "compressed": camera.compressed,
            "camera_info_topic": camera.info.name if camera.info else "camera_info",
            "depth_topic": depth,
            "cameras": (),
            "detect_every": 1,  # for speed only
            "lazy": False,
            "max_rate": 0.0,
        }
    )


def _settings_of_hands(
    recording: Recording, parameters: NodeParameters, reconstructor: ReconstructorWithTopology
) -> dict[str, Any]:
    """All that the journal's hands depend on."""
    files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in recording.files]
    return {
        "version": hand_perception.__version__,
        "model": reconstructor.identity,
        "recording": files,
        "parameters": asdict(parameters),
    }


def _hand_frame(prefix: str) -> re.Pattern[str]:
    """The frames that this node sends for hands and their joints."""
    joints = "|".join(KEYPOINT_NAMES)
    return re.compile(rf"{re.escape(prefix)}(left|right)_hand(_\d+)?(_({joints}))?")


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{output} cannot be written ({error}): is the disk full?") from error


def _finish(unfinished: Path, output: Path) -> None:
    """One step: the output is not there, or complete."""
    if output.exists():
        raise DataError(f"{output} has appeared meanwhile: remove it and run again")
    unfinished.rename(output)


class _Job:
    """One run over a recording. images, failed, hands: counts."""

    def __init__(
        self,
        recording: Recording,
        camera: CameraTopics,
        parameters: NodeParameters,
        settings: Settings,
        reconstructor: ReconstructorWithTopology,
        writer: BagWriter,
    ) -> None:
        self.images = self.failed = self.hands = 0
        self._recording = recording
        self._camera = camera
        self._parameters = parameters
        self._intrinsics = settings.intrinsics
        self._writer = writer
        self._now_ns = 0
        self._transport = RecordingTransport(
            node_outputs(parameters), settings.namespace, settings.also
        )
        self._node = HandNode(
            parameters, reconstructor, _TYPES, self._transport, log, lambda: self._now_ns
        )
        self._callbacks = self._callbacks_by_recorded_topic()
        self._replaced = self._transport.written_topics - {TF.topic}
        hands_were_recorded = any(
            t.name == self._transport.resolve(MESH.topic) for t in recording.topics
        )
        self._own_frame = _hand_frame(parameters.frame_prefix) if hands_were_recorded else None

    def run(self) -> None:
        with ExitStack() as on_error:
            on_error.callback(self._writer.abort)
            on_error.callback(self._node.stop)
            self._tell_camera()
            with tqdm(
                total=self._camera.image.count or None,
                desc=self._recording.path.name,
                unit="image",
                disable=None,
            ) as progress:
                for record in self._recording.records():
                    self._now_ns = record.stamp_ns
                    if self._is_kept(record):
                        self._writer.copy(record)
                    self._feed(record)
                    progress.update(record.topic is self._camera.image)
            self._end()
            on_error.pop_all()

    def _callbacks_by_recorded_topic(self) -> dict[str, Callable[[Any], None]]:
        (pipeline,) = self._node.cameras
        inputs, callbacks = pipeline.inputs, self._transport.callbacks
        found = {self._camera.image.name: callbacks[inputs.image.topic]}
        if self._camera.info is not None:
            found[self._camera.info.name] = callbacks[inputs.info.topic]
        if inputs.depth is not None:
            found[inputs.depth.topic] = callbacks[inputs.depth.topic]
        return found

    def _tell_camera(self) -> None:
        """The first CameraInfo may have been recorded after the first image."""
        if self._camera.info is not None:
            self._hand_over(self._first(self._camera.info))
        elif self._intrinsics is not None:
            self._node.cameras[0].on_info(self._given_camera_info())

    def _given_camera_info(self) -> Any:
        """Of the intrinsics that the user gave, and of the first image's size and frame."""
        first = self._first(self._camera.image)
        message = _STORE.deserialize_cdr(first.cdr, first.topic.type_name)
        read = image_from_compressed if self._camera.compressed else image_from_message
        height, width = read(message).shape[:2]
        camera = Camera(*self._intrinsics, width, height)
        return camera_info_message(_TYPES, message.header, camera)

    def _first(self, topic: Topic) -> Record:
        with closing(self._recording.records([topic])) as records:
            return next(records)

    def _feed(self, record: Record) -> None:
        if record.topic.name in self._callbacks:
            self._hand_over(record)
            self._node.drain()
        self._write_published()

    def _hand_over(self, record: Record) -> None:
        try:
            message = _STORE.deserialize_cdr(record.cdr, record.topic.type_name)
        except Exception as error:  # a damaged message may be anything
            self.failed += 1
            log.error("a message on %s cannot be read (%s): passed over", record.topic.name, error)
        else:
            self._callbacks[record.topic.name](message)

    def _write_published(self) -> None:
        for output, message in self._transport.take():
            if output.topic == MESH.topic:
                self.hands += len(message.hands)
            self._writer.write(
                self._transport.resolve(output.topic),
                output.type_name,
                serialize(_STORE, message),
                self._now_ns,
                latched=output.latched,
            )

    def _is_kept(self, record: Record) -> bool:
        if record.topic.name in self._replaced:
            return False
        if self._own_frame is None or record.topic.name != TF.topic:
            return True
        message = _STORE.deserialize_cdr(record.cdr, record.topic.type_name)
        frames = [transform.child_frame_id for transform in message.transforms]
        return not (frames and all(map(self._own_frame.fullmatch, frames)))

    def _end(self) -> None:
        if self._parameters.depth_topic:  # the last image may wait for its depth
            time.sleep(1.5 * PATIENCE)
            self._node.tick()
            self._node.drain()
        self._node.stop()
        self._write_published()
        self._writer.close()
        statistics = self._node.cameras[0].statistics()
        self.images = statistics.processed
        self.failed += statistics.failed
