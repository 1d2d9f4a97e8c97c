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

    model: str = _parameter("handos_s", "Name of an installed model, or the path of one.")
    threads: int = _parameter(0, "Threads within one network layer; 0: all cores.", limits=(0, 64))
    image_topic: str = _parameter("image", "Colour images; relative names can be remapped.")
    camera_info_topic: str = _parameter("camera_info", "Intrinsics that belong to the images.")
    compressed: bool = _parameter(
        False, "Subscribe to <image_topic>/compressed (JPEG, PNG) instead of raw images."
    )
    score_threshold: float = _parameter(
        0.5, "Hands below this detector confidence are dropped.", limits=(0.0, 1.0), live=True
    )
    max_rate: float = _parameter(
        0.0, "Most images per second to work on; 0: every one.", limits=(0.0, 1000.0), live=True
    )
    lazy: bool = _parameter(
        False,
        "Work only while somebody listens to meshes, keypoints, markers, joint states or TF.",
        live=True,
    )
    assumed_horizontal_fov: float = _parameter(
        60.0,
        "Degrees across the image's longer side, used until a CameraInfo arrives.",
        limits=(5.0, 170.0),
        live=True,
    )
    tracking: bool = _parameter(True, "Follow hands from image to image: track ids, steady sides.")
    smoothing: bool = _parameter(True, "Filter the joints and the mesh of tracked hands.")
    publish_markers: bool = _parameter(
        True, "Publish RViz markers on hands/markers while somebody listens.", live=True
    )
    publish_joint_states: bool = _parameter(
        True, "Publish joint angles on hands/joint_states while somebody listens.", live=True
    )
    publish_tf: bool = _parameter(True, "Broadcast each hand's wrist frame on /tf.", live=True)
    frame_prefix: str = _parameter("", "Put before the frames left_hand and right_hand.", live=True)
    diagnostics_period: float = _parameter(
        1.0, "Seconds between messages on /diagnostics.", limits=(0.1, 60.0)
    )

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            kind = type(spec.default)
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
        for name in ("model", "image_topic", "camera_info_topic"):
            if not getattr(self, name):
                raise ParameterError(f"parameter {name} must not be empty")

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
        """Read ROS's parameter file layout: ``/**`` or the node's name, then ``ros__parameters``.

        Later sections win, as in ROS. Raises ParameterError when the file cannot be read, has
        another layout or holds an unknown or invalid value.
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
                values.update(content["ros__parameters"] or {})
        if not values:
            raise ParameterError(
                f"{path} has no parameters for {node_name}: expected /**: ros__parameters: ..."
            )
        return cls().changed(values)

    def with_assignments(self, assignments: Iterable[str]) -> NodeParameters:
        """Apply ``name:=value`` texts, the values in YAML, as on ROS's command line."""
        values = {}
        for text in assignments:
            name, separator, value = text.partition(":=")
            if not separator:
                raise ParameterError(f"parameter {text!r} must be written name:=value")
            try:
                values[name] = yaml.safe_load(value) if value else ""
            except yaml.YAMLError as error:
                raise ParameterError(f"parameter {text!r}: the value is not YAML") from error
        return self.changed(values)
