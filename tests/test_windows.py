import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hand_perception.windows import (
    CLOSE,
    OVERLAP,
    ROOM,
    SHARES,
    SURER,
    asked_of_windows,
    close_window,
    longer_side,
    search_windows,
    shows,
    windows_about,
)

sides = st.integers(300, 2600)


@given(sides, sides, st.floats(1.05, 8), st.data())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_a_small_hand_anywhere_lies_in_a_window_as_a_whole(width, height, zoom, data):
    canvas = 256
    windows = search_windows(width, height, zoom, canvas)
    longer = max(width, height)
    side = max(longer / zoom, canvas)
    assert bool(windows) == (np.ceil(side) < longer)
    if not windows:
        return
    for x0, y0, x1, y1 in windows:
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert max(x1 - x0, y1 - y0) == np.ceil(side)
    # Two pixels for starts that are rounded.
    hand = OVERLAP * side - 2
    if hand < min(width, height) - 1:
        x = data.draw(st.floats(0, width - 1 - hand))
        y = data.draw(st.floats(0, height - 1 - hand))
        box = np.array([[x, y, x + hand, y + hand]])
        assert any(shows(window, box, 0.0)[0] for window in windows)


def test_of_a_camera_that_shows_no_more_than_the_detector_sees_there_are_none():
    assert search_windows(320, 240, 1.0, 256) == []
    assert search_windows(256, 192, 3.0, 256) == []
    # No closer than pixel for pixel.
    assert {(x1 - x0, y1 - y0) for x0, y0, x1, y1 in search_windows(320, 240, 3.0, 256)} == {
        (256, 240)
    }


def test_what_is_cut_or_small_is_not_shown():
    window = (100, 50, 300, 250)
    boxes = np.array([[120.0, 60, 160, 90], [90, 60, 130, 90], [120, 60, 139, 75]])
    assert shows(window, boxes, 0.1).tolist() == [True, False, False]
    assert shows(window, boxes[:0], 0.1).shape == (0,)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (480, 640)])
def test_windows_about_hands_hold_them_and_have_few_sizes(width, height):
    rng = np.random.default_rng(0)
    lengths = set()
    for side in np.geomspace(8, 0.26 * max(width, height), 40):
        low = rng.uniform(0, 1, 2) * (np.array([width, height]) - 1 - side)
        box = np.concatenate([low, low + side])
        window = close_window(box[None], width, height)
        x0, y0, x1, y1 = window
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert shows(window, box[None], 0.0)[0]
        longer = max(x1 - x0, y1 - y0)
        assert longer >= min(CLOSE * side, max(width, height))
        lengths.add(longer)
    assert len(lengths) <= sum(share < 1 for share in SHARES)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (480, 640)])
def test_about_large_hands_windows_reach_beyond_the_image(width, height):
    longer = max(width, height)
    lengths = set()
    for side in np.geomspace(0.41 * longer, longer - 1, 20):
        low = np.array([0.3 * (width - side), 0.0])
        box = np.concatenate([low, np.minimum(low + side, (width - 1, height - 1))])
        box[0] = max(box[0], 0)
        window = close_window(box[None], width, height)
        x0, y0, x1, y1 = window
        # All of the image, as if from further away.
        assert x0 <= 0 and y0 <= 0 and x1 >= width and y1 >= height
        assert x1 - x0 == y1 - y0 >= CLOSE * (box[2:] - box[:2]).max() - 1
        # The hand is in the middle or, for the image to be inside, as near to it as can be.
        off = np.abs((box[:2] + box[2:]) - (x0 + x1, y0 + y1)) / 2
        assert ((off <= 1) | np.isin([x0, y0], 0) | (np.array([x1, y1]) == (width, height))).all()
        lengths.add(x1 - x0)
    assert len(lengths) <= sum(share > 1 for share in SHARES)


def test_a_hand_that_is_as_large_in_the_image_as_in_a_window_is_read_there():
    for side in (0.28, 0.39):
        box = np.array([[10.0, 10, 10 + side * 640, 100]])
        assert close_window(box, 640, 480) == (0, 0, 640, 480)


def test_several_hands_lie_in_one_window_with_room_to_move():
    boxes = np.array([[300.0, 300, 350, 360], [500, 320, 540, 380]])
    window = close_window(boxes, 1280, 720)
    assert shows(window, boxes, 0.0).all()
    assert ROOM * 240 <= longer_side(window) < CLOSE * 240


def test_neighbours_share_a_window_where_it_is_no_larger_than_their_own():
    boxes = np.array(
        [[300.0, 300, 350, 360], [900, 100, 960, 160], [352, 310, 400, 366], [380, 300, 600, 520]]
    )
    groups = windows_about(boxes, 1280, 720)
    assert [rows for _, rows in groups] == [[0, 2], [1], [3]]
    for window, rows in groups:
        assert shows(window, boxes[rows], 0.0).all()
        alone = [longer_side(close_window(boxes[[row]], 1280, 720)) for row in rows]
        assert alone == [longer_side(window)] * len(rows)
    assert windows_about(boxes[:0], 1280, 720) == []


def test_what_only_a_window_shows_needs_higher_odds():
    for score in (0.05, 0.5, 0.9):
        asked = asked_of_windows(score)
        assert asked / (1 - asked) == pytest.approx(SURER * score / (1 - score))
    assert (asked_of_windows(0.0), asked_of_windows(1.0)) == (0.0, 1.0)
