"""What the camera does to a linear image: blur, motion, tone, colour, noise."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

KERNEL = 9
GREY_SHARE = 0.03


def photograph(linear: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Linear images [B, 3, H, W] to display-referred uint8 of the same shape; and how many pixels
    long motion draws each point [B]."""
    count, device = len(linear), linear.device

    def uniform(low: float, high: float) -> Tensor:
        draw = torch.rand(count, 1, 1, 1, generator=generator, device=device)
        return low + (high - low) * draw

    image, streak = _blur(linear, generator)
    image = image * torch.exp2(uniform(-0.45, 0.45))
    image = image * (1 + 0.05 * torch.randn(count, 3, 1, 1, generator=generator, device=device))
    image = image.clamp(0, 1).clamp(min=1e-6) ** (1 / (2.2 * uniform(0.88, 1.12)))
    image = (image - 0.5) * uniform(0.85, 1.15) + 0.5
    grey = image.mean(1, keepdim=True)
    saturation = torch.where(uniform(0, 1) < GREY_SHARE, 0.0, uniform(0.75, 1.2))
    image = grey + (image - grey) * saturation
    noise = torch.randn(image.shape, generator=generator, device=device)
    image = image + noise * 0.035 * uniform(0, 1) ** 2
    return (image.clamp(0, 1) * 255).round().to(torch.uint8), streak


def _blur(image: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Lens blur, and motion along a line for a quarter of the images."""
    count, channels, height, width = image.shape
    device = image.device
    uniform = torch.rand(count, 5, generator=generator, device=device)[..., None, None]
    sigma = 0.25 + 0.75 * uniform[:, 0] ** 1.5
    length = torch.where(uniform[:, 1] < 0.2, 0.5 + 3.0 * uniform[:, 2], 0.0)
    angle = math.pi * uniform[:, 3]
    offset = torch.arange(KERNEL, device=device) - KERNEL // 2
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    along = x * torch.cos(angle) + y * torch.sin(angle)
    across = y * torch.cos(angle) - x * torch.sin(angle)
    kernel = torch.exp(-0.5 * (((along.abs() - length).clamp(min=0)) ** 2 + across**2) / sigma**2)
    kernel = (kernel / kernel.sum((1, 2), keepdim=True)).repeat_interleave(channels, 0)[:, None]
    padded = F.pad(image, (KERNEL // 2,) * 4, mode="replicate")
    padded = padded.reshape(1, count * channels, *padded.shape[2:])
    blurred = F.conv2d(padded, kernel, groups=count * channels)
    return blurred.view(count, channels, height, width), 2 * length[:, 0, 0]
