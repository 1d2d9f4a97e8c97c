"""The same hand keeps its id, its side and, if wanted, a steady shape from frame to frame.

A tracker is ``tracker(hands, stamp_s) -> hands``; it never invents hands, so a frame's output has
at most as many as its input. docs/tracking.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hand_perception.geometry import MIN_DEPTH_M, wrist_frame
from hand_perception.hands import WRIST, Hand, Pose, Side
from hand_perception.matching import cheapest_pairs
from hand_perception.smoothing import AlphaBetaFilter, OneEuroFilter
from hand_perception.uncertainty import depth_std

# A hand's own extent, which makes 3D speeds comparable with those in boxes per second.
_HAND_LENGTH_M = 0.18
# Depth that follows from the hand's size in the picture is some three times as noisy as its place;
# where it was measured it is steady. In between, by so many of its standard deviations.
_DEPTH_SCALE_M, _DEPTH_STDS = 0.6, 6.0
# A filter that heard nothing for so long starts anew: the hand has changed since.
_STALE_S = 0.2
# A hand that was away for longer and comes back with another side, as log-odds sure as 0.9, is
# another hand.
_AWAY_S, _SURELY = 0.4, 2.2
# However briefly a hand was seen, it may be missed in a few frames.
_LEAST_GAP_S = 0.2
# Standard deviations, where and how a hand is seen: of its middle and its joints about it, in box
# sizes; of the box's size, in its logarithm.
_PLACE, _SHAPE, _SIZE = 0.08, 0.06, 0.08
# How fast, in box sizes per second, a hand gets away from where its motion points.
_AGILITY = 3.0
# A motion goes on for a while, and then nobody knows.
_MOTION_S = 0.2
# A hand after so long a gap, or so many box sizes from where it was expected, may be something
# else: what was known before is kept until it has been seen so often.
_DOUBT_S, _DOUBT, _CONFIRMED = 0.15, 0.3, 3
# A hand that fits a track worse than this (see _Track.cost, best -20) begins a track of its own.
_STRANGER = 20.0
# What a frame's side is trusted at most: one in twenty is wrong, however sure the network is.
_SIDE_TRUST = 0.95


@dataclass(frozen=True)
class TrackerParameters:
    """max_gap_s: a track lives on so long without a hand, and takes its id up again; one that was
    seen briefly lives on for three times as long as it was seen.
    gate: farthest, in box sizes, that a hand may be from where its track expects it in the next
    frame; with the time it was not seen this grows.
    duplicate: hands whose 2D joints differ by less, on average and in box sizes, are one hand.
    side_inertia: the most evidence, in log-odds, that a held side gathers: contrary frames have to
    outweigh it, thirty of them at the 0.95 that one frame is trusted at most.
    smoothing: filter joints and mesh.
    min_cutoff_hz, beta: see OneEuroFilter.
    """

    max_gap_s: float = 1.5
    gate: float = 0.5
    duplicate: float = 0.2
    side_inertia: float = 90.0
    smoothing: bool = True
    min_cutoff_hz: float = 1.0
    beta: float = 3.0


class HandTracker:
    """Ids are positive and never used twice, also not after a jump back in time.

    The side is held: each frame adds its side's log-odds, and the sum decides. A frame that
    contradicts it has taken a palm for a back; its skeleton is hardly another one (on the videos
    that were looked at, joints move by a centimetre when the side flips). So it becomes the nearest
    hand of the held side, see ``reflected``: a mesh, a wrist frame and a label that agree.
    """

    def __init__(self, parameters: TrackerParameters | None = None) -> None:
        self._parameters = parameters or TrackerParameters()
        self._tracks: list[_Track] = []
        self._shown: list[tuple[_Track, Hand]] = []
        self._last_id = 0
        self._stamp_s = -math.inf

    def __call__(self, hands: Sequence[Hand], stamp_s: float) -> list[Hand]:
        """The hands of the image taken at stamp_s, with ids; duplicates are dropped.

        A stamp before the last one (a bag played again) ends all tracks.
        """
        if stamp_s < self._stamp_s:
            self._tracks.clear()
        self._stamp_s = stamp_s
        self._tracks = [track for track in self._tracks if stamp_s <= track.remembered_until_s]

        hands = without_duplicates(hands, self._parameters.duplicate)
        tracks = self._assign(hands, stamp_s)
        out = [track.update(hand, stamp_s) for track, hand in zip(tracks, hands, strict=True)]
        self._shown = list(zip(tracks, out, strict=True))
        return out

    def predict(self, ahead_s: float) -> list[Hand]:
        """The last call's hands as they will be ahead_s after its image, in their order.

        Each moves on as it moved, for a fifth of a second at most; its shape and turn stay.
        """
        return [track.ahead(hand, ahead_s) for track, hand in self._shown]

    def _assign(self, hands: list[Hand], stamp_s: float) -> list[_Track]:
        """A track for each hand: the likeliest pairs, new tracks for what is left."""
        costs = np.array(
            [[track.cost(hand, stamp_s) for track in self._tracks] for hand in hands]
        ).reshape(len(hands), len(self._tracks))
        assigned = []
        for t in cheapest_pairs(costs, alone=_STRANGER):
            if t < 0:
                self._last_id += 1
                self._tracks.append(_Track(self._last_id, self._parameters))
            assigned.append(self._tracks[t])
        return assigned


def without_duplicates(hands: Sequence[Hand], distance: float) -> list[Hand]:
    """The hands in their order, without those that lie on a better scored one."""
    kept: list[Hand] = []
    for hand in sorted(hands, key=lambda hand: -hand.score):
        if all(_joint_distance(hand, other) > distance for other in kept):
            kept.append(hand)
    return [hand for hand in hands if any(hand is other for other in kept)]


def _size(hand: Hand) -> float:
    return max(float(np.max(hand.box[2:] - hand.box[:2])), 1.0)


def _joint_distance(hand: Hand, other: Hand) -> float:
    """Mean over the joints, in sizes of the hand's box."""
    return float(np.linalg.norm(hand.keypoints2d - other.keypoints2d, axis=1).mean()) / _size(hand)


