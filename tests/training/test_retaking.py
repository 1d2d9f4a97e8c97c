"""Photographs as if taken once more: labels stay where the hand is."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from one_hand import one_hand

from hand_perception.data.sample import Sample, hand_boxes
from hand_perception.training import retaking
from hand_perception.training.batches import BatchRecipe, StepBatches
from hand_perception.training.crops import CropBatches, CropRecipe
from hand_perception.training.retaking import (
    bend,
    displacement,
    restaged,
    retake,
    retake_whole,
    retoned,
    silhouette,
    with_blob,
    with_blobs,
)

# The darkest and brightest of a hand, of where it was taken and of where it is put.
HAND, HERE, THERE = 160, 60, 255
SIZE = 240


def photograph() -> Sample:
    """One hand without metric truth in the middle of a grey square, its joints bright."""
    sample = one_hand()
    joints = sample.hands.keypoints2d
    joints = joints - (joints.min(1) + joints.max(1)) / 2 + np.float32(SIZE / 2)
    image = np.full((SIZE, SIZE, 3), HERE, np.uint8)
    for x, y in np.rint(joints[0]).astype(int).tolist():
        cv2.circle(image, (x, y), 2, (HAND,) * 3, -1)
    hands = replace(sample.hands, keypoints2d=joints, metric=np.zeros(1, bool))
    return replace(sample, image=image, hands=hands)


def framed(sample: Sample) -> tuple[np.ndarray, float]:
    """The hand's box and its longer side."""
    box = hand_boxes(sample.hands.keypoints2d, *sample.image.shape[1::-1])[0]
    return box, float((box[2:] - box[:2]).max())


