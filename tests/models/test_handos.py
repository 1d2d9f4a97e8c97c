import copy

import pytest
import torch
from models.tiny import tiny_model

from hand_perception.errors import ModelError
from hand_perception.models.handos.camera import project, translation
from hand_perception.models.handos.config import HandOSConfig
from hand_perception.models.handos.decoder import UNIT, DecoderLayer
from hand_perception.models.handos.queries import initial_lifting
from hand_perception.template import load_template


def run(model, hands=2):
    torch.manual_seed(1)
    images = torch.randn(2, 3, 64, 64)
    found = model.detector(images)
    instances = torch.cat([found.q0, found.q6], -1)[:, :hands]
    boxes = torch.rand(2, hands, 4) * 0.2 + 0.4
    return found, model.decoder(found.backbone, found.encoder, instances, boxes)


@pytest.mark.parametrize(
    "decoder",
    [{}, {"expansion": "literal", "lift_coordinates": False}, {"vertex_queries": 778}],
    ids=["default", "literal", "all vertices"],
)
def test_every_layer_yields_joints_and_every_interactive_layer_a_mesh(decoder):
    found, out = run(tiny_model(**decoder))
    assert found.boxes.shape == (2, 12, 4) and found.logits.shape == (2, 12)
    assert [j.shape for j in out.joints2d] == [(2, 2, 21, 2)] * 4  # reference, one 2D, two 3D
    assert [v.shape for v in out.vertices] == [(2, 2, 778, 3)] * 2
    assert [c.shape for c in out.camera] == [(2, 2, 3)] * 2


def test_no_parameter_is_disconnected():
    model = tiny_model()
    found, out = run(model)
    total = sum(x.sum() for x in (*found.layer_boxes, *found.layer_logits, found.dense_boxes))
    total = total + found.dense_logits.sum() + sum(j.sum() for j in out.joints2d)
    total = (
        total
        + out.presence.sum()
        + sum(v.square().sum() for v in out.vertices)
        + sum(c.sum() for c in out.camera)
    )
    total.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert missing == []


def test_hierarchical_attention_is_the_mask_of_figure_8c():
    """The camera token sees all; joints and vertices see each other but not the camera."""
    torch.manual_seed(0)
    layer = DecoderLayer(16, heads=2, levels=1, points=2, ratio=2)
    q, position = torch.randn(1, 1, 6, 16), torch.randn(1, 1, 6, 16)
    boxes, values = torch.rand(1, 1, 6, 4) * 0.3 + 0.3, [torch.randn(1, 16, 8, 8)]
    base = layer(q, position, boxes, values, camera=True)

    moved_camera = q.clone()
    moved_camera[:, :, -1] += torch.randn(16)
    after = layer(moved_camera, position, boxes, values, camera=True)
    assert torch.equal(after[:, :, :-1], base[:, :, :-1])

    moved_joint = q.clone()
    moved_joint[:, :, 0] += torch.randn(16)
    after = layer(moved_joint, position, boxes, values, camera=True)
    changed = (after - base).abs().amax(-1)[0, 0]
    assert (changed > 1e-4).all()


def test_lifting_starts_from_weights_that_follow_the_nearest_joints():
    template = load_template()
    matrix = initial_lifting(template, torch.arange(778))
    assert matrix.shape == (779, 21)
    torch.testing.assert_close(matrix.sum(1), torch.ones(779))
    tip = int(template.regressor[8].argmax())  # the index fingertip is a vertex
    assert int(matrix[tip].argmax()) == 8
    torch.testing.assert_close(matrix[-1], torch.full((21,), 1 / 21))


def test_coarse_mesh_upsampling_keeps_a_flat_mesh_flat():
    lifting = tiny_model().decoder.lifting
    flat = torch.ones(1, 1, 30, 3) * torch.tensor([0.1, 0.2, 0.3])
    expected = torch.tensor([0.1, 0.2, 0.3]).expand(1, 1, 778, 3)
    torch.testing.assert_close(lifting.to_mesh(flat), expected)


def test_a_frozen_detector_does_not_move_in_a_training_step():
    model = tiny_model()
    model.freeze_detector()
    model.train()
    before = copy.deepcopy(model.detector.state_dict())
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(weights, lr=1.0)
    _, out = run(model)
    sum(v.square().sum() for v in out.vertices).backward()
    optimiser.step()
    for name, value in model.detector.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_camera_numbers_become_the_translation_they_describe():
    # A root at the box's centre, one UNIT spanning half the box: depth = f * UNIT / (size / 2).
    boxes = torch.tensor([[320.0, 240.0, 100.0, 80.0]])
    intrinsics = torch.tensor([[500.0, 500.0, 320.0, 240.0]])
    t = translation(torch.zeros(1, 3), boxes, intrinsics)
    torch.testing.assert_close(t, torch.tensor([[0.0, 0.0, 500 * UNIT / 50]]))
    # Moving the root by a tenth of the box moves its projection by as many pixels.
    t = translation(torch.tensor([[0.1, -0.1, 0.0]]), boxes, intrinsics)
    torch.testing.assert_close(project(t[:, None], intrinsics)[0, 0], torch.tensor([330.0, 230.0]))


def test_unknown_settings_are_named():
    with pytest.raises(ModelError, match="vertex_querys"):
        HandOSConfig.from_dict({"decoder": {"vertex_querys": 3}})
