import json

import cv2
import numpy as np
import pytest
from labelled_folder import hand_label, picture_label, write_labels

from hand_perception.data.photographs import Photographs
from hand_perception.errors import DataError
from hand_perception.template import load_template


@pytest.fixture
def folder(tmp_path):
    """A picture of the template's hand, once with all labels and once with 2D alone, and one
    without a hand."""
    joints = load_template().keypoints
    pixels = joints[:, :2] * 500 + (60, 60)
    hand = hand_label(
        pixels,
        [*pixels.min(0), *pixels.max(0)],
        handedness="Right",
        world=joints.tolist(),
        world_reliable=True,
    )
    rows = [("a", [hand]), ("b", [hand | {"world_reliable": False}]), ("c", [])]
    labels = []
    for name, hands in rows:
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((120, 120, 3), 90, np.uint8))
        labels.append(picture_label(f"{name}.png", hands, boxes_exhaustive=bool(hands)))
    write_labels(tmp_path, labels)
    return tmp_path


def test_photographs_become_samples_with_fitted_meshes(folder, tmp_path):
    cache = tmp_path / "meshes.npz"
    photographs = Photographs.load(folder, "train", load_template(), cache)
    whole, flat, empty = (photographs[k] for k in range(3))
    assert whole.image.shape == (120, 120, 3) and not whole.camera.metric
    assert whole.hands.side.tolist() == [1] and whole.hands.weight3d[0] > 0
    # Labels are the template's own: the fit is limited by its fixed number of steps (see
    # test_mesh_fitting), in units of a hand of 0.19 m.
    truth = load_template().keypoints - load_template().keypoints[9]
    assert np.abs(whole.hands.joints3d[0] - truth).mean() < 0.006
    assert flat.hands.weight3d[0] == 0 and flat.hands.weight2d[0] == 1
    assert len(empty.hands) == 0 and empty.exhaustive
    again = Photographs.load(folder, "train", load_template(), cache)
    np.testing.assert_array_equal(again[0].hands.vertices, whole.hands.vertices)


def test_negatives_are_those_without_hands(folder, tmp_path):
    photographs = Photographs.load(folder, "train", load_template(), tmp_path / "meshes.npz")
    negatives = photographs.negatives()
    assert len(negatives) == 1 and len(negatives[0].hands) == 0


def test_small_sets_are_seen_more_often_than_their_size_asks_for(folder, tmp_path):
    rows = [json.loads(line) for line in (folder / "labels.jsonl").read_text().splitlines()]
    nine = [rows[2] | {"set": "large"}] * 9
    write_labels(folder, [rows[0] | {"set": "small"}, *nine])
    balanced = Photographs.load(folder, "train", load_template(), tmp_path / "m.npz").balanced()
    assert [photograph.set for photograph in balanced.photographs] == ["small"] * 3 + ["large"] * 9
    assert [len(balanced[k].hands) for k in range(4)] == [1, 1, 1, 0]


def test_more_pictures_without_hands_are_negatives_wherever_they_lie(folder, tmp_path):
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    cv2.imwrite(str(workspace / "bench.png"), np.full((80, 90, 3), 30, np.uint8))
    photographs = Photographs.load(folder, "train", load_template(), tmp_path / "meshes.npz")
    photographs.impostors[str(workspace / "bench.png")] = np.float32([[1, 2, 30, 40]])
    labelled, bench = photographs.negatives([workspace])
    assert labelled.image.shape == (120, 120, 3) and bench.image.shape == (80, 90, 3)
    assert not len(bench.hands) and bench.exhaustive
    assert bench.impostor_boxes.tolist() == [[1, 2, 30, 40]]
    assert len(photographs) == 3


def test_an_unreadable_image_is_named(folder, tmp_path):
    photographs = Photographs.load(folder, "train", load_template(), tmp_path / "meshes.npz")
    (folder / "a.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"a\.png"):
        photographs[0]
