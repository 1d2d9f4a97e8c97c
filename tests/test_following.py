import cv2
import numpy as np
import pytest
from shipped_clip import shipped_clip

from hand_perception.following import FollowingReconstructor, joint_box
from hand_perception.geometry import box_iou
from hand_perception.reconstructor import HandReconstructor, View

# Of the clip, a second in which one hand moves slowly.
FIRST, COUNT = 30, 12


@pytest.fixture(scope="module")
def engine():
    return HandReconstructor.from_pretrained("mobrecon", threads=1, backend="onnxruntime")


@pytest.fixture(scope="module")
def frames():
    return shipped_clip(every=1)[0][FIRST : FIRST + COUNT]


def looked(result) -> bool:
    return "detector" in result.stage_ms


def test_the_detector_looks_on_every_nth_frame_and_hands_are_the_same(engine, frames):
    following = FollowingReconstructor(engine, detect_every=4)
    followed = [following(frame) for frame in frames]
    assert [looked(r) for r in followed] == [k % 4 == 0 for k in range(COUNT)]
    for frame, result in zip(frames, followed, strict=True):
        alone = engine(frame).hands
        assert len(alone) == len(result.hands)
        boxes = (
            np.array([joint_box(h) for h in alone]),
            np.array([joint_box(h) for h in result.hands]),
        )
        # The same hands, read in crops that differ by the detector's error and by one frame.
        assert (box_iou(*boxes).max(1) > 0.6).all()


def test_a_lost_hand_makes_the_detector_look_at_once(engine, frames):
    following = FollowingReconstructor(engine, detect_every=60)
    assert looked(following(frames[0])) and not looked(following(frames[1]))
    empty = np.full_like(frames[0], 90)
    result = following(empty)
    assert looked(result) and not result.hands
    # Without hands there is nothing to follow.
    assert looked(following(empty))


def test_another_size_starts_anew(engine, frames):
    following = FollowingReconstructor(engine, detect_every=60)
    following(frames[0])
    half = cv2.resize(frames[1], None, fx=0.5, fy=0.5)
    assert looked(following(half)) and not looked(following(half))


def test_networks_that_read_features_always_look(frames):
    handos = HandReconstructor.from_pretrained("handos_s", threads=1, backend="onnxruntime")
    following = FollowingReconstructor(handos, detect_every=60)
    assert all(looked(following(frame)) for frame in frames[:3])
    assert following.topology is handos.topology and following.identity == handos.identity


def test_cameras_that_are_read_together_are_each_followed_as_if_alone(engine, frames):
    """One whose hands stay, one that loses them, one that looks always."""
    empty = np.full_like(frames[0], 90)
    films = frames[:4], [frames[0], empty, frames[1], frames[2]], frames[4:8]
    pace = 60, 60, 1
    together = [FollowingReconstructor(engine, n) for n in pace]
    alone = [FollowingReconstructor(engine, n) for n in pace]
    for images in zip(*films, strict=True):
        results = FollowingReconstructor.together(together, [View(image) for image in images])
        expected = [own(image) for own, image in zip(alone, images, strict=True)]
        for found, wanted in zip(results, expected, strict=True):
            assert len(found.hands) == len(wanted.hands) and looked(found) == looked(wanted)
            for hand, other in zip(found.hands, wanted.hands, strict=True):
                np.testing.assert_array_equal(hand.vertices, other.vertices)
