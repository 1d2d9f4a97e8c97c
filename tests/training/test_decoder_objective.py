import math

import numpy as np
import pytest
import torch
import trimesh
from models.tiny import TINY, tiny_config, tiny_model
from one_hand import one_hand

from hand_perception.errors import DataError, ModelError
from hand_perception.models.detectors.protocol import Detections
from hand_perception.models.handos.camera import translation
from hand_perception.models.handos.decoder import SPREAD_2D, SPREAD_3D, UNIT, DecoderOutput
from hand_perception.models.mesh_prior import MeshPrior, PriorConfig
from hand_perception.models.mobrecon.config import MobReconConfig
from hand_perception.models.mobrecon.model import MobRecon
from hand_perception.template import load_template
from hand_perception.training.batches import BatchRecipe, collate
from hand_perception.training.decoder_objective import (
    Instances,
    LossWeights,
    _true_camera,
    choose_impostors,
    choose_instances,
    decoder_losses,
    presence_loss,
)
from hand_perception.training.handos_objective import HandOSObjective
from hand_perception.training.losses import OKS_SIGMAS, MeshTerms, heatmap_loss


def a_batch():
    sample = one_hand()
    sample.image = sample.image[:64, :64]
    sample.hands.keypoints2d[:] = sample.hands.keypoints2d * 0.4
    recipe = BatchRecipe(batch_size=1, sizes=(64,), view="hand", slots=2, weights=(1.0,))
    batch = collate([sample], 64, recipe)
    batch.ignore.zero_()
    return batch


def detections(boxes, logits) -> Detections:
    boxes, logits = torch.tensor([boxes]), torch.tensor([logits])
    queries = torch.arange(boxes.shape[1]).float()[None, :, None]
    return Detections([], [], [], queries, -queries, boxes, logits)


def test_instances_are_queries_of_hands_and_impostors_are_not():
    batch = a_batch()
    hand = batch.boxes[0, 0].tolist()
    found = detections([hand, [0.9, 0.9, 0.1, 0.1], [0.1, 0.9, 0.1, 0.1]], [1.0, 2.0, 0.0])
    chosen = choose_instances(found, batch, 1)
    assert chosen.valid.all() and chosen.queries[0, 0].tolist() == [0, 0]
    impostors = choose_impostors(found, batch, 2)
    assert impostors.valid.tolist() == [[True, True]]
    assert impostors.queries[0, :, 0].tolist() == [1, 2]  # the best score first


def test_nobody_is_an_impostor_where_hands_may_be_unlabelled():
    batch = a_batch()
    batch.background[:] = 0.3
    found = detections([[0.9, 0.9, 0.1, 0.1]], [2.0])
    assert not choose_impostors(found, batch, 1).valid.any()


def test_presence_loss_counts_valid_slots_only():
    logits = torch.tensor([[math.log(3), 50.0, math.log(3)]])  # probabilities 3/4, 1, 3/4
    loss = presence_loss(logits, torch.tensor([[True, False]]), torch.tensor([[True]]))
    expected = -(math.log(3 / 4) + math.log(1 / 4)) / 2
    torch.testing.assert_close(loss, torch.tensor(expected))


def test_camera_goal_is_the_inverse_of_the_camera_head():
    t = torch.tensor([[0.05, -0.02, 0.7]])
    boxes, intrinsics = torch.tensor([[0.4, 0.6, 0.3, 0.2]]), torch.tensor([[1.1, 1.1, 0.5, 0.5]])
    torch.testing.assert_close(
        translation(_true_camera(t, boxes, intrinsics), boxes, intrinsics), t
    )


def test_judged_slots_only_get_a_presence():
    model = tiny_model()
    found = model.detector(torch.randn(1, 3, 64, 64))
    instances = torch.cat([found.q0, found.q6], -1)[:, :3]
    out = model.decoder(found.backbone, found.encoder, instances, found.boxes[:, :3], judged=1)
    assert out.presence.shape == (1, 3) and out.vertices[-1].shape == (1, 2, 778, 3)


# Supplement VI.2; what we add beside the paper's nine terms is left out.
SUPPLEMENT = LossWeights(
    joints2d=10,
    oks2d=4,
    vertices=10,
    joints3d=10,
    normal=5,
    edge=10,
    projection=10,
    oks_projection=4,
    consistency=0.5,
    heatmap=0,
    camera=0,
    presence=0,
)


def doubled_hand(dtype=torch.float64):
    """A batch of one hand, and an output that says its mesh twice as large, its joints a tenth of
    the box to the right and its camera as it is."""
    template, batch = load_template(), a_batch()
    for name, value in vars(batch).items():
        if value.is_floating_point():
            setattr(batch, name, value.to(dtype))
    # Points and projections that agree: the label's joints are the mesh's.
    t = batch.translation[0, 0]
    batch.vertices = torch.from_numpy(template.vertices - template.keypoints[9])[None, None].to(
        dtype
    )
    batch.vertices = torch.cat([batch.vertices, batch.vertices], 1)
    regressor = torch.from_numpy(template.regressor).to(dtype)
    batch.joints3d = regressor @ batch.vertices
    box = batch.boxes[:, :1]
    side = box[..., 2:].amax(-1)
    chosen = Instances(torch.zeros(1, 1, 2), box, torch.zeros(1, 1).long(), torch.ones(1, 1).bool())
    out = DecoderOutput(
        joints2d=[batch.keypoints2d[:, :1] + torch.stack([0.1 * side, 0 * side], -1)[..., None, :]],
        vertices=[2 * batch.vertices[:, :1] / UNIT],
        camera=[_true_camera(t[None, None], box, batch.intrinsics[:, None])],
    )
    mesh = MeshTerms(torch.from_numpy(template.faces).long())
    return out, chosen, batch, mesh, regressor


