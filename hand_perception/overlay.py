"""Hands drawn over the picture they were found in: mesh, skeleton, box and label."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from hand_perception.geometry import project
from hand_perception.hands import BONES, Camera, Hand, Side

# RGB. The mesh is warm for a right hand and cool for a left one.
SIDE_COLOURS = {Side.RIGHT: (255, 176, 120), Side.LEFT: (120, 190, 255)}
WRIST_COLOUR = (235, 235, 235)
FINGER_COLOURS = ((255, 64, 64), (255, 190, 30), (70, 220, 80), (40, 180, 255), (210, 90, 255))
_MESH_OPACITY = 0.62
# From the surface towards the light, over the viewer's left shoulder.
_LIGHT = np.array([-0.37, -0.55, -0.75])
_SUBPIXEL_BITS = 4


def draw(
    image: np.ndarray,
    hands: Sequence[Hand],
    camera: Camera,
    faces: np.ndarray,
    *,
    mesh: bool = True,
    skeleton: bool = True,
) -> np.ndarray:
    """A copy of the RGB image [H, W, 3] with the hands in it, the nearest on top.

    faces: [F, 3] of the hands' topology, wound outwards for a right hand. The label reads side,
    score, track id and, where the intrinsics are measured, the wrist's depth.
    """
    out = image.copy()
    far_to_near = sorted(hands, key=lambda hand: -float(hand.wrist.translation[2]))
    for hand in far_to_near:
        if mesh:
            _draw_mesh(out, hand, camera, faces)
        if skeleton:
            _draw_skeleton(out, hand)
    for hand in far_to_near:
        _draw_box(out, hand)
    return out


def _draw_mesh(out: np.ndarray, hand: Hand, camera: Camera, faces: np.ndarray) -> None:
    pixels = project(hand.vertices, camera)
    low = np.clip(np.floor(pixels.min(0)) - 2, 0, (camera.width, camera.height)).astype(int)
    high = np.clip(np.ceil(pixels.max(0)) + 3, 0, (camera.width, camera.height)).astype(int)
    width, height = high - low
    if width <= 0 or height <= 0:
        return
    shades = _face_shades(hand, faces)
    # Painter's algorithm: far faces first.
    order = np.argsort(-hand.vertices[faces, 2].mean(1))
    # A vertex beside or behind the lens projects thousands of pixels away: OpenCV's fixed point
    # must not overflow.
    corners = np.clip(pixels - low, -8192, 8192)[faces[order]]
    corners = np.round(corners * 2**_SUBPIXEL_BITS).astype(np.int32)
    layer = np.zeros((height, width), np.uint8)
    for triangle, shade in zip(corners, shades[order].tolist(), strict=True):
        cv2.fillConvexPoly(layer, triangle, shade, cv2.LINE_8, _SUBPIXEL_BITS)
    opacity = cv2.blur((layer > 0).astype(np.float32), (3, 3))[..., None] * _MESH_OPACITY
    # The softened rim needs a colour as well: that of its lit neighbours.
    lit = np.where(layer > 0, layer, cv2.dilate(layer, np.ones((3, 3), np.uint8)))
    tint = lit[..., None] * (np.array(SIDE_COLOURS[hand.side], np.float32) / 255)
    region = out[low[1] : high[1], low[0] : high[0]]
    region[:] = np.round(region * (1 - opacity) + tint * opacity)


def _face_shades(hand: Hand, faces: np.ndarray) -> np.ndarray:
    """Brightness 1..255 of each face: its vertices' normals against the light, averaged."""
    corners = hand.vertices[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if hand.side is Side.LEFT:
        normals = -normals
    at_vertices = np.zeros((len(hand.vertices), 3))
    for k in range(3):
        np.add.at(at_vertices, faces[:, k], normals)
    at_vertices /= np.maximum(np.linalg.norm(at_vertices, axis=1, keepdims=True), 1e-12)
    lit = np.clip(at_vertices @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)
    return np.clip(255 * (0.42 + 0.68 * lit[faces].mean(1)), 1, 255).astype(int)


def _draw_skeleton(out: np.ndarray, hand: Hand) -> None:
    width = _stroke(hand)
    points = [_subpixel(point) for point in hand.keypoints2d]
    colours = [WRIST_COLOUR, *(colour for colour in FINGER_COLOURS for _ in range(4))]
    # A dark rim first keeps the colours readable on any background.
    for rim in (True, False):
        for parent, child in BONES:
            colour = (25, 25, 25) if rim else colours[child]
            thickness = width + 2 if rim else width
            cv2.line(
                out, points[parent], points[child], colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS
            )
    for point, colour in zip(points, colours, strict=True):
        radius = round(1.1 * width * 2**_SUBPIXEL_BITS) + 8
        cv2.circle(out, point, radius + 16, (25, 25, 25), -1, cv2.LINE_AA, _SUBPIXEL_BITS)
        cv2.circle(out, point, radius, colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_box(out: np.ndarray, hand: Hand) -> None:
    height, width = out.shape[:2]
    colour = SIDE_COLOURS[hand.side]
    x0, y0, x1, y1 = np.clip(np.round(hand.box), -4 * max(out.shape), 4 * max(out.shape)).astype(
        int
    )
    cv2.rectangle(out, (x0, y0), (x1, y1), colour, 1, cv2.LINE_AA)
    text, font, size = (
        label(hand),
        cv2.FONT_HERSHEY_SIMPLEX,
        0.45 * max(1.0, max(height, width) / 800),
    )
    (w, h), base = cv2.getTextSize(text, font, size, 1)
    # Above the box where there is room, else inside it; never outside of the picture.
    left = int(np.clip(x0, 0, max(width - w - 6, 0)))
    top = y0 - h - base - 3 if y0 - h - base - 3 >= 0 else y0
    top = int(np.clip(top, 0, max(height - h - base - 3, 0)))
    cv2.rectangle(out, (left, top), (left + w + 6, top + h + base + 2), colour, -1)
    cv2.putText(out, text, (left + 3, top + h + 2), font, size, (20, 20, 20), 1, cv2.LINE_AA)


def label(hand: Hand) -> str:
    """Side, score, "#id" once tracked, and the wrist's depth where it is metric."""
    parts = [hand.side.value, f"{hand.score:.2f}"]
    if hand.track_id:
        parts.append(f"#{hand.track_id}")
    if hand.metric:
        parts.append(f"{hand.wrist.translation[2]:.2f} m")
    return " ".join(parts)


def _stroke(hand: Hand) -> int:
    """Line width in pixels that suits the hand's size."""
    side = float(np.max(hand.box[2:] - hand.box[:2]))
    return int(np.clip(round(side / 90), 1, 6))


def _subpixel(point: np.ndarray) -> tuple[int, int]:
    x, y = np.round(np.clip(point, -8192, 8192) * 2**_SUBPIXEL_BITS).astype(int)
    return int(x), int(y)
