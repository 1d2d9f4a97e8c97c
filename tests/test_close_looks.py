"""Networks of whole images read hands again in windows about them."""

from dataclasses import replace

import numpy as np
import pytest
from open_hand import make_hand
from shipped_clip import joint_errors, shipped_clip

from hand_perception import close_looks
from hand_perception.close_looks import LEAST_SCORE, WORTH, read_closely
from hand_perception.hands import Reconstruction, Side
from hand_perception.reconstructor import HandReconstructor
from hand_perception.view import View
from hand_perception.windows import close_window

IMAGE = np.zeros((720, 1280, 3), np.uint8)


def odds(p):
    return p / (1 - p)


def small(score: float, x: float = 600.0) -> object:
    """A hand of a hundred pixels."""
    hand = make_hand(at=(0.1, 0.0, 0.7))
    keypoints = hand.keypoints2d - hand.keypoints2d.min(0)
    keypoints = keypoints / np.ptp(keypoints, axis=0).max() * 100 + (x, 300)
    box = np.concatenate([keypoints.min(0), keypoints.max(0)])
    return replace(hand, keypoints2d=keypoints, box=box, score=score)


class Looks:
    """Answers looks in their order, and remembers what was asked."""

    def __init__(self, *answers) -> None:
        self.answers, self.asked = list(answers), []

    def __call__(self, view: View) -> Reconstruction:
        assert view.boxes is None
        self.asked.append(view)
        return Reconstruction(self.answers[len(self.asked) - 1], {"detector": 2.0})


def test_a_closer_look_tells_where_a_hand_is_and_both_how_sure_that_is():
    far = small(0.6)
    near = replace(small(0.9, 601), confidences=np.full(21, 0.45))
    looks = Looks([far], [small(0.99, 900), near])
    result = read_closely(looks, View(IMAGE, None, 0.5))
    (seen,) = result.hands
    np.testing.assert_array_equal(seen.keypoints2d, near.keypoints2d)
    assert odds(seen.score) == pytest.approx((odds(0.6) * odds(0.9)) ** 0.5)
    np.testing.assert_allclose(seen.confidences, 0.45 * seen.score / 0.9)
    whole, close = looks.asked
    assert whole.window is None and whole.score_threshold == WORTH * 0.5
    assert close.window == close_window(far.box[None], 1280, 720)
    assert close.score_threshold == LEAST_SCORE
    assert result.stage_ms == {"detector": 4.0}


@pytest.mark.parametrize("elsewhere", [[], [0.99]])
def test_a_hand_that_a_closer_look_does_not_find_is_hardly_one(elsewhere):
    looks = Looks([small(0.9)], [small(score, 900) for score in elsewhere])
    (gone,) = read_closely(looks, View(IMAGE, None, 0.1)).hands
    np.testing.assert_array_equal(gone.keypoints2d, small(0.9).keypoints2d)
    assert odds(gone.score) == pytest.approx((odds(0.9) * odds(0.01)) ** 0.5)
    looks = Looks([small(0.9)], [])
    assert not read_closely(looks, View(IMAGE, None, 0.5)).hands


def test_a_candidate_may_become_a_hand():
    (hand,) = read_closely(Looks([small(0.2)], [small(0.9)]), View(IMAGE, None, 0.5)).hands
    assert odds(hand.score) == pytest.approx((odds(0.2) * odds(0.9)) ** 0.5)


def test_what_was_seen_as_large_as_in_its_window_is_not_looked_at_again():
    hand = make_hand()
    large = replace(hand, box=np.array([300.0, 200, 720, 600]))
    looks = Looks([large])
    assert read_closely(looks, View(IMAGE)).hands == [large] and len(looks.asked) == 1
    # Of a look in a window that is what is as large in the window.
    window = (400, 200, 720, 520)
    looks = Looks([small(0.9)])
    assert len(read_closely(looks, View(IMAGE, window=window)).hands) == 1
    assert [view.window for view in looks.asked] == [window]


def test_hands_that_are_known_are_read_in_their_windows_alone():
    here, there = small(0.6), small(0.7, 100)
    boxes = np.array([small(0.0, 610).box, small(0.0, 110).box])
    # What else a window shows is for looks to find.
    looks = Looks([small(0.8, 700), here], [there])
    hands = read_closely(looks, View(IMAGE, None, 0.5, boxes)).hands
    assert [h.box.tolist() for h in hands] == [there.box.tolist(), here.box.tolist()]
    assert [view.window for view in looks.asked] == [
        close_window(box[None], 1280, 720) for box in boxes
    ]
    assert [view.score_threshold for view in looks.asked] == [0.5, 0.5]
    assert not read_closely(Looks([], []), View(IMAGE, None, 0.5, boxes)).hands


def test_known_hands_that_a_look_finds_are_no_others():
    boxes = np.array([small(0.0, 601).box, small(0.0, 100).box])
    window = (0, 0, 1280, 720)
    looks = Looks([small(0.9)], [small(0.9)], [small(0.6, 101)])
    hands = read_closely(looks, View(IMAGE, None, 0.5, boxes, window)).hands
    assert sorted(h.box[0] for h in hands) == pytest.approx([101, 600])
    assert len(looks.asked) == 3


def test_two_neighbours_are_read_in_one_window():
    left, right = small(0.9, 500), replace(small(0.8, 610), side=Side.LEFT)
    looks = Looks([left, right], [left, right])
    assert len(read_closely(looks, View(IMAGE)).hands) == 2
    assert len(looks.asked) == 2


@pytest.fixture(scope="module")
def handos():
    return HandReconstructor.from_pretrained("handos_s", threads=1, backend="onnxruntime")


def once(handos, monkeypatch):
    """As it reads each picture in one look."""
    monkeypatch.setattr(
        close_looks,
        "windows_about",
        lambda boxes, width, height: [((0, 0, width, height), [k]) for k in range(len(boxes))],
    )
    return handos


def test_hands_are_read_better_in_windows(handos, monkeypatch):
    clip = shipped_clip(every=15)
    close = joint_errors(handos, clip)
    whole = joint_errors(once(handos, monkeypatch), clip)
    assert len(close) >= len(whole) > 5
    assert np.median(close) < np.median(whole)


def test_and_those_that_fill_the_image_from_further_away(handos, monkeypatch):
    clip, pictures, joints = shipped_clip(every=15), [], []
    for frame, hands in zip(clip[0], clip[2], strict=True):
        for hand in hands:
            low, high = hand.min(0), hand.max(0)
            if np.isfinite(hand).all() and (low >= 0).all() and (high < (640, 480)).all():
                margin = 0.1 * (high - low).max()
                x0, y0 = np.maximum(low - margin, 0).astype(int)
                x1, y1 = np.ceil(high + margin).astype(int)
                pictures.append(np.ascontiguousarray(frame[y0:y1, x0:x1]))
                joints.append([hand - (x0, y0)])
    filled = pictures, None, joints
    far = joint_errors(handos, filled)
    whole = joint_errors(once(handos, monkeypatch), filled)
    assert len(far) >= len(whole) > 5
    assert np.median(far) < np.median(whole)
