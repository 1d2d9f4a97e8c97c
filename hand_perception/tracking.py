"""The same hand keeps its id, its side and, if wanted, a steady shape from frame to frame.

A tracker is ``tracker(hands, stamp_s) -> hands``; it never invents hands, so a frame's output has
at most as many as its input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hand_perception.geometry import MIN_DEPTH_M, wrist_frame
from hand_perception.hands import WRIST, Hand, Side
from hand_perception.smoothing import OneEuroFilter

# A hand's own extent, which makes 3D speeds comparable with those in boxes per second.
_HAND_LENGTH_M = 0.18
# Depth follows from the hand's size in the picture and is some three times as noisy as its place.
_DEPTH_SCALE_M = 0.6


@dataclass(frozen=True)
class TrackerParameters:
    """max_gap_s: a track lives on so long without a hand, and takes its id up again.
    gate: farthest a hand may be from where its track expects it, in box sizes.
    duplicate: hands whose 2D joints differ by less, on average and in box sizes, are one hand.
    side_inertia: the most evidence, in log-odds, that a held side gathers: contrary frames have to
    outweigh it, five of them at the 0.95 that one frame is trusted at most.
    smoothing: filter joints and mesh.
    min_cutoff_hz, beta: see OneEuroFilter.
    """

    max_gap_s: float = 0.4
    gate: float = 1.0
    duplicate: float = 0.2
    side_inertia: float = 14.0
    smoothing: bool = True
    min_cutoff_hz: float = 1.5
    beta: float = 4.0


class HandTracker:
    """Ids are positive and never used twice, also not after a jump back in time.

    The side is held: each frame adds its side's log-odds, and the sum decides. Where it contradicts
    the frame, the frame has most likely taken a palm for a back: seen from the camera, a hand and
    the other hand with its depth inverted look alike. So the frame's 3D is reflected along the
    viewing ray through the wrist, which keeps its projection (up to perspective within the hand)
    and yields a mesh, a wrist frame and a label that agree.
    """

    def __init__(self, parameters: TrackerParameters | None = None) -> None:
        self._parameters = parameters or TrackerParameters()
        self._tracks: list[_Track] = []
        self._last_id = 0
        self._stamp_s = -math.inf

    def __call__(self, hands: Sequence[Hand], stamp_s: float) -> list[Hand]:
        """The hands of the image taken at stamp_s, with ids; duplicates are dropped.

        A stamp before the last one (a bag played again) ends all tracks.
        """
        if stamp_s < self._stamp_s:
            self._tracks.clear()
        self._stamp_s = stamp_s
        gap = self._parameters.max_gap_s
        self._tracks = [track for track in self._tracks if stamp_s - track.stamp_s <= gap]

        hands = without_duplicates(hands, self._parameters.duplicate)
        tracks = self._assign(hands, stamp_s)
        return [track.update(hand, stamp_s) for track, hand in zip(tracks, hands, strict=True)]

    def _assign(self, hands: list[Hand], stamp_s: float) -> list[_Track]:
        """A track for each hand: cheapest pairs first, new tracks for what is left."""
        costs = np.array(
            [[track.cost(hand, stamp_s) for track in self._tracks] for hand in hands]
        ).reshape(len(hands), len(self._tracks))
        assigned: dict[int, _Track] = {}
        taken: set[int] = set()
        for flat in np.argsort(costs, axis=None, kind="stable"):
            h, t = divmod(int(flat), len(self._tracks))
            if not math.isfinite(costs[h, t]):
                break
            if h not in assigned and t not in taken:
                assigned[h] = self._tracks[t]
                taken.add(t)
        for h in range(len(hands)):
            if h not in assigned:
                self._last_id += 1
                assigned[h] = _Track(self._last_id, self._parameters)
                self._tracks.append(assigned[h])
        return [assigned[h] for h in range(len(hands))]


def without_duplicates(hands: Sequence[Hand], distance: float) -> list[Hand]:
    """The hands in their order, without those that lie on a better scored one."""
    kept: list[Hand] = []
    for hand in sorted(hands, key=lambda hand: -hand.score):
        if all(_joint_distance(hand, other.keypoints2d) > distance for other in kept):
            kept.append(hand)
    return [hand for hand in hands if any(hand is other for other in kept)]


def _size(hand: Hand) -> float:
    return max(float(np.max(hand.box[2:] - hand.box[:2])), 1.0)


def _joint_distance(hand: Hand, keypoints2d: np.ndarray) -> float:
    """Mean over the joints, in sizes of the hand's box."""
    return float(np.linalg.norm(hand.keypoints2d - keypoints2d, axis=1).mean()) / _size(hand)