class Places:
    """Pictures without hands, all of one colour."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return replace(photograph(), image=np.full((90, 120, 3), THERE, np.uint8))


def test_the_silhouette_covers_the_mesh_and_not_the_rest():
    sample = photograph()
    box, _ = framed(sample)
    share = silhouette(sample, 0)
    x, y = np.rint(sample.hands.keypoints2d[0]).astype(int).T
    assert share[y, x].min() > 0.9
    # A hand does not fill its box, and beyond it there is only the arm.
    low, high = box[:2].astype(int), box[2:].astype(int) + 1
    assert 0.2 < share[low[1] : high[1], low[0] : high[0]].mean() < 0.9
    assert share[: low[1] - 8].max(initial=0) == 0


@pytest.mark.parametrize("toned", [False, True])
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_behind_a_hand_is_another_place_and_a_tone_is_the_hand_s_alone(
    monkeypatch, toned, elsewhere, seed
):
    monkeypatch.setattr(retaking, "TONE_SHARE", float(toned))
    monkeypatch.setattr(retaking, "ELSEWHERE_SHARE", float(elsewhere))
    sample = photograph()
    image, moved = restaged(sample, [0], Places(), np.random.default_rng(seed))
    share = silhouette(sample, 0)
    assert moved == elsewhere
    dots = sample.image == HAND
    assert (image[(share == 0) & ~dots[..., 0]] == (THERE if elsewhere else HERE)).all()
    same = image[share == 1] == sample.image[share == 1]
    assert not same.all() if toned else same.all()


@pytest.mark.parametrize("seed", range(3))
def test_a_glove_has_one_colour_and_what_stands_against_the_light_is_dark(monkeypatch, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 160, (40, 40, 3), np.uint8)
    share = np.ones((40, 40, 1), np.float32)
    monkeypatch.setattr(retaking, "DARK_SHARE", 1.0)
    monkeypatch.setattr(retaking, "GLOVE_SHARE", 0.0)
    # exp(-0.8), and four standard deviations of a channel's own gain.
    assert retoned(image, share, rng).max() < 160 * np.exp(-0.8 + 0.4)
    monkeypatch.setattr(retaking, "GLOVE_SHARE", 1.0)
    glove = retoned(image, share, rng).astype(float)
    # Each channel is the picture's grey times a number, cut to whole values.
    grey = image.mean(-1)
    for channel in glove.transpose(2, 0, 1):
        inside = channel < 255
        times = (channel * grey)[inside].sum() / (grey**2)[inside].sum()
        assert np.abs(channel - times * grey)[inside].max() <= 1.5


def seen(hands, points: np.ndarray) -> np.ndarray:
    """Where points [N, 3] of the one hand lie in the image, by the similarity its joints give."""
    marks, joints = hands.keypoints2d[0][2:], hands.joints3d[0, 2:, :2]
    spread = joints - joints.mean(0)
    scale = (spread * (marks - marks.mean(0))).sum() / (spread**2).sum()
    return (points[:, :2] - joints.mean(0)) * scale + marks.mean(0)


@pytest.mark.parametrize("seed", range(4))
def test_joints_bend_with_the_pixels(monkeypatch, seed):
    sample = photograph()
    frame = framed(sample)
    frame = (frame[0][:2] + frame[0][2:]) / 2, frame[1]
    monkeypatch.setattr(retaking, "_frame", lambda *_: frame)
    # A dot at one joint of an else empty image is found where the bent labels say.
    for joint in (0, 8, 20):
        image = np.zeros((SIZE, SIZE, 3), np.uint8)
        x, y = np.rint(sample.hands.keypoints2d[0, joint]).astype(int).tolist()
        cv2.circle(image, (x, y), 3, (255,) * 3, -1)
        at = replace(sample.hands, keypoints2d=np.tile(np.float32([x, y]), (1, 21, 1)))
        moved = bend(replace(sample, image=image, hands=at), 0, np.random.default_rng(seed))
        weight = moved.image[..., 0].astype(float)
        rows, columns = np.mgrid[:SIZE, :SIZE]
        dot = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
        # A bent dot's middle is not quite the middle of the bent dot.
        np.testing.assert_allclose(moved.hands.keypoints2d[0, joint], dot, atol=0.5)


@pytest.mark.parametrize("seed", range(4))
def test_the_mesh_bends_with_the_joints_and_keeps_its_size(monkeypatch, seed):
    sample = photograph()
    # Joints that lie exactly where the mesh's would, so that what is left over is the bending's.
    flat = seen(sample.hands, sample.hands.joints3d[0]).astype(np.float32)
    sample = replace(sample, hands=replace(sample.hands, keypoints2d=flat[None]))
    before = sample.hands
    rng, same = np.random.default_rng(seed), np.random.default_rng(seed)
    after = bend(sample, 0, rng).hands
    assert not np.allclose(after.keypoints2d, before.keypoints2d, atol=1)
    _, side = framed(sample)
    np.testing.assert_allclose(
        seen(after, after.joints3d[0]), after.keypoints2d[0], atol=0.002 * side
    )
    # At the places where the bent mesh is seen, the image shows what was under the mesh before.
    frame = hand_boxes(before.keypoints2d, SIZE, SIZE)[0]
    moves = displacement((SIZE, SIZE), (frame[:2] + frame[2:]) / 2, side, same)
    now = seen(after, after.vertices[0]).astype(np.float32)
    x, y = np.split(now, 2, 1)
    shown = now + cv2.remap(moves, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[:, 0]
    np.testing.assert_allclose(shown, seen(before, before.vertices[0]), atol=0.002 * side)
    assert (after.vertices[..., 2] == before.vertices[..., 2]).all()
    np.testing.assert_allclose(after.joints3d[0, 9, :2], 0, atol=1e-6)
    spread = [np.linalg.norm(h.joints3d[0, :, :2].std(0)) for h in (before, after)]
    assert spread[1] == pytest.approx(spread[0], rel=1e-3)
    assert (after.weight_mesh == before.weight_mesh).all()


def test_what_is_known_of_no_mesh_stays_unknown():
    sample = photograph()
    sample.hands.weight3d[:] = sample.hands.weight_mesh[:] = 0
    moved = bend(sample, 0, np.random.default_rng(2))
    assert (moved.hands.vertices == sample.hands.vertices).all()
    assert not np.allclose(moved.hands.keypoints2d, sample.hands.keypoints2d)


def test_far_from_the_hand_nothing_moves():
    moves = displacement((200, 400), np.array([80.0, 90.0]), 60.0, np.random.default_rng(0))
    assert moves.shape == (200, 400, 2) and np.abs(moves).max() > 1
    # Interpolation reaches one knot further than the rim, where all is zero already.
    assert (moves[:, 80 + round(retaking.REACH / 2 * 60) + 10 :] == 0).all()


def test_what_is_known_in_metres_stays_as_it_was_taken():
    sample = one_hand()
    for seed in range(20):
        assert retake(sample, 0, Places(), np.random.default_rng(seed)) is sample


def test_without_a_fitted_mesh_a_hand_stays_where_it_is(monkeypatch):
    monkeypatch.setattr(retaking, "BEND_SHARE", 0.0)
    sample = photograph()
    sample.hands.weight3d[:] = sample.hands.weight_mesh[:] = 0
    for seed in range(20):
        assert retake(sample, 0, Places(), np.random.default_rng(seed)) is sample


def test_a_whole_image_goes_elsewhere_with_the_hands_that_have_a_mesh(monkeypatch):
    monkeypatch.setattr(retaking, "ELSEWHERE_SHARE", 1.0)
    monkeypatch.setattr(retaking, "BEND_SHARE", 0.0)
    monkeypatch.setattr(retaking, "TONE_SHARE", 0.0)
    monkeypatch.setattr(retaking, "BLOB_SHARE", 0.0)
    sample = photograph()
    two = sample.hands.take(np.array([0, 0]))
    two.keypoints2d[0] -= 60
    two.weight3d, two.weight_mesh = np.float32([0, 1]), np.float32([0, 1])
    region = np.float32([[0, 0, 40, 40]])
    both = replace(sample, hands=two, ignore_boxes=region, impostor_boxes=region, exhaustive=False)
    moved = retake_whole(both, Places(), np.random.default_rng(0))
    assert len(moved.hands) == 1
    assert (moved.hands.keypoints2d[0] == two.keypoints2d[1]).all()
    # Whatever else the photograph showed has stayed behind: all that is no hand is background.
    assert moved.exhaustive and not len(moved.ignore_boxes) and not len(moved.impostor_boxes)
    assert (moved.image[silhouette(sample, 0) == 0] == THERE).all()
    nobody = replace(sample, hands=two.take(np.array([], int)))
    assert retake_whole(nobody, Places(), np.random.default_rng(0)).image is nobody.image
    assert retake_whole(one_hand(), Places(), np.random.default_rng(0)).hands.metric.all()


def test_batches_put_photographs_in_front_of_the_places(monkeypatch):
    monkeypatch.setattr(retaking, "ELSEWHERE_SHARE", 1.0)

    class Photographs(Places):
        def __getitem__(self, index):
            return photograph()

    recipe = CropRecipe(64, 1.3, 24, (1.0,), empty=0.0)
    alone = CropBatches([Photographs()], recipe, seed=1)[0]
    moved = CropBatches([Photographs()], recipe, seed=1, places=Places())[0]
    bright = [(b.images.float().mean((1, 2, 3)) > 140).float().mean() for b in (alone, moved)]
    assert bright[0] < 0.1 and bright[1] > 0.5


@pytest.mark.parametrize("view", ["image", "hand"])
def test_photographs_are_taken_once_more_where_there_are_places(monkeypatch, view):
    monkeypatch.setattr(retaking, "ELSEWHERE_SHARE", 1.0)

    class Photographs(Places):
        def __getitem__(self, index):
            return photograph()

    recipe = BatchRecipe(8, (96,), view, 4, (1.0,))
    alone = StepBatches([Photographs()], recipe, seed=1)[0]
    moved = StepBatches([Photographs()], recipe, seed=1, places=Places())[0]
    bright = [(b.images.float() > 190).float().mean() for b in (alone, moved)]
    assert bright[0] < 0.1 and bright[1] > 0.3
    assert moved.present.any()


@pytest.mark.parametrize("seed", range(4))
def test_blobs_stay_in_their_place(monkeypatch, seed):
    monkeypatch.setattr(retaking, "BLOB_SHARE", 1.0)
    image = np.random.default_rng(0).integers(60, 200, (120, 160, 3), np.uint8)
    box = np.float32([50, 40, 90, 80])
    blobbed = with_blob(image, box, np.random.default_rng(seed))
    changed = np.argwhere((blobbed != image).any(-1))[:, ::-1]
    # Corners lie within their reach of the middle, and a soft rim of four deviations around it.
    middle, side = [70, 60], 40
    most = max(retaking.BLOB_REACH) * side + max(4 * retaking.RIM * side, 2) + 2
    assert len(changed) and np.linalg.norm(changed - middle, axis=1).max() <= most
    monkeypatch.setattr(retaking, "BLOB_SHARE", 0.0)
    assert with_blob(image, box, np.random.default_rng(seed)) is image


@pytest.mark.parametrize("seed", range(4))
def test_blobs_in_whole_images_leave_hands_and_what_is_ignored_alone(monkeypatch, seed):
    monkeypatch.setattr(retaking, "BLOB_SHARE", 1.0)
    monkeypatch.setattr(retaking, "MOST_BLOBS", 30)
    rng = np.random.default_rng(seed)
    sample = photograph()
    (x0, y0, x1, y1), _ = framed(sample)
    corner = np.float32([[0, 0, 50, 50]])
    noise = rng.integers(60, 200, sample.image.shape, np.uint8)
    sample = replace(sample, image=noise, ignore_boxes=corner)
    blobbed = with_blobs(sample, rng)
    changed = (blobbed != noise).any(-1)
    assert changed.any()
    # Corners reach a tenth of the side beyond the box, and its soft rim a little further.
    places = [sample.hands.keypoints2d[0].mean(0), (25, 25)]
    assert not any(changed[round(y), round(x)] for x, y in np.array(places).tolist())
    inner = changed[round(y0 + y1) // 2, round(x0 + x1) // 2]
    assert not inner
    monkeypatch.setattr(retaking, "BLOB_SHARE", 0.0)
    assert with_blobs(sample, rng) is noise


def test_images_without_hands_get_blobs(monkeypatch):
    monkeypatch.setattr(retaking, "BLOB_SHARE", 1.0)
    nobody = replace(photograph(), hands=photograph().hands.take(np.array([], int)))
    rng = np.random.default_rng(0)
    nobody.image = rng.integers(60, 200, nobody.image.shape, np.uint8)
    assert (retake_whole(nobody, Places(), rng).image != nobody.image).any()
