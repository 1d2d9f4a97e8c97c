"""DexYCB (Chao et al. 2021): eight cameras around a person who lifts objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hand_perception.data.datasets.files import (
    Release,
    hand_in_space,
    mesh_of_parameters,
    together,
)
from hand_perception.data.mano import ManoTemplate, fingers_from_components
from hand_perception.data.sample import Sample
from hand_perception.errors import DataError
from hand_perception.hands import Camera, Side
from hand_perception.imaging import read_image

SUBJECTS = (
    "20200709-subject-01",
    "20200813-subject-02",
    "20200820-subject-03",
    "20200903-subject-04",
    "20200908-subject-05",
    "20200918-subject-06",
    "20200928-subject-07",
    "20201002-subject-08",
    "20201015-subject-09",
    "20201022-subject-10",
)
SERIALS = (
    "836212060125",
    "839512060362",
    "840412060917",
    "841412060263",
    "932122060857",
    "932122060861",
    "932122061900",
    "932122062010",
)
WIDTH, HEIGHT = 640, 480
SEQUENCES_OF_A_SUBJECT = 100
_SUBJECTS, _CAMERAS = range(10), range(8)


def _every(sequence: int) -> bool:
    return True


# Setup and split: subjects, cameras, and which of a subject's sequences.
SETUPS = {
    "s0_train": (_SUBJECTS, _CAMERAS, lambda k: k % 5 != 4),
    "s0_val": (range(2), _CAMERAS, lambda k: k % 5 == 4),
    "s0_test": (range(2, 10), _CAMERAS, lambda k: k % 5 == 4),
    "s1_train": ((0, 1, 2, 3, 4, 5, 9), _CAMERAS, _every),
    "s1_val": ((6,), _CAMERAS, _every),
    "s1_test": ((7, 8), _CAMERAS, _every),
    "s2_train": (_SUBJECTS, range(6), _every),
    "s2_val": (_SUBJECTS, (6,), _every),
    "s2_test": (_SUBJECTS, (7,), _every),
    "s3_train": (_SUBJECTS, _CAMERAS, lambda k: k // 5 not in (3, 7, 11, 15, 19)),
    "s3_val": (_SUBJECTS, _CAMERAS, lambda k: k // 5 in (3, 19)),
    "s3_test": (_SUBJECTS, _CAMERAS, lambda k: k // 5 in (7, 11, 15)),
}
SPLITS = {"train": "s0_train", "test": "s0_test", **{setup: setup for setup in SETUPS}}


class DexYCB:
    """Split "train" and "test" are those of setup s0 (all seen), which papers report.

    A frame in which the hand is not to be seen (its joints are all -1) is a picture without hands.
    """

    def __init__(self, root: Path, split: str = "train", mano: ManoTemplate | None = None) -> None:
        self._mano = mano
        self._release = Release(
            Path(root),
            "DexYCB",
            "the ten subjects' folders and calibration",
            "https://dex-ycb.github.io",
        )
        subjects, serials, chosen = SETUPS[SPLITS[split]]
        self._serials = [SERIALS[k] for k in serials]
        self._cameras = {serial: self._camera(serial) for serial in self._serials}
        self._sequences: list[tuple[str, dict]] = []
        frames = []
        for subject in (SUBJECTS[k] for k in subjects):
            folders = sorted(p.name for p in self._release.path(subject).iterdir() if p.is_dir())
            if len(folders) != SEQUENCES_OF_A_SUBJECT:
                raise DataError(
                    f"{root}/{subject} has {len(folders)} of {SEQUENCES_OF_A_SUBJECT} sequences, "
                    "by whose numbers DexYCB is split: unpack its archive again"
                )
            for k, folder in enumerate(folders):
                if chosen(k):
                    meta = self._release.yaml(subject, folder, "meta.yml")
                    self._sequences.append((f"{subject}/{folder}", meta))
                    frames.append(len(self._serials) * int(meta["num_frames"]))
        self._ends = np.cumsum(frames)
        self._shapes: dict[str, np.ndarray] = {}

    def _camera(self, serial: str) -> Camera:
        name = f"{serial}_{WIDTH}x{HEIGHT}.yml"
        K = self._release.yaml("calibration", "intrinsics", name)["color"]
        return Camera(K["fx"], K["fy"], K["ppx"], K["ppy"], WIDTH, HEIGHT)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Sample:
        number = int(np.searchsorted(self._ends, index, "right"))
        sequence, meta = self._sequences[number]
        count = len(self._serials) * int(meta["num_frames"])
        view, frame = divmod(index - int(self._ends[number]) + count, int(meta["num_frames"]))
        serial = self._serials[view]
        name = f"{sequence}/{serial}/color_{frame:06d}.jpg"
        image = read_image(self._release.root / name)
        labels = self._release.arrays(*sequence.split("/"), serial, f"labels_{frame:06d}.npz")
        camera, joints = self._cameras[serial], labels["joint_3d"].reshape(21, 3).astype(np.float64)
        hands = []
        if not np.all(joints == -1):
            side = Side(meta["mano_sides"][0])
            vertices = self._vertices(labels["pose_m"].ravel(), meta, side, joints)
            hands = [hand_in_space(joints, side, camera, vertices)]
        return Sample(image, camera, together(hands), topology="mano", name=name)

    def _vertices(
        self, pose: np.ndarray, meta: dict, side: Side, joints: np.ndarray
    ) -> np.ndarray | None:
        if self._mano is None:
            return None
        calibration = f"mano_{meta['mano_calib'][0]}"
        if calibration not in self._shapes:
            betas = self._release.yaml("calibration", calibration, "mano.yml")["betas"]
            self._shapes[calibration] = np.array(betas)
        fingers = fingers_from_components(self._mano, pose[3:48].astype(np.float64), side)
        full = np.concatenate([pose[:3], fingers])
        shape = self._shapes[calibration]
        return mesh_of_parameters(self._mano, full, shape, pose[48:51], side, joints)