def _shape(hand: Hand) -> np.ndarray:
    """The joints about their middle, [21, 2] in sizes of the hand's box."""
    return (hand.keypoints2d - hand.keypoints2d.mean(0)) / _size(hand)


def _ray(hand: Hand) -> np.ndarray:
    """Of the wrist: x / z, y / z and the logarithm of z, [3]."""
    wrist = hand.keypoints3d[WRIST].astype(np.float64)
    z = max(float(wrist[2]), MIN_DEPTH_M)
    return np.array([wrist[0] / z, wrist[1] / z, math.log(z)])


@dataclass(frozen=True)
class _Sighting:
    """hand: an input, neither filtered nor reflected. middle, velocity: of its joints, [2] pixels
    and pixels per second."""

    hand: Hand
    middle: np.ndarray
    velocity: np.ndarray
    stamp_s: float

    def expected(self, stamp_s: float) -> np.ndarray:
        """Where the joints' middle is by then, [2] pixels."""
        return self.middle + self.velocity * _coasting(stamp_s - self.stamp_s)

    def distance(self, hand: Hand, stamp_s: float) -> float:
        """Of a hand from where it is expected, in box sizes."""
        away = hand.keypoints2d.mean(0) - self.expected(stamp_s)
        return float(np.linalg.norm(away)) / _size(self.hand)


