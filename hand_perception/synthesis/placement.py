"""Putting hands before the camera: where in the image, how far away, where their arms go."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from hand_perception.synthesis.recipe import Recipe
from hand_perception.synthesis.space import first_above

PLACES, ARMS = 12, 12  # candidates tried per hand
SMALLEST_SHARE = 0.06  # of the image's short side
CLOSEST_HAND = 0.06  # metres before the nearest part of a hand
DEPTH_GAP = 0.16  # metres between hands that overlap in the image
ARM_CLEARANCE = 0.07  # metres from an arm's centre line to the joints of other hands
ELBOW_AT, ARM_RADIUS, CLOSEST_ARM = 0.265, 0.05, 0.15  # metres
ARM_END = 3.5  # metres, well outside of the image


def place_hands(
    recipe: Recipe,
    dense: Tensor,
    image: Tensor,
    K: Tensor,
    height: int,
    width: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Moves hands [N, D, 3] before the camera, one after the other so that they do not collide;
    returns them and which of them [N] found a place. image: [N] ascending; K: [B, 3, 3]."""
    device, total = dense.device, len(dense)
    low, high = dense.amin(1), dense.amax(1)
    middle, extent = (low + high) / 2, high - low
    first = torch.searchsorted(image, image)
    uniform = torch.rand(total, 4, generator=generator, device=device)
    share = _box_shares(recipe, image, first, len(K), generator)
    focal = K[image, 0, 0]
    distance = focal * extent[:, :2].amax(1) / (share * min(height, width))
    distance = torch.maximum(distance, CLOSEST_HAND + extent[:, 2] / 2)
    half = extent[:, :2] / 2 * (focal / distance)[:, None]
    cut = torch.where(uniform[:, 0] < recipe.truncated, 0.55 * uniform[:, 1], 0.0)
    size = torch.tensor([width, height], device=device, dtype=torch.float32)
    bound = torch.minimum(half * (1 - cut[:, None]), 0.5 * size)
    places = torch.rand(total, PLACES, 2, generator=generator, device=device)
    places = bound[:, None] + places * (size - 2 * bound)[:, None] - 0.5
    absent = uniform[:, 2] < recipe.arm_only  # above the image: most arms come from below
    above = torch.stack([places[..., 0], (-1.5 * half[:, 1:]).expand(-1, PLACES)], -1)
    places = torch.where(absent[:, None, None], above, places)

    chosen = places[:, 0].clone()
    kept = torch.ones(total, dtype=torch.bool, device=device)
    slot = torch.arange(total, device=device) - first
    for k in range(1, int(slot.max()) + 1 if total else 0):
        now = (slot == k).nonzero()[:, 0]
        others = [first[now] + earlier for earlier in range(k)]
        gap = torch.full((len(now), PLACES), math.inf, device=device)
        for other in others:
            apart = (places[now] - chosen[other][:, None]).abs()
            room = (apart - (half[now] + half[other])[:, None]).amax(-1)
            gap = torch.minimum(gap, torch.where(kept[other][:, None], room, math.inf))
        # Boxes may overlap by an eighth of their size; a hand that cannot help it is left out.
        allowed = -0.25 * half[now].amin(1)[:, None]
        best = first_above(gap, allowed)
        rows = torch.arange(len(now), device=device)
        chosen[now] = places[now, best]
        kept[now] = (gap > 2.5 * allowed)[rows, best]
        for other in others:  # what overlaps in the image is kept apart in depth
            apart = (chosen[now] - chosen[other]).abs() - half[now] - half[other]
            near = (distance[now] - distance[other]).abs() < DEPTH_GAP
            push = (apart.amax(-1) < 4) & near & kept[other]
            behind = torch.maximum(distance[now], distance[other] + DEPTH_GAP)
            distance[now] = torch.where(push, behind, distance[now])

    ray = torch.ones(total, 3, device=device)
    ray[:, :2] = (chosen - K[image, :2, 2]) / focal[:, None]
    return dense - middle[:, None] + (ray * distance[:, None])[:, None], kept


