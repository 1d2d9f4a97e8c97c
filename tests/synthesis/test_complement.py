"""The complement data set: its counts are the paper's, its images show what they say."""

import argparse
import math

import numpy as np
import pytest
import torch

from hand_perception.data.synthetic import SyntheticSamples
from hand_perception.errors import DataError
from hand_perception.synthesis import command, complement
from hand_perception.synthesis.dataset import SyntheticDataset
from hand_perception.synthesis.limb import Limb
from hand_perception.synthesis.poses import THUMBS
from hand_perception.synthesis.recipe import BATCH, RECIPES
from hand_perception.synthesis.render import Renderer

COUNT, SIZE = 12, 96


def synthesize(path, recipe, count):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    options = ("--output", path, "--count", count, "--size", SIZE, "--recipe", recipe)
    assert command.run(parser.parse_args([str(o) for o in options])) == 0
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return synthesize(tmp_path_factory.mktemp("data") / "c", "mobrecon-complement", COUNT)


@pytest.fixture(scope="module")
def renderer():
    return Renderer("cpu", 0, recipe=RECIPES["mobrecon-complement"])


def test_there_are_32_base_poses_and_three_between_each_of_496_pairs():
    curls, thumbs = complement.base_poses()
    straight = (thumbs == torch.tensor(THUMBS["open"])).all(1)
    states = torch.cat([straight[:, None], curls == 0], 1)
    assert len({tuple(row) for row in states.tolist()}) == 32
    for base in (curls, thumbs):
        poses = complement.interpolated(base)
        assert len(poses) == 32 + 496 * 3 == complement.NUM_POSES
        assert torch.equal(poses[:32], base)
        # The last pair: from pose 30 to pose 31, in quarters.
        quarters = torch.tensor([[0.25], [0.5], [0.75]])
        expected = base[30] + quarters * (base[31] - base[30])
        torch.testing.assert_close(poses[-3:], expected)


def test_there_are_216_views_of_half_a_sphere():
    directions = complement.view_directions()
    assert directions.shape == (complement.NUM_VIEWS, 3) == (216, 3)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(216))
    latitude = torch.asin((-directions[:, 1]).clamp(-1, 1))
    steps = (latitude / (math.pi / 12)).round().int().tolist()
    assert [steps.count(k) for k in range(6)] == [36] * 6
    longitude = torch.atan2(directions[:, 2], directions[:, 0]) % (2 * math.pi)
    steps = (longitude / (math.pi / 18)).round().int() % 36
    assert steps.bincount().tolist() == [6] * 36
    # All different, and none on the other half.
    assert torch.cdist(directions, directions).fill_diagonal_(1).min() > 0.04
    assert latitude.min() > -1e-6


def test_each_pose_is_seen_once_from_each_view():
    pose, view = complement.pose_and_view(torch.arange(complement.TOTAL))
    together = torch.bincount(pose * 216 + view, minlength=complement.TOTAL)
    assert complement.TOTAL == 328_320 and (together == 1).all()
    # A start of the list is spread evenly: with 1,520 images no pose is shown three times.
    assert torch.bincount(pose[:1520], minlength=1520).max() <= 2
    assert torch.bincount(view[: 216 * 5]).tolist() == [5] * 216
    # And the next image after the last is the first again.
    again = complement.pose_and_view(torch.tensor([complement.TOTAL]))
    assert [int(a) for a in again] == [int(pose[0]), int(view[0])]


def test_cameras_look_at_the_palm_with_the_fingers_up():
    camera = torch.tensor([[0.5, 0.0, 0.0], [0.0, -0.4, 0.3]])
    palm = torch.tensor([[0.0, -0.09, 0.0], [0.01, -0.08, 0.0]])
    turn = complement.look_at(camera, palm)
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand(2, 3, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(2))
    seen = (turn @ (palm - camera)[..., None])[..., 0]
    distance = (palm - camera).norm(dim=1)
    zero = torch.zeros(2)
    torch.testing.assert_close(seen, torch.stack([zero, zero, distance], 1), atol=1e-6, rtol=0)
    fingers = turn @ torch.tensor([0.0, -1.0, 0.0])
    assert (fingers[:, 1] < 0).all() and fingers[:, 0].abs().max() < 1e-6


