"""What the node publishes, reads and answers: names and types, the same for every front end."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hand_perception.parameters import NodeParameters

NODE_NAME = "hand_perception"


@dataclass(frozen=True)
class Output:
    """A published topic. latched: reliable and transient local, else reliable and volatile.

    description: when it is published. A topic without a leading slash belongs to one camera.
    """

    topic: str
    type_name: str
    description: str
    latched: bool = False

    def of_camera(self, camera: str) -> Output:
        """The same below a camera's name; "" is the only camera and has none."""
        return replace(self, topic=below(camera, self.topic))


@dataclass(frozen=True)
class Input:
    """A topic that is read: best effort, the newest message wins."""

    topic: str
    type_name: str
    description: str


@dataclass(frozen=True)
class Service:
    """A service of the node; its response has ``success`` and ``message``."""

    name: str
    type_name: str
    description: str


MESH = Output("hands/mesh", "hand_perception/msg/HandMeshArray", "every image, also without hands")
KEYPOINTS = Output(
    "hands/keypoints", "hand_perception/msg/HandKeypointsArray", "every image, also without hands"
)
TOPOLOGY = Output(
    "hands/topology",
    "hand_perception/msg/HandTopology",
    "once, latched: triangles, bones, regressor",
    latched=True,
)
MARKERS = Output("hands/markers", "visualization_msgs/msg/MarkerArray", "while somebody subscribes")
JOINT_STATES = Output(
    "hands/joint_states",
    "sensor_msgs/msg/JointState",
    "while somebody subscribes and a hand is seen",
)
LEFT_WRIST = Output(
    "hands/left_wrist",
    "geometry_msgs/msg/PoseStamped",
    "the longest tracked left hand's wrist, while one is seen and metric",
)
RIGHT_WRIST = Output(
    "hands/right_wrist",
    "geometry_msgs/msg/PoseStamped",
    "the longest tracked right hand's wrist, while one is seen and metric",
)
POINTS = Output(
    "hands/points",
    "sensor_msgs/msg/PointCloud2",
    "while somebody subscribes: all meshes' vertices, with side and track id",
)
OVERLAY = Output(
    "hands/overlay",
    "sensor_msgs/msg/Image",
    "while somebody subscribes: the image with the hands drawn over it",
)
DETECTIONS = Output(
    "hands/detections",
    "vision_msgs/msg/Detection2DArray",
    "with `publish_detections`, while somebody subscribes: boxes",
)
TF = Output(
    "/tf",
    "tf2_msgs/msg/TFMessage",
    "`left_hand`, `right_hand`; further ones `right_hand_7` by track id",
)
DIAGNOSTICS = Output(
    "/diagnostics",
    "diagnostic_msgs/msg/DiagnosticArray",
    "rates, age, drops, time per stage, model, last error",
)
# What a lazy node works for.
RESULTS = (
    MESH,
    KEYPOINTS,
    MARKERS,
    JOINT_STATES,
    LEFT_WRIST,
    RIGHT_WRIST,
    POINTS,
    OVERLAY,
    DETECTIONS,
    TF,
)
OUTPUTS = (*RESULTS, TOPOLOGY, DIAGNOSTICS)

PAUSE = Service("~/pause", "std_srvs/srv/SetBool", "stop and resume the work on images")
SNAPSHOT = Service(
    "~/snapshot", "std_srvs/srv/Trigger", "write the last image, overlay and hands to files"
)
CALIBRATE = Service(
    "~/calibrate_hand_length",
    "std_srvs/srv/Trigger",
    "measure `hand_length_m` from the depth images of the next second",
)
SERVICES = (PAUSE, SNAPSHOT, CALIBRATE)


@dataclass(frozen=True)
class CameraInputs:
    """What one camera sends. depth: None unless asked for."""

    image: Input
    info: Input
    depth: Input | None


def camera_inputs(parameters: NodeParameters, camera: str = "") -> CameraInputs:
    """The input topics of one of the parameters' cameras."""
    image = below(camera, parameters.image_topic)
    colour = "colour images; newest wins, one waits at most"
    return CameraInputs(
        Input(f"{image}/compressed", "sensor_msgs/msg/CompressedImage", colour)
        if parameters.compressed
        else Input(image, "sensor_msgs/msg/Image", colour),
        Input(
            below(camera, parameters.camera_info_topic),
            "sensor_msgs/msg/CameraInfo",
            "intrinsics; the latest of each frame is kept",
        ),
        Input(
            below(camera, parameters.depth_topic),
            "sensor_msgs/msg/Image",
            "depth aligned to the colour image: 16UC1 millimetres or 32FC1 metres",
        )
        if parameters.depth_topic
        else None,
    )


def camera_names(parameters: NodeParameters) -> tuple[str, ...]:
    """The parameters' cameras, without slashes around; one without a name when none are given."""
    names = tuple(name.strip("/") for name in parameters.cameras)
    return names or ("",)


def node_outputs(parameters: NodeParameters) -> tuple[Output, ...]:
    """All topics that a node with these parameters may publish, each once."""
    wanted = [
        output for output in OUTPUTS if output is not DETECTIONS or parameters.publish_detections
    ]
    cameras = camera_names(parameters)
    return tuple(dict.fromkeys(output.of_camera(name) for name in cameras for output in wanted))


def below(camera: str, topic: str) -> str:
    """A camera's topic: below its name, unless the topic is absolute or the camera has no name."""
    return topic if topic.startswith("/") or not camera else f"{camera}/{topic}"
