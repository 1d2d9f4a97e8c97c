"""Meshes for photographs: the template posed to labelled 2D joints and rough 3D directions.

Photographs carry no mesh. Posing the template within anatomical limits until it projects onto the
labelled joints, its bones along the labelled 3D directions, gives one that is good enough to
teach which way a palm faces and so left from right. All hands are fitted in one batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hand_perception.geometry import rigid_fit
from hand_perception.hands import BONES, MIDDLE_MCP
from hand_perception.synthesis.rig import forward_kinematics, local_rotations, skin
from hand_perception.template import Template

PALM = [0, 1, 5, 9, 13, 17]
STEPS = 400
# Joint limits in degrees (low, high): flexion then abduction, thumb CMC, MCP, IP, then MCP, PIP,
# DIP of a finger. Wide enough for any hand, narrow enough to forbid broken ones.
THUMB_FLEXION = ((-35, 50), (-15, 65), (-25, 85))
FINGER_FLEXION = ((-30, 95), (-5, 115), (-10, 85))
THUMB_ABDUCTION = ((-35, 40), (-8, 8), (-3, 3))
FINGER_ABDUCTION = ((-22, 22), (-3, 3), (-3, 3))
# Bone lengths may leave the template's by about this much.
LENGTH_SD = 0.08


@dataclass
class MeshFit:
    """vertices [N, 778, 3] and joints [N, 21, 3]: metres, camera axes, relative to the middle MCP.
    residual: [N], mean distance of projected to labelled joints, in units of the box side.
    """

    vertices: np.ndarray
    joints: np.ndarray
    residual: np.ndarray


def fit_meshes(
    template: Template, joints2d: np.ndarray, directions3d: np.ndarray, is_left: np.ndarray
) -> MeshFit:
    """joints2d [N, 21, 2] pixels; directions3d [N, 21, 3], joints with camera axes in any scale.

    is_left: [N]. Scaled orthographic camera: a hand's depth range is small against its distance.
    """
    flip = np.where(is_left, -1.0, 1.0).astype(np.float32)[:, None]
    low, high = joints2d.min(1), joints2d.max(1)
    size = (high - low).max(-1)[:, None, None]
    target2d = ((joints2d - joints2d[:, MIDDLE_MCP : MIDDLE_MCP + 1]) / size).astype(np.float32)
    target2d[..., 0] *= flip
    target3d = directions3d.astype(np.float32).copy()
    target3d[..., 0] *= flip
    start, _ = rigid_fit((template.landmarks @ template.vertices)[PALM], target3d[:, PALM])

    hand = _PosableHand(template, torch.from_numpy(start.astype(np.float32)))
    goal2d, goal_bones = torch.from_numpy(target2d), _bone_directions(torch.from_numpy(target3d))
    optimiser = torch.optim.Adam(hand.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.06, total_steps=STEPS)
    for _ in range(STEPS):
        marks = hand.marks()
        error2d = (hand.project(marks) - goal2d).norm(dim=-1)
        turned = 1 - (_bone_directions(marks) * goal_bones).sum(-1)
        loss = (
            torch.nn.functional.huber_loss(
                error2d, torch.zeros_like(error2d), delta=0.05, reduction="sum"
            )
            * 40
            + turned.sum() * 0.25
            + hand.prior()
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        joints = hand.joints()
        residual = (hand.project(hand.marks()) - goal2d).norm(dim=-1).mean(1)
        vertices = hand.vertices() - joints[:, MIDDLE_MCP : MIDDLE_MCP + 1]
        joints = joints - joints[:, MIDDLE_MCP : MIDDLE_MCP + 1]
    mirror = np.concatenate([flip, np.ones((len(flip), 2), np.float32)], 1)[:, None]
    return MeshFit(vertices.numpy() * mirror, joints.numpy() * mirror, residual.numpy())


def _bone_directions(joints: Tensor) -> Tensor:
    parents, children = [a for a, _ in BONES], [b for _, b in BONES]
    return torch.nn.functional.normalize(joints[:, children] - joints[:, parents], dim=-1)


class _PosableHand(torch.nn.Module):
    """N right hands: rotation, joint angles, bone lengths, image scale and offset."""

    def __init__(self, template: Template, rotation: Tensor) -> None:
        super().__init__()
        count = len(rotation)
        for name in ("vertices", "weights", "joints", "joint_frames", "regressor"):
            array = np.asarray(getattr(template, name), np.float32)
            self.register_buffer(f"rest_{name}", torch.from_numpy(array))
        limits = [
            (THUMB_FLEXION, THUMB_ABDUCTION),
            *[(FINGER_FLEXION, FINGER_ABDUCTION)] * 4,
        ]
        flexion = torch.tensor([f for fingers, _ in limits for f in fingers]).deg2rad()
        abduction = torch.tensor([a for _, fingers in limits for a in fingers]).deg2rad()
        marks = template.landmarks @ template.vertices - template.keypoints
        self.register_buffer("rest_marks", torch.from_numpy(marks))
        self.register_buffer("low", torch.stack([flexion[:, 0], abduction[:, 0]]))
        self.register_buffer("high", torch.stack([flexion[:, 1], abduction[:, 1]]))
        self.rotation6 = torch.nn.Parameter(rotation[:, :, :2].transpose(1, 2).reshape(count, 6))
        self.angles = torch.nn.Parameter(torch.zeros(count, 2, 15))
        self.lengths = torch.nn.Parameter(torch.zeros(count, 6))
        self.log_scale = torch.nn.Parameter(torch.full((count,), 1.7))
        self.offset = torch.nn.Parameter(torch.zeros(count, 2))

    def _pose(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        count = len(self.angles)
        unit = self.angles.sigmoid()
        flexion, abduction = (self.low + (self.high - self.low) * unit).unbind(1)
        still = torch.zeros(count, 1)
        bend = torch.cat([still, flexion], 1)
        local = local_rotations(bend, torch.cat([still, abduction], 1), torch.zeros_like(bend))
        scale = (self.lengths * LENGTH_SD).exp()
        joints = self._scaled_joints(scale)
        turns, posed = forward_kinematics(local, joints, self.rest_joint_frames)
        return scale, joints, turns, posed

    def _scaled_joints(self, scale: Tensor) -> Tensor:
        """The palm scales as one, each finger's bones by their own factor."""
        rest = self.rest_joints
        wrist = rest[0].expand(len(scale), 1, 3)
        chains = [wrist]
        for finger in range(5):
            first = 1 + 3 * finger
            base = wrist[:, 0] + (rest[first] - rest[0]) * scale[:, :1]
            chains.append(base[:, None])
            for k in (1, 2):
                step = (rest[first + k] - rest[first + k - 1]) * scale[:, 1 + finger, None]
                base = base + step
                chains.append(base[:, None])
        return torch.cat(chains, 1)

    def _rotation(self) -> Tensor:
        a, b = self.rotation6.reshape(-1, 2, 3).unbind(1)
        a = torch.nn.functional.normalize(a, dim=-1)
        b = torch.nn.functional.normalize(b - (a * b).sum(-1, keepdim=True) * a, dim=-1)
        return torch.stack([a, b, torch.linalg.cross(a, b)], -1)

    def joints(self) -> Tensor:
        """[N, 21, 3]; tips ride on the last bones."""
        scale, joints, turns, posed = self._pose()
        out = [posed[:, 0]]
        rest_tips = self.rest_regressor[[4, 8, 12, 16, 20]] @ self.rest_vertices
        for finger in range(5):
            last = 3 + 3 * finger
            reach = (rest_tips[finger] - self.rest_joints[last]) * scale[:, 1 + finger, None]
            tip = posed[:, last] + (turns[:, last] @ reach[..., None])[..., 0]
            out += [posed[:, last - 2], posed[:, last - 1], posed[:, last], tip]
        return torch.stack(out, 1) @ self._rotation().transpose(1, 2)

    def marks(self) -> Tensor:
        """[N, 21, 3]: joints where photographs are labelled with them; the palm carries those that
        differ."""
        palm = (self.lengths[:, :1, None] * LENGTH_SD).exp()
        return self.joints() + palm * (self.rest_marks @ self._rotation().transpose(1, 2))

    def vertices(self) -> Tensor:
        """[N, 778, 3]: skinning with bones scaled along with their joints."""
        scale, joints, turns, posed = self._pose()
        per_joint = scale[:, [0, *(1 + f for f in range(5) for _ in range(3))]]
        maps = turns * per_joint[..., None, None]
        # Skinning subtracts the joint it turns about: hand it rest joints, not the scaled ones.
        rest = self.rest_joints.expand(len(scale), -1, 3)
        skinned = skin(self.rest_vertices, self.rest_weights, maps, rest, posed)
        return skinned @ self._rotation().transpose(1, 2)

    def project(self, joints: Tensor) -> Tensor:
        centred = joints - joints[:, MIDDLE_MCP : MIDDLE_MCP + 1]
        return centred[..., :2] * self.log_scale.exp()[:, None, None] + self.offset[:, None]

    def prior(self) -> Tensor:
        unit = self.angles.sigmoid()
        flexion = (self.low + (self.high - self.low) * unit)[:, 0].reshape(-1, 5, 3)
        # The last two joints of a finger share a tendon.
        tendon = (flexion[:, 1:, 2] - 0.6 * flexion[:, 1:, 1]).square().sum()
        return (
            0.02 * self.lengths.square().sum()
            + 0.05 * tendon
            + 0.01 * (unit - 0.5).square().sum()
            + 5 * self.offset.square().sum()
        )
