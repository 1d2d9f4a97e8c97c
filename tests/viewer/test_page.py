from __future__ import annotations

import math

import numpy as np
import pytest
from open_hand import CAMERA, TEMPLATE, make_hand

pytest.importorskip("viser", reason="needs the viewer extra")

from hand_perception.hands import BONES, Side
from hand_perception.viewer.figures import frustum_scale, vertical_fov
from hand_perception.viewer.page import HandPage, hand_table
from hand_perception.viewer.plots import rates

IMAGE = np.full((480, 640, 3), 60, np.uint8)


class Clock:
    """Seconds that the test turns."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def page(clock):
    with HandPage(port=18200, now=clock) as page:
        yield page


def show(page, hands, stamp_s=1.0, image=IMAGE, latency_ms=None):
    page.show(image, CAMERA, hands, TEMPLATE.faces, stamp_s, latency_ms)


def test_a_hand_stands_where_it_is_and_moves(page):
    first, second = make_hand(track_id=4), make_hand(at=(0.1, 0.0, 0.8), track_id=4)
    show(page, [first])
    (figure,) = page._figures.values()
    show(page, [second], 1.1)
    assert list(page._figures.values()) == [figure], "a tracked hand keeps its figure"
    np.testing.assert_array_equal(figure._mesh.vertices, second.vertices)
    np.testing.assert_array_equal(figure._joints.points, second.keypoints3d)
    np.testing.assert_array_equal(figure._bones.points[0], second.keypoints3d[list(BONES[0])])
    assert "#4" in figure._label.text and "0.80 m" in figure._label.text


def test_the_surface_winds_outwards_on_either_side(page):
    hands = [make_hand(track_id=1), make_hand(Side.LEFT, track_id=2)]
    show(page, hands)
    for hand, figure in zip(hands, page._figures.values(), strict=True):
        corners = figure._mesh.vertices[figure._mesh.faces]
        # Outwards: the volume under the triangles, seen from the middle of the hand, is positive.
        corners = corners - hand.vertices.mean(0)
        assert np.linalg.det(corners).sum() > 0


def test_a_corrected_side_turns_colour_and_winding(page):
    show(page, [make_hand(track_id=1)])
    before = next(iter(page._figures.values()))._mesh.color
    show(page, [make_hand(Side.LEFT, track_id=1)], 1.1)
    assert tuple(next(iter(page._figures.values()))._mesh.color) != tuple(before)


def test_hands_that_are_gone_leave_nothing(page):
    show(page, [make_hand(track_id=1), make_hand(track_id=2), make_hand()])
    assert set(page._figures) == {"1", "2", "untracked_2"}
    show(page, [], 1.1)
    assert page._figures == {}
    show(page, [], 5.0)
    assert page._traces == {}


def test_a_trace_is_where_the_wrist_was_in_the_last_seconds(page):
    places = [(0.02 * k, 0.0, 0.5) for k in range(6)]
    for k, place in enumerate(places):
        show(page, [make_hand(at=place, track_id=3)], stamp_s=float(k))
    (figure,) = page._figures.values()
    # 3 s of it: the places at 2, 3, 4 and 5 s.
    np.testing.assert_allclose(figure._trace.points[:, 0], places[2:5], atol=1e-6)
    np.testing.assert_allclose(figure._trace.points[:, 1], places[3:6], atol=1e-6)
    show(page, [make_hand(track_id=3)], stamp_s=0.0)
    assert figure._trace.visible is False, "a jump back in time ends the traces"


def test_the_panel_has_a_row_a_hand_and_is_not_redrawn_more_often_than_needed(page, clock):
    show(page, [make_hand(track_id=5)])
    assert "| 5 | right | 0.93 | 0.00, 0.00, 0.50 m |" in page._table.content
    show(page, [], 1.05)
    assert "| 5 |" in page._table.content
    clock.now += 0.2
    show(page, [], 1.1, latency_ms=30.0)
    assert page._table.content == "No hands."
    np.testing.assert_allclose(page._plots._rate.data[1], [1, 2, 3])
    np.testing.assert_allclose(page._plots._latency.data, [[0.0], [30.0]])


def test_hands_without_a_scale_have_no_metres():
    assert "(no scale)" in hand_table([make_hand(metric=False)])


def test_a_taken_port_gives_way_to_the_next(page):
    with HandPage(port=18200) as other:
        assert other.url != page.url


def test_the_picture_hangs_where_the_camera_sees_it():
    """viser's own formula: a frustum one deep over the cube root of x y z / 3, times scale."""
    distance = 0.3
    y = math.tan(vertical_fov(CAMERA) / 2)
    x = y * CAMERA.width / CAMERA.height
    depth = frustum_scale(CAMERA, distance) / np.cbrt(x * y / 3)
    assert depth == pytest.approx(distance)
    assert 2 * CAMERA.fy * y == pytest.approx(CAMERA.height)


def test_rates_count_the_last_second():
    times = np.array([0.0, 0.5, 1.0, 1.25, 3.0])
    np.testing.assert_array_equal(rates(times), [1, 2, 2, 3, 1])