def test_images_show_their_pose_from_their_view(renderer):
    numbers = torch.arange(BATCH, 2 * BATCH)
    pose, view = complement.pose_and_view(numbers)
    batch = renderer.render(1, BATCH, SIZE, SIZE)
    sampler = renderer.scenes
    for k in range(BATCH):
        joints = batch.keypoints3d[k, 0]
        wrist, knuckles = joints[0], joints[[5, 9, 13, 17]]
        fingers = joints.view(-1)[3:].view(5, 4, 3)[1:]
        # How far each finger reaches from its knuckle, of its length: 1 straight, little curled.
        length = (fingers[:, 1:] - fingers[:, :-1]).norm(dim=-1).sum(1)
        reach = (fingers[:, 3] - fingers[:, 0]).norm(dim=-1) / length
        curls = sampler.curls[pose[k]]
        assert (reach[curls == 0] > 0.97).all() and (reach[curls == 1] < 0.62).all()
        # The palm's middle is in the middle of the image.
        palm = torch.cat([wrist[None], knuckles]).mean(0)
        assert (palm[:2].norm() / palm[2]) < 0.08
        # Latitude: how much of the way from wrist to camera is along the fingers' axis. The hand's
        # own axis differs from the template's by the knuckles' arc only.
        towards = -wrist / wrist.norm()
        axis = (knuckles.mean(0) - wrist) / (knuckles.mean(0) - wrist).norm()
        expected = -complement.view_directions()[view[k], 1]
        assert abs(float(towards @ axis - expected)) < 0.15


def test_nobody_is_left_out_and_both_sides_appear(renderer):
    batches = [renderer.render(k, BATCH, 48, 48) for k in range(6)]
    assert sum(int(b.valid.sum()) for b in batches) == 6 * BATCH
    sides = torch.cat([b.is_left[:, 0] for b in batches])
    assert 0 < sides.sum() < len(sides)


def test_splay_shape_and_skin_differ_where_pose_and_view_do_not(renderer):
    first = renderer.render(0, 1, SIZE, SIZE)
    rounds = complement.TOTAL // BATCH
    again = renderer.render(rounds, 1, SIZE, SIZE)
    assert not torch.equal(first.rgb, again.rgb)
    bones = [
        (b.keypoints3d[0, 0][[5, 9, 13, 17]] - b.keypoints3d[0, 0, 0]).norm(dim=1)
        for b in (first, again)
    ]
    assert (bones[0] - bones[1]).abs().max() > 1e-4


def test_what_is_written_is_complete(folder):
    dataset = SyntheticDataset(folder)
    assert len(dataset) == COUNT
    batch = Renderer("cpu", 0, recipe=RECIPES["mobrecon-complement"]).render(0, BATCH, SIZE, SIZE)
    limb = Limb()
    for k in (0, 5):
        item, maps = dataset[k], dataset.maps(k)
        np.testing.assert_array_equal(maps["silhouette"], batch.silhouette[k].numpy())
        # Tenths of a millimetre, rounded.
        np.testing.assert_allclose(maps["depth"], batch.depth[k].numpy(), atol=0.51e-4)
        # Half precision of what is less than 0.25 m from the root: 2^-3 * 2^-11, rounded half.
        np.testing.assert_allclose(maps["dense"], batch.dense[k].numpy(), atol=2**-14)
        assert maps["dense"].shape == (1, len(limb.vertices), 3)
        small = limb.template_vertices(torch.from_numpy(maps["dense"]))
        np.testing.assert_allclose(item["vertices"], small.numpy(), atol=2**-14)
        seen = item["keypoints3d"] @ item["K"].T
        np.testing.assert_allclose(item["keypoints2d"], seen[..., :2] / seen[..., 2:], atol=1e-3)
        # Where the mesh is seen, the depth is that of its surface.
        depth = maps["depth"][maps["silhouette"]]
        low, high = maps["dense"][..., 2].min(), maps["dense"][..., 2].max()
        assert depth.size and low - 1e-3 < depth.min() and depth.max() < high + 1e-3


def test_training_reads_it_like_any_rendered_set(folder):
    samples = SyntheticSamples(folder)
    assert len(samples) == COUNT
    hands = samples[3].hands
    assert len(hands) == 1 and hands.metric[0] and hands.weight3d[0] == 1
    assert hands.vertices.shape == (1, 778, 3)


def test_sets_without_maps_and_cut_maps_say_so(folder, tmp_path):
    plain = synthesize(tmp_path / "plain", "crop", 2)
    with pytest.raises(DataError, match="mobrecon-complement"):
        SyntheticDataset(plain).maps(0)
    for path in folder.glob("shard-*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (cut,) = tmp_path.glob("*.maps")
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged"):
        SyntheticDataset(tmp_path).maps(COUNT - 1)
