import copy

import pytest
import torch
from models.tiny import tiny_model

from hand_perception.errors import ModelError
from hand_perception.models.handos.camera import project, translation
from hand_perception.models.handos.config import HandOSConfig
from hand_perception.models.handos.decoder import SPREAD_2D, SPREAD_3D, UNIT, DecoderLayer
from hand_perception.models.handos.queries import GRID_MARGIN, WholeHand, initial_lifting
from hand_perception.template import load_template


def run(model, hands=2, boxes=None):
    torch.manual_seed(1)
    images = torch.randn(2, 3, 64, 64)
    boxes = torch.rand(2, hands, 4) * 0.2 + 0.4 if boxes is None else boxes
    found = model.detector(images)
    instances = torch.cat([found.q0, found.q6], -1)[:, :hands]
    return found, model.decoder(*model.decoder.read(images, found), instances, boxes)


@pytest.mark.parametrize(
    "decoder",
    [
        {},
        {"expansion": "literal", "lift_coordinates": False},
        {"vertex_queries": 778},
        {"queries": "unified", "features": "F4", "mask": "a"},
    ],
    ids=["default", "literal", "all vertices", "ablated"],
)
def test_every_layer_yields_joints_and_every_interactive_layer_a_mesh(decoder):
    found, out = run(tiny_model(**decoder))
    assert found.boxes.shape == (2, 12, 4) and found.logits.shape == (2, 12)
    assert [j.shape for j in out.joints2d] == [(2, 2, 21, 2)] * 4  # reference, one 2D, two 3D
    assert [v.shape for v in out.vertices] == [(2, 2, 778, 3)] * 2
    assert [c.shape for c in out.camera] == [(2, 2, 3)] * 2


@pytest.mark.parametrize("decoder", [{"whole_hand": True}, {"expansion": "literal"}])
def test_no_parameter_is_disconnected(decoder):
    model = tiny_model(**decoder)
    found, out = run(model)
    total = sum(x.sum() for x in (*found.layer_boxes, *found.layer_logits, found.dense_boxes))
    total = total + found.dense_logits.sum() + sum(j.sum() for j in out.joints2d)
    total = (
        total
        + (0 if out.presence is None else out.presence.sum())
        + sum(v.square().sum() for v in out.vertices)
        + sum(c.sum() for c in out.camera)
    )
    total.backward()
    missing = [name for name, p in model.named_parameters() if p.grad is None]
    assert missing == []


