"""Hands that move, with truth: what a network would say of them, with its errors, and no network.

Each scene is a script of one to four hands: paths of the wrist, gestures, times of being hidden.
The template's skeleton is posed at every frame; a hand that another one covers is not seen; then
noise is added as networks make it: joints that shake together and on their own, a wrong size, a
shaky depth, wrong sides, misses, doubles and things that are no hands.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from hand_perception.articulation import ANGLE_NAMES, Articulation, pose_template
from hand_perception.geometry import joint_boxes, project, wrist_frame
from hand_perception.hands import WRIST, Camera, Hand, Pose, Side
from hand_perception.template import Template
from hand_perception.tracking import reflected

CAMERA = Camera(500.0, 500.0, 319.5, 239.5, 640, 480)
# Degrees of flexion of the MCPs, PIPs and DIPs of index to pinky, and of the thumb's joints.
GESTURES = {
    "open": ((0, 5, 5),) * 4 + ((0, 0, 0),),
    "relaxed": ((15, 25, 15), (20, 30, 20), (25, 35, 20), (25, 35, 20), (10, 10, 10)),
    "fist": ((75, 95, 55),) * 4 + ((25, 40, 50),),
    "point": ((0, 5, 5), *((75, 95, 55),) * 3, (25, 40, 50)),
    "two": ((0, 5, 5), (0, 5, 5), (75, 95, 55), (75, 95, 55), (30, 45, 50)),
}
# A hand of which another one covers that much of the box is not detected.
HIDDEN = 0.55
# How far a joint's noise carries over the skin.
_SKIN_M = 0.015


@dataclass(frozen=True)
class Noise:
    """Standard deviations. joints: of each joint and of all together, of the box's longer side.
    shape_m: of each joint about the wrist. depth: from frame to frame, and of the whole sequence,
    of the distance. wrong_side, missed, doubled, false: shares of hands or, for false, of frames.
    """

    joints: float = 0.012
    shape_m: float = 0.005
    depth: float = 0.03
    size: float = 0.05
    wrong_side: float = 0.08
    missed: float = 0.04
    doubled: float = 0.03
    false: float = 0.01


@dataclass(frozen=True)
class Actor:
    """One hand's script. path: (second, x, y, z of the wrist) in metres, moved between smoothly;
    gestures: (second, name). hidden: (from, to) seconds. palm: turned to
    the viewer, rather than the back."""

    side: Side
    path: tuple[tuple[float, float, float, float], ...]
    gestures: tuple[tuple[float, str], ...] = ((0.0, "open"),)
    hidden: tuple[tuple[float, float], ...] = ()
    palm: bool = False


@dataclass(frozen=True)
class Scene:
    """actors: at least one. noise: what differs from the usual."""

    actors: tuple[Actor, ...]
    seconds: float = 4.0
    rate: float = 30.0
    noise: Noise = field(default_factory=Noise)


@dataclass(frozen=True)
class Frame:
    """truth: by actor, only those in the picture and not hidden. seen: what a network would give,
    in any order."""

    stamp_s: float
    truth: dict[int, Hand]
    seen: list[Hand]


def _wave(y: float, z: float, reach: float, period: float, seconds: float):
    steps = np.arange(0, seconds + period / 2, period / 2)
    return tuple((float(t), reach * (-1) ** k, y, z) for k, t in enumerate(steps))


LEFT, RIGHT = Side.LEFT, Side.RIGHT
SCENES = {
    "rest": Scene((Actor(RIGHT, ((0, 0.0, 0.1, 0.55),)),)),
    "gestures": Scene(
        (
            Actor(
                LEFT,
                ((0, -0.02, 0.1, 0.5), (4, 0.05, 0.08, 0.5)),
                ((0, "open"), (0.8, "fist"), (1.6, "point"), (2.4, "two"), (3.2, "relaxed")),
            ),
        )
    ),
    "wave": Scene((Actor(RIGHT, _wave(0.1, 0.6, 0.15, 0.8, 4.0)),)),
    "approach": Scene((Actor(RIGHT, ((0, 0.05, 0.15, 1.1), (3, -0.02, 0.08, 0.4))),)),
    "wrong sides": Scene(
        (
            Actor(RIGHT, ((0, 0.12, 0.1, 0.55), (4, 0.08, 0.05, 0.5))),
            Actor(LEFT, ((0, -0.12, 0.1, 0.55), (4, -0.16, 0.12, 0.6))),
        ),
        noise=Noise(wrong_side=0.3),
    ),
    "crossing": Scene(
        (
            Actor(RIGHT, ((0.3, 0.2, 0.1, 0.6), (2.3, -0.2, 0.08, 0.6))),
            Actor(LEFT, ((0.3, -0.2, 0.08, 0.7), (2.3, 0.2, 0.1, 0.7)), ((0, "relaxed"),)),
        )
    ),
    "crossing twice": Scene(
        (
            Actor(RIGHT, ((0, 0.2, 0.1, 0.6), (1.4, -0.2, 0.1, 0.6), (2.8, 0.2, 0.1, 0.6))),
            Actor(LEFT, ((0, -0.2, 0.1, 0.7), (1.4, 0.2, 0.1, 0.7), (2.8, -0.2, 0.1, 0.7))),
        )
    ),
    "two right hands cross": Scene(
        (
            Actor(RIGHT, ((0.3, 0.22, 0.12, 0.6), (2.3, -0.22, 0.08, 0.6)), ((0, "point"),)),
            Actor(RIGHT, ((0.3, -0.22, 0.08, 0.75), (2.3, 0.22, 0.12, 0.75))),
        )
    ),
    "touch and part": Scene(
        (
            Actor(RIGHT, ((0.2, 0.2, 0.1, 0.6), (1.7, 0.045, 0.1, 0.6), (3.4, 0.2, 0.1, 0.6))),
            Actor(
                LEFT,
                ((0.2, -0.2, 0.1, 0.6), (1.7, -0.045, 0.1, 0.6), (3.4, -0.2, 0.1, 0.6)),
                palm=True,
            ),
        )
    ),
    "hidden for 0.6 s": Scene(
        (
            Actor(RIGHT, ((0, 0.15, 0.1, 0.6), (4, 0.0, 0.1, 0.55)), hidden=((1.5, 2.1),)),
            Actor(LEFT, ((0, -0.18, 0.1, 0.6), (4, -0.15, 0.1, 0.6))),
        )
    ),
    "hidden in motion": Scene(
        (Actor(LEFT, _wave(0.1, 0.6, 0.15, 2.0, 4.0), hidden=((1.35, 1.65), (2.3, 2.7))),)
    ),
    "leaves and comes back": Scene(
        (
            Actor(
                RIGHT,
                (
                    (0.3, 0.15, 0.1, 0.6),
                    (1.2, 0.6, 0.1, 0.6),
                    (1.7, 0.6, 0.08, 0.6),
                    (2.6, 0.15, 0.08, 0.6),
                ),
            ),
            Actor(LEFT, ((0, -0.15, 0.1, 0.6), (4, -0.18, 0.12, 0.6))),
        )
    ),
    "four hands": Scene(
        (
            Actor(RIGHT, ((0.2, 0.1, 0.05, 0.7), (3.5, -0.12, 0.05, 0.7))),
            Actor(LEFT, ((0.2, -0.1, 0.05, 0.8), (3.5, 0.12, 0.05, 0.8)), ((0, "fist"),)),
            Actor(RIGHT, ((0.2, 0.35, 0.25, 0.9), (3.5, 0.1, 0.28, 0.9)), ((0, "point"),)),
            Actor(LEFT, ((0.2, -0.35, 0.25, 0.9), (3.5, -0.1, 0.25, 0.9)), ((0, "relaxed"),)),
        )
    ),
    "crossing at 10 Hz": Scene(
        (
            Actor(RIGHT, ((0.3, 0.2, 0.1, 0.6), (2.3, -0.2, 0.08, 0.6))),
            Actor(LEFT, ((0.3, -0.2, 0.08, 0.7), (2.3, 0.2, 0.1, 0.7))),
        ),
        rate=10.0,
    ),
}


def play(scene: Scene, template: Template, seed: int) -> list[Frame]:
    """The scene's frames. The same seed gives the same frames."""
    rng = np.random.default_rng(seed)
    watch = _Network(scene, template, rng)
    times = np.arange(round(scene.seconds * scene.rate)) / scene.rate
    phases = rng.uniform(0, 2 * np.pi, (len(scene.actors), 3))
    frames = []
    for t in times:
        hands = [
            _act(actor, float(t), template, phase)
            for actor, phase in zip(scene.actors, phases, strict=True)
        ]
        visible = {
            k: hand
            for k, hand in enumerate(hands)
            if _in_picture(hand) and not _hidden(scene.actors[k], float(t), hand, hands)
        }
        frames.append(Frame(float(t), visible, watch(visible)))
    return frames


