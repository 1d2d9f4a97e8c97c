"""MobRecon's parts against closed forms, and each switch of Tables 1 to 4."""

import pytest
import torch

from hand_perception.errors import ModelError
from hand_perception.models.mobrecon.blocks import DenseBlock, GhostUnit, SeparableUnit
from hand_perception.models.mobrecon.config import MobReconConfig
from hand_perception.models.mobrecon.decoder import (
    DepthSeparableSpiralConv,
    SpiralConv,
    SpiralConvPlus,
)
from hand_perception.models.mobrecon.encoder import MAP_WIDTH, Encoded, Hourglass
from hand_perception.models.mobrecon.lifting import (
    FullyConnected,
    PoseToVertex,
    grid_sampling,
    joint_wise_pooling,
)
from hand_perception.models.mobrecon.model import MobRecon
from hand_perception.models.mobrecon.pose2d import (
    SPREAD,
    Heatmaps,
    MapRegression,
    Pose2D,
    Posterior,
    SoftArgmax,
    posterior_shift,
)
from hand_perception.template import load_template

# Sums of at most a thousand float32 products of order one.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
VARIANTS = [
    {},
    {"encoder": "light"},
    {"encoder": "dense"},
    {"encoder": "resnet18"},
    {"encoder": "resnet50"},
    {"pose": "heatmap"},
    {"pose": "heatmap", "skips": False},
    {"pose": "softargmax"},
    {"pose": "regression"},
    {"pose": "posterior"},
    {"lifting": "fc"},
    {"graph": "spiralconv++"},
    {"graph": "spiralconv"},
]


def tiny(**changes) -> MobRecon:
    torch.manual_seed(0)
    sizes = {"encoder": "ghost", "crop_size": 64, "features": 16, "widths": (16, 8, 8, 4)}
    return MobRecon(MobReconConfig(**(sizes | changes)), load_template())


@pytest.mark.parametrize("changes", VARIANTS, ids=lambda c: "-".join(map(str, c.values())))
def test_every_switch_runs_and_all_of_it_learns(changes):
    model = tiny(**changes)
    crops = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    out = model(crops)
    assert out.vertices.shape == (2, 778, 3) and out.joints2d.shape == (2, 21, 2)
    assert out.maps.shape == (2, MAP_WIDTH, 8, 8)
    assert out.side.shape == out.presence.shape == (2,)
    said = [
        out.vertices,
        out.joints2d,
        out.maps,
        out.side,
        out.presence,
        out.spread2d,
        out.spread3d,
    ]
    said = [part for part in said if part is not None]
    assert (len(said) == 7) is (changes.get("pose") == "posterior")
    sum(part.square().sum() for part in said).backward()
    lost = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert lost == []
    assert model(crops, with_mesh=False).vertices is None


def test_shipped_configuration_keeps_its_names_and_shapes():
    # Trained weights are found by these.
    model = MobRecon(MobReconConfig(encoder="light"), load_template())
    shapes = {name: tuple(p.shape) for name, p in model.state_dict().items()}
    assert shapes["lifting.matrix"] == (49, 21)
    assert shapes["pose.maps.weight"] == (21, 24, 1, 1)
    assert shapes["pose.position.0.weight"] == (128, 256)
    assert shapes["decoder.head.depthwise"] == (9, 32)
    assert shapes["decoder.convolutions.0.pointwise.weight"] == (256, 256)
    assert shapes["encoder.project.weight"] == (256, 128, 1, 1)
    assert shapes["judge.4.weight"] == (64, 512)
    heads = {name.split(".")[0] for name in shapes}
    assert heads == {"encoder", "pose", "lifting", "decoder", "judge"}
    assert not any("spirals" in name or "corners" in name for name in shapes)


def test_unknown_choices_are_named():
    for key in ("encoder", "pose", "lifting", "graph"):
        with pytest.raises(ModelError, match=key):
            MobReconConfig(**{key: "other"})
    with pytest.raises(ModelError, match="multiple of 32"):
        MobReconConfig(crop_size=100)
    with pytest.raises(ModelError, match="colour"):
        MobReconConfig.from_dict({"colour": 1})
    config = MobReconConfig(encoder="ghost", widths=(8, 8, 8, 8))
    assert MobReconConfig.from_dict(config.to_dict()) == config


# -- encoders (3.1) ---------------------------------------------------------------------------


def test_dense_blocks_keep_what_came_in_and_double_the_width():
    x = torch.randn(2, 8, 4, 4)
    out = DenseBlock(SeparableUnit, 8, 4)(x)
    assert out.shape == (2, 16, 4, 4) and torch.equal(out[:, :8], x)


