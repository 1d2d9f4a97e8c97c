from __future__ import annotations

import numpy as np
import pytest
import torch

from hand_perception.template import load_template
from hand_perception.training.part_rendering import (
    PARTS,
    PartPainter,
    _distance_and_depth,
    face_parts,
    part_map,
)

SIZE = 32


def sheet(x0, y0, x1, y1, depth, cells=6) -> tuple[torch.Tensor, torch.Tensor]:
    """A flat sheet of small triangles over x0..x1, y0..y1 pixels (at centres): mesh and faces."""
    u = torch.linspace(0, 1, cells + 1, dtype=torch.float64)
    y, x = torch.meshgrid(y0 + (y1 - y0) * u, x0 + (x1 - x0) * u, indexing="ij")
    points = torch.stack([(x + 0.5) / SIZE, (y + 0.5) / SIZE, torch.full_like(x, depth)], -1)
    a = (torch.arange(cells)[:, None] * (cells + 1) + torch.arange(cells)).flatten()
    b, c, d = a + 1, a + cells + 1, a + cells + 2
    faces = torch.cat([torch.stack([a, b, c], 1), torch.stack([b, d, c], 1)])
    return points.flatten(0, 1), faces


def painter_of(*sheets, **settings) -> tuple[PartPainter, torch.Tensor]:
    """One part a sheet."""
    meshes, faces, parts, start = [], [], [], 0
    for k, (mesh, face) in enumerate(sheets):
        meshes.append(mesh)
        faces.append(face + start)
        parts.append(torch.full((len(face),), k))
        start += len(mesh)
    return PartPainter(torch.cat(faces), torch.cat(parts), **settings), torch.cat(meshes)[None]


def hand(seed: int) -> torch.Tensor:
    """The template, turned at random, in the middle of the picture: [1, 778, 3]."""
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)))[0]
    points = torch.from_numpy(load_template().vertices) @ turn.T / 0.1
    points = points - (points.amin(0) + points.amax(0)) / 2
    scale = 0.8 / float((points.amax(0) - points.amin(0))[:2].max())
    return torch.cat([points[:, :2] * scale + 0.5, points[:, 2:]], -1)[None]


def hand_painter() -> PartPainter:
    template = load_template()
    faces, parts = torch.from_numpy(template.faces).long(), torch.from_numpy(face_parts(template))
    return PartPainter(faces, parts)


def test_inside_is_full_outside_is_empty_and_the_edge_fades_as_written():
    painter, mesh = painter_of(sheet(8.3, 8, 20, 20, 0.0))
    paint = painter(mesh, SIZE)[0, 0]
    assert torch.equal(paint[8:21, 9:21], torch.ones(13, 12, dtype=torch.float64))
    # Pixel 8 lies 0.3 px outside: (1 - 0.3^2)^2.
    assert torch.allclose(paint[10:18, 8], torch.tensor((1 - 0.09) ** 2, dtype=torch.float64))
    assert paint[:, :8].abs().max() == 0 and paint[:, 21:].abs().max() == 0


def test_an_edge_that_moves_a_pixel_changes_a_pixel_a_row():
    totals = []
    for x in (20.25, 21.25):
        painter, mesh = painter_of(sheet(8, 8, x, 20, 0.0))
        totals.append(float(painter(mesh, SIZE)[0, 0, 8:21].sum()))
    assert totals[1] - totals[0] == pytest.approx(13)


def test_the_edge_is_pulled_by_its_profiles_slope():
    painter, mesh = painter_of(sheet(8, 8, 20.6, 20, 0.0))
    mesh.requires_grad_()
    painter(mesh, SIZE)[0, 0, 8:21].sum().backward()
    # Pixel 21 lies d = 0.4 outside of the right edge; 4 d (1 - d^2) a pixel and row, over 13
    # rows. Moving x by one of the picture moves it by SIZE pixels.
    right = mesh.detach()[0, :, 0] == mesh.detach()[0, :, 0].max()
    slope = 4 * 0.4 * (1 - 0.16) * 13 * SIZE
    assert float(mesh.grad[0, right, 0].sum()) == pytest.approx(slope)
    inner = ((mesh.detach()[0, :, :2] * SIZE - 14.5).abs() < 3).all(-1)
    assert float(mesh.grad[0, inner].abs().max()) == 0


def test_what_is_in_front_hides_what_is_behind():
    near, far = sheet(6, 6, 18, 18, -0.5), sheet(12, 12, 24, 24, 0.5)
    for order in ((near, far), (far, near)):
        painter, mesh = painter_of(*order)
        paint = painter(mesh, SIZE)[0]
        front, back = paint if order[0] is near else paint.flip(0)
        # sigmoid(1 / 0.05) is 2e-9 from one.
        assert float((front[13:18, 13:18] - 1).abs().max()) < 1e-8
        assert float(back[13:18, 13:18].max()) < 1e-8
        assert float(back[20:24, 20:24].min()) == 1


def test_at_the_same_depth_both_are_seen_by_half():
    painter, mesh = painter_of(sheet(6, 6, 18, 18, 0.1), sheet(12, 12, 24, 24, 0.1))
    paint = painter(mesh, SIZE)[0, :, 13:18, 13:18]
    assert torch.allclose(paint, torch.full_like(paint, 0.5))


def test_a_hand_is_whole_where_its_parts_meet():
    sheets = [sheet(6, 6, 18, 18, 0.1)] * 3
    painter, mesh = painter_of(*sheets)
    paint = painter(mesh, SIZE)[0]
    assert torch.allclose(paint[:, 8:16, 8:16], torch.tensor(1 / 3, dtype=torch.float64))
    assert torch.allclose(paint.sum(0), painter_of(sheets[0])[0](sheets[0][0][None], SIZE)[0, 0])


