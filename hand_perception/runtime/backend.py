"""What every inference backend offers, and the model folder they read.

A model folder holds ``detector.onnx``, ``decoder.onnx`` and ``model.json``. The JSON names the
image size, the normalisation, the mesh topology and the SHA-256 of each file, so that a corrupt or
mixed-up file is refused rather than run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hand_perception.errors import ModelError

MODELS = Path(__file__).parent.parent / "assets" / "models"
GRAPHS = ("detector.onnx", "decoder.onnx")
# T^NMS where a card does not say: boxes that overlap more are one hand.
NMS_IOU = 0.6


@dataclass
class Detected:
    """boxes [Q, 4] cx, cy, w, h in 0..1 of the canvas; scores [Q].
    features: what else the decoder reads (instances [Q, 2d] = [Q0, Q6] and feature maps), in the
    backend's own memory. All of it holds until the backend detects again."""

    boxes: np.ndarray
    scores: np.ndarray
    features: Any


@dataclass
class Decoded:
    """For H hands: joints2d [H, 21, 2] in 0..1 of the canvas; vertices [H, 778, 3] in metres about
    the middle MCP, camera axes; camera [H, 3]: the camera head's numbers; presence [H] in 0..1:
    whether there is a hand at all.

    Of a network with an opinion on it: right [H] in 0..1, whether it is a right hand. Of one that
    reads crops: gaze [H, 2], the point in 0..1 of the canvas at which the camera looks whose axes
    the vertices have. Of one that tells how far off it may be, per axis and on average: spread2d
    [H, 21] of each 2D joint, in 0..1 of the canvas; spread3d [H] of the vertices, in metres.
    """

    joints2d: np.ndarray
    vertices: np.ndarray
    camera: np.ndarray
    presence: np.ndarray
    right: np.ndarray | None = None
    gaze: np.ndarray | None = None
    spread2d: np.ndarray | None = None
    spread3d: np.ndarray | None = None


DECODED = ("joints2d", "vertices", "camera", "presence")
# Of networks that tell how far off they may be: each 2D joint, and the mesh.
SPREADS = ("spread2d", "spread3d")


def outputs_among(always: tuple[str, ...], names: Container[str]) -> tuple[str, ...]:
    """What to read of a decoder's graph that has tensors of these names, of which it always has
    some: those, and the opinions that it has beside them."""
    return always + tuple(n for n in ("right", *SPREADS) if n in names and n not in always)


class Backend(Protocol):
    """Runs one model. Not thread-safe: one thread at a time.

    identity: model, precision and engine in one line; with `auto`, also why this one was taken.
    images_at_once: how many images it reads in one go; those that read more than one are a
    `runtime.crops.CropBackend`.
    """

    identity: str
    images_at_once: int

    def prepare(self, image: np.ndarray) -> Any:
        """RGB uint8 [H, W, 3] -> what `detect` takes: the normalised canvas, where the backend
        wants it. Raises ImageError as `imaging.letterbox` does."""
        ...

    def detect(self, prepared: Any) -> Detected: ...

    def decode(self, detected: Detected, chosen: np.ndarray) -> Decoded:
        """chosen: indices [H] of queries; H is at least one."""
        ...


# Of one image: what the detector found, and which queries [H] of it to decode.
Job = tuple[Detected, np.ndarray]


def detect_all(backend: Backend, prepared: Sequence[Any]) -> list[Detected]:
    """Of images_at_once images at most."""
    if len(prepared) > 1:
        return backend.detect_together(prepared)
    return [backend.detect(one) for one in prepared]


def decode_all(backend: Backend, jobs: Sequence[Job]) -> list[Decoded | None]:
    """One for each job, None for one of no hands."""
    seen = [job for job in jobs if len(job[1])]
    if len(seen) > 1:
        decoded = iter(backend.decode_together(seen))
    else:
        decoded = (backend.decode(*job) for job in seen)
    return [next(decoded) if len(chosen) else None for _, chosen in jobs]


@dataclass(frozen=True)
class ModelFolder:
    """A checked model folder. network: "handos", whose decoder reads the detector's features, or
    "mobrecon" or "handar", whose decoder reads crops of the image. ``card`` is the whole of
    model.json; score_calibration: the arguments of postprocess.ScoreCalibration, none before
    `calibrate`; nms_iou: T^NMS (HandOS 4.1); fit_pose: whether meshes are the posed template.
    """

    path: Path
    name: str
    network: str
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    topology: str
    score_calibration: tuple[float, ...]
    nms_iou: float
    fit_pose: bool
    card: dict

    @property
    def template(self) -> str | Path:
        """What load_template takes for the topology: a file in this folder, or a shipped name."""
        own = self.path / f"{self.topology}.npz"
        return own if own.is_file() else self.topology

    @classmethod
    def open(cls, name_or_path: str | Path) -> ModelFolder:
        """A shipped model by name, or a folder. Raises ModelError naming what is wrong."""
        path = MODELS / str(name_or_path)
        if not path.is_dir():
            path = Path(name_or_path)
        if not path.is_dir():
            shipped = sorted(p.name for p in MODELS.glob("*") if p.is_dir())
            raise ModelError(
                f"no model {str(name_or_path)!r}: use one of {shipped} or a folder that "
                "`hand-perception export` wrote"
            )
        try:
            card = json.loads((path / "model.json").read_text())
            folder = cls(
                path,
                card["name"],
                card.get("network", "handos"),
                int(card["image_size"]),
                tuple(card["mean"]),
                tuple(card["std"]),
                card["topology"],
                tuple(card.get("score_calibration", ())),
                float(card.get("nms_iou", NMS_IOU)),
                bool(card.get("fit_pose", False)),
                card,
            )
            hashes = card["sha256"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{path / 'model.json'} is missing or unreadable ({error!r}): reinstall the model"
            ) from error
        for graph in GRAPHS:
            check_file(path / graph, hashes.get(graph, ""))
        return folder


def check_file(path: Path, sha256: str) -> None:
    """Raises ModelError unless the file is there and has that hash."""
    if not path.is_file():
        raise ModelError(f"{path} is missing: reinstall the model or export it again")
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise ModelError(
            f"{path} is corrupt or belongs to another model (its SHA-256 differs from "
            "model.json): reinstall the model or export it again"
        )
