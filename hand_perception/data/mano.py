"""MANO's template from the user's own MANO_RIGHT.pkl (licensed: mano.is.tue.mpg.de).

The left hand is the right one's mirror image, so that the one file serves both.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from hand_perception.data.pickles import as_array, read_pickle
from hand_perception.errors import DataError
from hand_perception.hands import NUM_KEYPOINTS, Side
from hand_perception.mano_pose import JOINT_ORDER
from hand_perception.template import (
    KEYPOINT_OF_JOINT,
    PARENTS,
    TIP_KEYPOINTS,
    Template,
    check_template,
)

# Fingertips, thumb to pinky, as SMPL-X and FreiHAND take them.
TIP_VERTICES = (744, 320, 443, 554, 671)


@dataclass(frozen=True)
class ManoTemplate(Template):
    """A Template with MANO's deformation bases (Romero et al. 2017).

    shape_basis: [V, 3, 10] metres per standard deviation. pose_basis: [V, 3, 135], by the entries
    of R - I of the 15 finger joints in the Template's joint order. MANO's joints have no anatomical
    axes: joint_frames are identities. mean_pose [45] and pose_components [45, 45]: of the fingers
    in MANO's joint order, None where the file has none.
    """

    shape_basis: np.ndarray
    pose_basis: np.ndarray
    mean_pose: np.ndarray | None = None
    pose_components: np.ndarray | None = None


@lru_cache(maxsize=2)
def load_mano(path: str | Path) -> ManoTemplate:
    """Reads MANO_RIGHT.pkl.

    Raises DataError when the file is missing, is no MANO model, holds a left hand's or unsafe
    content.
    """
    path = Path(path)
    try:
        content = read_pickle(path)
        if not isinstance(content, dict):
            raise ValueError("it holds no dictionary")
        arrays = {
            key: as_array(content[key]).astype(np.float32)
            for key in ("v_template", "weights", "J_regressor", "shapedirs", "posedirs")
        }
        faces = as_array(content["f"]).astype(np.int32)
        pca = {
            key: as_array(content[key]).astype(np.float32) if key in content else None
            for key in ("hands_mean", "hands_components")
        }
        template = _to_template(arrays, faces, pca)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist: download MANO from mano.is.tue.mpg.de and give the path of "
            "its models/MANO_RIGHT.pkl"
        ) from None
    except Exception as error:  # unpickling a wrong file raises nearly anything
        raise DataError(
            f"{path} is not the official MANO_RIGHT.pkl ({type(error).__name__}: {error})"
        ) from error
    check_template(template, path)
    return template


def _to_template(
    arrays: dict[str, np.ndarray], faces: np.ndarray, pca: dict[str, np.ndarray | None]
) -> ManoTemplate:
    vertices, order = arrays["v_template"], list(JOINT_ORDER)
    count = len(vertices)
    joint_regressor = arrays["J_regressor"][order]
    regressor = np.zeros((NUM_KEYPOINTS, count), np.float32)
    regressor[list(KEYPOINT_OF_JOINT)] = joint_regressor
    regressor[list(TIP_KEYPOINTS), list(TIP_VERTICES)] = 1
    bases = arrays["posedirs"].reshape(count, 3, len(order) - 1, 9)
    bases = bases[:, :, np.array(order[1:]) - 1]
    return ManoTemplate(
        name="mano",
        vertices=vertices,
        faces=faces,
        weights=arrays["weights"][:, order],
        joints=joint_regressor @ vertices,
        joint_frames=np.tile(np.eye(3, dtype=np.float32), (len(order), 1, 1)),
        parents=np.array(PARENTS, np.int32),
        regressor=regressor,
        shape_basis=arrays["shapedirs"],
        pose_basis=bases.reshape(count, 3, -1),
        mean_pose=pca["hands_mean"],
        pose_components=pca["hands_components"],
    )


def save_template(template: Template, path: Path) -> None:
    """As an .npz that ``load_template`` reads, with its own name as the file's."""
    arrays = {f.name: getattr(template, f.name) for f in fields(Template) if f.name != "name"}
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: each process of a training writes it.
    partial = path.with_suffix(f".{os.getpid()}")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    partial.replace(path)


def fingers_from_components(mano: ManoTemplate, coefficients: np.ndarray, side: Side) -> np.ndarray:
    """The fingers' axis-angles [45] of PCA coefficients [45] about the mean pose.

    The left model's components are the right one's, mirrored. Raises DataError when the file has
    none.
    """
    if mano.mean_pose is None or mano.pose_components is None:
        raise DataError("this MANO file lacks hands_components: use the official MANO_RIGHT.pkl")
    fingers = mano.mean_pose + coefficients @ mano.pose_components
    return fingers if side is Side.RIGHT else _mirrored(fingers)


def mean_fingers(mano: ManoTemplate, side: Side) -> np.ndarray:
    """The fingers' mean pose as axis-angles [45], which some releases count from."""
    return fingers_from_components(mano, np.zeros(45), side)


def _mirrored(axis_angles: np.ndarray) -> np.ndarray:
    """Rotations as a mirror across x = 0 sees them."""
    return (axis_angles.reshape(-1, 3) * (1, -1, -1)).reshape(axis_angles.shape)


def posed(
    mano: ManoTemplate,
    pose: np.ndarray,
    shape: np.ndarray,
    translation: np.ndarray,
    side: Side = Side.RIGHT,
    mirrored_shape: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [778, 3] and keypoints [21, 3] of a posed hand, float64 metres (Romero et al. 2017).

    pose: [48] axis-angles in MANO's joint order, the wrist's first; the wrist turns about itself.
    shape: [10]. translation: [3]. Keypoints are the posed joints and, as tips, vertices.
    mirrored_shape: whether a left hand's shape is the right one's mirror image. The published left
    model has its first row of shapedirs unmirrored, and some sets were fitted with it as it is.
    """
    pose, shape = np.asarray(pose, np.float64).reshape(16, 3), np.asarray(shape, np.float64)
    basis = mano.shape_basis.astype(np.float64)
    if side is Side.LEFT:
        pose = _mirrored(pose)
        if not mirrored_shape:
            basis = basis * np.array([-1.0, 1, 1])[:, None]
    shaped = mano.vertices + basis @ shape
    joints = mano.regressor[list(KEYPOINT_OF_JOINT)].astype(np.float64) @ shaped
    turns = Rotation.from_rotvec(pose[list(JOINT_ORDER)]).as_matrix()
    shaped = shaped + mano.pose_basis.astype(np.float64) @ (turns[1:] - np.eye(3)).ravel()
    world, positions = turns.copy(), joints.copy()
    for k, parent in enumerate(PARENTS):
        if parent >= 0:
            world[k] = world[parent] @ turns[k]
            positions[k] = positions[parent] + world[parent] @ (joints[k] - joints[parent])
    offsets = positions - np.einsum("jab,jb->ja", world, joints)
    weights = mano.weights.astype(np.float64)
    vertices = np.einsum("vj,jab,vb->va", weights, world, shaped, optimize=True) + weights @ offsets
    keypoints = np.zeros((NUM_KEYPOINTS, 3))
    keypoints[list(KEYPOINT_OF_JOINT)] = positions
    keypoints[list(TIP_KEYPOINTS)] = vertices[list(TIP_VERTICES)]
    if side is Side.LEFT:
        vertices, keypoints = vertices * (-1, 1, 1), keypoints * (-1, 1, 1)
    return vertices + translation, keypoints + translation