class _Track:
    """One hand over time. ``hand`` is its last input, neither filtered nor reflected."""

    def __init__(self, identity: int, parameters: TrackerParameters) -> None:
        self._identity = identity
        self._parameters = parameters
        self._hand: Hand | None = None
        self._velocity = np.zeros(2)  # of the joints' mean, px/s
        self._right_odds = 0.0
        self.stamp_s = -math.inf
        self._start_filters()

    def _start_filters(self) -> None:
        p = self._parameters
        self._filters = [OneEuroFilter(p.min_cutoff_hz, p.beta) for _ in range(5)]

    def cost(self, hand: Hand, stamp_s: float) -> float:
        """How ill the hand fits, in box sizes; inf beyond the gate."""
        # Dead reckoning is good for a few frames, then it overshoots.
        moved = self._velocity * min(stamp_s - self.stamp_s, 0.15)
        distance = _joint_distance(hand, self._hand.keypoints2d + moved)
        if distance > self._parameters.gate:
            return math.inf
        growth = abs(math.log(_size(hand) / _size(self._hand)))
        # Where hands cross, their sides tell them apart; alone, a hand may not lose its id by it.
        held = abs(self._right_odds) / self._parameters.side_inertia
        other_side = 0.0 if hand.side is self.side else 0.5 * min(held, 1.0) * hand.side_confidence
        return distance + 0.5 * growth + other_side

    @property
    def side(self) -> Side:
        return Side.RIGHT if self._right_odds >= 0 else Side.LEFT

    def update(self, hand: Hand, stamp_s: float) -> Hand:
        elapsed_s = stamp_s - self.stamp_s
        if self._hand is not None and elapsed_s > 0:
            step = (hand.keypoints2d - self._hand.keypoints2d).mean(0) / elapsed_s
            self._velocity = 0.5 * self._velocity + 0.5 * step
        first = self._hand is None
        self._hand, self.stamp_s = hand, stamp_s
        before = self.side
        self._weigh_side(hand)
        if self.side is not before and not first:
            # What was filtered so far is the other hand, inside out.
            self._start_filters()
        out = replace(
            hand if hand.side is self.side else reflected(hand),
            track_id=self._identity,
            side_confidence=1 / (1 + math.exp(-abs(self._right_odds))),
        )
        return self._smoothed(out, elapsed_s) if self._parameters.smoothing else out

    def _weigh_side(self, hand: Hand) -> None:
        # No single frame is trusted beyond 0.95, nor taken for evidence against its own label.
        confidence = min(max(hand.side_confidence, 0.5), 0.95)
        evidence = math.log(confidence / (1 - confidence))
        limit = self._parameters.side_inertia
        odds = self._right_odds + (evidence if hand.side is Side.RIGHT else -evidence)
        if odds == 0:  # no evidence at all: the frame's own label
            odds = math.copysign(1e-6, 1 if hand.side is Side.RIGHT else -1)
        self._right_odds = min(max(odds, -limit), limit)

    def _smoothed(self, hand: Hand, elapsed_s: float) -> Hand:
        """Shape, direction and depth differ in noise, so they are filtered apart."""
        pixels, rays, depths, joints, mesh = self._filters
        wrist = hand.keypoints3d[WRIST]
        z = max(float(wrist[2]), MIN_DEPTH_M)
        ray = rays(wrist[None, :2] / z, elapsed_s, _HAND_LENGTH_M / z)[0]
        depth = depths(np.array([[z]]), elapsed_s, _DEPTH_SCALE_M)[0, 0]
        position = np.array([*ray, 1.0]) * depth
        keypoints3d = position + joints(hand.keypoints3d - wrist, elapsed_s, _HAND_LENGTH_M)
        vertices = position + mesh(hand.vertices - wrist, elapsed_s, _HAND_LENGTH_M)
        return replace(
            hand,
            keypoints2d=pixels(hand.keypoints2d, elapsed_s, _size(hand)).astype(np.float32),
            keypoints3d=keypoints3d.astype(np.float32),
            vertices=vertices.astype(np.float32),
            wrist=wrist_frame(keypoints3d, hand.side),
        )


def reflected(hand: Hand) -> Hand:
    """The other side's hand that looks the same: its 3D mirrored along the ray to the wrist."""
    wrist = np.asarray(hand.keypoints3d[WRIST], np.float64)
    ray = wrist / max(float(np.linalg.norm(wrist)), 1e-9)

    def mirror(points: np.ndarray) -> np.ndarray:
        return (points - 2 * ((points - wrist) @ ray)[:, None] * ray).astype(np.float32)

    keypoints3d = mirror(hand.keypoints3d)
    return replace(
        hand,
        side=hand.side.opposite,
        keypoints3d=keypoints3d,
        vertices=mirror(hand.vertices),
        wrist=wrist_frame(keypoints3d, hand.side.opposite),
    )
