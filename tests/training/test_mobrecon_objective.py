"""MobRecon's losses against values computed by hand, and its stages."""

import math
import shutil
from dataclasses import replace

import pytest
import torch
from one_hand import one_hand

from hand_perception.models.mobrecon.config import MobReconConfig
from hand_perception.models.mobrecon.encoder import MAP_WIDTH
from hand_perception.models.mobrecon.model import UNIT, MobReconOutput
from hand_perception.models.mobrecon.pose2d import Pose2D
from hand_perception.template import load_template
from hand_perception.training import checkpoint
from hand_perception.training.config import StageConfig, TrainingConfig
from hand_perception.training.crops import CropBatch
from hand_perception.training.mobrecon_objective import MobReconObjective, cell_centres, mean
from hand_perception.training.trainer import Trainer

TINY = {"encoder": "ghost", "crop_size": 64, "features": 16, "widths": (16, 8, 8, 4)}
QUARTER = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
TEMPLATE = load_template()


def objective_of(losses=None, **changes):
    objective = MobReconObjective(MobReconConfig(**(TINY | changes)), losses or {})
    objective.to(torch.device("cpu"))
    return objective


@pytest.fixture(scope="module")
def objective():
    return objective_of()


def pair() -> CropBatch:
    """Two views of one hand: the second turned by a quarter and twice as large."""
    first = torch.tensor([[0.02, 0.0, -0.1], [0.0, 0.02, 0.2]])
    second = torch.cat([2 * QUARTER[:2, :2] @ first[:, :2], torch.tensor([[0.4], [0.3]])], 1)
    pixels = 10 + 20 * torch.rand(21, 2, generator=torch.Generator().manual_seed(0))
    to_crop = torch.stack([first, second])
    joints2d = pixels @ to_crop[..., :2].mT + to_crop[:, None, :, 2]
    vertices = torch.from_numpy(TEMPLATE.vertices - TEMPLATE.keypoints[9])
    vertices = torch.stack([vertices, vertices @ QUARTER.T])
    ones = torch.ones(2)
    return CropBatch(
        images=torch.zeros(2, 3, 64, 64, dtype=torch.uint8),
        joints2d=joints2d,
        known=torch.ones(2, 21, dtype=torch.bool),
        joints3d=torch.from_numpy(TEMPLATE.regressor) @ vertices,
        vertices=vertices,
        weight2d=ones,
        weight3d=ones,
        weight_mesh=ones,
        side=torch.tensor([1.0, 1.0]),
        present=ones,
        to_crop=to_crop,
        axes=torch.stack([torch.eye(3), QUARTER]),
    )


def said(batch, joints=None, side=(9.0, 9.0), presence=(9.0, 9.0)) -> MobReconOutput:
    return MobReconOutput(
        Pose2D(batch.joints2d if joints is None else joints),
        torch.zeros(2, MAP_WIDTH, 8, 8),
        None,
        torch.tensor(side),
        torch.tensor(presence),
    )


def pose_losses(objective, batch, **predictions):
    return objective._pose_losses(said(batch, **predictions), torch.zeros(2, 21, 8, 8), batch)


def mesh_losses(objective, vertices, batch, spread3d=None):
    out = replace(said(batch), vertices=vertices, spread3d=spread3d)
    return objective._mesh_losses(out, batch)


def test_true_predictions_cost_nothing(objective):
    batch = pair()
    losses = pose_losses(objective, batch)
    assert losses["pose2d"] == 0
    # Float32 through an inverse matrix.
    assert losses["consistency2d"] < 1e-5
    assert losses["side"] < 1e-4 and losses["presence"] < 1e-4
    mesh = mesh_losses(objective, batch.vertices / UNIT, batch)
    for name in ("mesh", "joints3d", "consistency3d"):
        assert mesh[name] < 1e-5, name
    # Lengths of about 0.05 units and unit vectors in float32.
    assert mesh["edge"] < 1e-6 and mesh["normal"] < 1e-5


def test_2d_terms_of_a_known_shift(objective):
    # Both views off by 0.01 to the right: the mean of |dx| and |dy| is 0.005. The first view's
    # shift, turned by a quarter and doubled, is (0, 0.02); against (0.01, 0) the mean is 0.015.
    batch = pair()
    losses = pose_losses(objective, batch, joints=batch.joints2d + torch.tensor([0.01, 0.0]))
    assert losses["pose2d"] == pytest.approx(10 * 0.005, rel=1e-4)
    assert losses["consistency2d"] == pytest.approx(2 * 0.015, rel=1e-3)


