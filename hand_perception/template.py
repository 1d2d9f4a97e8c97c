"""Mesh topologies by name: the vertices, faces, skinning and joint regressor a hand is made of.

``open778`` is ours (see scripts/build_template.py); MANO's is read from the user's own file by
``hand_perception.data.mano``. Both share one joint order: the wrist, then the three joints of each
finger, thumb to pinky.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from hand_perception.errors import DataError
from hand_perception.geometry import rim_vertices, signed_volume
from hand_perception.hands import NUM_KEYPOINTS

ASSETS = Path(__file__).parent / "assets"
PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
# Which of the 21 keypoints each of the 16 joints is, and which are fingertips (mesh vertices).
KEYPOINT_OF_JOINT = (0, *(1 + 4 * f + k for f in range(5) for k in range(3)))
TIP_KEYPOINTS = (4, 8, 12, 16, 20)


@dataclass(frozen=True)
class Template:
    """A right hand at rest. Float arrays are float32, lengths in metres.

    vertices: [V, 3]. faces: [F, 3] int32, winding outwards. weights: [V, 16] skinning weights,
    rows sum to 1. joints: [16, 3]. joint_frames: [16, 3, 3], columns are each joint's rest axes
    (flexion axis, dorsal, against the bone). parents: [16] int32, -1 for the wrist.
    regressor: [21, V]; ``regressor @ vertices`` gives the keypoints in hands.KEYPOINT_NAMES order,
    where bones meet. landmarks: [21, V], likewise where people and trackers mark them in pictures:
    the wrist on its palmar side and nearer to the fingers, say. The regressor where nobody knows.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    weights: np.ndarray
    joints: np.ndarray
    joint_frames: np.ndarray
    parents: np.ndarray
    regressor: np.ndarray
    landmarks: np.ndarray = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.landmarks is None:
            object.__setattr__(self, "landmarks", self.regressor)

    @cached_property
    def keypoints(self) -> np.ndarray:
        """The 21 keypoints of the rest pose, [21, 3] metres."""
        return self.regressor @ self.vertices

    @cached_property
    def volume(self) -> float:
        """Of the rest pose, its wrist closed, in cubic metres."""
        return float(signed_volume(self.vertices, self.faces, self.rim))

    @cached_property
    def rim(self) -> np.ndarray:
        """Vertices around the opening at the wrist, [N]."""
        return rim_vertices(self.faces.astype(np.int64))


_FIELDS = {
    "vertices": np.float32,
    "faces": np.int32,
    "weights": np.float32,
    "joints": np.float32,
    "joint_frames": np.float32,
    "parents": np.int32,
    "regressor": np.float32,
}
_OPTIONAL = {"landmarks": np.float32}


def template_path(name_or_path: str | Path) -> Path:
    """The .npz of a shipped template by name, or the given file.

    Raises DataError when there is neither.
    """
    shipped = ASSETS / str(name_or_path) / f"{name_or_path}.npz"
    path = shipped if shipped.is_file() else Path(name_or_path)
    if not path.is_file():
        raise DataError(
            f"no hand template {str(name_or_path)!r}: use 'open778' or the path of a template .npz"
        )
    return path


@lru_cache(maxsize=4)
def load_template(name_or_path: str | Path = "open778") -> Template:
    """Reads a template by name or from an .npz file.

    Raises DataError when it is missing, corrupt or inconsistent.
    """
    path = template_path(name_or_path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            wanted = _FIELDS | {k: v for k, v in _OPTIONAL.items() if k in archive}
            arrays = {key: archive[key].astype(kind) for key, kind in wanted.items()}
    except Exception as error:  # numpy raises anything from BadZipFile to ValueError
        raise DataError(f"{path} is no hand template ({error}): rebuild or reinstall it") from error
    template = Template(path.stem, **arrays)
    check_template(template, path)
    return template


def check_template(template: Template, source: str | Path) -> None:
    """Raises DataError unless the arrays fit together."""
    count = len(template.vertices)
    expected = {
        "vertices": (count, 3),
        "faces": (len(template.faces), 3),
        "weights": (count, len(PARENTS)),
        "joints": (len(PARENTS), 3),
        "joint_frames": (len(PARENTS), 3, 3),
        "parents": (len(PARENTS),),
        "regressor": (NUM_KEYPOINTS, count),
        "landmarks": (NUM_KEYPOINTS, count),
    }
    for key, shape in expected.items():
        array = getattr(template, key)
        if array.shape != shape or not np.isfinite(array).all():
            raise DataError(
                f"{source}: {key} must be finite and {shape}, got {array.shape}: rebuild the file"
            )
    if template.faces.min() < 0 or template.faces.max() >= count:
        raise DataError(f"{source}: faces name vertices outside 0..{count - 1}: rebuild the file")
