"""The mesh pyramid: what its levels are, on our template and on a mesh of another making."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hand_perception.models.mobrecon.mesh_pyramid import pyramid, spirals
from hand_perception.template import load_template

COUNTS = [778, 389, 195, 98, 49]


def bowl(rings: int = 37, around: int = 21):
    """Half a sphere of 5 cm: a pole and rings, 1 + 37 * 21 = 778 vertices, open at its equator."""
    theta = np.linspace(0, np.pi / 2, rings + 1)[1:, None]
    phi = np.arange(around) * 2 * np.pi / around
    ring = np.stack(
        [
            np.sin(theta) * np.cos(phi),
            np.sin(theta) * np.sin(phi),
            np.broadcast_to(np.cos(theta), (rings, around)),
        ],
        -1,
    )
    vertices = np.concatenate([[[0, 0, 1]], ring.reshape(-1, 3)]) * 0.05
    faces = [(0, 1 + k, 1 + (k + 1) % around) for k in range(around)]
    for r in range(rings - 1):
        for k in range(around):
            a, b = 1 + r * around + k, 1 + r * around + (k + 1) % around
            faces += [(a, a + around, b), (b, a + around, b + around)]
    return replace(
        load_template(), vertices=vertices.astype(np.float32), faces=np.array(faces, np.int32)
    )


@pytest.fixture(scope="module", params=["open778", "bowl"])
def levels(request):
    template = load_template() if request.param == "open778" else bowl()
    return pyramid(template)


def directed_edges(faces):
    return Counter((int(f[k]), int(f[(k + 1) % 3])) for f in faces for k in range(3))


def test_levels_halve_rounded_up(levels):
    assert [len(level.vertices) for level in levels] == COUNTS


def test_coarse_vertices_are_vertices_of_the_level_before(levels):
    for fine, coarse in zip(levels, levels[1:], strict=False):
        known = {row.tobytes() for row in fine.vertices}
        assert all(row.tobytes() in known for row in coarse.vertices)


def test_every_level_is_one_oriented_surface_with_one_opening(levels):
    for level in levels:
        edges = directed_edges(level.faces)
        # No edge twice in one direction: at most two faces meet there, and they wind alike.
        assert max(edges.values()) == 1
        undirected = {tuple(sorted(edge)) for edge in edges}
        used = {v for edge in undirected for v in edge}
        assert used == set(range(len(level.vertices)))
        # A disk: V - E + F = 1, its rim one loop.
        assert len(level.vertices) - len(undirected) + len(level.faces) == 1
        rim = {a: b for a, b in edges if (b, a) not in edges}
        loop = [min(rim)]
        while rim[loop[-1]] != loop[0]:
            loop.append(rim[loop[-1]])
        assert len(loop) == len(rim) >= 3


def test_places_on_the_coarser_level_are_barycentric(levels):
    for fine, coarse in zip(levels, levels[1:], strict=False):
        assert fine.corners.shape == fine.weights.shape == (len(fine.vertices), 3)
        # Rounding of float64 divisions.
        np.testing.assert_allclose(fine.weights.sum(1), 1, atol=1e-9)
        assert fine.weights.min() >= 0
        faces = {tuple(sorted(face)) for face in coarse.faces.tolist()}
        assert {tuple(sorted(row)) for row in fine.corners.tolist()} <= faces
    assert levels[-1].corners is None and levels[-1].weights is None


def test_a_coarse_mesh_comes_back_up_in_shape(levels):
    for fine, coarse in zip(levels, levels[1:], strict=False):
        back = (coarse.vertices[fine.corners] * fine.weights[..., None]).sum(1)
        error = np.linalg.norm(back - fine.vertices, axis=1)
        # Kept vertices lie on the coarse mesh, up to rounding: half of all at least.
        assert (error < 1e-9).sum() >= len(coarse.vertices)
        # A removed vertex was an edge away from where it collapsed to.
        edges = np.array(list(directed_edges(fine.faces)))
        lengths = np.linalg.norm(np.subtract(*fine.vertices[edges.T]), axis=1)
        assert error.max() <= lengths.max()
        assert error.mean() < lengths.mean() / 4


def test_the_bowl_flattens_no_more_than_its_chords():
    # Between vertices d apart on a sphere of radius r the chord lies d^2 / 8 r below the surface;
    # over a triangle it is at most d^2 / 6 r, at its centre.
    levels = pyramid(bowl())
    fine, coarse = levels[0], levels[1]
    edges = np.array(list(directed_edges(coarse.faces)))
    longest = np.linalg.norm(np.subtract(*coarse.vertices[edges.T]), axis=1).max()
    back = (coarse.vertices[fine.corners] * fine.weights[..., None]).sum(1)
    error = np.linalg.norm(back - fine.vertices, axis=1)
    assert error.max() <= longest**2 / (6 * 0.05)


def test_spirals_start_at_their_vertex_and_wind_with_the_faces(levels):
    for level in levels:
        assert level.spirals.shape == (len(level.vertices), 9)
        np.testing.assert_array_equal(level.spirals[:, 0], np.arange(len(level.vertices)))
        faces = {
            face
            for f in level.faces.tolist()
            for face in (f, f[1:] + f[:1], f[2:] + f[:2])
            for face in [tuple(face)]
        }
        valence = Counter(v for pair in directed_edges(level.faces) for v in set(pair))
        neighbours = {v: set() for v in range(len(level.vertices))}
        for a, b in directed_edges(level.faces):
            neighbours[a].add(b)
            neighbours[b].add(a)
        assert set(valence) == set(neighbours)
        for v, spiral in enumerate(level.spirals.tolist()):
            ring = spiral[1 : 1 + len(neighbours[v])]
            assert set(ring) <= neighbours[v] and len(set(ring)) == len(ring)
            assert all((v, a, b) in faces for a, b in zip(ring, ring[1:], strict=False))
            # Then the ring around the ring.
            reach = neighbours[v] | {w for u in neighbours[v] for w in neighbours[u]}
            if len(reach) >= 9:
                assert len(set(spiral)) == 9 and set(spiral) <= reach | {v}


def test_a_lone_triangle_s_spirals_repeat_their_vertex():
    np.testing.assert_array_equal(
        spirals(np.array([[0, 1, 2]]), 3, 5),
        [[0, 1, 2, 0, 0], [1, 2, 0, 1, 1], [2, 0, 1, 2, 2]],
    )


def test_renumbering_the_vertices_renumbers_the_first_level():
    # Meshes of other sources have other orders; the shape decides what is kept.
    template = load_template()
    order = np.random.default_rng(0).permutation(778)
    place = np.argsort(order)
    renumbered = replace(
        template, vertices=template.vertices[order], faces=place[template.faces].astype(np.int32)
    )
    kept, again = (
        {row.tobytes() for row in pyramid(t)[1].vertices} for t in (template, renumbered)
    )
    # Sums in another order round differently, so that ties may fall otherwise.
    assert len(kept & again) > 0.97 * len(kept)