def test_gradients_agree_with_finite_differences():
    """Outlines, corners, overlap, slanted depth and what hides what, in float64."""
    back, faces = sheet(6.3, 5.7, 14.4, 13.2, 0.03, cells=3)
    front, front_faces = sheet(10.1, 9.2, 18.7, 16.6, -0.02, cells=3)
    shake = torch.Generator().manual_seed(4)
    painter, mesh = painter_of((back, faces), (front, front_faces))
    mesh = mesh + 0.01 * torch.randn(mesh.shape, generator=shake, dtype=torch.float64)
    weights = torch.randn(2, SIZE, SIZE, generator=shake, dtype=torch.float64)

    def loss(points):
        return (painter(points, SIZE) * weights).sum()

    assert torch.autograd.gradcheck(loss, mesh.requires_grad_(), eps=1e-7, atol=1e-4)
    gradient = torch.autograd.grad(loss(mesh), mesh)[0]
    assert (gradient.abs().amax((0, 1)) > 1e-3).all()  # depth, too


def test_a_hand_beside_its_picture_is_drawn_to_it():
    painter, truth = hand_painter(), hand(1)
    picture, away = painter(truth, 64), torch.tensor([0.03, -0.02, 0.0])
    shift = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.LBFGS([shift], max_iter=30, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = (painter(truth + away + shift, 64) - picture).square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    # Within a tenth of a pixel of 64, from 1.9 and 1.3 beside it.
    assert torch.allclose(shift[:2], -away[:2], atol=0.1 / 64)


@pytest.mark.parametrize("seed", (1, 2, 3))
def test_paint_agrees_with_the_masks_of_the_rasteriser(seed):
    mesh = hand(seed)
    paint = hand_painter()(mesh, 64)[0]
    points = mesh[0].numpy()
    mask = part_map(points[:, :2] * 64 - 0.5, points[:, 2] + 5, load_template(), 64, 64)
    best = np.where(paint.sum(0) > 0.5, paint.argmax(0) + 1, 0)
    # All of the mask is painted; what is painted beyond lies within a pixel of it.
    assert (best[mask > 0] > 0).all()
    near = np.pad(mask, 1)
    around = np.max([near[y : y + 64, x : x + 64] for y in range(3) for x in range(3)], 0)
    assert (around[best > 0] > 0).all()
    # Parts meet within a pixel, too: away from other parts they are the same.
    inner = mask > 0
    for y in range(3):
        for x in range(3):
            inner &= near[y : y + 64, x : x + 64] == mask
    assert inner.sum() > 100
    assert (best[inner] == mask[inner]).mean() > 0.98


def test_a_mirrored_hand_is_painted_mirrored():
    mesh = hand(2)
    mirrored = torch.cat([1 - mesh[..., :1], mesh[..., 1:]], -1)
    both = hand_painter()(torch.cat([mesh, mirrored]), 64)
    # The same numbers in another order of sums.
    assert torch.allclose(both[0], both[1].flip(-1), atol=1e-4)


def test_every_part_has_faces_and_the_fingertips_are_their_fingers():
    template = load_template()
    parts = face_parts(template)
    assert sorted(set(parts.tolist())) == list(range(len(PARTS)))
    for finger, keypoint in enumerate((4, 8, 12, 16, 20), start=1):
        tip = int(template.regressor[keypoint].argmax())
        assert set(parts[(template.faces == tip).any(1)].tolist()) == {finger}
    wrist = int(np.linalg.norm(template.vertices - template.keypoints[0], axis=1).argmin())
    assert set(parts[(template.faces == wrist).any(1)].tolist()) == {0}


def test_meshes_outside_on_one_spot_and_torn_leave_gradients_finite():
    torn = torch.rand(1, 778, 3, generator=torch.Generator().manual_seed(5)) * 4 - 1.5
    meshes = torch.cat([hand(1) + 5, torch.full((1, 778, 3), 0.5), torn]).requires_grad_()
    paint = hand_painter()(meshes, 64)
    paint.square().sum().backward()
    assert float(paint[0].detach().abs().max()) == 0
    assert torch.isfinite(paint).all() and torch.isfinite(meshes.grad).all()


def test_a_triangle_seen_edge_on_does_not_drown_the_others():
    # A hundred-thousandth of a pixel wide around the pixel, a unit deep across that width.
    corners = torch.tensor([[[-1e-5, -1, 0], [1e-5, -1, 1], [0, 1, 0.5]]]).requires_grad_()
    squared, depth = _distance_and_depth(corners, torch.zeros(1, 2))
    depth.sum().backward()
    assert float(squared.detach()) < 1e-9 and 0 <= float(depth.detach()) <= 1
    # Along its edges the depth changes by half a unit in two pixels; across by 5e4 a pixel.
    assert float(corners.grad[..., :2].abs().max()) <= 0.25


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_paints_the_same():
    template, mesh = load_template(), torch.cat([hand(1), hand(2)])
    faces, parts = torch.from_numpy(template.faces).long(), torch.from_numpy(face_parts(template))
    results = []
    for device in ("cpu", "cuda"):
        points = mesh.to(device).requires_grad_()
        paint = PartPainter(faces.to(device), parts.to(device))(points, 64)
        paint.square().sum().backward()
        results.append((paint.detach().cpu(), points.grad.cpu()))
    # float32 sums of some ten terms in another order; exponentials of up to 30.
    assert torch.allclose(results[0][0], results[1][0], atol=1e-4)
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-2, atol=1e-2)