def test_ghosts_are_made_of_the_primary_channels_alone():
    unit = GhostUnit(6, 8).eval()
    x = torch.randn(1, 6, 4, 4)
    out = unit(x)
    torch.testing.assert_close(out[:, :4], unit.primary(x))
    torch.testing.assert_close(out[:, 4:], unit.ghosts(unit.primary(x)))


@pytest.mark.parametrize("skips", [True, False])
def test_without_skips_the_way_up_sees_the_middle_only(skips):
    class Forget(torch.nn.Module):
        def forward(self, x):
            return torch.zeros_like(x)

    conv = torch.nn.Conv2d
    down = [torch.nn.Sequential(conv(w, 2 * w, 1), torch.nn.AvgPool2d(2)) for w in (2, 4, 8)]
    shrink = [conv(16, 8, 1), conv(8, 4, 1), conv(4, MAP_WIDTH, 1)]
    glass = Hourglass(down, shrink, Forget(), skips)
    first, second = (glass(torch.randn(1, 2, 16, 16))[1] for _ in range(2))
    assert first.shape == (1, MAP_WIDTH, 8, 8)
    assert torch.equal(first, second) is not skips


# -- 2D representations (3.2, Fig. 4) ---------------------------------------------------------


def heatmap_head(kind, maps):
    """A head that says ``maps`` [B, 21, S, S] whatever it sees."""
    head = kind(4, True).eval()
    head.heatmaps = lambda encoded: maps
    return head


def test_heatmaps_are_read_at_their_peak_and_soft_argmax_at_their_mean():
    maps = torch.full((1, 21, 8, 8), -50.0)
    maps[:, :, 3, 6] = 50.0
    encoded = Encoded(*(torch.zeros(1),) * 3)
    # Row 3, column 6 of eight cells: their centres.
    at = torch.tensor([6.5 / 8, 3.5 / 8]).expand(1, 21, 2)
    torch.testing.assert_close(heatmap_head(Heatmaps, maps)(encoded).joints, at)
    torch.testing.assert_close(heatmap_head(SoftArgmax, maps)(encoded).joints, at)
    # A second peak as high, in the same row: soft-argmax lies in between, the peak does not.
    maps[:, :, 3, 2] = 50.0
    between = torch.tensor([4.5 / 8, 3.5 / 8]).expand(1, 21, 2)
    torch.testing.assert_close(heatmap_head(SoftArgmax, maps)(encoded).joints, between)
    assert (heatmap_head(Heatmaps, maps)(encoded).joints[..., 0] - 4.5 / 8).abs().min() > 0.2


def test_heatmaps_are_twice_as_fine_as_the_maps():
    encoded = Encoded(torch.zeros(1), torch.zeros(2, MAP_WIDTH, 4, 4), torch.zeros(2, 5, 8, 8))
    assert Heatmaps(5, True)(encoded).heatmaps.shape == (2, 21, 8, 8)


def test_mapreg_sees_all_of_a_joint_s_map_and_nothing_of_the_others():
    torch.manual_seed(0)
    head = MapRegression(4)
    maps = torch.randn(1, MAP_WIDTH, 4, 4)
    encoded = Encoded(torch.zeros(1), maps, torch.zeros(1))
    flattened = head.maps(maps).flatten(2)
    torch.testing.assert_close(head(encoded).joints, 0.5 + head.position(flattened))
    flattened = flattened.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(head.position(flattened)[0, 7].sum(), flattened)
    assert (gradient[0, 7] != 0).all()
    assert (gradient[0, :7] == 0).all() and (gradient[0, 8:] == 0).all()


PLACE = torch.tensor([[[0.5, 0.5]]])


def bump(x: float, y: float, sd: float, size: int = 64) -> torch.Tensor:
    """Log-likelihood [1, 1, size, size] of a Gaussian."""
    cells = (torch.arange(size) + 0.5) / size
    squares = (cells - x).square() + (cells - y).square()[:, None]
    return (-squares / (2 * sd**2))[None, None]


def test_evidence_that_tells_nothing_leaves_the_prior_where_it_is():
    flat = torch.full((1, 2, 16, 16), 3.0)
    prior = torch.tensor([[[0.21, 0.68], [1.3, -0.2]]])  # the second one is outside
    shift = posterior_shift(flat, prior, torch.full((1, 2), 0.05))
    torch.testing.assert_close(shift, torch.zeros(1, 2, 2), **CLOSE)


def test_a_wide_prior_follows_the_evidence_and_a_narrow_one_stays():
    evidence = bump(0.58, 0.46, 0.02)
    shifts = [posterior_shift(evidence, PLACE, torch.full((1, 1), b)) for b in (0.5, 0.003)]
    # Scale 0.5: a Laplace's slope of 2 moves a Gaussian's mean by 2 sd^2 against it.
    expected = torch.tensor([0.08 - 2 * 0.02**2, -0.04 + 2 * 0.02**2])
    torch.testing.assert_close(shifts[0][0, 0], expected, rtol=0.01, atol=1e-4)
    assert shifts[1].abs().max() < 0.01