# Fig. 8: which of the tokens joint, vertex, camera (rows) see which (columns).
FIGURE_8 = {
    "a": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "b": [[1, 0, 0], [1, 1, 0], [1, 1, 1]],
    "c": [[1, 1, 0], [1, 1, 0], [1, 1, 1]],
    "d": [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
}


@pytest.mark.parametrize("mask", FIGURE_8)
def test_interactive_attention_follows_figure_8(mask):
    torch.manual_seed(0)
    layer = DecoderLayer(16, heads=2, levels=1, points=2, ratio=2)
    count = 21 + 3 + 1
    kinds = {0: slice(0, 21), 1: slice(21, 24), 2: slice(24, 25)}
    q, position = torch.randn(1, 1, count, 16), torch.randn(1, 1, count, 16)
    boxes, values = torch.rand(1, 1, count, 4) * 0.3 + 0.3, [torch.randn(1, 16, 8, 8)]
    base = layer(q, position, boxes, values, mask)
    for seen, tokens in kinds.items():
        moved = q.clone()
        moved[:, :, tokens.start] += torch.randn(16)
        changed = (layer(moved, position, boxes, values, mask) - base).abs().amax(-1)[0, 0] > 0
        changed[tokens.start] = False  # its own residual
        for viewer, others in kinds.items():
            expected = bool(FIGURE_8[mask][viewer][seen])
            mine = changed[others]
            if viewer == seen:
                mine = mine[1:]  # a lone token of its kind has nobody to tell
            assert mine.all() if expected else not mine.any(), (viewer, seen)


def test_the_mask_is_the_configured_one():
    """The camera's initial query reaches joints in (d) only."""
    for mask, reaches in (("a", False), ("b", False), ("c", False), ("d", True)):
        model = tiny_model(mask=mask)
        _, base = run(model)
        with torch.no_grad():
            model.decoder.lifting.matrix[-1] *= 3
        _, moved = run(model)
        assert torch.equal(base.joints2d[-1], moved.joints2d[-1]) is not reaches, mask
        assert not torch.equal(base.camera[-1], moved.camera[-1])


def test_reference_boxes_move_layer_by_layer():
    """R + FFN(Q) (eq. 3's form): a layer's joints are the last layer's plus its own step."""
    model = tiny_model()
    _, base = run(model)
    with torch.no_grad():
        model.decoder.head_2d[-1][2].bias += 0.1
    _, moved = run(model)
    for before, after in zip(base.joints2d[:-1], moved.joints2d[:-1], strict=True):
        assert torch.equal(before, after)
    torch.manual_seed(1)
    torch.randn(2, 3, 64, 64)
    boxes = torch.rand(2, 2, 4) * 0.2 + 0.4
    step = moved.joints2d[-1] - base.joints2d[-1]
    # Sums of numbers below one round to 2^-24.
    torch.testing.assert_close(step, 0.1 * boxes[:, :, None, 2:].expand_as(step), atol=2e-7, rtol=0)


def test_unified_queries_ignore_the_instances():
    model = tiny_model(queries="unified")
    found, _ = run(model)
    boxes = torch.tensor([0.5, 0.5, 0.4, 0.4]).expand(2, 3, 4)
    outs = [
        model.decoder(found.backbone, found.encoder, torch.randn(2, 3, 32), boxes) for _ in range(2)
    ]
    assert torch.equal(outs[0].joints2d[-1], outs[1].joints2d[-1])
    assert "decoder.unified" in model.state_dict() and not hasattr(model.decoder, "instance")


def test_f4_reads_the_encoder_two_thirds_through():
    images = torch.randn(1, 3, 64, 64)
    for features in ("F4", "F6"):
        model = tiny_model(features=features)
        found = model.detector(images)
        _, encoder = model.decoder.read(images, found)
        assert encoder is (found.encoder_middle if features == "F4" else found.encoder)
        assert [m.shape for m in found.encoder_middle] == [m.shape for m in found.encoder]
    # The coarsest map goes down the pyramid unchanged, so only the way up tells them apart.
    assert not torch.equal(found.encoder_middle[-1], found.encoder[-1])


SWIN = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}


def test_a_swin_from_scratch_stands_in_for_the_backbone_and_learns():
    pytest.importorskip("transformers", reason="needs transformers")
    model = tiny_model(side_tuning="swin_t", swin=SWIN)
    model.freeze_detector()
    model.train()
    images = torch.randn(2, 3, 64, 64)
    found = model.detector(images)
    backbone, encoder = model.decoder.read(images, found)
    assert [m.shape[-1] for m in backbone] == [16, 8, 4, 2]
    instances, boxes = torch.cat([found.q0, found.q6], -1)[:, :1], torch.full((2, 1, 4), 0.5)
    model.decoder(backbone, encoder, instances, boxes).vertices[-1].square().sum().backward()
    swin = model.decoder.scratch.swin.swin
    # Strides 4, 8 and 16 are read.
    for part in (swin.embeddings, *swin.encoder.layers[:3]):
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())
    assert all(p.grad is None for p in model.detector.parameters())


def test_a_light_pyramid_beside_the_frozen_detector_learns():
    model = tiny_model(side_tuning="light")
    model.freeze_detector()
    model.train()
    images = torch.randn(2, 3, 64, 64)
    found = model.detector(images)
    backbone, encoder = model.decoder.read(images, found)
    assert [(m.shape[1], m.shape[-1]) for m in backbone] == [(32, 16), (128, 8), (128, 4), (128, 2)]
    instances, boxes = torch.cat([found.q0, found.q6], -1)[:, :1], torch.full((2, 1, 4), 0.5)
    model.decoder(backbone, encoder, instances, boxes).vertices[-1].square().sum().backward()
    beside = model.decoder.scratch
    # Stride 32 too, from which the maps above it know the whole.
    for part in (beside.backbone.stem, beside.backbone.stages[-1], beside.fuse[-1]):
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())
    assert all(p.grad is None for p in model.detector.parameters())


