"""The render mesh: the dense hand, and an arm that grows out of its open wrist.

The arm is a tube of rings around a centre line that leaves the wrist, bends at the elbow and goes
on for three metres, so that it never ends inside an image. Its rings are placed per sample.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from hand_perception.synthesis.rig import skin
from hand_perception.template import load_template, template_path

# Distances along the arm from the wrist's rim, metres: dense at the wrist and around the elbow.
RING_DISTANCES = (
    *(0.006, 0.014, 0.024, 0.036, 0.05, 0.07, 0.10, 0.13, 0.16, 0.19, 0.22),
    *(0.24, 0.255, 0.27, 0.285, 0.30, 0.32, 0.35, 0.42, 0.52, 0.7, 1.0, 1.5, 2.2, 3.5),
)
ELBOW = (0.20, 0.33)  # where the centre line bends
# Part labels: 0 background, 1..16 the joint that moves the skin most, then these.
PART_ARM, PART_OBJECT = 17, 18


class Limb:
    """Rest geometry of a hand with its arm, on a device.

    vertices: [D, 3], weights: [D, 16] of the dense hand. faces: [M, 3] of hand and arm together,
    the arm's rings following the hand's vertices. along: [D + arm] metres up the arm, 0 on the
    hand. parts: [D + arm] labels.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        template = load_template()
        with np.load(template_path(template.name)) as archive:
            dense = {key: archive[f"dense_{key}"] for key in ("vertices", "faces", "weights")}
            triples, barycentric = archive["dense_triples"], archive["dense_barycentric"]

        def tensor(array: np.ndarray, kind: torch.dtype = torch.float32) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(array)).to(device, kind)

        self.template = template
        self.vertices, weights = tensor(dense["vertices"]), tensor(dense["weights"])
        self.weights = weights / weights.sum(1, keepdim=True)  # stored in half precision
        self.joints, self.frames = tensor(template.joints), tensor(template.joint_frames)
        self.regressor = tensor(template.regressor)
        self.triples, self.barycentric = tensor(triples, torch.int64), tensor(barycentric)
        loop = _open_loop(dense["faces"])
        count, rings, size = len(dense["vertices"]), len(RING_DISTANCES), len(loop)
        self.loop = tensor(loop, torch.int64)
        ring = np.arange(size)
        previous, tube = loop, []
        for r in range(rings):
            current = count + r * size + ring
            a, b, c, d = previous, np.roll(previous, -1), current, np.roll(current, -1)
            tube += [np.stack([a, c, b], 1), np.stack([b, c, d], 1)]
            previous = current
        self.faces = tensor(np.concatenate([dense["faces"], *tube]), torch.int64)
        self.distances = tensor(np.array(RING_DISTANCES))
        self.along = torch.cat(
            [torch.zeros(count, device=device), self.distances.repeat_interleave(size)]
        )
        arm = torch.full((rings * size,), PART_ARM, device=device)
        self.parts = torch.cat([self.weights.argmax(1) + 1, arm])

    def pose(self, shapes: Tensor, joints: Tensor, turns: Tensor, posed: Tensor) -> Tensor:
        """Skins the dense hand: [B, D, 3]."""
        return skin(shapes, self.weights, turns, joints, posed)

    def template_vertices(self, dense: Tensor) -> Tensor:
        """The 778 vertices of posed dense hands [B, D, 3]."""
        return (dense[:, self.triples] * self.barycentric[..., None]).sum(2)

    def arm(
        self, dense: Tensor, mirror: Tensor, forearm: Tensor, upper: Tensor, girth: Tensor
    ) -> Tensor:
        """Ring vertices [B, arm, 3] for hands [B, D, 3] in camera space.

        mirror: [B], -1 for left hands. forearm, upper: [B, 3] unit directions away from the hand.
        girth: [B, R] relative thickness of each ring on top of the anatomical swelling.
        """
        rim = dense[:, self.loop]
        centre = rim.mean(1, keepdim=True)
        distance = self.distances[None, :, None]
        # The direction turns from the rim's own axis to the forearm, then to the upper arm; the
        # centre line is its integral.
        axis = _rim_axis(rim) * mirror[:, None]
        wrist, elbow = _smooth(distance, -0.01, 0.07), _smooth(distance, *ELBOW)
        direction = axis[:, None] + wrist * (forearm - axis)[:, None]
        direction = torch.nn.functional.normalize(
            direction + elbow * (upper - forearm)[:, None], dim=-1
        )
        steps = torch.diff(distance, dim=1, prepend=torch.zeros_like(distance[:, :1]))
        before = torch.cat([axis[:, None], direction[:, :-1]], 1)
        line = centre + (0.5 * (before + direction) * steps).cumsum(1)
        # Carries the rim's plane along the line by the smallest turn, with a swelling forearm.
        offsets = rim - centre
        fitted = 1 + _smooth(distance, 0.0, 0.03) * (girth[..., None] - 1)
        swell = fitted * (1 + _swelling(distance))
        rounding = _smooth(distance, 0.0, 0.16)
        radius = offsets.norm(dim=-1).mean(1)[:, None, None, None]
        carried = _turn_between(axis[:, None], direction) @ offsets[:, None].transpose(-1, -2)
        carried = carried.transpose(-1, -2)
        round_offsets = torch.nn.functional.normalize(carried, dim=-1) * radius
        carried = carried + 0.7 * rounding[..., None] * (round_offsets - carried)
        return (line[:, :, None] + carried * swell[..., None]).flatten(1, 2)

    def centre_line(self, arm: Tensor) -> Tensor:
        """The ring centres [B, R, 3] of arm vertices."""
        return arm.unflatten(1, (len(RING_DISTANCES), -1)).mean(2)


def _open_loop(faces: np.ndarray) -> np.ndarray:
    """The boundary's vertices in the order of its directed edges."""
    directed = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    there = {tuple(edge) for edge in directed.tolist()}
    follow = {a: b for a, b in directed.tolist() if (b, a) not in there}
    loop = [min(follow)]
    while follow[loop[-1]] != loop[0]:
        loop.append(follow[loop[-1]])
    return np.array(loop)


def _rim_axis(rim: Tensor) -> Tensor:
    """Unit normal of the rim's plane, away from a right hand; a left hand's is the opposite."""
    offsets = rim - rim.mean(1, keepdim=True)
    area = torch.linalg.cross(offsets.roll(-1, 1), offsets).sum(1)
    return torch.nn.functional.normalize(area, dim=-1)


def _smooth(x: Tensor, low: float, high: float) -> Tensor:
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _swelling(distance: Tensor) -> Tensor:
    """Relative extra girth: narrow wrist, forearm's belly, elbow, upper arm."""
    belly = 0.50 * _smooth(distance, 0.01, 0.16)
    return belly + 0.35 * _smooth(distance, 0.28, 0.50) - 0.08 * _smooth(distance, 0.17, 0.25)


def _turn_between(a: Tensor, b: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] that take unit a to unit b by the smallest turn."""
    a, b = torch.broadcast_tensors(a, b)
    axis = torch.linalg.cross(a, b)
    cosine = (a * b).sum(-1)[..., None, None]
    x, y, z = axis.unbind(-1)
    o = torch.zeros_like(x)
    k = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))
    identity = torch.eye(3, device=a.device)
    return identity + k + k @ k / (1 + cosine).clamp(min=0.05)