def test_the_nine_terms_sum_to_a_hand_computed_total():
    out, chosen, batch, mesh, regressor = doubled_hand()
    losses = decoder_losses(out, chosen, batch, mesh, regressor, regressor, SUPPLEMENT)

    template = load_template()
    v = (template.vertices - template.keypoints[9]).astype(np.float64)
    j = template.regressor.astype(np.float64) @ v
    width, height = chosen.boxes[0, 0, 2:].tolist()
    side, sigma = max(width, height), np.array(OKS_SIGMAS)

    def oks(distance):
        return 1 - np.exp(-(distance**2) / (2 * width * height * (2 * sigma) ** 2)).mean()

    # The only layer weighs 1/2, as the first of several would.
    assert float(losses["joints2d_0"]) == pytest.approx(
        0.5 * (10 * 0.05 + 4 * oks(0.1 * side)), rel=1e-6
    )
    assert float(losses["mesh_0"]) == pytest.approx(10 * np.abs(v / UNIT).mean(), rel=1e-6)
    assert float(losses["joints3d_0"]) == pytest.approx(10 * np.abs(j / UNIT).mean(), rel=1e-6)
    surface = trimesh.Trimesh(v, template.faces, process=False)
    edges = np.linalg.norm(v[template.faces] - v[np.roll(template.faces, -1, 1)], axis=-1)
    # Doubled edges lie in their own faces, so L^normal is nothing here.
    assert float(losses["surface_0"]) == pytest.approx(10 * edges.mean() / UNIT, rel=1e-4)
    bends = 1 - np.cos(surface.face_adjacency_angles)
    assert float(losses["consistency_0"]) == pytest.approx(0.5 * bends.mean(), rel=1e-4)
    t = batch.translation[0, 0].numpy()
    fx, fy, cx, cy = batch.intrinsics[0].tolist()

    def project(points):
        return points[:, :2] / points[:, 2:] * (fx, fy) + (cx, cy)

    off = project(2 * j + t) - batch.keypoints2d[0, 0].numpy()
    expected = 10 * np.abs(off / side).mean() + 4 * oks(np.linalg.norm(off, axis=-1))
    assert float(losses["projection_0"]) == pytest.approx(expected, rel=1e-5)
    assert float(losses["camera_0"]) == 0
    assert len(losses) == 7


def test_samples_without_3d_learn_from_2d_and_smoothness_alone():
    out, chosen, batch, mesh, regressor = doubled_hand()
    batch.weight3d.zero_()
    batch.weight_mesh.zero_()
    batch.metric[:] = False
    losses = decoder_losses(out, chosen, batch, mesh, regressor, regressor, LossWeights())
    named = {name.rpartition("_")[0]: float(value) for name, value in losses.items()}
    assert named["mesh"] == named["joints3d"] == named["surface"] == named["camera"] == 0
    assert named["projection"] > 0 and named["consistency"] > 0 and named["joints2d"] > 0
    vertices = out.vertices[0].requires_grad_()
    sum(
        decoder_losses(out, chosen, batch, mesh, regressor, regressor, LossWeights()).values()
    ).backward()
    assert torch.isfinite(vertices.grad).all() and vertices.grad.abs().sum() > 0


def test_every_layer_is_supervised():
    out, chosen, batch, mesh, regressor = doubled_hand()
    out.joints2d, out.vertices, out.camera = out.joints2d * 3, out.vertices * 2, out.camera * 2
    losses = decoder_losses(out, chosen, batch, mesh, regressor, regressor, SUPPLEMENT)
    per_layer = ("mesh", "joints3d", "surface", "consistency", "projection", "camera")
    assert set(losses) == {f"joints2d_{k}" for k in range(3)} | {
        f"{name}_{k}" for name in per_layer for k in range(2)
    }
    # Both layers say the same mesh, so they cost the same.
    assert all(losses[f"{name}_0"] == losses[f"{name}_1"] for name in per_layer)
    last = decoder_losses(
        out, chosen, batch, mesh, regressor, regressor, SUPPLEMENT, every_layer=False
    )
    assert set(losses) - set(last) == {"surface_0", "consistency_0"}


