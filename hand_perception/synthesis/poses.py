"""Poses of hands: gestures, interpolated base poses and random ones, within the joints' limits.

Angles are degrees in tables and radians elsewhere; their meaning is rig.local_rotations'.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hand_perception.errors import DataError
from hand_perception.synthesis.rig import (
    FINGER_COUNT,
    JOINTS_PER_FINGER,
    NUM_JOINTS,
    forward_kinematics,
    local_rotations,
)
from hand_perception.synthesis.space import first_above

# Flexion of a finger's three joints, straight and fully curled.
STRAIGHT, CURLED = (-3.0, 3.0, 2.0), (80.0, 100.0, 62.0)
# Limits of flexion (low, high): thumb CMC, MCP, IP; then the long fingers' MCP, PIP, DIP. The
# thumb's CMC goes to 45 degrees: opposition needs it.
THUMB_FLEXION = ((-30.0, 45.0), (-12.0, 60.0), (-22.0, 85.0))
FINGER_FLEXION = ((-25.0, 92.0), (-4.0, 112.0), (-8.0, 82.0))
THUMB_ABDUCTION, THUMB_TWIST = (-32.0, 34.0), (-35.0, 25.0)
# Radial turn of index to pinky at full spread; a fist cannot spread, and its fingers converge.
SPREAD = (11.0, 1.0, -9.0, -19.0)
CONVERGENCE_TWIST = (4.0, 0.0, -5.0, -9.0)

# Thumb: CMC flexion, abduction, twist, MCP flexion, IP flexion.
THUMBS = {
    "open": (-12.0, 8.0, 0.0, -2.0, -4.0),
    "wide": (-18.0, 26.0, 0.0, -6.0, -8.0),
    "along": (4.0, -14.0, 4.0, 6.0, 4.0),
    "up": (-20.0, 22.0, 4.0, -8.0, -14.0),
    "across": (36.0, -2.0, -16.0, 30.0, 32.0),
    "over": (0.0, 18.0, -3.0, 55.0, 60.0),
    "over_middle": (12.0, 18.0, -6.0, 46.0, 66.0),
    "over_ring": (18.0, 31.0, 3.0, 54.0, 56.0),
    "side": (10.0, -12.0, 0.0, 12.0, 12.0),
    "opposed": (31.0, 27.0, 0.0, 8.0, 22.0),
}
# Gestures: the curls of index, middle, ring, pinky (0 straight, 1 curled), spread, thumb, weight.
GESTURES = {
    "open": ((0, 0, 0, 0), 0.9, "open", 5),
    "spread": ((0, 0, 0, 0), 1.4, "wide", 4),
    "flat": ((0, 0, 0, 0), 0.0, "along", 4),
    "relaxed": ((0.15, 0.22, 0.28, 0.3), 0.3, "open", 4),
    "cupped": ((0.3, 0.32, 0.34, 0.36), 0.1, "along", 2),
    "claw": ((0.45, 0.45, 0.45, 0.45), 0.9, "wide", 1),
    "fist": ((1, 1, 1, 1), 0.0, "over", 7),
    "fist_side": ((1, 1, 1, 1), 0.0, "side", 3),
    "thumb_up": ((1, 1, 1, 1), 0.0, "up", 4),
    "point": ((0, 1, 1, 1), 0.0, "over_middle", 5),
    "gun": ((0, 1, 1, 1), 0.0, "wide", 3),
    "two": ((0, 0, 1, 1), 1.3, "over_ring", 6),
    "two_closed": ((0, 0, 1, 1), -0.3, "over_ring", 2),
    "three": ((0, 0, 0, 1), 0.9, "across", 4),
    "three_thumb": ((0, 0, 1, 1), 1.0, "wide", 2),
    "four": ((0, 0, 0, 0), 0.7, "across", 4),
    "flat_thumb_in": ((0, 0, 0, 0), 0.0, "across", 2),
    "ok": ((0.56, 0.12, 0.06, 0.02), 0.9, "opposed", 4),
    "pinch": ((0.58, 0.75, 0.85, 0.9), 0.2, "opposed", 3),
    "pinch_all": ((0.5, 0.5, 0.5, 0.5), 0.0, "opposed", 2),
    "letter_c": ((0.4, 0.4, 0.4, 0.4), 0.0, "opposed", 2),
    "letter_e": ((0.8, 0.8, 0.8, 0.8), 0.0, "over", 1),
    "call": ((1, 1, 1, 0), 0.4, "wide", 2),
    "horns": ((0, 1, 1, 0), 0.4, "over_middle", 2),
    "love": ((0, 1, 1, 0), 0.6, "wide", 1),
    "pinky": ((1, 1, 1, 0), 0.2, "over", 2),
    "grip": ((0.55, 0.58, 0.62, 0.66), 0.1, "opposed", 3),
}

# Half-thickness of the 15 bones' flesh, metres, for the self-penetration test.
BONE_RADII = (
    (0.0140, 0.0120, 0.0100),
    (0.0100, 0.0088, 0.0075),
    (0.0100, 0.0088, 0.0075),
    (0.0095, 0.0083, 0.0072),
    (0.0088, 0.0075, 0.0066),
)
TIP_LENGTHS = (0.022, 0.017, 0.018, 0.018, 0.016)
SOFTNESS = 0.87  # flesh yields: capsules of this share of the radii may touch
TOLERANCE = 0.014  # metres of summed overlap at which a pose is refused
CANDIDATES, ROUNDS = 4, 3
# Cosine of a joint's -z with its bone.
LEAST_ALONG = 0.9


class PoseSampler:
    """Draws local joint rotations [B, 16, 3, 3] without self-penetration.

    Raises DataError for a template without anatomical joint axes, as MANO's is: its fingers would
    bend sideways.
    """

    def __init__(self, vertices: Tensor, weights: Tensor, joints: Tensor, frames: Tensor):
        chains = joints[1:].view(FINGER_COUNT, JOINTS_PER_FINGER, 3)
        along = -frames[1:].view(FINGER_COUNT, JOINTS_PER_FINGER, 3, 3)[:, :-1, :, 2]
        if (F.cosine_similarity(along, chains.diff(dim=1), dim=-1) < LEAST_ALONG).any():
            raise DataError(
                "this hand template has no anatomical joint axes (-z along the bones), so nobody "
                "knows how its fingers bend: use 'open778'"
            )
        self.joints, self.frames = joints, frames
        self.palm = vertices[weights[:, 0] > 0.97][::4]
        device = joints.device
        self._radii = torch.tensor(BONE_RADII, device=device)
        self._tips = torch.tensor(TIP_LENGTHS, device=device)
        rows = list(GESTURES.values())
        self._curls = torch.tensor([r[0] for r in rows], device=device, dtype=torch.float32)
        self._spreads = torch.tensor([r[1] for r in rows], device=device)
        self._thumbs = torch.tensor([THUMBS[r[2]] for r in rows], device=device)
        frequency = torch.tensor([float(r[3]) for r in rows], device=device)
        self._cumulative = (frequency / frequency.sum()).cumsum(0)[:-1]
        self._thumb_states = torch.tensor(list(THUMBS.values()), device=device)

    def sample(
        self, count: int, generator: torch.Generator, gestures: tuple[str, ...] = ()
    ) -> Tensor:
        """Rejection sampling: of several rounds of candidates the first clean one is kept, or the
        least penetrating if none is clean. gestures: names in GESTURES, as often as they are named;
        all kinds of poses where none is."""
        rows = torch.arange(count, device=self.joints.device)
        best = cost = None
        for _ in range(ROUNDS):
            candidates = count * CANDIDATES
            poses = (
                self._gestures(gestures, candidates, generator)
                if gestures
                else self.draw(candidates, generator)
            )
            overlap = self.penetration(poses).view(CANDIDATES, count)
            # The first acceptable candidate: taking the cleanest would favour open hands.
            chosen = first_above(-overlap.T, -TOLERANCE)
            overlap = overlap[chosen, rows]
            poses = poses.view(CANDIDATES, count, NUM_JOINTS, 3, 3)[chosen, rows]
            if best is None:
                best, cost = poses, overlap
            else:
                better = (cost >= TOLERANCE) & (overlap < cost)
                best = torch.where(better[:, None, None, None], poses, best)
                cost = torch.where(better, overlap, cost)
        return best

    def gesture(self, name: str, count: int, generator: torch.Generator) -> Tensor:
        """Variations of one of GESTURES."""
        return self._gestures((name,), count, generator)

    def _gestures(self, names: tuple[str, ...], count: int, generator: torch.Generator) -> Tensor:
        device = self.joints.device
        rows = torch.tensor([list(GESTURES).index(name) for name in names], device=device)
        # One needs no choice, and draws no number for it.
        if len(names) > 1:
            index = rows[torch.randint(len(rows), (count,), generator=generator, device=device)]
        else:
            index = rows.expand(count)
        angles = self.from_curls(
            self._curls[index], self._spreads[index], self._thumbs[index], 0.6, generator
        )
        return local_rotations(*angles)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Poses within the joint limits, which may penetrate themselves."""
        device = self.joints.device
        uniform = torch.rand(count, 5, generator=generator, device=device)
        index = torch.bucketize(uniform[:, 4].contiguous(), self._cumulative)
        curls, spreads, thumbs = self._curls[index], self._spreads[index], self._thumbs[index]

        # As MobRecon's base poses (Chen et al. 2022, supplement): each finger is straight or
        # curled, and two such poses are interpolated in quarters.
        ends = (torch.rand(2, count, 4, generator=generator, device=device) < 0.5).float()
        quarter = (uniform[:, 0:1] * 5).floor() / 4
        states = torch.randint(len(THUMBS), (2, count), generator=generator, device=device)
        base = ends[0] * (1 - quarter) + ends[1] * quarter
        base_thumb = self._thumb_states[states[0]] * (1 - quarter)
        base_thumb = base_thumb + self._thumb_states[states[1]] * quarter

        free = torch.rand(count, 4, generator=generator, device=device)
        together = torch.rand(count, 1, generator=generator, device=device)
        free = torch.where(uniform[:, 1:2] < 0.5, free, (together + 0.3 * (free - 0.5)).clamp(0, 1))

        kind = uniform[:, 2]
        is_base, is_free = ((kind > 0.5) & (kind < 0.75))[:, None], (kind >= 0.75)[:, None]
        curls = torch.where(is_free, free, torch.where(is_base, base, curls))
        spreads = torch.where(kind > 0.5, uniform[:, 3] * 1.8 - 0.5, spreads)
        thumbs = torch.where(is_base | is_free, base_thumb, thumbs)
        jitter = torch.where(kind > 0.5, 1.4, 0.8)
        flexion, abduction, twist = self.from_curls(curls, spreads, thumbs, jitter, generator)
        # Some fingers of the free poses bend as hooks, or at the knuckle only.
        rare = torch.rand(count, 4, 1, generator=generator, device=device) + (~is_free)[..., None]
        bend = flexion[:, 4:].view(count, 4, JOINTS_PER_FINGER)
        bend[..., :1] *= torch.where(rare < 0.12, 0.2, 1.0)
        bend[..., 1:] *= torch.where((rare > 0.12) & (rare < 0.22), 0.2, 1.0)
        return local_rotations(flexion, abduction, twist)

    def from_curls(
        self,
        curls: Tensor,
        spreads: Tensor,
        thumbs: Tensor,
        jitter: Tensor | float,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Flexion, abduction, twist, each [N, 16] radians, from curls [N, 4], spreads [N] and
        thumbs [N, 5] degrees; jitter: of the noise on all of them, in its usual size."""
        count, device = len(curls), curls.device
        noise = torch.randn(count, FINGER_COUNT, 5, generator=generator, device=device)
        noise = noise.clamp(-2.5, 2.5) * (
            jitter[:, None, None] if isinstance(jitter, Tensor) else jitter
        )
        flexion, abduction, twist = torch.zeros(3, count, NUM_JOINTS, device=device).unbind(0)

        def limited(value: Tensor, limits: tuple[float, float]) -> Tensor:
            return value.clamp(*limits)

        straight, curled = (torch.tensor(t, device=device) for t in (STRAIGHT, CURLED))
        bend = straight + curls[..., None] * (curled - straight)
        bend[..., 0] += 10 * noise[:, 1:, 0]
        bend[..., 1] += 9 * noise[:, 1:, 1]
        bend[..., 2] += 6 * noise[:, 1:, 2] + 0.3 * 9 * noise[:, 1:, 1]
        for finger in range(4):
            first = 1 + JOINTS_PER_FINGER * (finger + 1)
            for k, limits in enumerate(FINGER_FLEXION):
                flexion[:, first + k] = limited(bend[:, finger, k], limits)
            closed = (flexion[:, first] / 90).clamp(0, 1)
            splay = spreads * SPREAD[finger] + 3 * noise[:, finger + 1, 3]
            abduction[:, first] = splay * (1 - 0.85 * closed)
            twist[:, first] = CONVERGENCE_TWIST[finger] * closed + 2 * noise[:, finger + 1, 4]

        flexion[:, 1] = limited(thumbs[:, 0] + 6 * noise[:, 0, 0], THUMB_FLEXION[0])
        abduction[:, 1] = limited(thumbs[:, 1] + 6 * noise[:, 0, 1], THUMB_ABDUCTION)
        twist[:, 1] = limited(thumbs[:, 2] + 5 * noise[:, 0, 2], THUMB_TWIST)
        flexion[:, 2] = limited(thumbs[:, 3] + 8 * noise[:, 0, 3], THUMB_FLEXION[1])
        flexion[:, 3] = limited(thumbs[:, 4] + 11 * noise[:, 0, 4], THUMB_FLEXION[2])
        radians = math.pi / 180
        return flexion * radians, abduction * radians, twist * radians

    def penetration(self, rotations: Tensor) -> Tensor:
        """Summed overlap in metres, [B], of the fingers' capsules with each other and the palm."""
        count = len(rotations)
        joints = self.joints.expand(count, NUM_JOINTS, 3)
        turns, posed = forward_kinematics(rotations, joints, self.frames)
        starts = posed[:, 1:].view(count, FINGER_COUNT, JOINTS_PER_FINGER, 3)
        last = -(turns[:, 1:].unflatten(1, (FINGER_COUNT, -1))[:, :, 2] @ self._tip_axes)[..., 0]
        tips = starts[:, :, 2] + self._tips[:, None] * last
        stops = torch.cat([starts[:, :, 1:], tips[:, :, None]], 2)
        share = torch.linspace(0.1, 1, 4, device=starts.device)[:, None]
        points = starts[..., None, :] + (stops - starts)[..., None, :] * share
        cloud = points.flatten(1, 3)
        radii = self._radii[..., None].expand(-1, -1, len(share)).flatten()
        finger = torch.arange(len(radii), device=cloud.device).div(
            JOINTS_PER_FINGER * len(share), rounding_mode="floor"
        )
        reach = SOFTNESS * (radii[:, None] + radii)
        between = (reach - torch.cdist(cloud, cloud)).clamp(min=0)
        between = (between * (finger[:, None] < finger)).flatten(1).sum(1) / len(share)
        outer = points[:, :, 1:].flatten(1, 3)  # the bones beyond the knuckles
        thickness = SOFTNESS * self._radii[:, 1:, None].expand(-1, -1, len(share)).flatten()
        gap = torch.cdist(outer, self.palm.expand(count, -1, -1)).amin(-1)
        return between + (0.55 * thickness - gap).clamp(min=0).sum(1) / len(share)

    @property
    def _tip_axes(self) -> Tensor:
        return self.frames[JOINTS_PER_FINGER::JOINTS_PER_FINGER, :, 2, None]