def test_3d_terms_of_a_known_shift(objective):
    # The first view's mesh is off by (0.03, 0, 0) units: 0.01 a coordinate in one of two views.
    # Turned by a quarter this is (0, 0.03, 0) beside the second view, 0.01 again.
    batch = pair()
    vertices = batch.vertices / UNIT
    vertices = vertices + torch.tensor([[[0.03, 0.0, 0.0]], [[0.0, 0.0, 0.0]]])
    losses = mesh_losses(objective, vertices, batch)
    assert losses["mesh"] == pytest.approx(5 * 0.005, rel=1e-3)
    # The regressor's rows sum to one, so joints move as the mesh does.
    assert losses["joints3d"] == pytest.approx(5 * 0.005, rel=1e-3)
    assert losses["consistency3d"] == pytest.approx(0.5 * 0.01, rel=1e-3)
    # Moved as a whole: no edge changes its length or direction.
    assert losses["edge"] < 1e-6 and losses["normal"] < 1e-5


def test_a_larger_mesh_has_longer_edges(objective):
    batch = pair()
    losses = mesh_losses(objective, 1.1 * batch.vertices / UNIT, batch)
    corners = (batch.vertices[0] / UNIT)[torch.from_numpy(objective.template.faces).long()]
    mean_length = (corners - corners.roll(1, 1)).norm(dim=-1).mean()
    assert losses["edge"] == pytest.approx(2 * 0.1 * float(mean_length), rel=1e-3)


def test_what_is_not_labelled_does_not_count(objective):
    batch = pair()
    batch.weight2d, batch.weight_mesh, batch.weight3d = (torch.tensor([0.0, 1.0]),) * 3
    batch.known[1, :20] = False
    joints = batch.joints2d.clone()
    joints[0] += 5.0
    joints[1, :20] += 5.0
    assert pose_losses(objective, batch, joints=joints)["pose2d"] == 0
    vertices = batch.vertices / UNIT
    vertices = torch.stack([vertices[0] + 5, vertices[1]])
    losses = mesh_losses(objective, vertices, batch)
    assert losses["mesh"] < 1e-6 and losses["joints3d"] < 1e-5


def test_where_a_network_tells_its_errors_their_likelihood_counts(objective):
    # Off by 0.01 in x and y, which half as much was expected of the prior, and twice as much of
    # the joints: 0.04 (e / b + log(b / 0.04)) each, their mean times the weight of 10.
    batch = pair()
    off = batch.joints2d + 0.01
    scales = torch.full((2, 21), 0.005), torch.full((2, 21), 0.02)
    pose = Pose2D(off, prior=off, prior_spread=scales[0], spread=scales[1])
    losses = objective._pose_losses(
        replace(said(batch), pose=pose), torch.zeros(2, 21, 8, 8), batch
    )
    expected = [0.04 * (0.01 / b + math.log(b / 0.04)) for b in (0.005, 0.02)]
    assert losses["pose2d"] == pytest.approx(10 * sum(expected) / 2, rel=1e-3)
    # A mesh off by 0.03 units along each axis of which 0.06 was expected.
    spread = torch.full((2,), 0.06)
    losses = mesh_losses(objective, batch.vertices / UNIT + 0.03, batch, spread)
    expected = 0.1 * (0.5 + math.log(0.06 / 0.1))
    assert losses["mesh"] == pytest.approx(5 * expected, rel=1e-3)
    assert losses["joints3d"] == pytest.approx(5 * expected, rel=1e-3)


def test_side_and_presence_are_cross_entropies(objective):
    batch = pair()
    batch.side = torch.tensor([-1.0, 0.0])
    batch.present = torch.tensor([1.0, 0.0])
    losses = pose_losses(objective, batch, side=(2.0, 7.0), presence=(1.5, -0.5))
    # A left hand taken for a right one with logit 2; an unknown side is not judged.
    assert losses["side"] == pytest.approx(0.5 * math.log1p(math.exp(2.0)), rel=1e-5)
    expected = (math.log1p(math.exp(-1.5)) + math.log1p(math.exp(-0.5))) / 2
    assert losses["presence"] == pytest.approx(0.5 * expected, rel=1e-5)
    # Places without a hand are not compared with each other.
    batch.present = torch.zeros(2)
    joints = batch.joints2d + torch.rand(2, 21, 2)
    assert pose_losses(objective, batch, joints=joints)["consistency2d"] == 0