def _box_shares(
    recipe: Recipe, image: Tensor, first: Tensor, count: int, generator: torch.Generator
) -> Tensor:
    """Longer sides [N] of the hands' boxes as shares of the image's short side."""
    device, total = image.device, len(image)
    uniform = torch.rand(total, 2, generator=generator, device=device)
    smallest, largest = (math.log(share) for share in recipe.box)
    share = torch.exp(smallest + (largest - smallest) * uniform[:, 0])
    crowd = torch.bincount(image, minlength=count)[image]
    share = (share / crowd**0.5).clamp(min=SMALLEST_SHARE)
    # Hands of one image are mostly at similar distances.
    similar = torch.exp(0.25 * torch.randn(total, generator=generator, device=device))
    return torch.where(uniform[:, 1] < 0.6, (share[first] * similar).clamp(max=0.95), share)


def aim_arms(
    mirror: Tensor,
    view: Tensor,
    keypoints: Tensor,
    image: Tensor,
    K: Tensor,
    height: int,
    width: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Directions [N, 3] of forearms and upper arms that keep clear of the other hands, and
    whether they leave the image [N], which some hands' arms cannot.

    mirror: [N], -1 for left hands. view: [N, 3, 3] from the template's axes to the camera's.
    keypoints: [N, 21, 3].
    """
    device, total = keypoints.device, len(keypoints)
    normal = torch.randn(total, ARMS, 5, generator=generator, device=device).clamp(-2, 2)
    down = torch.tensor([0.0, 1.0, 0.25], device=device)
    # Wrist: extension and flexion along the dorsal axis, deviation across; later candidates bend
    # further, for arms that would otherwise point at the camera.
    further = 1 + torch.arange(ARMS, device=device) / (ARMS / 2)
    local = torch.ones(total, ARMS, 3, device=device)
    local[..., 0] = 0.36 * normal[..., 0] * further
    local[..., 2] = 0.16 * normal[..., 1] * further * mirror[:, None]
    forearm = F.normalize(local @ view.transpose(1, 2), dim=-1)
    upper = F.normalize(0.5 * forearm + 0.8 * down + 0.45 * normal[..., 2:], dim=-1)

    reach = torch.linspace(0.03, 0.9, 14, device=device).tolist() + [ARM_END]
    reach = torch.tensor(reach, device=device)[:, None]
    line = keypoints[:, 0, None, None] + forearm[:, :, None] * reach.clamp(max=ELBOW_AT)
    line = line + upper[:, :, None] * (reach - ELBOW_AT).clamp(min=0)
    leaves = _leaves_image(line, K[image], height, width)
    clearance = torch.ones(total, ARMS, device=device)
    if total:
        joints = keypoints.flatten(0, 1)
        distance = torch.cdist(line[:, :, :-1].reshape(-1, 3), joints)
        distance = distance.view(total, ARMS, -1, total, keypoints.shape[1]).amin((2, 4))
        other = image[:, None] == image
        other &= ~torch.eye(total, dtype=torch.bool, device=device)
        clearance = torch.where(other[:, None], distance, 1.0).amin(-1)
    best = first_above(torch.where(leaves, clearance, clearance - 10), ARM_CLEARANCE)
    rows = torch.arange(total, device=device)
    return forearm[rows, best], upper[rows, best], leaves[rows, best]


def _leaves_image(line: Tensor, K: Tensor, height: int, width: int) -> Tensor:
    """[N, A]: centre lines [N, A, P, 3] that end outside of the view without having come close to
    the camera inside of it."""
    depth = line[..., 2].clamp(min=0.05)
    focal, principal = K[:, 0, 0, None, None, None], K[:, None, None, :2, 2]
    pixel = line[..., :2] / depth[..., None] * focal + principal
    margin = ARM_RADIUS / depth[..., None] * focal
    size = torch.tensor([width, height], device=line.device)
    outside = ((pixel < -margin) | (pixel > size + margin)).any(-1)
    too_close = (line[..., 2] < CLOSEST_ARM) & ~outside
    return outside[..., -1] & ~too_close.any(-1)
