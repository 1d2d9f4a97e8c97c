"""Parts of an image for a detector to look at more closely: hands that are far away.

A detector sees a camera's image shrunk to a canvas of a few hundred pixels; a hand across the room
is a dozen of them. In a window of the image it is several times as large.
"""

from __future__ import annotations

import math

import numpy as np

from hand_perception.imaging import Window

# Neighbouring windows share this part of their sides at least: a hand as large lies in one of them
# as a whole.
OVERLAP = 0.25
# So many looks are so many chances to be fooled. Of 95 pictures of rooms 4 showed a hand in some
# window; with odds so many times higher none did, and of hands as good as all stayed.
SURER = 4.0
# A network that reads whole images reads a hand best in a window so many times its box; about
# several hands it has room to move. Windows are these shares of the image's longer side: few sizes,
# for which GPUs record their work. Those above one hold all of the image, as from further away; at
# one it is read as it is.
CLOSE, ROOM = 2.5, 1.4
SHARES = (1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1, 4 / 3, 5 / 3, 2, 5 / 2)


def search_windows(width: int, height: int, zoom: float, canvas: int) -> list[Window]:
    """Windows that cover a width x height image, in rows. Each is ``zoom`` times smaller than its
    longer side, but no smaller than the canvas, where nothing more is to be seen; none where that
    is all of the image."""
    longer = max(width, height)
    side = max(math.ceil(longer / zoom), canvas)
    if side >= longer:
        return []
    return [
        (x, y, x + min(side, width), y + min(side, height))
        for y in _starts(height, side)
        for x in _starts(width, side)
    ]


def asked_of_windows(score: float) -> float:
    """The score that a hand needs which only a window shows, where ``score`` is asked for."""
    return SURER * score / (1 + (SURER - 1) * score)


def _starts(extent: int, side: int) -> list[int]:
    """Where windows begin along one axis, evenly spread."""
    if side >= extent:
        return [0]
    count = math.ceil((extent - OVERLAP * side) / ((1 - OVERLAP) * side))
    return np.linspace(0, extent - side, count).round().astype(int).tolist()


def shows(window: Window, boxes: np.ndarray, least: float) -> np.ndarray:
    """[N] bool: which boxes [N, 4] (x0, y0, x1, y1) lie in it as a whole, with longer sides of that
    share of the window's longer side at least."""
    x0, y0, x1, y1 = window
    inside = (boxes[:, :2] >= (x0, y0)).all(-1) & (boxes[:, 2:] <= (x1 - 1, y1 - 1)).all(-1)
    sides = (boxes[:, 2:] - boxes[:, :2]).max(-1)
    return inside & (sides >= least * longer_side(window))


def close_window(boxes: np.ndarray, width: int, height: int) -> Window:
    """The window about boxes [N, 4] (x0, y0, x1, y1; at least one) of a width x height image in
    which they are read best. It reaches beyond the image about large ones."""
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    hand, longer = (boxes[:, 2:] - boxes[:, :2]).max(), max(width, height)
    wanted = max(CLOSE * hand, ROOM * (high - low).max()) / longer
    share = next((s for s in SHARES if s >= wanted), SHARES[-1])
    side, extent = math.ceil(share * longer), np.array([width, height])
    corner = np.round((low + high - side) / 2).astype(int)
    if share <= 1:
        corner = np.clip(corner, 0, np.maximum(extent - side, 0))
        end = np.minimum(corner + side, extent)
    else:
        corner = np.clip(corner, extent - side, 0)
        end = corner + side
    (x0, y0), (x1, y1) = corner.tolist(), end.tolist()
    return x0, y0, x1, y1


def windows_about(boxes: np.ndarray, width: int, height: int) -> list[tuple[Window, list[int]]]:
    """Windows about all of the boxes [N, 4], and which ones each is about. Neighbours share one
    where it is as large as each one's own."""
    groups: list[tuple[Window, list[int]]] = []
    for k in range(len(boxes)):
        own = close_window(boxes[[k]], width, height)
        for g, (window, rows) in enumerate(groups):
            shared = close_window(boxes[[*rows, k]], width, height)
            if longer_side(shared) == longer_side(own) == longer_side(window):
                groups[g] = shared, [*rows, k]
                break
        else:
            groups.append((own, [k]))
    return groups


def longer_side(window: Window) -> int:
    x0, y0, x1, y1 = window
    return max(x1 - x0, y1 - y0)
