"""Hands as the retargeting libraries take them: which points, about which origin, in which axes.

Each function is one consumer's convention. All give float64 metres and raise DataError for hands
whose keypoints fix no frame (not finite, or on one line).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hand_perception.articulation import articulate, joint_axes
from hand_perception.errors import DataError
from hand_perception.geometry import quaternion_xyzw
from hand_perception.hands import INDEX_MCP, MIDDLE_MCP, RING_MCP, WRIST, Hand, Side
from hand_perception.template import Template

# OpenXR's XrHandJointEXT without the palm, which is also WebXR's order.
OPENXR_JOINTS = (
    "wrist",
    *(f"thumb_{bone}" for bone in ("metacarpal", "proximal", "distal", "tip")),
    *(
        f"{finger}_{bone}"
        for finger in ("index", "middle", "ring", "little")
        for bone in ("metacarpal", "proximal", "intermediate", "distal", "tip")
    ),
)
# The joints that are keypoints, in the keypoints' order. What is left are the long fingers'
# metacarpals, which no keypoint tells.
_SEEN = np.array([k for k, name in enumerate(OPENXR_JOINTS) if "metacarpal" not in name or k == 1])
# The skeleton joint that each keypoint turns with: a tip goes with the last bone.
_JOINT_OF_KEYPOINT = np.array([0, *(1 + 3 * f + min(k, 2) for f in range(5) for k in range(4))])
# From the camera's optical axes (x right, y down, z forward) to OpenXR's view space (x right, y up,
# z backward).
VIEW_FROM_OPTICAL = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True)
class OpenXrHand:
    """The 25 joints in OPENXR_JOINTS' order. positions: [25, 3] metres. orientations: [25, 4]
    x, y, z, w. is_valid: [25]; where it is false the pose is zero and unturned, not measured.
    """

    positions: np.ndarray
    orientations: np.ndarray
    is_valid: np.ndarray


def dex_retargeting_joints(hand: Hand) -> np.ndarray:
    """What dex-retargeting (Qin et al. 2023) takes as joint_pos, [21, 3]: from the wrist, in the
    operator's axes, which its robots' wrists have too.

    z: from the wrist to the middle finger's MCP; x: out of the palm, square to the plane of wrist,
    index MCP and middle MCP; y = z x x: to the thumb of a right hand, to the little finger of a
    left one. In dex-retargeting's terms this is MANO's wrist frame from points 0, 5 and 9, times
    OPERATOR2MANO of the side.
    """
    points = _from_wrist(hand)
    along = points[MIDDLE_MCP]
    radial = points[INDEX_MCP] - points[MIDDLE_MCP]
    return points @ _axes(along, radial if hand.side is Side.RIGHT else -radial)


def geort_joints(hand: Hand) -> np.ndarray:
    """What GeoRT (Yin et al. 2025) takes as a hand's keypoints, [21, 3], from the wrist.

    z: from the wrist to the middle finger's MCP; y: from the ring to the index MCP, made square to
    z, towards the thumb; x = y x z: out of the palm of a right hand. GeoRT defines it for right
    hands; by the same rule x comes out of the back of a left one.
    """
    points = _from_wrist(hand)
    return points @ _axes(points[MIDDLE_MCP], points[INDEX_MCP] - points[RING_MCP])


def openxr_joints(hand: Hand, template: Template) -> OpenXrHand:
    """The hand as 25 OpenXR joints in the view space of its camera: x right, y up, z backward.

    Positions are the hand's keypoints, orientations those of ``articulate``: -z along the bone to
    the next joint, y out of the back of the hand. template: that of the hand's mesh.
    """
    axes = VIEW_FROM_OPTICAL @ joint_axes(articulate(hand, template), template)
    positions = np.zeros((len(OPENXR_JOINTS), 3))
    positions[_SEEN] = np.asarray(hand.keypoints3d, np.float64) @ VIEW_FROM_OPTICAL
    orientations = np.tile([0.0, 0.0, 0.0, 1.0], (len(OPENXR_JOINTS), 1))
    orientations[_SEEN] = quaternion_xyzw(axes)[_JOINT_OF_KEYPOINT]
    return OpenXrHand(positions, orientations, np.isin(np.arange(len(OPENXR_JOINTS)), _SEEN))


def _from_wrist(hand: Hand) -> np.ndarray:
    points = np.asarray(hand.keypoints3d, np.float64)
    return points - points[WRIST]


def _axes(along: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Columns x, y, z: z along the first vector, y as near to the second as square to z allows."""
    normal = np.cross(across, along)
    height, area = np.linalg.norm(along), np.linalg.norm(normal)
    # Also false for NaN. A palm's width is a third of its length.
    if not (height > 0 and area > 1e-3 * height**2):
        raise DataError("the hand's knuckles and wrist fix no frame: leave the hand out")
    z, x = along / height, normal / area
    return np.stack([x, np.cross(z, x), z], axis=1)
