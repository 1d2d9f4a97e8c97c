"""Light: an environment and a lamp that agree with the background, shadows and occlusion."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hand_perception.synthesis.appearance import Surface
from hand_perception.synthesis.raster import rasterize

SHADOW_SIZE = 192  # texels across the shadow map
SHADOW_BIAS = 0.004  # metres
MEAN_ALBEDO = 0.30  # what hands reflect of the light, for the exposure
MIDDLE_GREY = 0.20  # linear brightness cameras expose a scene to


@dataclass(frozen=True)
class Light:
    """ambient: [B, 3] and gradient: [B, 3 colours, 3 axes], irradiance = ambient + gradient n.
    direction: [B, 3] towards the lamp. lamp: [B, 3] its irradiance. shadow: [B] depth of shadows.
    """

    ambient: Tensor
    gradient: Tensor
    direction: Tensor
    lamp: Tensor
    shadow: Tensor


def fit_light(background: Tensor, generator: torch.Generator) -> Light:
    """A plausible light for linear backgrounds [B, 3, H, W]: its mean colour, its left-right and
    top-bottom gradient and its brightness, with a lamp on the brighter side."""
    count, device = len(background), background.device
    uniform = torch.rand(count, 6, generator=generator, device=device)
    normal = torch.randn(count, 9, generator=generator, device=device).clamp(-2, 2)
    grid = F.adaptive_avg_pool2d(background, (4, 4))
    mean = grid.mean((2, 3)).clamp(min=0.004)
    across = (grid[..., 2:].mean((2, 3)) - grid[..., :2].mean((2, 3))) / 2
    down = (grid[:, :, 2:].mean((2, 3)) - grid[:, :, :2].mean((2, 3))) / 2
    luminance = mean.mean(1, keepdim=True)
    tint = (mean / luminance).clamp(0.5, 1.7) ** (0.35 + 0.25 * uniform[:, :1])

    level = (0.62 * luminance + 0.38 * MIDDLE_GREY) / MEAN_ALBEDO
    level = level * torch.exp(0.28 * normal[:, :1])
    lamp_share = 0.25 + 0.6 * uniform[:, 1:2]
    ambient = tint * level * (1 - 0.75 * lamp_share)
    ambient = ambient * (1 + 0.05 * normal[:, 1:4])
    slope = torch.stack([across, down, torch.zeros_like(across)], -1) / luminance[..., None]
    slope = slope.clamp(-0.6, 0.6) * 0.9
    slope[..., 1] -= 0.18  # more light comes from above (y points down)
    slope[..., 2] -= 0.12  # and from the viewer's side
    gradient = slope * ambient[..., None]

    side = slope.mean(1)
    direction = 0.9 * normal[:, 4:7] + torch.tensor([0.0, -0.7, -0.8], device=device)
    direction = F.normalize(direction + 1.2 * side, dim=-1)
    warmth = 0.10 * normal[:, 7:8] * torch.tensor([1.0, 0.1, -1.1], device=device)
    lamp = level * lamp_share * 1.5 * tint.sqrt() * (1 + warmth)
    return Light(ambient.clamp(min=0.01), gradient, direction, lamp, 0.5 + 0.5 * uniform[:, 2])


def shade(
    surface: Surface, light: Light, image: Tensor, position: Tensor, normal: Tensor, lit: Tensor
) -> Tensor:
    """Linear colours [P, 3]; image: [P]; lit: [P] in 0..1, 0 where the lamp is hidden."""
    normal = F.normalize(normal + surface.bump, dim=-1)
    view = F.normalize(-position, dim=-1)
    direction, lamp = light.direction[image], light.lamp[image]
    ambient = light.ambient[image] + (light.gradient[image] @ normal[..., None])[..., 0]
    ambient = ambient.clamp(min=0.01)
    facing = (normal * direction).sum(-1, keepdim=True)
    wrapped = ((facing + surface.softness) / (1 + surface.softness)).clamp(min=0)
    lit = (1 - light.shadow[image] * (1 - lit))[:, None]
    half = F.normalize(view + direction, dim=-1)
    exponent = (2 / surface.roughness**4 - 2).clamp(1, 250)[:, None]
    lobe = (normal * half).sum(-1, keepdim=True).clamp(min=0) ** exponent * (exponent + 8) / 25
    highlight = surface.shine[:, None] * lobe * (facing > 0)
    grazing = (1 - (normal * view).sum(-1, keepdim=True).clamp(0, 1)) ** 5
    colour = surface.albedo * (ambient + lamp * wrapped * lit) + highlight * lamp * lit
    return colour + 1.2 * surface.shine[:, None] * grazing * ambient


def lamp_visibility(
    vertices: Tensor,
    faces: Tensor,
    face_image: Tensor,
    centre: Tensor,
    extent: Tensor,
    light: Light,
    image: Tensor,
    position: Tensor,
) -> Tensor:
    """Shadow mapping: [P] in 0..1, how much of the lamp the positions [P, 3] see.

    vertices: [T, 3] of all surfaces, each used by one image only. centre, extent: [B, 3] and [B],
    the region of each image that shadows matter in.
    """
    count, half = len(centre), SHADOW_SIZE / 2
    reference = torch.tensor([0.31, 0.95, 0.05], device=vertices.device).expand(count, 3)
    right = F.normalize(torch.linalg.cross(light.direction, reference), dim=-1)
    up = torch.linalg.cross(light.direction, right)

    def seen_from_lamp(points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        offset = points - centre[which]
        plane = torch.stack([(offset * right[which]).sum(-1), (offset * up[which]).sum(-1)], -1)
        texel = plane / extent[which, None] * half + half
        return texel, 3 - (offset * light.direction[which]).sum(-1)

    owner = torch.zeros(len(vertices), dtype=torch.int64, device=vertices.device)
    for k in range(3):
        owner[faces[:, k]] = face_image
    texels, depth = seen_from_lamp(vertices, owner)
    shadow_map = torch.full((count * SHADOW_SIZE**2,), torch.inf, device=vertices.device)
    covered = rasterize(
        texels, depth, faces, face_image, count, SHADOW_SIZE, SHADOW_SIZE, cull=False
    )
    shadow_map[covered.pixel] = covered.depth

    where, distance = seen_from_lamp(position, image)
    lit = torch.zeros_like(distance)
    taps = ((-0.9, -0.9), (0.9, -0.9), (-0.9, 0.9), (0.9, 0.9), (0.0, 0.0))
    for tap in taps:
        x, y = (where + torch.tensor(tap, device=where.device)).round().long().unbind(-1)
        inside = (x >= 0) & (x < SHADOW_SIZE) & (y >= 0) & (y < SHADOW_SIZE)
        x, y = x.clamp(0, SHADOW_SIZE - 1), y.clamp(0, SHADOW_SIZE - 1)
        nearest = shadow_map[(image * SHADOW_SIZE + y) * SHADOW_SIZE + x]
        lit += ((nearest > distance - SHADOW_BIAS) | ~inside).float()
    return lit / len(taps)


def ambient_occlusion(depth: Tensor) -> Tensor:
    """[B, H, W] in 0..1 from depth [B, H, W] (0: nothing): dark where neighbours are nearer."""
    height, width = depth.shape[1:]
    step = max(2, height // 128)
    small = depth[:, None, ::step, ::step]
    covered = (small > 0).float()

    def blur(image: Tensor) -> Tensor:
        return F.avg_pool2d(image, 5, 1, 2)

    mean = blur(small) / blur(covered).clamp(min=1e-3)
    mean = F.interpolate(mean, (height, width), mode="bilinear", align_corners=False)[:, 0]
    return (1 - 14 * (depth - mean).clamp(0, 0.03)).clamp(0.45, 1)
