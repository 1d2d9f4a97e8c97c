"""Things in and around hands: superquadrics that fingers close around or that float in front."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from hand_perception.hands import INDEX_MCP, MIDDLE_MCP, PINKY_MCP, RING_MCP, WRIST
from hand_perception.synthesis.space import quaternion_rotation
from hand_perception.template import TIP_KEYPOINTS

PALM = [WRIST, INDEX_MCP, MIDDLE_MCP, RING_MCP, PINKY_MCP]
GRASPED_SHARE = 0.7  # of the hands that leave room for something
SMALLEST_GRIP = 0.008  # metres, radius of the thinnest thing a hand closes around


def sample_props(
    frequency: float,
    sphere: Tensor,
    keypoints: Tensor,
    vertices: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Surfaces [O, P, 3] made from a unit sphere [P, 3], and the hand [O] each belongs to.

    keypoints: [N, 21, 3] and vertices: [N, V, 3] of the hands. frequency: per hand.
    """
    device = keypoints.device
    uniform = torch.rand(len(keypoints), 5, generator=generator, device=device)
    hand = (uniform[:, 0] < frequency).nonzero()[:, 0]
    uniform, keypoints, vertices = uniform[hand], keypoints[hand], vertices[hand]
    exponent = (0.2 + 0.8 * uniform[:, 1])[:, None, None]  # from nearly a box to an ellipsoid
    surface = sphere.sign() * sphere.abs() ** exponent
    size, rotation, centre = _floating(keypoints, generator)

    # What fits between palm and fingertips, lying across the palm as a handle does.
    palm = keypoints[:, PALM].mean(1)
    grip = (palm + keypoints[:, list(TIP_KEYPOINTS)].mean(1)) / 2
    room = 0.95 * (vertices - grip[:, None]).norm(dim=-1).amin(1)
    grasped = (room > SMALLEST_GRIP) & (uniform[:, 2] < GRASPED_SHARE)
    thick = room / surface[..., :2].norm(dim=-1).amax(1)
    long = room * (0.8 + 4 * uniform[:, 3])
    across = F.normalize(keypoints[:, PINKY_MCP] - keypoints[:, INDEX_MCP], dim=-1)
    side = F.normalize(torch.linalg.cross(across, palm - keypoints[:, WRIST]), dim=-1)
    handle = torch.stack([side, torch.linalg.cross(across, side), across], -1)

    size = torch.where(grasped[:, None], torch.stack([thick, thick, long], 1), size)
    rotation = torch.where(grasped[:, None, None], handle, rotation)
    centre = torch.where(grasped[:, None], grip, centre)
    return (surface * size[:, None]) @ rotation.transpose(1, 2) + centre[:, None], hand


def _floating(keypoints: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Half sizes [O, 3], rotations [O, 3, 3] and centres [O, 3] around the hands."""
    device, total = keypoints.device, len(keypoints)
    size = 0.010 + 0.028 * torch.rand(total, 3, generator=generator, device=device)
    long = torch.rand(total, generator=generator, device=device) < 0.4
    size[:, 2] *= torch.where(long, 3.5, 1.0)
    normal = torch.randn(total, 7, generator=generator, device=device)
    nearer = torch.tensor([0.0, 0.0, 0.05], device=device)
    centre = keypoints[:, PALM].mean(1) + 0.09 * normal[:, 4:] - nearer
    return size, quaternion_rotation(normal[:, :4]), centre
