import argparse

import cv2
import numpy as np
import pytest
from labelled_folder import hand_label, picture_label, write_labels

from hand_perception.evaluation import proposals

HAND = [20, 20, 60, 60]
# Best first: the hand, a part of it, what is ignored, and five more places.
PROPOSED = np.float32(
    [HAND, [20, 20, 45, 45], [100, 0, 130, 30], *([x, 80, x + 15, 95] for x in range(0, 100, 20))]
)


class Proposing:
    def proposals(self, image):
        return PROPOSED


@pytest.fixture
def propose(tmp_path, monkeypatch):
    """Runs the command on labelled pictures and says what it wrote."""
    monkeypatch.setattr(proposals.HandReconstructor, "from_pretrained", lambda name: Proposing())
    hands = [hand_label(np.linspace(HAND[:2], HAND[2:], 21), HAND)]
    ignored = [{"box": [95, 0, 140, 40]}]
    rows = []
    for file, exhaustive in (("whole.png", True), ("part.png", False)):
        cv2.imwrite(str(tmp_path / file), np.zeros((100, 140, 3), np.uint8))
        rows.append(picture_label(file, hands, ignore_boxes=ignored, boxes_exhaustive=exhaustive))
    write_labels(tmp_path, rows)

    def run(*options):
        parser = argparse.ArgumentParser()
        proposals.add_arguments(parser)
        output = tmp_path / "out" / "impostors.npz"
        words = ["m", "--data", str(tmp_path), "--output", str(output), *map(str, options)]
        proposals.run(parser.parse_args(words))
        with np.load(output) as stored:
            return dict(stored)

    return run


def test_hands_their_parts_and_what_is_ignored_are_no_impostors(propose):
    found = propose()
    np.testing.assert_array_equal(found["whole.png"], PROPOSED[3 : 3 + proposals.MOST])


def test_where_hands_may_be_unlabelled_nothing_is_one(propose):
    assert propose()["part.png"].shape == (0, 4)


def test_pictures_without_hands_are_looked_at_by_their_path(propose, tmp_path):
    workcell = tmp_path / "workcell"
    workcell.mkdir()
    cv2.imwrite(str(workcell / "bench.png"), np.zeros((100, 140, 3), np.uint8))
    found = propose("--without-hands", workcell)
    # There even the first is none.
    np.testing.assert_array_equal(found[str(workcell / "bench.png")], PROPOSED[: proposals.MOST])
