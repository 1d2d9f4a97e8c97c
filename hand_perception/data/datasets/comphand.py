"""CompHand, MobRecon's complement data (Chen et al. 2022): rendered hands, MANO meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hand_perception.data.datasets.files import Release, camera_of, hand_in_space, together
from hand_perception.data.mano import ManoTemplate
from hand_perception.data.sample import Sample
from hand_perception.errors import DataError
from hand_perception.hands import NUM_VERTICES, Side
from hand_perception.imaging import read_image

SPLITS = {"train": "train"}
# The one camera of the set, of its mirrored pictures.
K = np.array([[373.3511425, 0, 128], [0, 373.3511425, 128], [0, 0, 1]])


class CompHand:
    """Pictures ``BASE/pic256/POSE/VIEW/NAME.N.png`` and meshes ``BASE/model_mano/POSE/N.obj``.

    Both are stored mirrored; as MobRecon does, they are turned back, x to -x, into right hands.
    Joints are MANO's of the mesh, so that the user's MANO file is needed.
    """

    def __init__(self, root: Path, split: str = "train", mano: ManoTemplate | None = None) -> None:
        self._release = Release(
            Path(root),
            "CompHand",
            "*/pic256 and */model_mano",
            "https://github.com/SeanChenxy/HandMesh (complement_data.md)",
        )
        if mano is None:
            raise DataError(
                "CompHand has meshes but no joints: give your MANO_RIGHT.pkl, from "
                "mano.is.tue.mpg.de, with --mano"
            )
        self._regressor = mano.regressor.astype(np.float64)
        self._files = sorted(self._release.path().glob("**/pic256/**/*.png"))
        if not self._files:
            self._release.path("base_pose", "pic256")

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        path = self._files[index]
        relative = path.relative_to(self._release.root)
        parts = ["model_mano" if part == "pic256" else part for part in relative.parts[:-2]]
        number = relative.name.split(".")[1]
        vertices = self._vertices(self._release.path(*parts, f"{number}.obj")) * (-1, 1, 1)
        image = np.ascontiguousarray(read_image(path)[:, ::-1])
        camera = camera_of(K, image)
        hand = hand_in_space(self._regressor @ vertices, Side.RIGHT, camera, vertices)
        return Sample(image, camera, together([hand]), topology="mano", name=str(relative))

    @staticmethod
    def _vertices(path: Path) -> np.ndarray:
        rows = [line.split()[1:4] for line in path.read_text().splitlines() if line[:2] == "v "]
        try:
            vertices = np.array(rows, np.float64).reshape(NUM_VERTICES, 3)
        except ValueError as error:
            raise DataError(f"{path} is no mesh of {NUM_VERTICES} vertices ({error})") from error
        return vertices
