"""The node's parameters: one frozen value, the same for every front end.

Each field carries its description, its range and whether it may change while the node runs, so
that ROS's parameter descriptors, the command line and the documentation are made from one place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from hand_perception.errors import HandPerceptionError
from hand_perception.tracking import TrackerParameters

# No child's hand is shorter, see depth.py.
SHORTEST_HAND_M = 0.09


class ParameterError(HandPerceptionError):
    """A node parameter that does not exist, has the wrong type or lies outside its range."""


def _parameter(
    default: Any, description: str, *, limits: tuple | None = None, live: bool = False
) -> Any:
    """limits: inclusive (least, greatest). live: may change while the node is active."""
    metadata = {"description": description, "limits": limits, "live": live}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class NodeParameters:
    """Raises ParameterError, naming the parameter, on a wrong type or a value out of range."""

    model: str = _parameter(
        "auto", "Name of an installed model, or the path of one; auto: the best for this machine."
    )
    backend: str = _parameter(
        "auto", "What runs the network, see runtime/select.py; auto: the fastest there is."
    )
    threads: int = _parameter(0, "Threads within one network layer; 0: all cores.", limits=(0, 64))
    image_topic: str = _parameter("image", "Colour images; relative names can be remapped.")
    camera_info_topic: str = _parameter("camera_info", "Intrinsics that belong to the images.")
    compressed: bool = _parameter(
        False, "Subscribe to <image_topic>/compressed (JPEG, PNG) instead of raw images."
    )
    rectified: bool = _parameter(
        False, "The images are rectified: CameraInfo's P holds for them, not K and D."
    )
    depth_topic: str = _parameter(
        "", "Depth images aligned to the colour images (16UC1 mm, 32FC1 m); empty: none."
    )
    depth_tolerance: float = _parameter(
        0.02,
        "Most seconds between the stamps of an image and its depth image.",
        limits=(0.0, 1.0),
        live=True,
    )
    cameras: tuple[str, ...] = _parameter(
        (), "Names of several cameras: all topics then are below each camera's name."
    )
    hand_length_m: float = _parameter(
        0.0,
        "Wrist to middle fingertip along the bones, in metres: scales hands and their distance; "
        "0: not known.",
        limits=(0.0, 0.26),
        live=True,
    )
    score_threshold: float = _parameter(
        0.5, "Hands below this detector confidence are dropped.", limits=(0.0, 1.0), live=True
    )
    max_rate: float = _parameter(
        0.0, "Most images per second to work on; 0: every one.", limits=(0.0, 1000.0), live=True
    )
    lazy: bool = _parameter(
        False,
        "Subscribe to images only while somebody listens to a result.",
        live=True,
    )
    detect_every: int = _parameter(
        1,
        "Look for new hands in every n-th image, and read the others where they are about to be.",
        limits=(1, 60),
        live=True,
    )
    detect_zoom: float = _parameter(
        3.0,
        "How many times closer some looks for new hands are, at one part of the image after the "
        "other, so that those far away are found; 1: at whole images only.",
        limits=(1.0, 8.0),
        live=True,
    )
    assumed_horizontal_fov: float = _parameter(
        60.0,
        "Degrees across the image's longer side, used until a CameraInfo arrives.",
        limits=(5.0, 170.0),
        live=True,
    )
    camera_timeout: float = _parameter(
        1.0,
        "Seconds without an image after which the camera is reported as lost.",
        limits=(0.1, 3600.0),
        live=True,
    )
    tracking: bool = _parameter(
        True, "Follow hands from image to image: track ids, steady sides.", live=True
    )
    smoothing: bool = _parameter(
        True, "Filter the joints and the mesh of tracked hands.", live=True
    )
    smoothing_cutoff: float = _parameter(
        TrackerParameters.min_cutoff_hz,
        "Of a resting hand, in hertz: less is steadier, more is quicker.",
        limits=(0.01, 100.0),
        live=True,
    )
    smoothing_beta: float = _parameter(
        TrackerParameters.beta,
        "How much the cutoff grows with speed: more follows a moving hand with less lag.",
        limits=(0.0, 1000.0),
        live=True,
    )
    track_memory: float = _parameter(
        TrackerParameters.max_gap_s,
        "Seconds for which a hand that is not seen keeps its id.",
        limits=(0.0, 60.0),
        live=True,
    )
    predict_to_now: bool = _parameter(
        False,
        "Publish tracked hands where they are now, with the present as their stamp.",
        live=True,
    )
    publish_markers: bool = _parameter(
        True, "Publish RViz markers on hands/markers while somebody listens.", live=True
    )
    publish_joint_states: bool = _parameter(
        True, "Publish joint angles on hands/joint_states while somebody listens.", live=True
    )
    publish_detections: bool = _parameter(
        False, "Publish boxes on hands/detections while somebody listens; needs vision_msgs."
    )
    publish_tf: bool = _parameter(True, "Broadcast each hand's wrist frame on /tf.", live=True)
    publish_finger_frames: bool = _parameter(
        False, "Broadcast the fingers' joints on /tf, too, as right_hand_index_mcp.", live=True
    )
    frame_prefix: str = _parameter("", "Put before the frames left_hand and right_hand.", live=True)
    diagnostics_period: float = _parameter(
        1.0, "Seconds between messages on /diagnostics.", limits=(0.1, 60.0), live=True
    )
    snapshot_folder: str = _parameter(
        "~/.ros/hand_perception", "Where the snapshot service writes its files.", live=True
    )
    use_sim_time: bool = _parameter(False, "Take the time from /clock, as with a played bag.")

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            kind = type(spec.default)
            if kind is tuple and isinstance(value, (list, tuple)):
                # ROS's parameter files know no empty list of strings and write [''].
                value = tuple(name for name in value if name != "")
                object.__setattr__(self, spec.name, value)
                if not all(isinstance(name, str) for name in value):
                    raise ParameterError(f"parameter {spec.name} must hold names, got {value!r}")
            # YAML writes 60 where a float is meant; a bool is never a number.
            if kind is float and type(value) is int:
                value = float(value)
                object.__setattr__(self, spec.name, value)
            if type(value) is not kind:
                raise ParameterError(
                    f"parameter {spec.name} must be {kind.__name__}, got {value!r}"
                )
            limits = spec.metadata["limits"]
            if limits and not (math.isfinite(value) and limits[0] <= value <= limits[1]):
                raise ParameterError(
                    f"parameter {spec.name} must be from {limits[0]} to {limits[1]}, got {value}"
                )
        for name in ("model", "backend", "image_topic", "camera_info_topic", "snapshot_folder"):
            if not getattr(self, name):
                raise ParameterError(f"parameter {name} must not be empty")
        if 0 < self.hand_length_m < SHORTEST_HAND_M:
            raise ParameterError(
                f"parameter hand_length_m must be 0 or from {SHORTEST_HAND_M} to 0.26, "
                f"got {self.hand_length_m}"
            )
        if len(set(self.cameras)) < len(self.cameras):
            raise ParameterError(f"parameter cameras names one twice: {list(self.cameras)}")
        for name in ("image_topic", "camera_info_topic", "depth_topic"):
            if len(self.cameras) > 1 and getattr(self, name).startswith("/"):
                raise ParameterError(
                    f"parameter {name} must be a relative name with several cameras, "
                    f"got {getattr(self, name)!r}"
                )

    def changed(self, values: Mapping[str, Any]) -> NodeParameters:
        """These parameters with some values replaced. Raises ParameterError on unknown names."""
        unknown = sorted(set(values) - {spec.name for spec in fields(self)})
        if unknown:
            known = ", ".join(spec.name for spec in fields(self))
            raise ParameterError(f"unknown parameter {unknown[0]!r}, there are: {known}")
        return replace(self, **values)

    def settled_names_in(self, values: Iterable[str]) -> list[str]:
        """Those of the named parameters that cannot change while the node is active."""
        settled = {spec.name for spec in fields(self) if not spec.metadata["live"]}
        return sorted(settled & set(values))

    @classmethod
    def from_yaml(cls, path: str | Path, node_name: str = "hand_perception") -> NodeParameters:
        """The parameters of a file, see ``read_parameter_file``; QoS overrides are left out."""
        own, _ = split_qos_overrides(read_parameter_file(path, node_name))
        return cls().changed(own)

    def with_assignments(self, assignments: Iterable[str]) -> NodeParameters:
        """Apply ``name:=value`` texts, the values in YAML, as on ROS's command line."""
        return self.changed(read_assignments(assignments))


