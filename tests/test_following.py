from dataclasses import replace

import cv2
import numpy as np
import pytest
from shipped_clip import shipped_clip

from hand_perception.following import WITH_HANDS, FollowingReconstructor, joint_box
from hand_perception.geometry import box_iou
from hand_perception.hands import Reconstruction
from hand_perception.reconstructor import HandReconstructor
from hand_perception.view import View
from hand_perception.windows import asked_of_windows

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


def test_a_lost_hand_is_looked_for_in_the_whole_image(engine, frames):
    following = FollowingReconstructor(engine, detect_every=60, detect_zoom=2.0)
    wide = np.pad(frames[0], ((0, 0), (320, 320), (0, 0)), constant_values=90)
    moved = np.roll(wide, 500, axis=1)
    assert following(wide).hands and not looked(following(wide))
    following._looks = WITH_HANDS  # the next would be in a window
    result = following(moved)
    assert looked(result) and len(result.hands) == len(engine(moved).hands)


def test_another_size_starts_anew(engine, frames):
    following = FollowingReconstructor(engine, detect_every=60)
    following(frames[0])
    half = cv2.resize(frames[1], None, fx=0.5, fy=0.5)
    assert looked(following(half)) and not looked(following(half))


def test_networks_of_whole_images_follow_in_windows_about_the_hands(frames):
    handos = HandReconstructor.from_pretrained("handos_s", threads=1, backend="onnxruntime")
    following = FollowingReconstructor(handos, detect_every=3)
    looks, results = [], []
    for frame in frames[:4]:
        view = following._ask(View(frame))
        looks.append(view.looks)
        results.append(handos.together([view])[0])
        assert following._take(view, results[-1])
    assert looks == [True, False, False, True]
    for followed, alone in zip(results[1:3], map(handos, frames[1:3]), strict=True):
        assert len(followed.hands) == len(alone.hands)
        boxes = [np.array([joint_box(h) for h in r.hands]) for r in (followed, alone)]
        assert (box_iou(*boxes).max(1) > 0.6).all()
    # A scene without it: the whole image is looked at again.
    assert not following._ask(View(frames[0])).looks
    assert not following(np.full_like(frames[0], 90)).hands
    assert following._ask(View(frames[0])).looks
    assert following.topology is handos.topology and following.identity == handos.identity


def across_the_room(frames) -> list[np.ndarray]:
    """The clip as a part of a larger image, its hands too small for a look at all of it."""
    large = []
    for frame in frames:
        image = np.full((1080, 1920, 3), 90, np.uint8)
        small = cv2.resize(frame, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        image[700 : 700 + small.shape[0], 1300 : 1300 + small.shape[1]] = small
        large.append(image)
    return large


@pytest.mark.parametrize("name", ["mobrecon", "handos_s"])
def test_hands_across_the_room_are_found_and_then_kept(name, frames):
    engine = HandReconstructor.from_pretrained(name, threads=1, backend="onnxruntime")
    film = across_the_room(frames[:1] * 16 + frames)
    assert not engine(film[0]).hands
    following = FollowingReconstructor(engine, detect_zoom=4.0)
    results = [following(image) for image in film]
    assert all(looked(result) for result in results)
    found = [len(result.hands) for result in results]
    first = next(k for k, count in enumerate(found) if count)
    # Every other look is at a window, and one of them shows the clip.
    assert first < 2 * len(following._windows) and min(found[first:]) >= 1
    # What is read there is what an image of the clip alone shows.
    shift = np.array([1300, 700]) + (0.25 - 1) / 2
    expected = engine(frames[-1]).hands[0].keypoints2d * 0.25 + shift
    off = min(np.linalg.norm(h.keypoints2d - expected, axis=1).mean() for h in results[-1].hands)
    assert off < 0.1 * np.ptp(expected, axis=0).max()


def test_what_is_new_in_a_window_must_be_surer_than_what_is_known(engine, frames):
    def taken(score, known):
        following = FollowingReconstructor(engine, detect_zoom=4.0)
        image = across_the_room(frames[:1])[0]
        following._ask(View(image))
        hand = replace(engine(frames[0]).hands[0], score=score)
        whole, window = View(image), View(image, window=following._windows[0])
        following._take(whole, Reconstruction([hand] if known else []))
        result = Reconstruction([hand])
        assert following._take(window, result)
        return len(result.hands)

    assert asked_of_windows(0.5) == 0.8
    assert [taken(s, known=False) for s in (0.79, 0.81)] == [0, 1]
    assert taken(0.51, known=True) == 1


def test_one_picture_is_looked_at_as_closely_as_asked(engine, frames):
    (image,) = across_the_room(frames[:1])
    close = engine.closely(image, zoom=4.0)
    assert len(close.hands) == len(engine(frames[0]).hands)
    assert close.stage_ms["detector"] > engine(image).stage_ms["detector"]
    assert engine.closely(image, zoom=1.0).hands == []
    small = engine.closely(frames[0], zoom=1.0)
    assert [h.score for h in small.hands] == [h.score for h in engine(frames[0]).hands]


def test_known_hands_and_a_window_are_read_together(engine, frames):
    """What the window shows is found beside what is known; nothing comes twice."""
    known = np.array([joint_box(hand) for hand in engine(frames[0]).hands])
    height, width = frames[0].shape[:2]
    view = View(frames[0], None, 0.5, known, (0, 0, width, height))
    assert view.looks and len(engine.together([view])[0].hands) == len(known)


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
