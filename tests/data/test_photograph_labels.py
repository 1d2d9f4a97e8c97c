import json

import numpy as np
import pytest

from hand_perception.data.photograph_labels import read_photographs
from hand_perception.errors import DataError
from hand_perception.hands import Side

DIAGONAL = np.linspace((0, 0), (100, 50), 21)


HAND = {
    "keypoints2d": DIAGONAL.tolist(),
    "box": [0, 0, 100, 50],
    "handedness": "Left",
    "handedness_reliable": True,
    "reliability": "medium",
}
ROW = {
    "file": "images/a.webp",
    "set": "s",
    "split": "val",
    "hands": [HAND],
    "ignore_boxes": [{"box": [1, 2, 3, 4], "reason": "covered"}],
    "boxes_exhaustive": True,
    "negative": False,
}


def test_reads_the_layout(tmp_path):
    other = ROW | {"split": "train"}
    (tmp_path / "labels.jsonl").write_text(f"{json.dumps(ROW)}\n{json.dumps(other)}\n")
    (photo,) = read_photographs(tmp_path)
    assert photo.hands[0].side is Side.LEFT and not photo.hands[0].reliable
    assert photo.hands[0].world is None
    np.testing.assert_array_equal(photo.ignore_boxes, [(1, 2, 3, 4)])
    assert photo.stretched is None


@pytest.mark.parametrize("count, known", [(1, True), (2, False), (0, False)])
def test_a_sign_in_the_path_tells_the_fingers_of_the_only_hand(count, known, tmp_path):
    sign = {"set": "rps_cv", "source": "rps_cv/data/scissors/a.png", "hands": [HAND] * count}
    (tmp_path / "labels.jsonl").write_text(json.dumps(ROW | sign))
    (photo,) = read_photographs(tmp_path)
    assert photo.stretched == ((True, True, False, False) if known else None)


@pytest.mark.parametrize("content", [None, "not json", '{"file": "a", "split": "val"}', "[]", ""])
def test_other_layouts_are_errors(content, tmp_path):
    if content is not None:
        (tmp_path / "labels.jsonl").write_text(content)
    with pytest.raises(DataError, match="check the folder"):
        read_photographs(tmp_path)