def _act(actor: Actor, t: float, template: Template, phase: np.ndarray) -> Hand:
    at = _between([(key[0], np.array(key[1:])) for key in actor.path], t)
    # Nobody's hand is still: a sway of 3 mm and 1.5 degrees, of a second and more.
    sway = np.sin(t * np.array([4.1, 5.3, 3.2]) + phase)
    at = at + 0.003 * sway
    angles = _between([(s, _angles(name)) for s, name in actor.gestures], t, 0.4)
    turn = _about(1, 0.03 * sway[0]) @ _about(0, 0.03 * sway[1])
    if actor.palm:
        turn = turn @ _about(1, np.pi)
    return _posed(actor.side, at, turn, angles, template)


def _between(keys: list[tuple[float, np.ndarray]], t: float, within: float = np.inf) -> np.ndarray:
    """Minimum-jerk motion from key to key; ``within`` so many seconds before the next one."""
    times = [key[0] for key in keys]
    k = int(np.searchsorted(times, t, side="right"))
    if k == 0 or k == len(keys):
        return keys[max(k - 1, 0)][1]
    (start, a), (end, b) = keys[k - 1], keys[k]
    start = max(start, end - within)
    s = np.clip((t - start) / (end - start), 0, 1)
    return a + (b - a) * (s**3 * (10 - 15 * s + 6 * s**2))


