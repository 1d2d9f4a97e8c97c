"""Posing a hand: joint rotations, forward kinematics, linear blend skinning.

Joints come in the template's order: the wrist, then three joints of each finger, thumb to pinky.
Rotations are local, in a joint's rest frame: x is the flexion axis, y points to the back of the
hand, -z along the bone towards the fingertip (the WebXR hand-input convention).
"""

from __future__ import annotations

import torch
from torch import Tensor

NUM_JOINTS = 16
FINGER_COUNT = 5
JOINTS_PER_FINGER = 3


def local_rotations(flexion: Tensor, abduction: Tensor, twist: Tensor) -> Tensor:
    """R = Ry(abduction) Rx(-flexion) Rz(twist), [..., 3, 3]; angles in radians.

    Flexion bends towards the palm, abduction turns about the dorsal axis, twist about the bone.
    """
    cf, sf = torch.cos(flexion), -torch.sin(flexion)
    ca, sa = torch.cos(abduction), torch.sin(abduction)
    ct, st = torch.cos(twist), torch.sin(twist)
    rows = (
        (ca * ct + sa * sf * st, -ca * st + sa * sf * ct, sa * cf),
        (cf * st, cf * ct, -sf),
        (-sa * ct + ca * sf * st, sa * st + ca * sf * ct, ca * cf),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def forward_kinematics(rotations: Tensor, joints: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Poses the skeleton; the wrist joint stays where it is.

    rotations: [B, 16, 3, 3] local. joints: [B, 16, 3] rest positions. frames: [16, 3, 3], columns
    are the joints' rest axes. Returns the rotations [B, 16, 3, 3] from rest to posed space and the
    posed joint positions [B, 16, 3].
    """
    turns = frames @ rotations @ frames.transpose(-1, -2)
    batch = turns.shape[0]
    chains = turns[:, 1:].reshape(batch, FINGER_COUNT, JOINTS_PER_FINGER, 3, 3)
    rest = joints[:, 1:].reshape(batch, FINGER_COUNT, JOINTS_PER_FINGER, 3)
    parent_turn = turns[:, None, 0].expand(batch, FINGER_COUNT, 3, 3)
    parent_rest = parent_position = joints[:, None, 0].expand(batch, FINGER_COUNT, 3)
    all_turns, positions = [], []
    for k in range(JOINTS_PER_FINGER):
        bone = rest[:, :, k] - parent_rest
        parent_position = parent_position + (parent_turn @ bone[..., None])[..., 0]
        parent_turn = parent_turn @ chains[:, :, k]
        parent_rest = rest[:, :, k]
        all_turns.append(parent_turn)
        positions.append(parent_position)
    turn = torch.stack(all_turns, 2).flatten(1, 2)
    position = torch.stack(positions, 2).flatten(1, 2)
    return torch.cat([turns[:, :1], turn], 1), torch.cat([joints[:, :1], position], 1)


def skin(vertices: Tensor, weights: Tensor, turns: Tensor, joints: Tensor, posed: Tensor) -> Tensor:
    """Linear blend skinning, [B, V, 3].

    vertices: [V, 3] or [B, V, 3] at rest. weights: [V, 16]. turns, posed: what forward_kinematics
    returned for the rest positions ``joints`` ([B, 16, 3]); ``turns`` may hold any linear maps.
    """
    offsets = posed - (turns @ joints[..., None])[..., 0]
    maps = torch.cat([turns, offsets[..., None]], -1).flatten(2)
    blended = torch.einsum("vj,bjk->bvk", weights, maps).unflatten(2, (3, 4))
    return (blended[..., :3] @ vertices[..., None])[..., 0] + blended[..., 3]
