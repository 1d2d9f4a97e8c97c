import dataclasses

import cv2
import numpy as np
import pytest
import torch

from hand_perception.errors import DataError
from hand_perception.synthesis import raster
from hand_perception.synthesis.backgrounds import Backgrounds
from hand_perception.synthesis.limb import PART_ARM
from hand_perception.synthesis.recipe import RECIPES, Recipe
from hand_perception.synthesis.render import Renderer

COUNT, SIZE = 12, 128


@pytest.fixture(scope="module")
def renderer():
    return Renderer("cpu", seed=5, recipe=Recipe(hands=(0.1, 0.5, 0.3, 0.1)))


@pytest.fixture(scope="module")
def batch(renderer):
    return renderer.render(2, COUNT, SIZE, SIZE)


def fields(batch):
    return {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}


def test_a_batch_depends_on_its_seed_and_index_only(renderer, batch):
    other = renderer.render(3, COUNT, SIZE, SIZE)
    again = Renderer("cpu", seed=5, recipe=renderer.recipe).render(2, COUNT, SIZE, SIZE)
    for name, value in fields(batch).items():
        assert torch.equal(value, getattr(again, name)), name
    assert not torch.equal(other.rgb, batch.rgb)


def test_labels_project_onto_each_other(batch):
    valid = batch.valid
    K = batch.K[:, None].expand(-1, valid.shape[1], 3, 3)[valid]
    keypoints = batch.keypoints3d[valid]
    projected = keypoints @ K.transpose(1, 2)
    projected = projected[..., :2] / projected[..., 2:]
    torch.testing.assert_close(projected, batch.keypoints2d[valid], atol=1e-3, rtol=0)
    assert (batch.vertices[valid][..., 2] > 0.02).all()
    assert (~valid).any()


def test_pixels_show_what_the_labels_say(renderer, batch):
    """Depth, parts and boxes against the labelled meshes, projected independently."""
    # The nearest depth of a pixel and its neighbours: vertices on the outline round either way.
    depth = torch.where(batch.depth > 0, batch.depth, torch.inf)
    nearest = -torch.nn.functional.max_pool2d(-depth[:, None], 3, 1, 1)[:, 0]
    for i in range(COUNT):
        hands = batch.valid[i].nonzero()[:, 0]
        for h in hands.tolist():
            vertices, K = batch.vertices[i, h], batch.K[i]
            pixel = (vertices @ K.T)[:, :2] / vertices[:, 2:]
            x0, y0, x1, y1 = batch.boxes[i, h].tolist()
            low, high = pixel.amin(0).clamp(min=-0.5), pixel.amax(0).clamp(max=SIZE - 0.5)
            torch.testing.assert_close(torch.cat([low, high]), batch.boxes[i, h])
            inside = ((pixel.round() >= 0) & (pixel.round() <= SIZE - 1)).all(1)
            x, y = pixel[inside].round().long().unbind(1)
            seen = nearest[i, y, x]
            # Its own surface or something nearer is seen at each vertex; never the background,
            # nor anything further behind than a pixel's slant.
            assert (seen < vertices[inside, 2] + 0.005).float().mean() > 0.99
        mask = batch.silhouette[i]
        if len(hands) == 0:
            assert not mask.any() and (batch.parts[i] == 0).all() and (batch.depth[i] == 0).all()
            continue
        y, x = mask.nonzero().unbind(1)
        boxes = batch.boxes[i, batch.visible[i] > 0]  # nearly hidden hands too
        # The dense mesh may bulge a pixel beyond the 778 vertices.
        inside = (x[:, None] >= boxes[:, 0] - 1.5) & (x[:, None] <= boxes[:, 2] + 1.5)
        inside &= (y[:, None] >= boxes[:, 1] - 1.5) & (y[:, None] <= boxes[:, 3] + 1.5)
        assert inside.any(1).float().mean() > 0.99
        assert int(batch.visible[i].sum()) == int(mask.sum())


def test_images_without_hands_and_both_sides():
    empty = Renderer("cpu", recipe=Recipe(hands=(1.0,))).render(0, 3, 64, 64)
    assert empty.rgb.shape == (3, 3, 64, 64)
    assert not empty.valid.any() and not empty.silhouette.any()
    many = Renderer("cpu", recipe=Recipe(hands=(0.0, 1.0))).render(0, 24, 32, 32)
    left = int(many.is_left[many.valid].sum())
    assert 2 <= left <= int(many.valid.sum()) - 2  # fair coins: 4 sigma around 12 of 24
    assert many.valid.float().mean() > 0.8


def test_left_hands_are_mirrored_right_hands(batch, renderer):
    faces = torch.as_tensor(renderer.limb.template.faces).long()
    for i, h in batch.valid.nonzero().tolist():
        v = batch.vertices[i, h] - batch.vertices[i, h].mean(0)
        a, b, c = (v[faces[:, k]] for k in range(3))
        volume = (a * torch.linalg.cross(b, c)).sum() / 6
        assert (volume < 0) == bool(batch.is_left[i, h])