class _Track:
    """One hand over time."""

    def __init__(self, identity: int, parameters: TrackerParameters) -> None:
        self._identity = identity
        self._parameters = parameters
        self._last: _Sighting | None = None
        self._earlier: _Sighting | None = None  # while the last one is in doubt
        self._confirmations = 0
        self._right_odds = 0.0
        self._since_s = -math.inf
        self._start_filters()

    def _start_filters(self) -> None:
        p = self._parameters
        self._filters = [OneEuroFilter(p.min_cutoff_hz, p.beta) for _ in range(6)]
        self._middle = AlphaBetaFilter()  # of the joints, px
        self._place = AlphaBetaFilter()  # of the wrist, see _ray

    @property
    def stamp_s(self) -> float:
        return -math.inf if self._last is None else self._last.stamp_s

    @property
    def remembered_until_s(self) -> float:
        """Something that shows up for a moment must not wait long to be somebody's hand again."""
        earned_s = max(3 * (self.stamp_s - self._since_s), _LEAST_GAP_S)
        return self.stamp_s + min(earned_s, self._parameters.max_gap_s)

    @property
    def side(self) -> Side:
        return Side.RIGHT if self._right_odds >= 0 else Side.LEFT

    def cost(self, hand: Hand, stamp_s: float) -> float:
        """Twice the negative logarithm of how likely this is the track's next hand, up to what is
        the same for all; inf beyond the gate."""
        known = [sighting for sighting in (self._last, self._earlier) if sighting is not None]
        return min(self._cost(sighting, hand, stamp_s) for sighting in known)

    def _cost(self, last: _Sighting, hand: Hand, stamp_s: float) -> float:
        elapsed_s = stamp_s - last.stamp_s
        strayed = _AGILITY * elapsed_s**2 / (elapsed_s + 0.15)
        distance = last.distance(hand, stamp_s)
        if distance > self._parameters.gate + 1.5 * strayed:
            return math.inf
        against = min(abs(self._right_odds), _evidence(hand)) if hand.side is not self.side else 0
        if elapsed_s > _AWAY_S and against >= _SURELY:
            return math.inf
        # What is not known for sure costs its width, or a track lost long ago would take all.
        place, shape, grown = _PLACE + strayed, _SHAPE + 0.3 * strayed, _SIZE + 0.3 * strayed
        differing = float(np.linalg.norm(_shape(hand) - _shape(last.hand), axis=1).mean())
        growth = math.log(_size(hand) / _size(last.hand))
        cost = (distance / place) ** 2 + (differing / shape) ** 2 + (growth / grown) ** 2
        cost += 4 * math.log(place) + 2 * math.log(shape) + 2 * math.log(grown)
        return cost + 2 * against

    def update(self, hand: Hand, stamp_s: float) -> Hand:
        elapsed_s = stamp_s - self.stamp_s
        if self._last is None:
            self._since_s = stamp_s
        else:
            mistaken = self._weigh_doubt(hand, stamp_s)
            if mistaken or elapsed_s > _STALE_S:
                self._start_filters()
        before = self.side
        self._weigh_side(hand)
        if self.side is not before and self._last is not None:
            # What was filtered so far is the other hand, inside out.
            self._start_filters()
        self._middle(hand.keypoints2d.mean(0), elapsed_s)
        self._place(_ray(hand), elapsed_s)
        self._last = _Sighting(hand, self._middle.value, self._middle.velocity, stamp_s)
        out = replace(
            hand if hand.side is self.side else reflected(hand),
            track_id=self._identity,
            side_confidence=1 / (1 + math.exp(-abs(self._right_odds))),
        )
        return self._smoothed(out, elapsed_s) if self._parameters.smoothing else out

    def _weigh_doubt(self, hand: Hand, stamp_s: float) -> bool:
        """Whether the last sighting was of something else: the hand continues the one before."""
        if self._earlier is not None:
            continued = self._cost(self._earlier, hand, stamp_s)
            if continued < self._cost(self._last, hand, stamp_s):
                self._earlier = None
                return True
        elapsed_s = stamp_s - self._last.stamp_s
        if elapsed_s > _DOUBT_S or self._last.distance(hand, stamp_s) > _DOUBT:
            self._earlier = self._earlier or self._last
            self._confirmations = 0
        self._confirmations += 1
        if self._confirmations >= _CONFIRMED:
            self._earlier = None
        return False

    def ahead(self, hand: Hand, ahead_s: float) -> Hand:
        """``hand``, the track's last output, moved on."""
        coasting = _coasting(max(ahead_s, 0.0))
        wrist = hand.keypoints3d[WRIST].astype(np.float64)
        x, y, log_z = _ray(hand) + self._place.velocity * coasting
        shift = np.array([x, y, 1.0]) * math.exp(log_z) - wrist
        moved = (self._middle.velocity * coasting).astype(np.float32)
        return replace(
            hand,
            box=hand.box + np.tile(moved, 2),
            keypoints2d=hand.keypoints2d + moved,
            keypoints3d=(hand.keypoints3d + shift).astype(np.float32),
            vertices=(hand.vertices + shift).astype(np.float32),
            wrist=Pose(hand.wrist.rotation, hand.wrist.translation + shift),
        )

    def _weigh_side(self, hand: Hand) -> None:
        limit = self._parameters.side_inertia
        evidence = _evidence(hand)
        odds = self._right_odds + (evidence if hand.side is Side.RIGHT else -evidence)
        if odds == 0:  # no evidence at all: the frame's own label
            odds = math.copysign(1e-6, 1 if hand.side is Side.RIGHT else -1)
        self._right_odds = min(max(odds, -limit), limit)

    def _smoothed(self, hand: Hand, elapsed_s: float) -> Hand:
        """Shape, direction and depth differ in noise, so they are filtered apart: a hand that moves
        as a whole is followed quickly without letting its joints shake."""
        middles, pixels, rays, depths, joints, mesh = self._filters
        size, middle = _size(hand), hand.keypoints2d.mean(0, keepdims=True)
        keypoints2d = middles(middle, elapsed_s, size) + pixels(
            hand.keypoints2d - middle, elapsed_s, size
        )
        wrist = hand.keypoints3d[WRIST]
        z = max(float(wrist[2]), MIN_DEPTH_M)
        ray = rays(wrist[None, :2] / z, elapsed_s, _HAND_LENGTH_M / z)[0]
        depth = depths(np.array([[z]]), elapsed_s, _depth_scale(hand))[0, 0]
        position = np.array([*ray, 1.0]) * depth
        keypoints3d = position + joints(hand.keypoints3d - wrist, elapsed_s, _HAND_LENGTH_M)
        vertices = position + mesh(hand.vertices - wrist, elapsed_s, _HAND_LENGTH_M)
        return replace(
            hand,
            keypoints2d=keypoints2d.astype(np.float32),
            keypoints3d=keypoints3d.astype(np.float32),
            vertices=vertices.astype(np.float32),
            wrist=wrist_frame(keypoints3d, hand.side),
        )