def test_terms_of_no_weight_are_left_out():
    objective = objective_of({"consistency2d": 0, "consistency3d": 0, "edge": 0, "normal": 0})
    batch = pair()
    assert "consistency2d" not in pose_losses(objective, batch)
    assert set(mesh_losses(objective, batch.vertices / UNIT, batch)) == {"mesh", "joints3d"}


def test_weighted_mean_and_grid():
    assert mean(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 1.0])) == 2.0
    assert mean(torch.tensor([1.0, 5.0]), torch.zeros(2)) == 0.0
    grid = cell_centres(4, torch.device("cpu"))
    assert grid[0].tolist() == [0.125, 0.125] and grid[1].tolist() == [0.375, 0.125]


def test_networks_of_heatmaps_are_taught_by_their_own():
    crops = torch.zeros(2, 3, 64, 64)
    poses = ("heatmap", 16, True), ("posterior", 16, True), ("softargmax", 8, False)
    for pose, size, own in poses:
        learner = objective_of(pose=pose).learner.eval()
        with torch.no_grad():
            out, heatmaps = learner(crops, False)
        assert heatmaps.shape == (2, 21, size, size)
        assert (heatmaps is out.pose.heatmaps) is own


class OneHand:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return one_hand()


def test_pre_training_moves_the_2d_part_and_then_all_moves(tmp_path):
    torch.set_num_threads(1)
    stages = tuple(
        StageConfig(name=n, steps=2, batch_size=4, warmup=0, sources={"synthetic": 1.0})
        for n in ("pose", "mesh")
    )
    objective = MobReconObjective(MobReconConfig(**TINY), {})
    before = {k: v.clone() for k, v in objective.learner.network.state_dict().items()}
    device = torch.device("cpu")
    sources = {"synthetic": OneHand()}
    Trainer(TrainingConfig("tiny", stages), objective, sources, tmp_path, device, 0).run()
    pose, mesh = (
        checkpoint.load(tmp_path / f"{name}.safetensors")[0]["model"] for name in ("pose", "mesh")
    )
    for name in ("lifting.matrix", "decoder.head.depthwise"):
        assert torch.equal(before[name], pose[name]) and not torch.equal(pose[name], mesh[name])
    for name in ("pose.position.0.weight", "encoder.project.weight", "judge.0.weight"):
        assert not torch.equal(before[name], pose[name])
    # A later run starts from either.
    again = MobReconObjective(MobReconConfig(**TINY), {}, seed=5)
    again.load(mesh)
    assert torch.equal(again.learner.network.lifting.matrix, mesh["lifting.matrix"])


def test_a_network_with_more_heads_goes_on_from_one_without():
    torch.manual_seed(2)
    plain, grown = objective_of(), objective_of(pose="posterior")
    grown.load(plain.learner.network.state_dict())
    crops = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before, after = (o.learner.network.eval()(crops) for o in (plain, grown))
    torch.testing.assert_close(after.pose.prior, before.pose.joints)
    torch.testing.assert_close(after.side, before.side)
    with pytest.raises(RuntimeError, match="pose.doubt"):  # not the other way round
        plain.load(grown.learner.network.state_dict())


def test_all_is_fused_that_gains(objective):
    network = objective.learner.network
    assert objective.fusible == (network.encoder, network.decoder)
    light = MobReconObjective(MobReconConfig(**TINY | {"encoder": "light"}), {})
    assert light.fusible == (light.learner.network.decoder,)


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_a_fused_decoder_says_and_learns_the_same(objective):
    decoder = objective.fusible[-1]
    features = torch.randn(2, 49, TINY["features"], requires_grad=True)
    plain = decoder(features)
    (gradient,) = torch.autograd.grad(plain.square().sum(), features)
    fused = torch.compile(decoder)(features)
    (fused_gradient,) = torch.autograd.grad(fused.square().sum(), features)
    # Sums of some hundred float32 terms in another order.
    assert torch.allclose(fused, plain, rtol=1e-4, atol=1e-6)
    assert torch.allclose(fused_gradient, gradient, rtol=1e-3, atol=1e-6)
