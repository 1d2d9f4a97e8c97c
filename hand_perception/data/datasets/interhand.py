"""InterHand2.6M (Moon et al. 2020): one or two hands before a dome of cameras."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from hand_perception.data.datasets.files import (
    Release,
    camera_of,
    hand_in_space,
    mesh_of_parameters,
    together,
    without_hands_outside,
)
from hand_perception.data.mano import ManoTemplate, mean_fingers
from hand_perception.data.sample import HandLabels, Sample
from hand_perception.errors import DataError
from hand_perception.hands import Camera, Side
from hand_perception.imaging import read_image

SPLITS = {"train": "train", "val": "val", "test": "test"}
# Each finger from its tip to its root, then the wrist; the right hand's 21 come first.
JOINTS = (20, *(4 * f + k for f in range(5) for k in (3, 2, 1, 0)))
SIDES = ((Side.RIGHT, slice(0, 21)), (Side.LEFT, slice(21, 42)))
_MM = 1e-3


class InterHand:
    """``annotations/train/InterHand2.6M_train_data.json`` and its siblings (camera, joint_3d and,
    where they are, MANO_NeuralAnnot) beside ``images/train``. The world is in millimetres.
    """

    def __init__(self, root: Path, split: str = "train", mano: ManoTemplate | None = None) -> None:
        self._set, self._mano = SPLITS[split], mano
        self._release = Release(
            Path(root),
            "InterHand2.6M",
            f"images/{self._set} and annotations/{self._set}/InterHand2.6M_{self._set}_data.json, "
            "_camera.json and _joint_3d.json",
            "https://mks0601.github.io/InterHand2.6M",
        )
        self._release.path("images", self._set)
        data = self._annotations("data")
        self._cameras, self._joints = self._annotations("camera"), self._annotations("joint_3d")
        self._parameters = self._annotations("MANO_NeuralAnnot") if mano is not None else {}
        labels = defaultdict(list)
        for label in data["annotations"]:
            labels[label["image_id"]].append(label)
        self._images = [(row, labels[row["id"]]) for row in data["images"] if labels[row["id"]]]

    def _annotations(self, what: str) -> dict:
        name = f"InterHand2.6M_{self._set}_{what}.json"
        return self._release.json("annotations", self._set, name)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        row, labels = self._images[index]
        name = row["file_name"]
        image = read_image(self._release.root / "images" / self._set / name)
        capture, view, frame = (str(row[key]) for key in ("capture", "camera", "frame_idx"))
        try:
            camera, to_camera = self._camera(capture, view, image)
            hands = [
                hand
                for label in labels
                for hand in self._hands(label, capture, frame, camera, to_camera)
            ]
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DataError(f"{name}: its labels are not InterHand2.6M's ({error!r})") from error
        sample = Sample(image, camera, together(hands), topology="mano", name=name)
        return without_hands_outside(sample)

    def _camera(self, capture: str, view: str, image: np.ndarray) -> tuple[Camera, np.ndarray]:
        """The camera and [3, 4], from the world in metres to its frame."""
        numbers = {
            key: np.array(value[view], float) for key, value in self._cameras[capture].items()
        }
        (fx, fy), (cx, cy) = numbers["focal"].ravel(), numbers["princpt"].ravel()
        camera = camera_of(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), image)
        rotation = numbers["camrot"].reshape(3, 3)
        shift = -rotation @ numbers["campos"].ravel() * _MM
        return camera, np.concatenate([rotation, shift[:, None]], 1)

    def _hands(
        self, label: dict, capture: str, frame: str, camera: Camera, to_camera: np.ndarray
    ) -> list[HandLabels]:
        world = np.array(self._joints[capture][frame]["world_coord"], float).reshape(42, 3) * _MM
        points = world @ to_camera[:, :3].T + to_camera[:, 3]
        valid = np.array(label["joint_valid"], float).ravel() > 0
        hands = []
        for side, rows in SIDES:
            joints, known = points[rows][list(JOINTS)], valid[rows][list(JOINTS)]
            if known.any():
                vertices = self._vertices(capture, frame, side, joints, known, to_camera)
                hands.append(hand_in_space(joints, side, camera, vertices, known))
        return hands

    def _vertices(
        self,
        capture: str,
        frame: str,
        side: Side,
        joints: np.ndarray,
        known: np.ndarray,
        to_camera: np.ndarray,
    ) -> np.ndarray | None:
        fit = self._parameters.get(capture, {}).get(frame, {}).get(side.value)
        if fit is None:
            return None
        pose = np.array(fit["pose"], float).ravel()
        # The fingers are counted from MANO's mean pose.
        pose[3:] += mean_fingers(self._mano, side)
        goal = np.where(known[:, None], joints, np.nan)
        shape, translation = (np.array(fit[key], float).ravel() for key in ("shape", "trans"))
        return mesh_of_parameters(self._mano, pose, shape, translation, side, goal, to_camera)
