"""MobRecon's complement data (Chen et al. 2022, supplement 6): uniform poses from uniform views.

Each finger is straight or curled: 32 base poses. Each pair of these is interpolated at a quarter,
a half and three quarters: 32 + 3 * 496 = 1,520 poses. Cameras stand on half a sphere around the end
of the wrist, 10 degrees of longitude and 15 of latitude apart, and look at the palm: 36 * 6 = 216
views. The pole is where straight fingers point, so that longitude 0 sees the back, 180 the palm,
and latitude 0 includes what the owner of the hand sees.

Beyond the paper the fingers splay, and shape, skin, light, side and background are drawn anew for
each image, as in every recipe.
"""

from __future__ import annotations

import math
from itertools import combinations, product

import torch
import torch.nn.functional as F
from torch import Tensor

from hand_perception.synthesis.limb import Limb
from hand_perception.synthesis.placement import aim_arms
from hand_perception.synthesis.poses import THUMBS
from hand_perception.synthesis.recipe import Recipe
from hand_perception.synthesis.rig import forward_kinematics, local_rotations
from hand_perception.synthesis.scene import Placed, Scene, SceneSampler

QUARTERS = (0.25, 0.5, 0.75)
LONGITUDES, LATITUDES = 36, 6
LONGITUDE_STEP, LATITUDE_STEP = math.pi / 18, math.pi / 12
NUM_POSES, NUM_VIEWS = 1520, 216
TOTAL = NUM_POSES * NUM_VIEWS
# Consecutive images are this far apart in the list of all, near the golden section of it and
# without a common factor: any number of first images is spread evenly over poses and views.
STRIDE = 202_913
SPREADS = (-0.3, 1.4)  # of poses.SPREAD: from fingers that touch to as wide as they go
HAND_M = 0.20  # wrist to fingertip, for the distance of the camera
CLOSEST_M = 0.25
PALM_JOINTS = (0, 4, 7, 10, 13)  # the wrist and the long fingers' knuckles


def base_poses() -> tuple[Tensor, Tensor]:
    """Curls [32, 4] of index to pinky, 0 or 1, and thumb angles [32, 5] as poses.THUMBS has them.

    The first 16 have a straight thumb. A curled one lies over the first curled finger, or in the
    palm where these are straight.
    """
    curls, thumbs = [], []
    for thumb, *fingers in product((0.0, 1.0), repeat=5):
        across = {0: "over", 1: "over_middle", 2: "over_ring"}
        first = fingers.index(1.0) if 1.0 in fingers else None
        curls.append(fingers)
        thumbs.append(THUMBS[across.get(first, "across") if thumb else "open"])
    return torch.tensor(curls), torch.tensor(thumbs)


def interpolated(base: Tensor) -> Tensor:
    """[32, n] -> [1520, n]: the base poses, then three between each pair of them."""
    first, second = torch.tensor(list(combinations(range(len(base)), 2))).T
    quarters = torch.tensor(QUARTERS)[:, None]
    between = base[first, None] + quarters * (base[second] - base[first])[:, None]
    return torch.cat([base, between.flatten(0, 1)])


def view_directions() -> Tensor:
    """[216, 3]: unit vectors from the wrist to the cameras, in the template's axes (fingers -y,
    back of the hand x), by latitude, then longitude."""
    latitude = (torch.arange(LATITUDES) * LATITUDE_STEP)[:, None].expand(-1, LONGITUDES)
    longitude = (torch.arange(LONGITUDES) * LONGITUDE_STEP).expand(LATITUDES, -1)
    out = torch.stack(
        [
            latitude.cos() * longitude.cos(),
            -latitude.sin(),
            latitude.cos() * longitude.sin(),
        ],
        -1,
    )
    return out.flatten(0, 1)


def pose_and_view(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Indices into the poses and the views of images [N]; TOTAL images in a row show each pair."""
    place = numbers * STRIDE % TOTAL
    return torch.div(place, NUM_VIEWS, rounding_mode="floor"), place % NUM_VIEWS


def look_at(camera: Tensor, target: Tensor) -> Tensor:
    """Rotations [N, 3, 3] from the template's axes to those of cameras at [N, 3] that look at
    [N, 3], with the fingers' direction upwards in the image."""
    forward = F.normalize(target - camera, dim=-1)
    down = torch.tensor([0.0, 1.0, 0.0], device=camera.device).expand_as(forward)
    right = F.normalize(torch.linalg.cross(down, forward), dim=-1)
    return torch.stack([right, torch.linalg.cross(forward, right), forward], -2)


class ComplementSampler(SceneSampler):
    """Image ``first + k`` shows one hand, in the pose and from the view of ``pose_and_view``."""

    def __init__(self, limb: Limb) -> None:
        super().__init__(limb)
        device = limb.vertices.device
        curls, thumbs = base_poses()
        self.curls, self.thumbs = interpolated(curls).to(device), interpolated(thumbs).to(device)
        self.directions = view_directions().to(device)

    def sample(
        self,
        recipe: Recipe,
        count: int,
        height: int,
        width: int,
        generator: torch.Generator,
        first: int = 0,
    ) -> Scene:
        device = self.limb.vertices.device
        image = torch.arange(count, device=device)
        pose, view = pose_and_view(first + image)
        uniform = torch.rand(count, 3, generator=generator, device=device)
        spreads = SPREADS[0] + (SPREADS[1] - SPREADS[0]) * uniform[:, 0]
        angles = self.poses.from_curls(self.curls[pose], spreads, self.thumbs[pose], 0.0, generator)
        shapes, rest = self.shapes.sample(count, generator)
        turns, posed = forward_kinematics(local_rotations(*angles), rest, self.limb.frames)
        mirror = torch.where(uniform[:, 1] < 0.5, 1.0, -1.0)
        flip = torch.stack([torch.ones_like(mirror), torch.ones_like(mirror), mirror], -1)[:, None]
        dense = (self.limb.pose(shapes, rest, turns, posed) - posed[:, :1]) * flip
        palm = ((posed - posed[:, :1]) * flip)[:, list(PALM_JOINTS)].mean(1)

        K = self._cameras(recipe, count, height, width, generator)
        low, high = (math.log(share) for share in recipe.box)
        share = torch.exp(low + (high - low) * uniform[:, 2])
        radius = (K[:, 0, 0] * HAND_M / (share * min(height, width))).clamp(min=CLOSEST_M)
        camera = self.directions[view] * radius[:, None]
        turn = look_at(camera, palm)
        dense = (dense - camera[:, None]) @ turn.transpose(1, 2)
        keypoints = self.limb.regressor @ self.limb.template_vertices(dense)
        # None is left out, whatever its arm does: the poses and views are to be complete.
        forearm, upper, _ = aim_arms(mirror, turn, keypoints, image, K, height, width, generator)
        hands = Placed(image, mirror, dense, keypoints, forearm, upper)
        return self.dress(recipe, hands, K, count, height, width, generator)
