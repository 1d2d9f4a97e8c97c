"""Draws docs/images/joints.png and docs/images/frames.svg from the template and the code.

python scripts/draw_figures.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from hand_perception.geometry import project, wrist_frame
from hand_perception.hands import KEYPOINT_NAMES, Camera, Hand, Pose, Side
from hand_perception.overlay import FINGER_COLOURS, WRIST_COLOUR, draw
from hand_perception.template import load_template

IMAGES = Path(__file__).parent.parent / "docs" / "images"
TEMPLATE = load_template()
# Turns the rest pose to show the back of the hand, fingers up: x up, y (thumb) left, z at us.
UPRIGHT = np.array([[0, -1, 0], [-1, 0, 0], [0, 0, -1.0]]) @ (
    wrist_frame(TEMPLATE.keypoints, Side.RIGHT).rotation.T
)
_AXES = (("x", "#d33"), ("y", "#2a2"), ("z", "#36d"))


def open_hand(distance: float) -> Hand:
    """The template's hand in front of the camera, back to the viewer."""
    middle = TEMPLATE.keypoints.mean(0)

    def placed(points: np.ndarray) -> np.ndarray:
        return ((points - middle) @ UPRIGHT.T + (0, 0, distance)).astype(np.float32)

    keypoints = placed(TEMPLATE.keypoints)
    return Hand(
        side=Side.RIGHT,
        score=1.0,
        box=np.zeros(4, np.float32),
        keypoints2d=np.zeros((21, 2), np.float32),
        confidences=np.ones(21, np.float32),
        keypoints3d=keypoints,
        vertices=placed(TEMPLATE.vertices),
        wrist=wrist_frame(keypoints, Side.RIGHT),
    )


def joints_figure(width: int = 900, height: int = 760) -> np.ndarray:
    """RGB [H, W, 3]: the hand's back with its 21 numbered keypoints, and their names."""
    camera = Camera(2300.0, 2300.0, 320.0, 375.0, width, height)
    hand = open_hand(0.75)
    hand.keypoints2d = project(hand.keypoints3d, camera).astype(np.float32)
    hand.box = np.array([-900, -900, -400, -400], np.float32)  # outside: a width of strokes
    image = np.full((height, width, 3), 255, np.uint8)
    image = draw(image, [hand], camera, TEMPLATE.faces)
    image[:28, :240] = 255  # the label of a detected hand, which this is not
    cv2.rectangle(image, (-1, -1), (width, height), (255, 255, 255), 6)
    colours = [WRIST_COLOUR, *(colour for colour in FINGER_COLOURS for _ in range(4))]
    font = cv2.FONT_HERSHEY_SIMPLEX
    for index, (name, colour) in enumerate(zip(KEYPOINT_NAMES, colours, strict=True)):
        u, v = hand.keypoints2d[index]
        at = (int(u) + 9, int(v) - 7)
        cv2.putText(image, str(index), at, font, 0.6, (255, 255, 255), 5, cv2.LINE_AA)
        cv2.putText(image, str(index), at, font, 0.6, (20, 20, 20), 1, cv2.LINE_AA)
        row = 70 + 30 * index
        cv2.circle(image, (680, row - 5), 7, (25, 25, 25), -1, cv2.LINE_AA)
        cv2.circle(image, (680, row - 5), 6, colour, -1, cv2.LINE_AA)
        text = f"{index:2d}  {name}"
        cv2.putText(image, text, (700, row), font, 0.55, (20, 20, 20), 1, cv2.LINE_AA)
    return image


