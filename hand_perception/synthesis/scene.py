"""Where hands, arms, objects and the camera are: everything before the pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hand_perception.synthesis.limb import RING_DISTANCES, Limb
from hand_perception.synthesis.placement import aim_arms, place_hands
from hand_perception.synthesis.poses import PoseSampler
from hand_perception.synthesis.props import sample_props
from hand_perception.synthesis.recipe import Recipe
from hand_perception.synthesis.rig import forward_kinematics
from hand_perception.synthesis.shape import ShapeSampler
from hand_perception.synthesis.space import (
    clip_boxes,
    project_boxes,
    quaternion_rotation,
    sphere,
    turn_about,
)

OBJECT_MESH = (18, 12)  # columns and rows of a sphere
SAME_PERSON_SHARE = 0.75


@dataclass
class Scene:
    """N hands and O objects in B images. Lengths in metres, camera frame, pixels.

    image: [N], ascending. mirror: [N], -1 for left hands. vertices: [N, V, 3] of the limbs.
    template_vertices: [N, 778, 3]. keypoints: [N, 21, 3]. K: [B, 3, 3]. boxes: [N, 4], of the hand
    without its arm, clipped to the image. person: [N], hands of one person share it.
    objects: [O, P, 3] surfaces, object_image: [O]. sleeve_start: [N] metres up the arm.
    """

    count: int
    height: int
    width: int
    image: Tensor
    mirror: Tensor
    vertices: Tensor
    template_vertices: Tensor
    keypoints: Tensor
    K: Tensor
    boxes: Tensor
    person: Tensor
    objects: Tensor
    object_image: Tensor
    sleeve_start: Tensor


@dataclass(frozen=True)
class Placed:
    """N hands before their cameras: image [N], mirror [N], dense [N, D, 3], keypoints [N, 21, 3],
    and where their arms go: forearm, upper [N, 3]."""

    image: Tensor
    mirror: Tensor
    dense: Tensor
    keypoints: Tensor
    forearm: Tensor
    upper: Tensor


class SceneSampler:
    """Draws scenes on the limb's device."""

    def __init__(self, limb: Limb):
        self.limb = limb
        parts = (limb.vertices, limb.weights, limb.joints, limb.frames)
        self.poses, self.shapes = PoseSampler(*parts), ShapeSampler(*parts)
        self.sphere, self.sphere_faces = sphere(*OBJECT_MESH, device=limb.vertices.device)

    def sample(
        self,
        recipe: Recipe,
        count: int,
        height: int,
        width: int,
        generator: torch.Generator,
        first: int = 0,
    ) -> Scene:
        """``count`` images; first: the number of the first one in its data set, which only
        ComplementSampler goes by."""
        device = self.limb.vertices.device
        odds = torch.tensor(recipe.hands, device=device, dtype=torch.float32)
        per_image = torch.multinomial(odds, count, True, generator=generator)
        image = torch.repeat_interleave(torch.arange(count, device=device), per_image)
        total = len(image)
        K = self._cameras(recipe, count, height, width, generator)

        shapes, rest = self.shapes.sample(total, generator)
        turns, posed = forward_kinematics(
            self.poses.sample(total, generator, recipe.gestures), rest, self.limb.frames
        )
        dense = self.limb.pose(shapes, rest, turns, posed)
        mirror = torch.where(torch.rand(total, generator=generator, device=device) < 0.5, 1.0, -1.0)
        view = self._views(recipe, total, generator)
        centre = posed[:, [0, 4, 7, 10, 13]].mean(1, keepdim=True)
        flip = torch.stack([torch.ones_like(mirror), torch.ones_like(mirror), mirror], -1)[:, None]
        dense = ((dense - centre) * flip) @ view.transpose(1, 2)

        dense, kept = place_hands(recipe, dense, image, K, height, width, generator)
        image, mirror, view, dense = (t[kept] for t in (image, mirror, view, dense))
        keypoints = self.limb.regressor @ self.limb.template_vertices(dense)
        forearm, upper, leaves = aim_arms(
            mirror, view, keypoints, image, K, height, width, generator
        )
        # Hands whose arm would come through the camera or end inside of the image are left out.
        hands = (image, mirror, dense, keypoints, forearm, upper)
        hands = Placed(*(t[leaves] for t in hands))
        return self.dress(recipe, hands, K, count, height, width, generator)

    def dress(
        self,
        recipe: Recipe,
        hands: Placed,
        K: Tensor,
        count: int,
        height: int,
        width: int,
        generator: torch.Generator,
    ) -> Scene:
        """Arms, sleeves and objects to placed hands."""
        image, mirror, dense, keypoints = hands.image, hands.mirror, hands.dense, hands.keypoints
        template_vertices = self.limb.template_vertices(dense)
        person = self._people(image, generator)
        sleeve_start, girth = self._sleeves(len(image), person, generator)
        arm = self.limb.arm(dense, mirror, hands.forearm, hands.upper, girth)
        objects, owner = sample_props(
            recipe.objects, self.sphere, keypoints, template_vertices, generator
        )
        return Scene(
            count,
            height,
            width,
            image,
            mirror,
            torch.cat([dense, arm], 1),
            template_vertices,
            keypoints,
            K,
            clip_boxes(project_boxes(template_vertices, K[image]), height, width),
            person,
            objects,
            image[owner],
            sleeve_start,
        )

    def _cameras(
        self, recipe: Recipe, count: int, height: int, width: int, generator: torch.Generator
    ) -> Tensor:
        device = self.limb.vertices.device
        low, high = recipe.field_of_view
        angle = (
            (low + (high - low) * torch.rand(count, generator=generator, device=device))
            * math.pi
            / 180
        )
        focal = 0.5 * max(height, width) / torch.tan(angle / 2)
        K = torch.zeros(count, 3, 3, device=device)
        K[:, 0, 0] = K[:, 1, 1] = focal
        K[:, 0, 2], K[:, 1, 2], K[:, 2, 2] = (width - 1) / 2, (height - 1) / 2, 1
        return K

    def _views(self, recipe: Recipe, total: int, generator: torch.Generator) -> Tensor:
        """Rotations from the template's axes (fingers -y, palm -x) to the camera's."""
        device = self.limb.vertices.device
        normal = torch.randn(total, 7, generator=generator, device=device)
        uniform = torch.rand(total, 3, generator=generator, device=device)
        degrees = math.pi / 180
        facing = torch.where(uniform[:, 0] < 0.6, -90.0, 90.0)  # palm or back to the camera
        sideways = uniform[:, 1] < 0.2
        yaw = torch.where(sideways, 360 * uniform[:, 0], facing + 28 * normal[:, 0])
        upright = (
            turn_about(2, 35 * degrees * normal[:, 1])
            @ turn_about(0, 22 * degrees * normal[:, 2])
            @ turn_about(1, degrees * yaw)
        )
        free = quaternion_rotation(normal[:, 3:])
        return torch.where((uniform[:, 2] < recipe.upright)[:, None, None], upright, free)

    def _people(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """[N]: most hands of one image belong to one person."""
        index = torch.arange(len(image), device=image.device)
        same = torch.rand(len(image), generator=generator, device=image.device) < SAME_PERSON_SHARE
        return torch.where(same, torch.searchsorted(image, image), index)

    def _sleeves(
        self, total: int, person: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Where each arm's cloth starts (metres from the wrist) and the rings' girth [N, R]."""
        device = self.limb.vertices.device
        uniform = torch.rand(total, 4, generator=generator, device=device)[person]
        long_sleeve = 0.005 + 0.10 * uniform[:, 1]
        rolled = 0.10 + 0.16 * uniform[:, 1]
        short = 0.36 + 0.12 * uniform[:, 1]
        start = torch.where(uniform[:, 0] < 0.4, long_sleeve, short)
        start = torch.where(uniform[:, 0] > 0.85, rolled, start)
        covered = self.limb.distances > start[:, None]
        tight = 1.10 + 0.28 * uniform[:, 2:3]
        spread = 1 + 0.10 * (uniform[:, 3:4] - 0.5)
        wrinkle = 0.05 * torch.randn(total, len(RING_DISTANCES), generator=generator, device=device)
        return start, torch.where(covered, tight + wrinkle.clamp(-0.08, 0.08), spread)
