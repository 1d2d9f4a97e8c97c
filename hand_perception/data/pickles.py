"""Python pickles of published files, read with an allow-list.

MANO and several data sets come as pickles with NumPy, SciPy and chumpy objects. Arrays, sparse
matrices and chumpy variables (as plain arrays; chumpy is not needed) are read; anything else in the
file is refused before it can run.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np


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


def as_array(value: object) -> np.ndarray:
    """A value of a pickle as a plain array."""
    if isinstance(value, _SparseMatrix):
        return value.dense()
    if isinstance(value, _ChumpyVariable):
        state = value.__dict__
        if "x" in state:
            return as_array(state["x"])
        if "a" in state and "idxs" in state:  # chumpy's Select: entries of another variable
            shape = state.get("preferred_shape")
            chosen = as_array(state["a"]).ravel()[as_array(state["idxs"])]
            return chosen if shape is None else chosen.reshape(shape)
    return np.asarray(value)


def read_pickle(path: str | Path) -> Any:
    """Raises OSError when it is missing, UnpicklingError and nearly anything else when it is not
    what it should be: callers name their file's cure.
    """
    with Path(path).open("rb") as file:
        return _Unpickler(file, encoding="latin1").load()
