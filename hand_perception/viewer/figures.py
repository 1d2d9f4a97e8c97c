"""One hand in the 3D scene, and where its camera is."""

from __future__ import annotations

import math

import numpy as np
import viser

from hand_perception.hands import BONES, Camera, Hand, Side
from hand_perception.overlay import FINGER_COLOURS, SIDE_COLOURS, WRIST_COLOUR, label

_BONE_THICKNESS = 0.003  # metres
_JOINT_SIZE = 0.008
_TRACE_THICKNESS = 0.002
_JOINT_COLOURS = np.array(
    [WRIST_COLOUR, *(colour for colour in FINGER_COLOURS for _ in range(4))], np.uint8
)
_BONE_COLOURS = np.repeat(_JOINT_COLOURS[[child for _, child in BONES], None], 2, axis=1)


class HandFigure:
    """Mesh, skeleton, label and trace of one hand; ``update`` moves them.

    faces: [F, 3] of the hand's topology, wound outwards for a right hand.
    """

    def __init__(self, scene: viser.SceneApi, name: str, hand: Hand, faces: np.ndarray) -> None:
        self._scene = scene
        self._name = name
        self._faces = faces
        self._root = scene.add_frame(name, show_axes=False)
        self._side: Side | None = None
        self._trace: viser.LineSegmentsHandle | None = None
        joints = np.asarray(hand.keypoints3d, np.float32)
        self._bones = scene.add_line_segments(
            f"{name}/bones", joints[np.array(BONES)], _BONE_COLOURS, thickness=_BONE_THICKNESS
        )
        self._joints = scene.add_point_cloud(
            f"{name}/joints",
            joints,
            _JOINT_COLOURS,
            point_size=_JOINT_SIZE,
            point_shape="circle",
            precision="float32",
        )
        self._label = scene.add_label(f"{name}/label", label(hand), anchor="bottom-center")
        self._make_mesh(hand)

    def _make_mesh(self, hand: Hand) -> None:
        """Anew when the tracker corrects the side: colour and winding are the side's."""
        self._side = hand.side
        faces = self._faces if hand.side is Side.RIGHT else self._faces[:, ::-1]
        self._mesh = self._scene.add_mesh_simple(
            f"{self._name}/mesh",
            hand.vertices,
            faces,
            color=SIDE_COLOURS[hand.side],
            opacity=0.85,
            side="double",  # the mesh is open at the wrist
            cast_shadow=False,
            receive_shadow=False,
        )

    def update(
        self, hand: Hand, trace: np.ndarray, *, mesh: bool, joints: bool, labelled: bool
    ) -> None:
        """trace: [N, 3] places of the wrist, oldest first."""
        if hand.side is not self._side:
            self._make_mesh(hand)
        points = np.asarray(hand.keypoints3d, np.float32)
        self._mesh.vertices = np.asarray(hand.vertices, np.float32)
        self._bones.points = points[np.array(BONES)]
        self._joints.points = points
        self._label.text = label(hand)
        self._label.position = points.mean(0) + (0, -0.12, 0)
        self._mesh.visible = mesh
        self._bones.visible = self._joints.visible = joints
        self._label.visible = labelled
        self._draw_trace(hand, trace)

    def _draw_trace(self, hand: Hand, trace: np.ndarray) -> None:
        if len(trace) < 2:
            if self._trace is not None:
                self._trace.visible = False
            return
        segments = np.stack([trace[:-1], trace[1:]], axis=1).astype(np.float32)
        if self._trace is None:
            self._trace = self._scene.add_line_segments(
                f"{self._name}/trace",
                segments,
                SIDE_COLOURS[hand.side],
                thickness=_TRACE_THICKNESS,
            )
        self._trace.points = segments
        self._trace.visible = True

    def remove(self) -> None:
        self._root.remove()


def vertical_fov(camera: Camera) -> float:
    """Radians from the picture's top to its bottom; the lens distortion and an optical axis off
    the centre are left out."""
    return 2 * math.atan(camera.height / (2 * camera.fy))


def frustum_scale(camera: Camera, distance: float) -> float:
    """viser's ``scale`` that puts a frustum's picture so many metres in front of the lens.

    viser first divides the frustum that is one deep by the cube root of a third of its half width
    times its half height.
    """
    half_height = math.tan(vertical_fov(camera) / 2)
    half_width = half_height * camera.width / camera.height
    return distance * (half_width * half_height / 3) ** (1 / 3)
