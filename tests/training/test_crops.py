"""Crops for training: pixels, 2D and 3D labels move together, and two views agree exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from one_hand import CAMERA, one_hand

from hand_perception.data.sample import PADDING
from hand_perception.errors import DataError
from hand_perception.geometry import signed_volume
from hand_perception.template import load_template
from hand_perception.training import crops
from hand_perception.training.augmentation import cut_off, recolour
from hand_perception.training.crops import (
    CENTRE_JITTER,
    FAR_OFF,
    CropBatches,
    CropRecipe,
    draw,
)
from hand_perception.training.mobrecon_objective import into_second_view

TEMPLATE = load_template()
# Pixels and metres in float32: labels of up to 160 px and 0.2 m, a few roundings each.
PIXEL, METRE = 2e-4, 1e-6


class Hands:
    """Labelled images of one hand, by default always the same."""

    def __init__(self, sample=None):
        self.sample = sample or one_hand()

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return self.sample


def batch_of(sample=None, count=24, size=64, empty=0.0, step=0):
    recipe = CropRecipe(size, 1.3, count, (1.0,), empty)
    return CropBatches([Hands(sample)], recipe, seed=3)[step]


def test_a_batch_is_a_function_of_its_seed_and_step():
    first, again, other = batch_of(step=1), batch_of(step=1), batch_of(step=2)
    assert torch.equal(first.images, again.images) and torch.equal(first.axes, again.axes)
    assert not torch.equal(first.images, other.images)
    assert first.images.shape == (24, 3, 64, 64) and first.images.dtype == torch.uint8


def test_labels_move_with_the_pixels():
    batch = batch_of()
    pixels = torch.from_numpy(one_hand().hands.keypoints2d[0])
    moved = pixels @ batch.to_crop[..., :2].mT + batch.to_crop[:, None, :, 2]
    # 0..1 of a crop of 64 pixels.
    torch.testing.assert_close(batch.joints2d, moved, atol=PIXEL / 64, rtol=0)
    assert batch.known.all() and (batch.present == 1).all() and (batch.weight2d == 1).all()
    # Jittered boxes still hold most of the hand.
    inside = ((batch.joints2d > 0) & (batch.joints2d < 1)).all(-1).float().mean()
    assert inside > 0.9


def test_the_image_is_seen_where_the_labels_say(monkeypatch):
    # Nothing in front of the joint, nothing cut off.
    monkeypatch.setattr(crops, "recolour", lambda image, rng: image)
    monkeypatch.setattr(crops, "CUT_OFF_SHARE", 0.0)
    # A bright square around one joint: its crop has its light there.
    sample = one_hand()
    x, y = sample.hands.keypoints2d[0, 9].round().astype(int)
    sample.image[:] = 0
    sample.image[y - 3 : y + 4, x - 3 : x + 4] = 255
    batch = batch_of(sample, size=128)
    light = batch.images.float().sum(1)
    seen = []
    for crop in light:
        # Grey beyond the image is dimmer.
        rows, columns = (crop > 0.8 * crop.max()).nonzero().T
        seen.append((torch.stack([columns.median(), rows.median()]) + 0.5) / 128)
    seen = torch.stack(seen)
    target = torch.tensor([float(x), float(y)])
    expected = batch.to_crop[..., :2] @ target + batch.to_crop[..., 2]
    # The square's middle is known to about a pixel of the image, and its median to half of one of
    # the crop, along both axes.
    pixel = torch.linalg.det(batch.to_crop[..., :2]).abs().sqrt()
    assert ((seen - expected).norm(dim=1) < pixel + 0.5**0.5 / 128).all()


def test_two_views_agree_as_the_consistency_loss_compares_them():
    batch = batch_of()
    moved = into_second_view(batch.joints2d[::2], batch.to_crop)
    torch.testing.assert_close(moved, batch.joints2d[1::2], atol=2e-5, rtol=0)
    turn = batch.axes[1::2] @ batch.axes[::2].mT
    for labels in (batch.vertices, batch.joints3d):
        torch.testing.assert_close(labels[::2] @ turn.mT, labels[1::2], atol=METRE, rtol=0)
    # Both views are of one side: a turn, never a mirror.
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(12), atol=1e-5, rtol=0)
    assert torch.equal(batch.side[::2], batch.side[1::2])


def test_the_crop_s_camera_looks_at_its_centre():
    batch = batch_of()
    matrix = batch.to_crop.double()
    centre = torch.linalg.solve(matrix[..., :2], 0.5 - matrix[..., 2])
    slopes = (centre - torch.tensor([CAMERA.cx, CAMERA.cy])) / CAMERA.fx
    ray = torch.cat([slopes, torch.ones(24, 1, dtype=torch.double)], 1)
    seen = (batch.axes.double() @ ray[..., None])[..., 0]
    ahead = torch.zeros_like(ray)
    ahead[:, 2] = ray.norm(dim=1)
    torch.testing.assert_close(seen, ahead, atol=2e-6, rtol=0)
    truth = torch.from_numpy(one_hand().hands.vertices[0])
    torch.testing.assert_close(batch.vertices, truth @ batch.axes.mT, atol=METRE, rtol=0)


def test_without_intrinsics_the_axes_turn_in_the_image_only():
    sample = one_hand()
    sample.hands.metric[:] = False
    ahead = batch_of(sample).axes[:, :, 2]
    torch.testing.assert_close(ahead, torch.tensor([0.0, 0.0, 1.0]).expand(24, 3))


def test_a_mirrored_right_hand_is_a_left_one():
    batch = batch_of()
    volumes = signed_volume(batch.vertices.numpy(), TEMPLATE.faces)
    np.testing.assert_array_equal(np.sign(volumes), batch.side.numpy())
    assert set(batch.side.tolist()) == {-1.0, 1.0}


def test_places_without_a_hand_carry_no_labels():
    sample = one_hand()
    batch = batch_of(sample, empty=1.0)
    assert (batch.present == 0).all() and not batch.known.any()
    for weight in (batch.weight2d, batch.weight3d, batch.weight_mesh, batch.side):
        assert (weight == 0).all()
    # What a detector took for a hand is shown as it was boxed.
    recipe = CropRecipe(64, 1.3, 8, (1.0,), 1.0)
    impostor = np.array([[100.0, 20, 140, 60]], np.float32)
    sample = replace(sample, impostor_boxes=impostor, exhaustive=False)
    rng = np.random.default_rng(0)
    drawn = [crop for _ in range(20) for crop in draw(sample, recipe, rng)]
    matrices = np.stack([crop["to_crop"] for crop in drawn]).astype(float)
    centres = np.linalg.solve(matrices[..., :2], 0.5 - matrices[..., 2:])[..., 0]
    # Centres are jittered by 6 % of the box, 40 pixels, a quarter of them by more: five standard
    # deviations of those, and two of most.
    off = np.abs(centres - (120, 40))
    assert off.max() < 5 * FAR_OFF * CENTRE_JITTER * 40
    assert np.median(off) < 2 * CENTRE_JITTER * 40


def test_hands_too_small_to_see_are_not_shown():
    sample = one_hand()
    middle = sample.hands.keypoints2d.mean(1, keepdims=True)
    sample.hands.keypoints2d = middle + 0.05 * (sample.hands.keypoints2d - middle)
    recipe = CropRecipe(64, 1.3, 8, (1.0,), 0.0)
    drawn = draw(sample, recipe, np.random.default_rng(0))
    assert all(crop["present"] == 0 for crop in drawn)


def test_data_that_shows_nothing_is_an_error_not_a_loop():
    sample = replace(one_hand(), exhaustive=False)
    sample.hands = sample.hands.take(np.array([], int))
    with pytest.raises(DataError, match="labels"):
        batch_of(sample)


def test_unreadable_samples_are_passed_over(caplog):
    class Damaged(Hands):
        def __getitem__(self, index):
            if index % 2:
                raise DataError(f"image {index} is cut off")
            return self.sample

    recipe = CropRecipe(64, 1.3, 12, (1.0,))
    batch = CropBatches([Damaged()], recipe, seed=0)[0]
    assert len(batch.images) == 12 and "cut off" in caplog.text


def test_a_border_cuts_at_most_a_third_of_a_hand():
    white = np.full((64, 64, 3), 255, np.uint8)
    box = np.array([12.0, 20.0, 52.0, 44.0])
    hidden = []
    for seed in range(200):
        image = cut_off(white, box, np.random.default_rng(seed))
        grey = (image == PADDING).all(-1)
        # Whole rows, or whole columns.
        assert (grey == grey[:1]).all() or (grey == grey[:, :1]).all()
        hidden.append(grey[20:44, 12:52].mean())
    # 0.35 of the box at most, and a pixel's rounding.
    assert max(hidden) <= 0.35 + 1 / 24
    # A border drawn outside of the box, -0.15 to 0 of its side, leaves the hand whole.
    assert 0.15 < np.mean(np.array(hidden) == 0) < 0.5
    assert (white == 255).all()


def test_a_hand_from_further_away_has_fewer_pixels_in_the_same_place():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    kept = []
    for seed in range(300):
        seen = recolour(stripes, np.random.default_rng(seed))
        assert seen.shape == stripes.shape and seen.dtype == np.uint8
        contrast = np.abs(np.diff(seen.astype(int), axis=1)).mean()
        kept.append(contrast > 20)
    # A quarter is resampled, by 0.7 and less: stripes of a pixel cannot be kept. Some of the rest
    # is blurred or has lost its contrast.
    assert 0.5 < np.mean(kept) < 0.8