def test_of_two_peaks_the_one_near_the_prior_counts():
    heat = torch.logaddexp(bump(0.56, 0.5, 0.02), bump(0.9, 0.5, 0.02) + 2)
    shift = posterior_shift(heat, PLACE, torch.full((1, 1), 0.03))
    assert shift[0, 0, 0] == pytest.approx(0.06 - 0.02**2 / 0.03, abs=0.005)


def test_posterior_starts_as_map_regression_about_which_it_is_as_unsure_as_usual():
    torch.manual_seed(3)
    head = Posterior(8, 4, skips=True)
    encoded = Encoded(
        torch.zeros(2, 5, 8, 8), torch.randn(2, MAP_WIDTH, 8, 8), torch.randn(2, 4, 16, 16)
    )
    told = head(encoded)
    torch.testing.assert_close(told.prior, MapRegression.forward(head, encoded).joints)
    for spread in (told.spread, told.prior_spread):
        torch.testing.assert_close(spread, torch.full((2, 21), SPREAD))
    shift = posterior_shift(told.heatmaps, told.prior, told.prior_spread)
    torch.testing.assert_close(told.joints, told.prior + shift)


# -- pose pooling and lifting (eq. 1 to 3) ----------------------------------------------------


def test_grid_sampling_reads_the_map_at_the_joints():
    # A map of its own coordinates: between its outer cells' centres, bilinear reading is exact.
    cells = (torch.arange(8) + 0.5) / 8
    features = torch.stack(torch.meshgrid(cells, cells, indexing="xy"))[None]
    joints = 0.1 + 0.8 * torch.rand(1, 21, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(grid_sampling(features, Pose2D(joints)), joints, **CLOSE)


def test_joint_wise_pooling_reads_where_the_heatmap_is():
    features = torch.randn(1, 5, 4, 4)
    maps = torch.full((1, 21, 4, 4), -60.0)
    maps[:, :, 1, 2] = 60.0
    pooled = joint_wise_pooling(features, Pose2D(torch.zeros(1, 21, 2), maps))
    torch.testing.assert_close(pooled, features[:, None, :, 1, 2].expand(1, 21, 5), **CLOSE)


def test_lifting_is_the_matrix_product():
    lifting = PoseToVertex(49)
    joints = torch.randn(2, 21, 6)
    expected = torch.einsum("vj,bjc->bvc", lifting.matrix, joints)
    torch.testing.assert_close(lifting(joints), expected, **CLOSE)
    # It starts as the mean of the joints, nearly.
    assert (lifting.matrix.mean(1) - 1 / 21).abs().max() < 5 * 0.02 / 21**0.5


def test_full_connection_knows_the_mean_of_the_map_only():
    lifting = FullyConnected(6, 49)
    features = torch.randn(2, 6, 4, 4)
    assert lifting(features).shape == (2, 49, 6)
    torch.testing.assert_close(lifting(features), lifting(features.flip(-1)), **CLOSE)


# -- spiral convolutions (eq. 5 to 8) ---------------------------------------------------------

SPIRALS = torch.tensor([[0, 1, 2], [1, 3, 0], [2, 0, 3], [3, 2, 1], [4, 4, 4]])


def test_dsconv_is_equations_7_and_8():
    torch.manual_seed(0)
    layer = DepthSeparableSpiralConv(6, 4, SPIRALS)
    x = torch.randn(5, 2, 6)
    for v, spiral in enumerate(SPIRALS.tolist()):
        mixed = sum(layer.depthwise[s] * x[u] for s, u in enumerate(spiral))
        expected = mixed @ layer.pointwise.weight.T + layer.pointwise.bias
        torch.testing.assert_close(layer(x)[v], expected, **CLOSE)


def test_spiralconv_plus_is_equation_6():
    torch.manual_seed(0)
    layer = SpiralConvPlus(6, 4, SPIRALS)
    x = torch.randn(5, 2, 6)
    for v, spiral in enumerate(SPIRALS.tolist()):
        joined = torch.cat([x[u] for u in spiral], -1)
        expected = joined @ layer.fuse.weight.T + layer.fuse.bias
        torch.testing.assert_close(layer(x)[v], expected, **CLOSE)


def test_spiralconv_walks_the_spiral():
    torch.manual_seed(0)
    layer = SpiralConv(6, 4, SPIRALS)
    x = torch.randn(5, 2, 6)
    for v, spiral in enumerate(SPIRALS.tolist()):
        steps, _ = layer.fuse(torch.stack([x[u] for u in spiral], 1))
        torch.testing.assert_close(layer(x)[v], steps[:, -1], **CLOSE)