def read_parameter_file(path: str | Path, node_name: str = "hand_perception") -> dict[str, Any]:
    """Read ROS's parameter file layout: ``/**`` or the node's name, then ``ros__parameters``.

    Later sections win, as in ROS; names within names are joined by dots. Raises ParameterError when
    the file cannot be read or has another layout.
    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ParameterError(f"cannot read the parameters in {path}: {reason}") from error
    values: dict[str, Any] = {}
    for section, content in document.items() if isinstance(document, dict) else ():
        if section == "/**" or section.rsplit("/", 1)[-1] == node_name:
            if not isinstance(content, dict) or "ros__parameters" not in content:
                raise ParameterError(f"{path}: section {section!r} lacks ros__parameters")
            values.update(_flattened(content["ros__parameters"] or {}))
    if not values:
        raise ParameterError(
            f"{path} has no parameters for {node_name}: expected /**: ros__parameters: ..."
        )
    return values


def _flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flattened(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def read_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """``name:=value`` texts, the values in YAML. Raises ParameterError."""
    values = {}
    for text in assignments:
        name, separator, value = text.partition(":=")
        if not separator:
            raise ParameterError(f"parameter {text!r} must be written name:=value")
        try:
            values[name] = yaml.safe_load(value) if value else ""
        except yaml.YAMLError as error:
            raise ParameterError(f"parameter {text!r}: the value is not YAML") from error
    return values


QOS_OVERRIDES = "qos_overrides."


def split_qos_overrides(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The node's own values, and those named ``qos_overrides.<topic>.<kind>.<policy>``."""
    overrides = {name: v for name, v in values.items() if name.startswith(QOS_OVERRIDES)}
    return {name: v for name, v in values.items() if name not in overrides}, overrides
