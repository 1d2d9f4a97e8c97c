"""A file with the layout of MANO_RIGHT.pkl that holds our own template with made-up bases."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import scipy.sparse

from hand_perception.data.mano import JOINT_ORDER
from hand_perception.template import KEYPOINT_OF_JOINT, load_template


def mano_content() -> dict:
    template, rng = load_template(), np.random.default_rng(5)
    weights, regressor = np.zeros((778, 16)), np.zeros((16, 778))
    weights[:, list(JOINT_ORDER)] = template.weights
    regressor[list(JOINT_ORDER)] = template.regressor[list(KEYPOINT_OF_JOINT)]
    vertices = template.vertices.astype(np.float64)
    # Shapes: a little longer, wider, thicker in turns; poses: little bumps.
    shapes = np.stack([vertices * rng.normal(0, 0.02, 3) for _ in range(10)], -1)
    return {
        "v_template": vertices,
        "f": template.faces.astype(np.uint32),
        "weights": weights,
        "J_regressor": scipy.sparse.csc_matrix(regressor),
        "shapedirs": shapes,
        "posedirs": rng.normal(0, 1e-4, (778, 3, 135)),
        "hands_mean": rng.normal(0, 0.1, 45),
        "hands_components": np.linalg.qr(rng.normal(size=(45, 45)))[0],
    }


def write_mano(path: Path) -> Path:
    path.write_bytes(pickle.dumps(mano_content(), protocol=2))
    return path
