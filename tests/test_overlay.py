from __future__ import annotations

import numpy as np
import pytest
from open_hand import CAMERA, TEMPLATE, make_hand

from hand_perception.geometry import project
from hand_perception.hands import Side
from hand_perception.overlay import FINGER_COLOURS, draw, label


def grey() -> np.ndarray:
    return np.full((480, 640, 3), 128, np.uint8)


def test_draws_on_a_copy():
    image = grey()
    out = draw(image, [make_hand()], CAMERA, TEMPLATE.faces)
    assert out.shape == image.shape and out.dtype == np.uint8
    assert (image == 128).all()
    assert (out != 128).any(-1).mean() > 0.01
    np.testing.assert_array_equal(draw(image, [], CAMERA, TEMPLATE.faces), image)


@pytest.mark.parametrize("side", Side)
def test_mesh_covers_what_the_vertices_project_to(side):
    hand = make_hand(side)
    out = draw(grey(), [hand], CAMERA, TEMPLATE.faces, skeleton=False)
    inside = project(hand.keypoints3d[[5, 9, 13]], CAMERA).round().astype(int)
    for u, v in inside:
        assert (out[v, u] != 128).any()
    # The warm and the cool colour: red above blue on a right hand.
    changed = out[inside[:, 1], inside[:, 0]].astype(int)
    assert (np.sign(changed[:, 0] - changed[:, 2]) == (1 if side is Side.RIGHT else -1)).all()


@pytest.mark.parametrize("side", Side)
def test_both_sides_are_lit_alike(side):
    # Were a left hand's normals not turned, its back would lie in the shade: 0.42 of the light.
    hand = make_hand(side)
    out = draw(grey(), [hand], CAMERA, TEMPLATE.faces, skeleton=False)
    centre = hand.keypoints3d[[0, 5, 9, 13, 17]].mean(0)
    u, v = project(centre, CAMERA).round().astype(int)
    # The back faces the viewer; the light comes from 40 degrees off: 0.42 + 0.68 cos 40 = 0.94.
    brightness = out[v, u].max() - 128 * (1 - 0.62)
    assert brightness / (255 * 0.62) == pytest.approx(0.94, abs=0.1)


def test_fingers_have_their_colours():
    hand = make_hand()
    out = draw(grey(), [hand], CAMERA, TEMPLATE.faces, mesh=False)
    for finger, colour in enumerate(FINGER_COLOURS):
        u, v = hand.keypoints2d[4 + 4 * finger].round().astype(int)
        np.testing.assert_allclose(out[v, u], colour, atol=40)


@pytest.mark.parametrize("at", [(0.4, 0.3, 0.5), (5.0, 0.0, 0.5), (0.0, 0.0, 0.02), (0, 0, -1.0)])
def test_hands_beside_or_behind_the_image_do_no_harm(at):
    out = draw(grey(), [make_hand(at=at)], CAMERA, TEMPLATE.faces)
    assert out.shape == (480, 640, 3)


def test_label_says_what_is_known():
    assert label(make_hand(track_id=3, at=(0, 0, 0.52))) == "right 0.93 #3 0.52 m"
    assert label(make_hand(Side.LEFT, metric=False)) == "left 0.93"
