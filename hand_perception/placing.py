"""Hands at their measured distance or size: by a depth image, by a known length of the hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from hand_perception.depth import (
    HandLength,
    HandLengthEstimator,
    refine_with_depth,
    scale_to_hand_length,
)
from hand_perception.hands import Hand
from hand_perception.template import Template
from hand_perception.uncertainty import monocular_covariance
from hand_perception.worker import Frame, Picture

# A measurement of the hand's length gives up after so many seconds.
_MEASURING_PATIENCE = 10.0


class HandPlacer:
    """Called in the inference thread with the hands of a frame, of one camera.

    hand_length_m: 0 when it is not known; may be changed at any time. complain: takes the reason
    for which a measurement was given up.
    """

    def __init__(
        self, topology: Template, hand_length_m: float, complain: Callable[[str], None]
    ) -> None:
        self.hand_length_m = hand_length_m
        self.images_with_depth = 0
        self._topology = topology
        self._complain = complain
        self._estimator: HandLengthEstimator | None = None
        self._since = 0.0
        self._measured: HandLength | None = None

    def __call__(self, frame: Frame, picture: Picture, hands: list[Hand]) -> list[Hand]:
        """The hands where they are and as large, as far as either is known, with how sure it is."""
        self.images_with_depth += picture.depth is not None
        estimator = self._estimator
        # While the length is measured the one known so far must not take part.
        length_m = 0.0 if estimator is not None else self.hand_length_m
        placed = [self._placed(hand, picture, length_m) for hand in hands]
        if estimator is not None and picture.depth is not None:
            for hand in placed:
                estimator.add(hand, frame.stamp_ns / 1e9)
            self._measured = estimator.measurement()
        return placed

    def _placed(self, hand: Hand, picture: Picture, length_m: float) -> Hand:
        camera, topology = picture.camera, self._topology
        if length_m:
            hand = scale_to_hand_length(hand, length_m, camera, topology)
        elif camera.metric and hand.position_covariance is None:
            covariance = monocular_covariance(
                hand.keypoints3d, hand.keypoints2d, camera, shape_std=hand.shape_std
            )
            hand = replace(hand, position_covariance=covariance)
        if picture.depth is None:
            return hand
        return refine_with_depth(hand, picture.depth, camera, topology, keep_size=length_m > 0)

    # -- in the front end's thread -----------------------------------------------------------

    def start_measuring(self) -> None:
        self._measured, self._since = None, time.monotonic()
        self._estimator = HandLengthEstimator(self._topology)

    @property
    def measuring(self) -> bool:
        return self._estimator is not None

    def measurement(self) -> HandLength | None:
        """The length, once, when it is known; a measurement that lasts too long is given up."""
        overdue = time.monotonic() - self._since > _MEASURING_PATIENCE
        if self._estimator is None or (self._measured is None and not overdue):
            return None
        self._estimator = None
        if self._measured is None:
            self._complain(
                f"no hand was measured within {_MEASURING_PATIENCE:g} s: hold an open hand, palm "
                "or back to the camera, where the depth image is whole"
            )
        return self._measured
