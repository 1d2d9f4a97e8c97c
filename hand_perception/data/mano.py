"""MANO's template from the user's own MANO_RIGHT.pkl (licensed: mano.is.tue.mpg.de).

The official file is a Python pickle with SciPy and chumpy objects. It is read with an allow-list:
arrays, sparse matrices and chumpy variables (as plain arrays; chumpy is not needed). Anything else
in the pickle is refused before it can run.
"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hand_perception.errors import DataError
from hand_perception.hands import NUM_KEYPOINTS
from hand_perception.template import (
    KEYPOINT_OF_JOINT,
    PARENTS,
    TIP_KEYPOINTS,
    Template,
    check_template,
)

# MANO orders its joints wrist, index, middle, pinky, ring, thumb; the Template's order is ours.
JOINT_ORDER = (0, 13, 14, 15, 1, 2, 3, 4, 5, 6, 10, 11, 12, 7, 8, 9)
# Fingertips, thumb to pinky, as SMPL-X and FreiHAND take them.
TIP_VERTICES = (744, 320, 443, 554, 671)


@dataclass(frozen=True)
class ManoTemplate(Template):
    """A Template with MANO's deformation bases (Romero et al. 2017).

    shape_basis: [V, 3, 10] metres per standard deviation. pose_basis: [V, 3, 135], by the entries
    of R - I of the 15 finger joints in the Template's joint order. MANO's joints have no anatomical
    axes: joint_frames are identities.
    """

    shape_basis: np.ndarray
    pose_basis: np.ndarray


class _ChumpyVariable:
    """Stands in for chumpy.Ch: keeps the state, whose ``x`` is the array."""

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)


class _SparseMatrix(_ChumpyVariable):
    """Stands in for scipy.sparse.csc_matrix: data, indices, indptr and _shape."""

    def dense(self) -> np.ndarray:
        rows, columns = self._shape if "_shape" in self.__dict__ else self.shape
        matrix = np.zeros((rows, columns))
        column = np.repeat(np.arange(columns), np.diff(self.indptr))
        np.add.at(matrix, (self.indices, column), self.data)
        return matrix


def _copy_reconstruct(cls: type, base: type, state: object) -> object:
    """copyreg._reconstructor for our two stand-ins only."""
    if cls not in (_ChumpyVariable, _SparseMatrix) or base is not object:
        raise pickle.UnpicklingError(f"refused to rebuild {cls!r}")
    return object.__new__(cls)


def _encode(text: str, encoding: str) -> bytes:
    """_codecs.encode as Python 2's byte strings need it."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"refused encoding {encoding!r}")
    return text.encode("latin1")


_ALLOWED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    ("copy_reg", "_reconstructor"): _copy_reconstruct,
    ("copyreg", "_reconstructor"): _copy_reconstruct,
    ("__builtin__", "object"): object,
    ("builtins", "object"): object,
}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _ALLOWED[_module, "_reconstruct"] = np.empty(0).__reduce__()[0]
    _ALLOWED[_module, "scalar"] = np.float64(0).__reduce__()[0]
for _module in ("scipy.sparse.csc", "scipy.sparse._csc"):
    _ALLOWED[_module, "csc_matrix"] = _SparseMatrix
for _module in ("chumpy.ch", "chumpy"):
    _ALLOWED[_module, "Ch"] = _ChumpyVariable
# MANO files keep the template and the bases as these chumpy nodes.
for _module, _name in (("chumpy.reordering", "Select"), ("chumpy.reordering", "transpose")):
    _ALLOWED[_module, _name] = _ChumpyVariable


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"refused {module}.{name}") from None


def _array(value: object) -> np.ndarray:
    if isinstance(value, _SparseMatrix):
        return value.dense()
    if isinstance(value, _ChumpyVariable):
        state = value.__dict__
        if "x" in state:
            return _array(state["x"])
        if "a" in state and "idxs" in state:  # chumpy's Select: entries of another variable
            shape = state.get("preferred_shape")
            chosen = _array(state["a"]).ravel()[_array(state["idxs"])]
            return chosen if shape is None else chosen.reshape(shape)
    return np.asarray(value)


def load_mano(path: str | Path) -> ManoTemplate:
    """Reads MANO_RIGHT.pkl.

    Raises DataError when the file is missing, is no MANO model, holds a left hand's or unsafe
    content.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="latin1").load()
        if not isinstance(content, dict):
            raise ValueError("it holds no dictionary")
        arrays = {
            key: _array(content[key]).astype(np.float32)
            for key in ("v_template", "weights", "J_regressor", "shapedirs", "posedirs")
        }
        faces = _array(content["f"]).astype(np.int32)
        template = _to_template(arrays, faces)
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


def _to_template(arrays: dict[str, np.ndarray], faces: np.ndarray) -> ManoTemplate:
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
    )
