"""Hands of different people: size, palm, finger lengths and thickness, small bumps."""

from __future__ import annotations

import torch
from torch import Tensor

from hand_perception.synthesis.rig import FINGER_COUNT, JOINTS_PER_FINGER, NUM_JOINTS, skin

# Standard deviations, relative. The spread of hand length in adults is about 5 % within and 8 %
# across the sexes; proportions vary less.
SCALE_SD, PALM_SD, LENGTH_SD, FINGER_SD, PHALANX_SD = 0.085, 0.055, 0.05, 0.035, 0.03
THICKNESS_SD, FINGER_THICKNESS_SD, TIP_SD = 0.09, 0.03, 0.05
BUMP_METRES, BUMP_FREQUENCY, BUMP_COUNT = 0.0008, 70.0, 8


class ShapeSampler:
    """Draws rest shapes of one template: [B, V, 3] vertices and [B, 16, 3] joints, metres."""

    def __init__(self, vertices: Tensor, weights: Tensor, joints: Tensor, frames: Tensor):
        self.vertices, self.weights, self.joints, self.frames = vertices, weights, joints, frames

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws ``count`` shapes; the wrist joint stays at the template's."""
        device = self.vertices.device

        def around_one(*size: int, sd: float) -> Tensor:
            noise = torch.randn(count, *size, generator=generator, device=device)
            return 1 + sd * noise.clamp(-2.2, 2.2)

        scales = torch.ones(count, NUM_JOINTS, 3, device=device)
        scales[:, 0] = around_one(3, sd=PALM_SD)
        fingers = scales[:, 1:].view(count, FINGER_COUNT, JOINTS_PER_FINGER, 3)
        thickness = around_one(1, sd=THICKNESS_SD) * around_one(
            FINGER_COUNT, sd=FINGER_THICKNESS_SD
        )
        fingers[..., :2] = thickness[:, :, None, None]
        fingers[:, :, 2, :2] *= around_one(FINGER_COUNT, sd=TIP_SD)[..., None]
        length = around_one(1, sd=LENGTH_SD) * around_one(FINGER_COUNT, sd=FINGER_SD)
        phalanges = around_one(FINGER_COUNT, JOINTS_PER_FINGER, sd=PHALANX_SD)
        fingers[..., 2] = length[..., None] * phalanges

        vertices, joints = self.scaled(scales)
        vertices = vertices + self._bumps(count, generator)
        size = around_one(sd=SCALE_SD)[:, None, None]
        wrist = self.joints[0]
        return (vertices - wrist) * size + wrist, (joints - wrist) * size + wrist

    def scaled(self, scales: Tensor) -> tuple[Tensor, Tensor]:
        """Scales each bone along its joint's axes ([B, 16, 3]), blending over the skin."""
        maps = self.frames @ (scales[..., None] * self.frames.transpose(-1, -2))
        joints = [self.joints[:1].expand(len(scales), 3)] * NUM_JOINTS
        for finger in range(FINGER_COUNT):
            parent = 0
            for child in range(1 + JOINTS_PER_FINGER * finger, 4 + JOINTS_PER_FINGER * finger):
                bone = self.joints[child] - self.joints[parent]
                joints[child] = joints[parent] + maps[:, parent] @ bone
                parent = child
        moved = torch.stack(joints, 1)
        rest = self.joints.expand(len(scales), NUM_JOINTS, 3)
        return skin(self.vertices, self.weights, maps, rest, moved), moved

    def _bumps(self, count: int, generator: torch.Generator) -> Tensor:
        device = self.vertices.device
        frequency = torch.randn(BUMP_COUNT, 3, generator=generator, device=device) * BUMP_FREQUENCY
        direction = torch.randn(count, BUMP_COUNT, 3, generator=generator, device=device) / 2
        height = BUMP_METRES * torch.rand(count, 1, 1, generator=generator, device=device)
        waves = torch.sin(self.vertices @ frequency.T)
        return height * torch.einsum("vk,bkc->bvc", waves, direction)