def test_evidence_moves_joints_and_flat_evidence_does_not():
    model = tiny_model(joints="posterior", side="opinion")
    boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.2], [0.4, 0.6, 0.3, 0.3]]]).repeat(2, 1, 1)
    last = model.decoder.expansion.evidence.maps
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)
    _, out = run(model, boxes=boxes)
    # Sums of 144 cells in another order: 144^0.5 * 2^-24 of 1 is 7e-7.
    torch.testing.assert_close(out.answer, out.joints2d[-1], atol=1e-6, rtol=0)
    assert out.spread2d.shape == out.prior_spread.shape == (2, 2, 21)
    assert out.spread3d.shape == out.side.shape == (2, 2)
    # New heads know the usual error only.
    torch.testing.assert_close(out.spread2d, torch.full((2, 2, 21), SPREAD_2D))
    torch.testing.assert_close(out.spread3d, torch.full((2, 2), SPREAD_3D))
    # Evidence that rises by 5 a cell to the right, over the hand's square of 12 cells.
    model.decoder.expansion.evidence.logits = lambda coarse, fine: (
        5 * torch.arange(12.0).expand(len(coarse), 21, 12, 12)
    )
    _, out = run(model, boxes=boxes)
    shift = out.answer - out.joints2d[-1]
    square = (boxes[..., 2:].amax(-1) * GRID_MARGIN)[..., None]
    assert (shift[..., 0] > 0.2 * square).all() and shift[..., 1].abs().max() < 1e-6


def test_a_posterior_needs_a_look_at_the_image():
    for choice in ({"joints": "posterior"}, {"side": "opinion"}, {"whole_hand": True}):
        with pytest.raises(ModelError, match="need decoder.expansion: grid"):
            tiny_model(expansion="literal", **choice)


def test_skinning_weights_start_the_lifting_as_printed():
    template = load_template()
    matrix = tiny_model(vertex_queries=778, lifting="skinning").decoder.lifting.matrix.detach()
    torch.testing.assert_close(matrix[:-1].sum(1), torch.ones(778))
    weights = torch.from_numpy(template.weights)
    torch.testing.assert_close(matrix[:-1, [0, 1, 5]], weights[:, [0, 1, 4]])
    assert not matrix[:-1, [4, 8, 12, 16, 20]].any()


def test_the_2d_model_goes_through_two_or_all_layers():
    images, boxes = torch.randn(1, 3, 64, 64), torch.full((1, 1, 4), 0.5)
    for through, layers in ((False, 1), (True, 3)):
        model = tiny_model(all_layers_2d=through)
        found = model.detector(images)
        instances = torch.cat([found.q0, found.q6], -1)[:, :1]
        maps = model.decoder.read(images, found)
        out = model.decoder(*maps, instances, boxes, with_mesh=False)
        assert len(out.joints2d) == 1 + layers and not out.vertices and not out.camera
        # With the mesh the same layers are interactive, whatever the 2D model did.
        assert len(model.decoder(*maps, instances, boxes).joints2d) == 1 + 3
        assert torch.equal(out.joints2d[1], model.decoder(*maps, instances, boxes).joints2d[1])


def test_a_look_at_the_whole_hand_starts_as_nothing_and_learns_to_join_far_cells():
    torch.manual_seed(0)
    look = WholeHand(8).eval()
    x = torch.rand(2, 8, 7, 7, requires_grad=True)
    assert torch.equal(look(x), x)

    optimiser = torch.optim.SGD(look.parameters(), lr=1e-4)
    look(x).square().sum().backward()
    optimiser.step()
    x.grad = None
    look(x)[0, :, 0, 0].sum().backward()
    assert x.grad[0, :, -1, -1].abs().sum() > 0  # the opposite corner
    assert x.grad[1].abs().sum() == 0  # another hand


def test_unknown_choices_are_named():
    with pytest.raises(ModelError, match="mask is 'e': use one of"):
        tiny_model(mask="e")


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
