"""What skin looks like where: palm and back, knuckles, fingertips, nails, creases and veins.

Slowly varying maps live on the render mesh's vertices; thin lines are drawn once into small
textures over the rest pose, seen from the back of the hand.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hand_perception.synthesis.limb import Limb
from hand_perception.synthesis.raster import vertex_normals

VARIANTS = 6
# The textures' window in the template's (z, y) plane, metres, and their resolution.
LOW, HIGH = np.array([-0.08, -0.15]), np.array([0.10, 0.09])
METRES_PER_TEXEL = 0.0004
# Palm lines in (z, y) metres: around the thumb's ball, across, and under the long fingers.
PALM_LINES = (
    ((-0.023, -0.014), (-0.008, -0.006), (0.002, 0.010), (0.005, 0.028), (0.002, 0.046)),
    ((-0.023, -0.016), (-0.006, -0.012), (0.012, -0.004), (0.026, 0.006), (0.037, 0.018)),
    ((0.052, -0.004), (0.040, -0.010), (0.026, -0.016), (0.010, -0.021), (0.000, -0.030)),
)
# Half width and half length of the nails, and how far from the tip vertex their centre lies.
NAILS = ((0.0074, 0.0080), (0.0058, 0.0066), (0.0060, 0.0068), (0.0056, 0.0064), (0.0047, 0.0054))
NAIL_SETBACK = 0.0052
CHANNELS = ("palmar", "knuckle", "tip", "nail", "along")


class SkinMaps:
    """rest: [V, 3] rest positions of the whole limb. values: [V, 5] in CHANNELS order (nail is a
    squared elliptic radius: under 1 inside). textures: [VARIANTS, 3, h, w] of palm creases, back
    wrinkles and veins in 0..1. noise: [1, 4, n, n, n] tiling solid noise, fine to coarse."""

    def __init__(self, limb: Limb):
        device = limb.vertices.device
        one = torch.ones(1, device=device)
        down = torch.tensor([[0.0, 1.0, 0.0]], device=device)
        rest_arm = limb.arm(
            limb.vertices[None], one, down, down, torch.ones(1, len(limb.distances), device=device)
        )[0]
        self.rest = torch.cat([limb.vertices, rest_arm])
        normals = vertex_normals(self.rest, limb.faces)
        count = len(limb.vertices)
        dorsal = limb.frames[:, :, 1]
        backs = torch.cat([limb.weights @ dorsal, dorsal[:1].expand(len(self.rest) - count, 3)])
        facing = (F.normalize(backs, dim=-1) * normals).sum(-1)
        palmar = torch.sigmoid(-3.0 * facing - 0.2)
        knuckle, tip = torch.zeros(2, len(self.rest), device=device).unbind(0)
        nail = torch.full((len(self.rest),), 9.0, device=device)
        for finger in range(5):
            for j in range(1 + 3 * finger, 4 + 3 * finger):
                centre = limb.joints[j] + 0.009 * dorsal[j]
                near = torch.exp(-((self.rest - centre) / 0.010).pow(2).sum(-1))
                knuckle += near * (1 - palmar)
            distal, end = 3 + 3 * finger, limb.regressor[4 + 4 * finger].argmax()
            top = torch.as_tensor(limb.template.vertices, device=device)[end]
            tip += torch.exp(-((self.rest - top) / 0.012).pow(2).sum(-1))
            local = (self.rest - top) @ limb.frames[distal]
            width, length = NAILS[finger]
            radius = (local[:, 0] / width) ** 2 + ((local[:, 2] - NAIL_SETBACK) / length) ** 2
            here = (facing > 0.25) & ((self.rest - limb.joints[distal]).norm(dim=-1) < 0.04)
            nail = torch.where(here, torch.minimum(nail, radius), nail)
        values = [palmar, knuckle.clamp(0, 1), tip.clamp(0, 1), nail.clamp(max=9), limb.along]
        self.values = torch.stack(values, 1)
        drawn = np.stack([_draw_lines(limb, np.random.default_rng(i)) for i in range(VARIANTS)])
        self.textures = torch.as_tensor(drawn, dtype=torch.float32, device=device)
        self.noise = _solid_noise().to(device)

    def lines(self, rest: Tensor, variant: Tensor) -> Tensor:
        """Creases, wrinkles and veins [P, 3] at rest positions [P, 3] of hands' variants [P]."""
        height, width = self.textures.shape[-2:]
        low = torch.as_tensor(LOW, dtype=torch.float32, device=rest.device)
        texel = ((rest[:, [2, 1]] - low) / METRES_PER_TEXEL).long()
        x, y = texel[:, 0].clamp(0, width - 1), texel[:, 1].clamp(0, height - 1)
        return self.textures[variant, :, y, x]

    def noise_at(self, rest: Tensor, frequency: float) -> Tensor:
        """Four channels [P, 4] of unit variance; ``frequency`` in periods per metre."""
        grid = (rest * (2 * frequency)) % 2.0 - 1
        sampled = F.grid_sample(self.noise, grid[None, None, None], align_corners=False)
        return sampled[0, :, 0, 0].T


