from __future__ import annotations

import numpy as np
import pytest
import torch

from hand_perception.errors import ModelError
from hand_perception.hands import MIDDLE_MCP
from hand_perception.models.handar.config import ABLATIONS, HandARConfig
from hand_perception.models.handar.crop_camera import CropCamera, fit_camera
from hand_perception.models.handar.encoders import ResNet50
from hand_perception.models.handar.lixels import LineHead, soft_argmax
from hand_perception.models.handar.model import HandAR
from hand_perception.models.handar.refine_stage import GINConv, Neighbourhood
from hand_perception.template import load_template

TEMPLATE = load_template()


def model(**values) -> HandAR:
    torch.manual_seed(0)
    return HandAR(HandARConfig(width=16, graph_width=8, **values), TEMPLATE).eval()


def crops(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 128, 128, generator=torch.Generator().manual_seed(1))


# -- joints and vertices from lines ---------------------------------------------------------------


def test_soft_argmax_is_the_mean_place():
    logits = torch.tensor([[[0.0, 0, 0, 0], [-99, -99, 99, -99], [9, 9, -99, -99]]])
    # Four cells of 0..1 have their centres at 1/8, 3/8, 5/8, 7/8.
    assert soft_argmax(logits, 0, 1)[0].tolist() == pytest.approx([0.5, 0.625, 0.25])
    assert soft_argmax(logits, -1, 3)[0].tolist() == pytest.approx([1.0, 1.5, 0.0])


def test_a_line_head_moves_with_what_it_sees():
    torch.manual_seed(0)
    head = LineHead(4, 3).eval()
    line = torch.zeros(1, 4, 32)
    line[:, :, 10:13] = torch.randn(1, 4, 3)
    moved = head(line.roll(5, -1))
    assert torch.allclose(moved, head(line).roll(5, -1), atol=1e-6)


# -- the camera of a crop -------------------------------------------------------------------------


def test_a_labelled_hand_gives_its_camera_back():
    camera = CropCamera(torch.tensor([1.7, 3.0]), torch.tensor([0.3, 0.05]))
    joints = torch.from_numpy(TEMPLATE.keypoints - TEMPLATE.keypoints[MIDDLE_MCP]) / 0.1
    # Turned, so that it has depth.
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2)))[0]
    joints = (joints @ turn.T).expand(2, -1, -1)
    root = torch.tensor([[0.2, -0.1, 0.0], [-0.3, 0.4, 0.0]])
    seen = camera.to_image(joints + root[:, None])
    known = torch.ones(2, 21, dtype=torch.bool)
    known[0, :5] = False
    seen[0, :5] = 9.0
    found, before = fit_camera(seen[..., :2], joints, known)
    # The prior weighs 1e-3 against 32 equations of about 0.1: 1e-6 / 0.3 of what it asks for.
    assert torch.allclose(found.side, camera.side, atol=1e-4)
    assert torch.allclose(found.nearness, camera.nearness, atol=1e-4)
    assert torch.allclose(before, root, atol=1e-4)
    assert torch.allclose(camera.to_space(seen)[1], (joints + root[:, None])[1], atol=1e-5)


def test_a_crop_without_labels_has_a_finite_camera():
    camera, root = fit_camera(
        torch.full((1, 21, 2), 0.5), torch.zeros(1, 21, 3), torch.zeros(1, 21, dtype=torch.bool)
    )
    assert float(camera.side) == pytest.approx(2.0) and torch.isfinite(root).all()
    assert float(camera.nearness) == pytest.approx(0.1)


# -- the graph network ----------------------------------------------------------------------------


def test_gin_adds_up_the_neighbours():
    # Two triangles on an edge: 0 and 3 see two others, 1 and 2 all three.
    around = Neighbourhood(np.array([[0, 1, 2], [1, 3, 2]]), 4)
    x = torch.tensor([1.0, 10, 100, 1000])[:, None, None].expand(4, 2, 1)
    expected = torch.tensor([110.0, 1101, 1011, 110])
    assert torch.equal(around(x)[:, 0, 0], expected)
    assert torch.equal(around.by_gather(x)[:, 1, 0], expected)
    layer = GINConv(around, 1, 1, 1, last=True).eval()  # an untrained norm leaves things alone
    with torch.no_grad():
        layer.eps.fill_(0.5)
        layer.mlp[0].weight.fill_(1.0)
        layer.mlp[-1].weight.fill_(1.0)
        layer.mlp[-1].bias.zero_()
    assert torch.allclose(layer(x)[:, 0, 0], 1.5 * x[:, 0, 0] + expected)


