import pytest
import torch

from hand_perception.synthesis import raster
from hand_perception.synthesis.limb import Limb
from hand_perception.synthesis.raster import rasterize_numba, rasterize_torch, vertex_normals
from hand_perception.synthesis.space import sphere

IMPLEMENTATIONS = pytest.mark.parametrize("rasterize", [rasterize_numba, rasterize_torch])


def one_image(*faces):
    return torch.tensor(faces), torch.zeros(len(faces), dtype=torch.int64)


@IMPLEMENTATIONS
def test_a_triangle_covers_the_pixels_whose_centres_it_holds(rasterize):
    points = torch.tensor([[-0.5, -0.5], [-0.5, 7.5], [7.5, -0.5]])
    faces, image = one_image([0, 1, 2])
    seen = rasterize(points, torch.full((3,), 2.0), faces, image, 1, 10, 10)
    y, x = seen.pixel // 10, seen.pixel % 10
    inside = {(a, b) for a in range(10) for b in range(10) if a + b <= 7}
    assert set(zip(y.tolist(), x.tolist(), strict=True)) == inside
    torch.testing.assert_close(seen.depth, torch.full_like(seen.depth, 2.0))


@IMPLEMENTATIONS
def test_interpolation_is_perspective_correct(rasterize):
    # A plane z = 1 + 0.1 x_metric seen by a camera of focal length 10: at a pixel u = x / z * 10.
    vertices = torch.tensor([[-1.0, -1.0, 0.9], [-1.0, 2.0, 0.9], [3.0, -1.0, 1.3]])
    points = vertices[:, :2] / vertices[:, 2:] * 10 + 16
    faces, image = one_image([0, 1, 2])
    seen = rasterize(points, vertices[:, 2], faces, image, 1, 32, 32)
    place = seen.interpolate(faces, vertices)
    u = (seen.pixel % 32) - 16.0
    v = torch.div(seen.pixel, 32, rounding_mode="floor") - 16.0
    torch.testing.assert_close(place[:, 0] / place[:, 2] * 10, u, atol=1e-3, rtol=0)
    torch.testing.assert_close(place[:, 1] / place[:, 2] * 10, v, atol=1e-3, rtol=0)
    torch.testing.assert_close(place[:, 2], 1 + 0.1 * place[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(place[:, 2], seen.depth, atol=1e-5, rtol=0)


@IMPLEMENTATIONS
def test_nearest_wins_and_the_first_face_breaks_ties(rasterize):
    square = torch.tensor([[0.0, 0.0], [0.0, 9.0], [9.0, 0.0]])
    points = square.repeat(3, 1)
    depth = torch.tensor([2.0, 2, 2, 1, 1, 1, 1, 1, 1])
    faces, image = one_image([0, 1, 2], [3, 4, 5], [6, 7, 8])
    seen = rasterize(points, depth, faces, image, 1, 10, 10)
    assert (seen.face == 1).all()
    torch.testing.assert_close(seen.depth, torch.ones_like(seen.depth))


@IMPLEMENTATIONS
def test_culling_near_plane_and_images(rasterize):
    points = torch.tensor([[0.0, 0.0], [0.0, 9.0], [9.0, 0.0]]).repeat(2, 1)
    depth = torch.tensor([1.0, 1, 1, 0.01, 1, 1])
    faces, image = one_image([0, 2, 1], [3, 4, 5])
    assert len(rasterize(points, depth, faces, image, 1, 10, 10).pixel) == 0
    seen = rasterize(points, depth, faces, torch.tensor([1, 0]), 2, 10, 10, cull=False)
    assert (seen.pixel >= 100).all() and (seen.face == 0).all()


@pytest.mark.parametrize("pairs", [raster._PAIRS_AT_ONCE, 10_000])
def test_implementations_agree_on_hands(monkeypatch, pairs):
    monkeypatch.setattr(raster, "_PAIRS_AT_ONCE", pairs)  # in one go, and in pieces
    limb = Limb()
    generator = torch.Generator().manual_seed(0)
    q, _ = torch.linalg.qr(torch.randn(3, 3, 3, generator=generator))
    q = q * torch.linalg.det(q).sign()[:, None, None]
    centred = limb.vertices - limb.vertices.mean(0)
    vertices = (centred @ q.transpose(1, 2) + torch.tensor([0.0, 0, 0.4])).reshape(-1, 3)
    points = vertices[:, :2] / vertices[:, 2:] * 200 + 63.5
    hand = limb.faces[limb.faces.amax(1) < len(limb.vertices)]
    faces = torch.cat([hand + i * len(limb.vertices) for i in range(3)])
    image = torch.arange(3).repeat_interleave(len(hand))
    arguments = (points, vertices[:, 2], faces, image, 3, 128, 128)
    fast, reference = rasterize_numba(*arguments), rasterize_torch(*arguments)
    # The two may round edges differently, in single precision: hardly ever.
    fast_pixels, reference_pixels = set(fast.pixel.tolist()), set(reference.pixel.tolist())
    assert len(fast_pixels) > 3000
    assert len(fast_pixels ^ reference_pixels) <= 0.002 * len(fast_pixels)
    depth = torch.zeros(2, 3 * 128 * 128)
    depth[0, fast.pixel], depth[1, reference.pixel] = fast.depth, reference.depth
    both = (depth > 0).all(0)
    difference = (depth[0] - depth[1])[both].abs()
    assert (difference < 1e-5).float().mean() > 0.998


def test_normals_of_a_sphere_point_outwards():
    vertices, faces = sphere(24, 16, "cpu")
    normals = vertex_normals(vertices, faces)
    assert (normals * vertices).sum(1).min() > 0.97
    edges = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    assert len(torch.unique(edges, dim=0)) == len(edges)
    assert len(vertices) - len(edges) // 2 + len(faces) == 2