def test_hands_of_one_image_do_not_touch(batch):
    many = Renderer("cpu", seed=1, recipe=Recipe(hands=(0.0, 0.0, 0.5, 0.5))).render(0, 16, 64, 64)
    for i in range(16):
        hands = many.vertices[i, many.valid[i]]
        for a in range(len(hands)):
            for b in range(a):
                assert torch.cdist(hands[a], hands[b]).min() > 0.004


def test_arms_leave_the_image(renderer):
    batch = Renderer("cpu", seed=8, recipe=Recipe(hands=(0.0, 1.0), truncated=0.0)).render(
        0, 24, 96, 96
    )
    arm = batch.parts == PART_ARM
    border = torch.cat([arm[:, 0], arm[:, -1], arm[:, :, 0], arm[:, :, -1]], 1).any(1)
    # Only an arm hidden behind its hand or beyond the near plane may not reach the border.
    assert border[arm.flatten(1).sum(1) > 60].float().mean() > 0.9


def test_reference_rasteriser_gives_the_same_photograph(monkeypatch):
    recipe = Recipe(hands=(0.0, 1.0))
    fast = Renderer("cpu", seed=2, recipe=recipe).render(0, 2, 64, 64)
    monkeypatch.setattr(raster, "rasterize_numba", raster.rasterize_torch)
    reference = Renderer("cpu", seed=2, recipe=recipe).render(0, 2, 64, 64)
    assert torch.equal(fast.keypoints3d, reference.keypoints3d)
    difference = (fast.rgb.int() - reference.rgb.int()).abs()
    # Single pixels on edges may round to another face.
    assert (difference > 8).float().mean() < 0.01
    assert (fast.parts != reference.parts).float().mean() < 0.002


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_renders_on_the_gpu():
    batch = Renderer("cuda", seed=5).render(0, 16, 128, 128)
    again = Renderer("cuda", seed=5).render(0, 16, 128, 128)
    assert batch.rgb.is_cuda and batch.silhouette.any()
    assert torch.equal(batch.parts, again.parts)


def test_backgrounds_are_cut_from_the_users_photographs(tmp_path):
    flat = np.zeros((90, 120, 3), np.uint8)
    flat[:] = (200, 100, 50)  # BGR
    cv2.imwrite(str(tmp_path / "flat.png"), flat)
    drawn = Backgrounds([tmp_path], "cpu").sample(40, 32, 48, torch.Generator().manual_seed(0))
    assert drawn.shape == (40, 3, 32, 48)
    expected = torch.tensor([50.0, 100, 200])[:, None, None] / 255
    matches = ((drawn - expected).abs() < 0.01).all(1).flatten(1).all(1)
    assert 30 <= int(matches.sum()) < 41  # the others are clutter: 8 % of 40
    assert drawn.min() >= 0 and drawn.max() <= 1


def test_a_folder_without_photographs_is_refused(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match="no readable photographs"):
        Backgrounds([tmp_path], "cpu")


def test_every_recipe_renders():
    for recipe in RECIPES.values():
        batch = Renderer("cpu", recipe=recipe).render(0, 2, 48, 64)
        assert batch.rgb.shape == (2, 3, 48, 64) and batch.rgb.float().std() > 5


def test_grasped_objects_stay_out_of_the_flesh():
    sampler = Renderer("cpu", seed=0).scenes
    recipe = Recipe(hands=(0.0, 1.0), objects=1.0)
    scene = sampler.sample(recipe, 40, 64, 64, torch.Generator().manual_seed(0))
    centre = scene.objects.mean(1)
    owner = torch.searchsorted(scene.image, scene.object_image)
    surface = (scene.objects - centre[:, None]).norm(dim=-1).amin(1)
    gap = (scene.template_vertices[owner] - centre[:, None]).norm(dim=-1).amin(1)
    palm = scene.keypoints[owner][:, [0, 5, 9, 13, 17, 4, 8, 12, 16, 20]].mean(1)
    grasped = (centre - palm).norm(dim=-1) < 0.02
    assert grasped.sum() >= 5
    assert (surface[grasped] < gap[grasped]).float().mean() > 0.9


def test_arms_without_a_hand_carry_no_label():
    recipe = Recipe(hands=(0.0, 1.0), objects=0.0, arm_only=1.0)
    batch = Renderer("cpu", seed=0, recipe=recipe).render(0, 16, 64, 64)
    assert not batch.valid.any()
    assert batch.silhouette.float().mean() < 0.01  # a fingertip may reach in
    assert (batch.parts == PART_ARM).flatten(1).any(1).sum() >= 8