def test_hidden_units_stay_alive_however_large_sums_grow():
    around = Neighbourhood(TEMPLATE.faces, 778)
    layer = GINConv(around, 8, 32, 3, last=True)
    x = 1000 + torch.randn(778, 2, 8, generator=torch.Generator().manual_seed(4))
    hidden = layer.mlp[:3]((1 + layer.eps) * x + around(x))
    alive = (hidden > 0).float().mean((0, 1))
    assert (alive > 0.02).all() and (alive < 0.98).all()


def test_gather_and_sparse_product_agree_on_the_template():
    around = Neighbourhood(TEMPLATE.faces, 778)
    x = torch.randn(778, 2, 5, generator=torch.Generator().manual_seed(3))
    # At most ten float32 terms in another order.
    assert torch.allclose(around(x), around.by_gather(x), atol=1e-5)


# -- the whole ------------------------------------------------------------------------------------


def test_what_comes_out_fits_together():
    net = model()
    out = net(crops(), teach=True)
    assert out.vertices.shape == (2, 778, 3) and out.joints2d.shape == (2, 21, 2)
    assert out.stage.joints.shape == (2, 21, 3) and out.stage.mask.shape == (2, 64, 64)
    joints = net.regressor @ out.vertices
    # About the middle MCP, and its 2D joints are the mesh's own where it lies in the image.
    assert torch.allclose(joints[:, MIDDLE_MCP], torch.zeros(2, 3), atol=1e-5)
    marked = net.landmarks @ out.vertices
    camera, _ = fit_camera(out.joints2d, marked, torch.ones(2, 21, dtype=torch.bool))
    side = out.camera.side * (1 + out.camera.nearness * (net.regressor @ out.final)[:, 9, 2])
    assert torch.allclose(camera.side, side, rtol=0.05)


def test_offsets_start_small():
    out = model()(crops())
    assert 0 < float((out.final - out.rough).detach().abs().max()) < 0.1


def test_inference_cuts_the_branches_of_training_away():
    net = model()
    ran = []
    for name in ("joint_branch.lixels", "segmentation"):
        net.get_submodule(name).register_forward_hook(lambda *_, name=name: ran.append(name))
    deployed = net(crops())
    assert ran == [] and deployed.stage.joints is None and deployed.stage.mask is None
    taught = net(crops(), teach=True)
    assert sorted(ran) == ["joint_branch.lixels", "segmentation"]
    assert torch.equal(taught.vertices, deployed.vertices)


@pytest.mark.parametrize("part", ABLATIONS)
def test_each_part_can_be_left_out(part):
    """Table 3."""
    whole, net = model(), model(without=(part,))
    out = net(crops(), teach=True)
    assert torch.isfinite(out.vertices).all()
    lost = set(whole.state_dict()) - set(net.state_dict())
    if part == "joint_stage":
        assert out.stage.joints is None and out.stage.mask.shape == (2, 64, 64)
    elif part == "segmentation":
        assert out.stage.mask is None and out.stage.joints is not None
    elif part == "refine_stage":
        assert torch.equal(out.rough, out.final)
    elif part == "local":
        seen, changed = (
            net.refine_stage(out.rough, [m], out.rough.new_zeros(2, 192))
            for m in (crops(), -crops())
        )
        assert torch.equal(seen, changed)
    elif part == "global":
        assert lost == {f"refine_stage.broadcast.{k}" for k in ("weight", "bias")}
    else:
        moved = net.refine_stage(out.rough + 1, net_maps(net), torch.zeros(2, 192))
        # A new place: with offsets, which start near zero, it would be where it was.
        assert not lost and float((moved - out.rough - 1).detach().abs().mean()) > 0.5


def net_maps(net: HandAR) -> list[torch.Tensor]:
    pyramid = net.encoder(crops())
    mesh = net.mesh_stage(pyramid.shallow, net.joint_branch(pyramid, False).features)
    return [crops(), pyramid.stem, pyramid.shallow, mesh.maps[0]]


def test_resnet50_has_its_size():
    # torchvision's: 25,557,032 with the 2048 x 1000 + 1000 of its classifier.
    count = sum(p.numel() for p in ResNet50().parameters())
    assert count == 25_557_032 - 2_049_000


def test_the_papers_size_runs():
    torch.manual_seed(0)
    config = HandARConfig(crop_size=128, encoder="resnet50", width=32, graph_width=8)
    with torch.no_grad():
        out = HandAR(config, TEMPLATE).eval()(crops(1), teach=True)
    assert out.vertices.shape == (1, 778, 3) and out.stage.mask.shape == (1, 64, 64)


def test_unknown_choices_are_named():
    with pytest.raises(ModelError, match="resnet50"):
        HandARConfig(encoder="vgg")
    with pytest.raises(ModelError, match="leave out"):
        HandARConfig(without=("thumb",))
    with pytest.raises(ModelError, match="128"):
        HandARConfig(crop_size=100)