def _angles(gesture: str) -> np.ndarray:
    """[20] radians in ANGLE_NAMES' order."""
    *fingers, thumb = GESTURES[gesture]
    rows = [(thumb[0], 0, thumb[1], thumb[2]), *((m, 0, p, d) for m, p, d in fingers)]
    return np.radians(np.array(rows, np.float64)).ravel()


def _posed(
    side: Side, at: np.ndarray, turn: np.ndarray, angles: np.ndarray, template: Template
) -> Hand:
    """Back to the viewer and fingers up before ``turn``; the wrist is at ``at``."""
    rotations = [np.eye(3)]
    for flexion, _, second, third in angles.reshape(len(ANGLE_NAMES) // 4, 4):
        rotations += [_about(0, -flexion), _about(0, -second), _about(0, -third)]
    pose = Articulation(
        side, np.array(rotations), Pose(np.eye(3), np.zeros(3)), angles, np.ones(len(ANGLE_NAMES))
    )
    vertices, keypoints = pose_template(pose, template)
    # Rest axes of the palm to fingers up and back to the viewer.
    palm = wrist_frame(keypoints, side).rotation
    upright = np.stack([[0, -1.0, 0], np.cross([0, 0, -1.0], [0, -1.0, 0]), [0, 0, -1.0]], axis=1)
    rotation = turn @ upright @ palm.T
    root = keypoints[WRIST]
    keypoints = ((keypoints - root) @ rotation.T + at).astype(np.float32)
    vertices = ((vertices - root) @ rotation.T + at).astype(np.float32)
    return _hand(side, keypoints, vertices, project(keypoints, CAMERA), 1.0, 1.0)


def _hand(
    side: Side,
    keypoints3d: np.ndarray,
    vertices: np.ndarray,
    keypoints2d: np.ndarray,
    score: float,
    side_confidence: float,
) -> Hand:
    return Hand(
        side=side,
        score=score,
        box=joint_boxes(keypoints2d).astype(np.float32),
        keypoints2d=keypoints2d.astype(np.float32),
        confidences=np.full(len(keypoints2d), score, np.float32),
        keypoints3d=keypoints3d.astype(np.float32),
        vertices=vertices.astype(np.float32),
        wrist=wrist_frame(keypoints3d, side),
        side_confidence=side_confidence,
    )


def _about(axis: int, angle: float) -> np.ndarray:
    first, second = (axis + 1) % 3, (axis + 2) % 3
    rotation = np.eye(3)
    rotation[first, first] = rotation[second, second] = np.cos(angle)
    rotation[second, first], rotation[first, second] = np.sin(angle), -np.sin(angle)
    return rotation


def _in_picture(hand: Hand) -> bool:
    """Half of the joints are."""
    inside = (hand.keypoints2d > 0) & (hand.keypoints2d < (CAMERA.width, CAMERA.height))
    return bool(inside.all(1).mean() > 0.5)


def _hidden(actor: Actor, t: float, hand: Hand, others: list[Hand]) -> bool:
    if any(start <= t < end for start, end in actor.hidden):
        return True
    for other in others:
        if other is not hand and other.wrist.translation[2] < hand.wrist.translation[2]:
            low = np.maximum(hand.box[:2], other.box[:2])
            high = np.minimum(hand.box[2:], other.box[2:])
            covered = np.clip(high - low, 0, None).prod()
            if covered > HIDDEN * (hand.box[2:] - hand.box[:2]).prod():
                return True
    return False


class _Network:
    """What a network would give for the true hands."""

    def __init__(self, scene: Scene, template: Template, rng: np.random.Generator) -> None:
        self._noise, self._rng = scene.noise, rng
        gap = np.linalg.norm(template.vertices[:, None] - template.keypoints, axis=-1)
        reach = np.exp(-((gap / _SKIN_M) ** 2)) + 1e-12
        self._reach = reach / reach.sum(1, keepdims=True)
        count = len(scene.actors)
        self._sizes = np.exp(rng.normal(0, self._noise.size, count))
        self._drift2d, self._drift3d = np.zeros((count, 21, 2)), np.zeros((count, 21, 3))
        # Errors follow the picture: they fade over some five frames.
        self._memory = 0.8

    def __call__(self, visible: dict[int, Hand]) -> list[Hand]:
        noise, rng = self._noise, self._rng
        seen = []
        for k, hand in visible.items():
            self._drift(k)
            if rng.random() < noise.missed:
                continue
            seen.append(self._distorted(k, hand))
            if rng.random() < noise.doubled:
                seen.append(self._double(seen[-1]))
        if rng.random() < noise.false and visible:
            seen.append(self._nonsense(next(iter(visible.values()))))
        rng.shuffle(seen)
        return seen

    def _drift(self, k: int) -> None:
        fresh = np.sqrt(1 - self._memory**2)
        for drift, joints in ((self._drift2d, 2), (self._drift3d, 3)):
            common, own = self._rng.normal(size=(1, joints)), self._rng.normal(size=(21, joints))
            drift[k] = self._memory * drift[k] + fresh * (common + own)

    def _distorted(self, k: int, hand: Hand) -> Hand:
        noise, rng = self._noise, self._rng
        size = float((hand.box[2:] - hand.box[:2]).max())
        # Half of the shaking follows the picture, half is new in each frame.
        pixels = 0.7 * noise.joints * size * (self._drift2d[k] + rng.normal(size=(21, 2)))
        shape = 0.7 * noise.shape_m * (self._drift3d[k] + rng.normal(size=(21, 3)))
        shape = shape - shape[WRIST]
        factor = self._sizes[k] * np.exp(rng.normal(0, noise.depth))
        wrist = hand.keypoints3d[WRIST].astype(np.float64)
        keypoints = (hand.keypoints3d - wrist) + shape + wrist * factor
        vertices = (hand.vertices - wrist) + self._reach @ shape + wrist * factor
        found = _hand(
            hand.side,
            keypoints,
            vertices,
            hand.keypoints2d + pixels,
            float(rng.uniform(0.7, 1.0)),
            float(rng.uniform(0.6, 1.0)),
        )
        if rng.random() < noise.wrong_side:
            confidence = float(rng.uniform(0.5, 0.85))
            found = replace(self._turned(reflected(found)), side_confidence=confidence)
        return found

    def _turned(self, hand: Hand) -> Hand:
        """A wrong side is no exact mirror image: some 6 degrees about the wrist."""
        turn = np.linalg.multi_dot(
            [_about(k, a) for k, a in enumerate(self._rng.normal(0, 0.1, 3))]
        )
        wrist = hand.keypoints3d[WRIST]
        keypoints = ((hand.keypoints3d - wrist) @ turn.T + wrist).astype(np.float32)
        vertices = ((hand.vertices - wrist) @ turn.T + wrist).astype(np.float32)
        frame = wrist_frame(keypoints, hand.side)
        return replace(hand, keypoints3d=keypoints, vertices=vertices, wrist=frame)

    def _double(self, hand: Hand) -> Hand:
        """The same hand once more, a little off and less sure, of any side."""
        rng = self._rng
        size = float((hand.box[2:] - hand.box[:2]).max())
        shift = rng.normal(0, 0.06 * size, 2)
        double = replace(
            hand,
            score=hand.score * 0.7,
            keypoints2d=(hand.keypoints2d + shift).astype(np.float32),
            box=(hand.box + np.tile(shift, 2)).astype(np.float32),
        )
        return reflected(double) if rng.random() < 0.5 else double

    def _nonsense(self, hand: Hand) -> Hand:
        """Something elsewhere that looks like a hand."""
        rng = self._rng
        at = np.append(rng.uniform(-0.25, 0.25, 2), 1.0) * rng.uniform(0.5, 1.0)
        shift = at - hand.keypoints3d[WRIST]
        keypoints = hand.keypoints3d + shift
        return _hand(
            hand.side,
            keypoints,
            hand.vertices + shift,
            project(keypoints, CAMERA),
            float(rng.uniform(0.5, 0.6)),
            0.6,
        )
