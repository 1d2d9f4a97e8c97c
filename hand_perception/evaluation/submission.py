"""The files that the data sets' own evaluation servers and scripts take."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hand_perception.hands import NUM_KEYPOINTS, NUM_VERTICES

# HO-3D's order in ours: MANO's sixteen joints, then the tips from thumb to pinky.
_HO3D_JOINTS = (0, 5, 6, 7, 9, 10, 11, 17, 18, 19, 13, 14, 15, 1, 2, 3, 4, 8, 12, 16, 20)
# From our camera's axes to OpenGL's.
_TO_OPENGL = np.array([1.0, -1, -1])
_MM = 1000.0
# Joints [21, 3] and vertices [778, 3] in metres in the camera's frame; None for a missed hand.
Answer = tuple[np.ndarray, np.ndarray] | None


def write_freihand(folder: Path, answers: Sequence[Answer]) -> Path:
    """``pred.json`` and ``pred.zip`` for https://codalab.lisn.upsaclay.fr/competitions/4268."""
    return _write_pair(folder, [_filled(answer) for answer in answers])


def write_ho3d(folder: Path, answers: Sequence[Answer]) -> Path:
    """``pred.json`` and ``pred.zip``, in HO-3D's joint order and OpenGL's camera frame."""
    filled = (_filled(answer) for answer in answers)
    return _write_pair(
        folder, [(j[list(_HO3D_JOINTS)] * _TO_OPENGL, v * _TO_OPENGL) for j, v in filled]
    )


def write_dexycb(folder: Path, answers: Sequence[Answer]) -> Path:
    """``hpe.txt``, a line a picture: its number, then the joints in millimetres."""
    lines = []
    for index, answer in enumerate(answers):
        numbers = (_filled(answer)[0] * _MM).ravel()
        lines.append(",".join([str(index), *(f"{x:.4f}" for x in numbers)]))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "hpe.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def _filled(answer: Answer) -> tuple[np.ndarray, np.ndarray]:
    """A missed hand is V = 0."""
    if answer is None:
        return np.zeros((NUM_KEYPOINTS, 3)), np.zeros((NUM_VERTICES, 3))
    return answer


def _write_pair(folder: Path, answers: list[tuple[np.ndarray, np.ndarray]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pred.json"
    # To a hundredth of a millimetre: the servers take files of some hundred megabytes at most.
    lists = [[np.round(pair[k], 5).tolist() for pair in answers] for k in (0, 1)]
    path.write_text(json.dumps(lists))
    with zipfile.ZipFile(folder / "pred.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, path.name)
    return path


WRITERS = {
    "freihand": write_freihand,
    "ho3d_v2": write_ho3d,
    "ho3d_v3": write_ho3d,
    "dexycb": write_dexycb,
}