@pytest.mark.parametrize("what", ["joints2d", "vertices", "camera"])
def test_gradients_of_the_total_match_finite_differences(what):
    out, chosen, batch, mesh, regressor = doubled_hand()
    torch.manual_seed(0)
    start = getattr(out, what)[0]
    # Off the kinks of absolute values, and small enough that projections stay in front.
    start = (start + 0.02 * torch.randn_like(start)).requires_grad_()

    def total(x):
        setattr(out, what, [x])
        losses = decoder_losses(out, chosen, batch, mesh, regressor, regressor, SUPPLEMENT)
        return sum(losses.values())

    assert torch.autograd.gradcheck(total, (start,), fast_mode=True)


def test_the_papers_instances_keep_their_own_boxes():
    batch = a_batch()
    x, y, w, h = batch.boxes[0, 0].tolist()
    found = detections([[x + 0.6 * w, y, w, h]], [1.0])  # an overlap of a quarter
    own = choose_instances(found, batch, 1, iou_cost=1.0, true_boxes=0.0)
    assert torch.equal(own.boxes, found.boxes)
    assert not torch.equal(choose_instances(found, batch, 1).boxes, found.boxes)


def test_an_answer_counts_by_how_sure_it_is():
    out, chosen, batch, mesh, regressor = doubled_hand()
    joints2d = batch.keypoints2d[:, :1]
    # The prior is a tenth of the box off along x and twice as unsure as usual; the answer is right.
    out.answer, out.prior_spread = joints2d, torch.full((1, 1, 21), 2 * SPREAD_2D)
    out.spread2d, out.spread3d = torch.full((1, 1, 21), SPREAD_2D), torch.full((1, 1), SPREAD_3D)
    grid = torch.rand(1, 1, 100, 2).double()
    out.evidence, out.evidence_grid = torch.zeros(1, 1, 21, 10, 10).double(), grid
    out.side, batch.side[:] = torch.tensor([[math.log(3.0)]]), -1.0  # 3/4 for a right hand
    weights = LossWeights(joints2d=10, heatmap=2, side=5)
    losses = decoder_losses(out, chosen, batch, mesh, regressor, regressor, weights)
    prior = SPREAD_2D * (0.05 / (2 * SPREAD_2D) + math.log(2))
    # Half of it the prior's, and half as the first of several layers.
    assert float(losses["joints2d_0"]) == pytest.approx(0.5 * 10 * 0.5 * prior, rel=1e-5)
    assert float(losses["side"]) == pytest.approx(-5 * math.log(1 / 4), rel=1e-6)
    # Evidence that tells nothing of 100 places.
    side = chosen.boxes[..., 2:].amax(-1)
    told = float(heatmap_loss(torch.zeros(1, 1, 21, 100), grid, joints2d, side))
    assert float(losses["evidence"]) == pytest.approx(2 * told, rel=1e-6)
    # As sure as usual, a mesh costs what it costs without.
    plain, *_ = doubled_hand()
    expected = decoder_losses(plain, chosen, batch, mesh, regressor, regressor, weights)
    assert float(losses["mesh_0"]) == pytest.approx(float(expected["mesh_0"]), rel=1e-6)
    batch.side[:] = 0
    unknown = decoder_losses(out, chosen, batch, mesh, regressor, regressor, weights)
    assert float(unknown["side"]) == 0


def test_a_network_goes_on_from_one_without_its_newer_parts(caplog):
    plain = tiny_model().state_dict()
    grown = HandOSObjective(tiny_config(side_tuning="light", joints="posterior"), {}, seed=3)
    grown.load(plain)
    assert "decoder.doubt2d" in caplog.text and "decoder.layers_2d" not in caplog.text
    own = grown.learner.network.state_dict()
    for name in ("decoder.layers_2d.0.ffn.0.weight", "detector.token.weight"):
        assert torch.equal(own[name], plain[name])


def test_the_light_pyramid_starts_as_mobrecons():
    torch.manual_seed(4)
    mobrecon = MobRecon(MobReconConfig(encoder="light"), load_template()).state_dict()
    objective = HandOSObjective(tiny_config(side_tuning="light"), {})
    objective.load(mobrecon)
    beside = objective.learner.network.decoder.scratch.state_dict()
    assert all(torch.equal(v, mobrecon[f"encoder.{k}"]) for k, v in beside.items())
    for network, weights, fault in (
        (HandOSObjective(TINY, {}), mobrecon, "weights of another network"),
        (objective, {"mesh_stage.x": torch.zeros(1)}, "weights of another network"),
        (objective, {"detector.token.weight": torch.zeros(3, 3)}, "another detector"),
    ):
        with pytest.raises(ModelError, match=fault):
            network.load(weights)


def test_a_prior_needs_no_labels():
    out, chosen, batch, mesh, regressor = doubled_hand(torch.float32)
    batch.weight3d.zero_()
    batch.weight_mesh.zero_()
    torch.manual_seed(0)
    prior = MeshPrior(PriorConfig(hidden=8, code=4), load_template())
    losses = decoder_losses(
        out, chosen, batch, mesh, regressor, regressor, LossWeights(prior=3.0), prior=prior
    )
    torch.testing.assert_close(losses["prior_0"], 3 * prior.distance(out.vertices[0][0, 0]))
    with pytest.raises(DataError, match="go together"):
        HandOSObjective(TINY, {"prior": 3.0})
