from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from open_hand import CAMERA, TEMPLATE, make_hand

from hand_perception.bags.journal import Journal, JournaledReconstructor, pack, unpack
from hand_perception.errors import DataError
from hand_perception.hands import Hand, Pose, Reconstruction, Side

SETTINGS = {"model": "a", "score_threshold": 0.5}


def assert_same(a: Hand, b: Hand) -> None:
    for field in fields(Hand):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, Pose):
            np.testing.assert_array_equal(left.rotation, right.rotation)
            np.testing.assert_array_equal(left.translation, right.translation)
        elif isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right, strict=True)
        else:
            assert left == right and type(left) is type(right), field.name


def test_hands_come_back_exactly():
    right = replace(make_hand(), score=1 / 3)
    hands = [right, make_hand(Side.LEFT, track_id=7, metric=False)]
    back = unpack(pack(hands))
    for before, after in zip(hands, back, strict=True):
        assert_same(before, after)
    assert unpack(pack([])) == []


class Counting:
    identity, topology = "counting", TEMPLATE

    def __init__(self):
        self.calls = 0

    def __call__(self, image_rgb, camera, *, score_threshold):
        self.calls += 1
        return Reconstruction([replace(make_hand(), score=0.5 + self.calls / 100)])


def run(path, images: int, settings=SETTINGS) -> tuple[list[float], int]:
    counting = Counting()
    with Journal(path, settings) as journal:
        reconstruct = JournaledReconstructor(counting, journal)
        image = np.zeros((480, 640, 3), np.uint8)
        scores = [
            reconstruct(image, CAMERA, score_threshold=0.5).hands[0].score for _ in range(images)
        ]
    return scores, counting.calls


def test_a_second_run_looks_only_at_what_is_new(tmp_path):
    first, calls = run(tmp_path / "journal", 3)
    assert calls == 3
    second, calls = run(tmp_path / "journal", 5)
    assert second[:3] == first and calls == 2


def test_other_settings_begin_anew(tmp_path):
    run(tmp_path / "journal", 3)
    _, calls = run(tmp_path / "journal", 3, {**SETTINGS, "model": "b"})
    assert calls == 3


def test_two_runs_cannot_share_an_output(tmp_path):
    with Journal(tmp_path / "journal", SETTINGS), pytest.raises(DataError, match="another run"):
        Journal(tmp_path / "journal", SETTINGS)


def test_a_hand_with_an_unset_field(tmp_path):
    hand = make_hand()
    optional = [f.name for f in fields(Hand) if getattr(hand, f.name) is None]
    for name in optional:
        filled = replace(hand, **{name: np.eye(3)})
        assert_same(filled, unpack(pack([filled]))[0])
    assert_same(hand, unpack(pack([hand]))[0])