def frames_figure() -> str:
    """SVG: the camera's optical frame, the image's pixels and the wrist frames of either hand."""
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 420" '
        'font-family="sans-serif" font-size="14">',
        '<rect width="860" height="420" fill="white"/>',
        _text(20, 28, "Camera: optical frame (REP-103)", 16),
        '<rect x="60" y="120" width="70" height="60" rx="6" fill="#ccc" stroke="#555"/>',
        '<circle cx="95" cy="150" r="18" fill="#eee" stroke="#555"/>',
        *_arrow((95, 150), (215, 150), 0),
        *_arrow((95, 150), (95, 270), 1),
        *_arrow((95, 150), (185, 85), 2),
        _text(202, 78, "forward"),
        _text(60, 310, "pixels: u right, v down,"),
        _text(60, 330, "(0, 0) is the centre of"),
        _text(60, 350, "the top-left pixel"),
        _text(300, 28, "Wrist frames: left_hand, right_hand (backs of the hands)", 16),
        *_hand(Side.LEFT, 430.0),
        *_hand(Side.RIGHT, 690.0),
        _text(300, 412, "x to the middle MCP, z out of the back of the hand, y = z x x"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _hand(side: Side, middle: float) -> list[str]:
    """Outline of a hand's triangles seen from behind, and the axes at its wrist."""
    camera = Camera(65000.0, 65000.0, middle, 195.0, 860, 420)
    hand = open_hand(50.0)  # as good as a parallel projection
    mirror = np.array([-1.0 if side is Side.LEFT else 1.0, 1.0, 1.0])
    keypoints, vertices = hand.keypoints3d * mirror, hand.vertices * mirror
    wrist = wrist_frame(keypoints, side)
    mask = np.zeros((420, 860), np.uint8)
    for triangle in np.round(project(vertices, camera)).astype(np.int32)[TEMPLATE.faces]:
        cv2.fillConvexPoly(mask, triangle, 255)
    (outline,), _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points = " ".join(f"{u},{v}" for u, v in cv2.approxPolyDP(outline, 0.7, True)[:, 0])
    parts = [f'<polygon points="{points}" fill="#f3d9c6" stroke="#a87"/>']
    return [*parts, *_axes(wrist, camera), _text(middle - 40, 388, f"{side.value} hand")]


def _axes(wrist: Pose, camera: Camera) -> list[str]:
    origin = project(wrist.translation, camera)
    parts = []
    for axis in range(3):
        tip = project(wrist.translation + 0.09 * wrist.rotation[:, axis], camera)
        if np.linalg.norm(tip - origin) > 20:
            parts += _arrow(origin, tip, axis)
        else:  # towards the viewer
            u, v = origin
            colour = _AXES[axis][1]
            parts += [
                f'<circle cx="{u:.1f}" cy="{v:.1f}" r="8" fill="white" stroke="{colour}" '
                'stroke-width="2"/>',
                f'<circle cx="{u:.1f}" cy="{v:.1f}" r="3" fill="{colour}"/>',
                _text(u + 12, v + 20, f"{_AXES[axis][0]} (at you)", colour=colour),
            ]
    return parts


def _arrow(start: np.ndarray, end: np.ndarray, axis: int) -> list[str]:
    name, colour = _AXES[axis]
    start, end = np.asarray(start, float), np.asarray(end, float)
    along = (end - start) / np.linalg.norm(end - start)
    across = np.array([-along[1], along[0]])
    head = [end, end - 12 * along + 5 * across, end - 12 * along - 5 * across]
    points = " ".join(f"{u:.1f},{v:.1f}" for u, v in head)
    label = end + 12 * along
    return [
        f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" '
        f'stroke="{colour}" stroke-width="3"/>',
        f'<polygon points="{points}" fill="{colour}"/>',
        _text(label[0] - 4, label[1] + 5, name, colour=colour),
    ]


def _text(x: float, y: float, text: str, size: int = 14, colour: str = "#222") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{colour}">{text}</text>'


def main() -> None:
    bgr = cv2.cvtColor(joints_figure(), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(IMAGES / "joints.png"), bgr, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    (IMAGES / "frames.svg").write_text(frames_figure(), encoding="utf-8")


if __name__ == "__main__":
    main()