def _evidence(hand: Hand) -> float:
    """Log-odds of the hand's side; never against its own label."""
    confidence = min(max(hand.side_confidence, 0.5), _SIDE_TRUST)
    return math.log(confidence / (1 - confidence))


def _depth_scale(hand: Hand) -> float:
    """Metres per second that count as fast along the ray."""
    if hand.position_covariance is None:
        return _DEPTH_SCALE_M
    scale = _DEPTH_STDS * depth_std(hand.position_covariance)
    return min(max(scale, _HAND_LENGTH_M), _DEPTH_SCALE_M)


def _coasting(elapsed_s: float) -> float:
    """For how many seconds of elapsed_s a motion is taken to have gone on."""
    return _MOTION_S * (1 - math.exp(-elapsed_s / _MOTION_S))


def reflected(hand: Hand) -> Hand:
    """The nearest hand of the other side: mirrored in the plane through its wrist that its joints
    are nearest to.

    Of all mirror images with the same wrist this one moves the joints least, and for a hand that
    is seen from its front or back it moves them along the ray, which keeps the picture.
    """
    wrist = np.asarray(hand.keypoints3d[WRIST], np.float64)
    offsets = hand.keypoints3d - wrist
    normal = np.linalg.eigh(offsets.T @ offsets)[1][:, 0]

    def mirror(points: np.ndarray) -> np.ndarray:
        return (points - 2 * ((points - wrist) @ normal)[:, None] * normal).astype(np.float32)

    keypoints3d = mirror(hand.keypoints3d)
    return replace(
        hand,
        side=hand.side.opposite,
        keypoints3d=keypoints3d,
        vertices=mirror(hand.vertices),
        wrist=wrist_frame(keypoints3d, hand.side.opposite),
    )
