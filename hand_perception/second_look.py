"""A second look at hands that are not where the detector framed them.

A network that reads crops reads those best whose hand lies in them as hands do in training. Where
the joints' own bounds and the detector's box differ, the first look has told of a better crop.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from hand_perception.imaging import Letterbox
from hand_perception.postprocess import InImage, logit
from hand_perception.runtime.backend import Decoded, Job

# Joints' bounds that overlap the box less than this frame the hand better than it does.
FRAMED = 0.8
# A candidate with less than this share of the score that is asked for stays without.
WORTH = 0.5


def kept(decoded: Decoded) -> Decoded:
    """A copy of what a backend may overwrite."""
    arrays = {f.name: getattr(decoded, f.name) for f in fields(decoded)}
    return Decoded(**{name: None if a is None else a.copy() for name, a in arrays.items()})


def badly_framed(seen: InImage) -> np.ndarray:
    """[H] bool: whose joints and box differ."""
    return seen.overlap < FRAMED


def reframed(job: Job, rows: np.ndarray, bounds: np.ndarray, fit: Letterbox, canvas: int) -> Job:
    """The job of looking at its hands ``rows`` [R] in the bounds [R, 4] instead of their boxes."""
    detected, chosen = job
    boxes = detected.boxes.copy()
    boxes[chosen[rows]] = fit.boxes_to_queries(bounds, canvas)
    return replace(detected, boxes=boxes), chosen[rows]


def joined(first: Decoded, rows: np.ndarray, second: Decoded) -> Decoded:
    """Both looks at ``rows``: the mean, in which a joint or mesh counts by how sure its look is of
    it."""
    share2d, share3d = 0.5, 0.5
    if second.spread2d is not None:
        share2d = _share(first.spread2d[rows], second.spread2d)[..., None]
        share3d = _share(first.spread3d[rows], second.spread3d)[:, None, None]
    shares = {
        "joints2d": share2d,
        "vertices": share3d,
        "gaze": 0.5,
        "spread2d": 0.5,
        "spread3d": 0.5,
    }
    both = {}
    for name, share in shares.items():
        if (told := getattr(first, name)) is not None:
            both[name] = told.copy()
            both[name][rows] += share * (getattr(second, name) - told[rows])
    for name in ("presence", "right"):
        both[name] = getattr(first, name).copy()
        odds = (logit(both[name][rows]) + logit(getattr(second, name))) / 2
        both[name][rows] = 1 / (1 + np.exp(-odds))
    return replace(first, **both)


def _share(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How much the second counts of two that are so far off: the inverse of their variances."""
    return first**2 / (first**2 + second**2)