def _draw_lines(limb: Limb, rng: np.random.Generator) -> np.ndarray:
    size = np.ceil((HIGH - LOW) / METRES_PER_TEXEL).astype(int)
    palm, back, veins = (np.zeros((size[1], size[0]), np.float32) for _ in range(3))
    joints, frames = limb.joints.cpu().numpy(), limb.frames.cpu().numpy()

    def draw(image: np.ndarray, points: np.ndarray, strength: float, thickness: int = 1) -> None:
        stroke = np.zeros_like(image)
        texels = ((np.asarray(points) - LOW) / METRES_PER_TEXEL * 16).round().astype(np.int32)
        cv2.polylines(stroke, [texels], False, 1.0, thickness, cv2.LINE_AA, shift=4)
        np.maximum(image, strength * stroke, out=image)

    for line in PALM_LINES:
        wobbly = np.array(line) + rng.normal(0, 0.0022, (len(line), 2))
        draw(palm, _curve(wobbly), rng.uniform(0.6, 1.0), 3)
    for _ in range(14):  # fine lines of the palm
        start = rng.uniform((-0.02, -0.02), (0.04, 0.045))
        step = rng.normal(0, 0.008, 2)
        points = [start, start + step, start + 2 * step + rng.normal(0, 0.002, 2)]
        draw(palm, _curve(np.array(points)), rng.uniform(0.15, 0.4))
    for j in range(1, 16):
        bone = frames[j][[2, 1], 2]
        bone = bone / np.linalg.norm(bone)
        across, centre = np.array([-bone[1], bone[0]]), joints[j][[2, 1]]
        first = (j - 1) % 3 == 0
        if j == 1:
            continue
        shift = -0.014 if first and j > 3 else 0.0  # the fingers' base crease lies above the MCP
        for offset in (-0.0012, 0.0012) if not first else (0.0,):
            middle = centre + bone * (shift + offset + rng.normal(0, 0.0005))
            bow = bone * rng.normal(0, 0.0008)
            points = [middle - 0.011 * across, middle + bow, middle + 0.011 * across]
            draw(palm, _curve(np.array(points)), rng.uniform(0.5, 0.9), 2)
        spread = 0.0042 if not first else 0.005
        for _ in range(7):
            middle = centre + bone * rng.normal(0, spread * 0.6) + across * rng.normal(0, 0.001)
            half = rng.uniform(0.003, 0.007)
            bow = bone * rng.normal(0, 0.0012)
            points = [middle - half * across, middle + bow, middle + half * across]
            draw(back, _curve(np.array(points)), rng.uniform(0.3, 0.8) * (0.5 if first else 1), 1)
    wrist = joints[0][[2, 1]]
    for row in (0.0, 0.005):
        points = wrist + np.array([[-0.03, row], [0.0, row + 0.003], [0.03, row]])
        draw(palm, _curve(points + rng.normal(0, 0.001, points.shape)), 0.6, 2)
    for j in (4, 7, 10, 13):
        for _ in range(2):
            end = joints[j][[2, 1]] + rng.normal(0, 0.004, 2) + np.array([0.009, 0.006])
            start = wrist + rng.normal(0, (0.014, 0.006))
            middle = (start + end) / 2 + rng.normal(0, 0.006, (2, 2))
            draw(veins, _curve(np.array([start, *middle, end])), rng.uniform(0.4, 1.0), 6)
    blurred = [
        cv2.GaussianBlur(image, (0, 0), sigma) for image, sigma in ((palm, 1.2), (back, 0.9))
    ]
    return np.stack([*blurred, cv2.GaussianBlur(veins, (0, 0), 3.5)]).clip(0, 1)


def _curve(points: np.ndarray, count: int = 24) -> np.ndarray:
    """A smooth curve near the points: corner cutting (Chaikin 1974) keeps the ends."""
    while len(points) < count:
        inner = np.stack(
            [0.75 * points[:-1] + 0.25 * points[1:], 0.25 * points[:-1] + 0.75 * points[1:]], 1
        ).reshape(-1, 2)
        points = np.concatenate([points[:1], inner, points[-1:]])
    return points


def _solid_noise(size: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    volume = torch.randn(1, 4, size, size, size, generator=generator)
    kernel = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    channels = []
    for channel, rounds in enumerate((1, 3, 1, 6)):
        field = volume[:, channel : channel + 1]
        for _ in range(rounds):
            for axis in range(3):
                pad = [0] * 6
                pad[4 - 2 * axis] = pad[5 - 2 * axis] = 2
                shape = [1] * 5
                shape[2 + axis] = 5
                field = F.conv3d(F.pad(field, pad, mode="circular"), kernel.view(shape))
        channels.append(field / field.std())
    return torch.cat(channels, 1)
