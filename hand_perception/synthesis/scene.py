"""Where hands, arms, objects and the camera are: everything before the pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hand_perception.synthesis.limb import RING_DISTANCES, Limb
from hand_perception.synthesis.poses import PoseSampler
from hand_perception.synthesis.rig import forward_kinematics
from hand_perception.synthesis.shape import ShapeSampler


@dataclass(frozen=True)
class Recipe:
    """What a data set shows.

    hands: relative frequency of images with 0, 1, 2 ... hands. box: range of the hand's box, as a
    share of the image's short side (log-uniform); divided by the square root of the hand count.
    upright: share of views with fingers roughly up and palm or back to the camera. truncated:
    share of hands that the border may cut. objects: frequency of an object per hand. arm_only:
    share of hands that are outside of the image, only their arm may cross it. field_of_view:
    degrees.
    """

    hands: tuple[float, ...] = (0.08, 0.60, 0.22, 0.07, 0.03)
    box: tuple[float, float] = (0.13, 0.95)
    upright: float = 0.55
    truncated: float = 0.2
    objects: float = 0.35
    arm_only: float = 0.03
    field_of_view: tuple[float, float] = (25.0, 75.0)


RECIPES = {
    # Whole photographs for detectors; the default.
    "scene": Recipe(),
    # One hand that fills the image, for networks that read a crop.
    "crop": Recipe(hands=(0.0, 1.0), box=(0.6, 0.95), truncated=0.15, arm_only=0.0),
}

BOX_SHORTEST, DEPTH_GAP, ARM_CLEARANCE = 0.06, 0.16, 0.07
ELBOW_AT, ARM_RADIUS, CLOSEST_ARM = 0.265, 0.05, 0.15  # metres
SMALLEST_GRIP = 0.008  # metres, radius of the thinnest thing a hand closes around
PLACES, ARMS = 12, 12  # candidates tried per hand
OBJECT_MESH = (18, 12)


@dataclass
class Scene:
    """N hands and O objects in B images. Lengths in metres, camera frame, pixels.

    image: [N], ascending. mirror: [N], -1 for left hands. vertices: [N, V, 3] of the limbs.
    template_vertices: [N, 778, 3]. keypoints: [N, 21, 3]. K: [B, 3, 3]. boxes: [N, 4], of the hand
    without its arm, clipped to the image. person: [N], hands of one person share it.
    objects: [O, 3 + P, 3] surfaces, object_image: [O].
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


class SceneSampler:
    """Draws scenes on the limb's device."""

    def __init__(self, limb: Limb):
        self.limb = limb
        parts = (limb.vertices, limb.weights, limb.joints, limb.frames)
        self.poses, self.shapes = PoseSampler(*parts), ShapeSampler(*parts)
        self.sphere, self.sphere_faces = sphere(*OBJECT_MESH, device=limb.vertices.device)

    def sample(
        self, recipe: Recipe, count: int, height: int, width: int, generator: torch.Generator
    ) -> Scene:
        device = self.limb.vertices.device
        odds = torch.tensor(recipe.hands, device=device, dtype=torch.float32)
        per_image = torch.multinomial(odds, count, True, generator=generator)
        image = torch.repeat_interleave(torch.arange(count, device=device), per_image)
        total = len(image)
        K, focal = self._cameras(recipe, count, height, width, generator)

        shapes, rest = self.shapes.sample(total, generator)
        turns, posed = forward_kinematics(
            self.poses.sample(total, generator), rest, self.limb.frames
        )
        dense = self.limb.pose(shapes, rest, turns, posed)
        mirror = torch.where(_uniform(generator, device, total) < 0.5, 1.0, -1.0)
        view = self._views(recipe, total, generator)
        centre = posed[:, [0, 4, 7, 10, 13]].mean(1, keepdim=True)
        flip = torch.stack([torch.ones_like(mirror), torch.ones_like(mirror), mirror], -1)[:, None]
        dense = ((dense - centre) * flip) @ view.transpose(1, 2)

        dense, kept = self._place(recipe, dense, image, K, height, width, generator)
        image, mirror, view, dense = (t[kept] for t in (image, mirror, view, dense))
        keypoints = self.limb.regressor @ self.limb.template_vertices(dense)
        forearm, upper, leaves = self._aim_arms(
            mirror, view, keypoints, image, K, height, width, generator
        )
        # Hands whose arm would come through the camera or end inside of the image are left out.
        image, mirror, view, dense, keypoints, forearm, upper = (
            t[leaves] for t in (image, mirror, view, dense, keypoints, forearm, upper)
        )
        template_vertices = self.limb.template_vertices(dense)
        person = self._people(image, generator)
        sleeve_start, girth = self._sleeves(len(image), person, generator)
        arm = self.limb.arm(dense, mirror, forearm, upper, girth)
        objects, object_image = self._objects(
            recipe, image, keypoints, template_vertices, generator
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
            object_image,
            sleeve_start,
        )

    def _cameras(
        self, recipe: Recipe, count: int, height: int, width: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        device = self.limb.vertices.device
        low, high = recipe.field_of_view
        angle = (low + (high - low) * _uniform(generator, device, count)) * math.pi / 180
        focal = 0.5 * max(height, width) / torch.tan(angle / 2)
        K = torch.zeros(count, 3, 3, device=device)
        K[:, 0, 0] = K[:, 1, 1] = focal
        K[:, 0, 2], K[:, 1, 2], K[:, 2, 2] = (width - 1) / 2, (height - 1) / 2, 1
        return K, focal

    def _views(self, recipe: Recipe, total: int, generator: torch.Generator) -> Tensor:
        """Rotations from the template's axes (fingers -y, palm -x) to the camera's."""
        device = self.limb.vertices.device
        normal = torch.randn(total, 7, generator=generator, device=device)
        uniform = _uniform(generator, device, total, 3)
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

    def _place(
        self,
        recipe: Recipe,
        dense: Tensor,
        image: Tensor,
        K: Tensor,
        height: int,
        width: int,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Moves centred hands [N, D, 3] before the camera, one after the other so that they do
        not collide; returns them and which of them [N] found a place."""
        device, total = dense.device, len(dense)
        low, high = dense.amin(1), dense.amax(1)
        middle, extent = (low + high) / 2, high - low
        sizes = torch.bincount(image, minlength=len(K))
        smallest, largest = (math.log(share) for share in recipe.box)
        uniform = _uniform(generator, device, total, 5)
        share = torch.exp(smallest + (largest - smallest) * uniform[:, 0])
        share = (share / sizes[image] ** 0.5).clamp(min=BOX_SHORTEST)
        # Hands of one image are mostly at similar distances.
        similar = torch.exp(0.25 * torch.randn(total, generator=generator, device=device))
        first = torch.searchsorted(image, image)
        share = torch.where(uniform[:, 1] < 0.6, (share[first] * similar).clamp(max=0.9), share)
        scale = share * min(height, width) / extent[:, :2].amax(1)  # pixels per metre
        distance = K[image, 0, 0] / scale
        # Room for perspective: the hand must not come nearer than a few centimetres.
        distance = torch.maximum(distance, 0.06 + extent[:, 2] / 2)
        half = extent[:, :2] / 2 * (K[image, 0, 0] / distance)[:, None]
        cut = torch.where(uniform[:, 2] < recipe.truncated, 0.55 * uniform[:, 3], 0.0)
        size = torch.tensor([width, height], device=device, dtype=torch.float32)
        bound = torch.minimum(half * (1 - cut[:, None]), 0.5 * size)
        places = _uniform(generator, device, total, PLACES, 2)
        places = bound[:, None] + places * (size - 2 * bound)[:, None] - 0.5
        absent = uniform[:, 4] < recipe.arm_only  # above the image: most arms come from below
        above = torch.stack([places[..., 0], (-1.5 * half[:, 1:]).expand(-1, PLACES)], -1)
        places = torch.where(absent[:, None, None], above, places)

        chosen = places[:, 0].clone()
        kept = torch.ones(total, dtype=torch.bool, device=device)
        slot = torch.arange(total, device=device) - first
        for k in range(1, int(slot.max()) + 1 if total else 0):
            now = (slot == k).nonzero()[:, 0]
            gap = torch.full((len(now), PLACES), math.inf, device=device)
            for earlier in range(k):
                other = first[now] + earlier
                apart = (places[now] - chosen[other][:, None]).abs()
                room = (apart - (half[now] + half[other])[:, None]).amax(-1)
                gap = torch.minimum(gap, torch.where(kept[other][:, None], room, math.inf))
            allowed = -0.25 * half[now].amin(1)[:, None]
            order = torch.arange(PLACES, device=device) - 1e6
            best = torch.where(gap > allowed, -order, gap).argmax(1)
            rows = torch.arange(len(now), device=device)
            chosen[now] = places[now, best]
            kept[now] = (gap > 2.5 * allowed)[rows, best]
            for earlier in range(k):  # boxes that overlap are kept apart in depth
                other = first[now] + earlier
                apart = (chosen[now] - chosen[other]).abs() - half[now] - half[other]
                near = (distance[now] - distance[other]).abs() < DEPTH_GAP
                push = (apart.amax(-1) < 4) & near & kept[other]
                behind = torch.maximum(distance[now], distance[other] + DEPTH_GAP)
                distance[now] = torch.where(push, behind, distance[now])

        principal = torch.stack([K[image, 0, 2], K[image, 1, 2]], -1)
        ray = torch.cat(
            [(chosen - principal) / K[image, 0, 0, None], torch.ones(total, 1, device=device)], 1
        )
        return dense - middle[:, None] + (ray * distance[:, None])[:, None], kept

    def _people(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """[N]: most hands of one image belong to one person."""
        index = torch.arange(len(image), device=image.device)
        same = _uniform(generator, image.device, len(image)) < 0.75
        return torch.where(same, torch.searchsorted(image, image), index)

    def _sleeves(
        self, total: int, person: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Where each arm's cloth starts (metres from the wrist) and the rings' girth [N, R]."""
        device = self.limb.vertices.device
        uniform = _uniform(generator, device, total, 4)[person]
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

    def _aim_arms(
        self,
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
        whether they leave the image [N], which some hands' arms cannot."""
        device, total = keypoints.device, len(keypoints)
        normal = torch.randn(total, ARMS, 5, generator=generator, device=device).clamp(-2, 2)
        down = torch.tensor([0.0, 1.0, 0.25], device=device)
        # Wrist: extension and flexion along the dorsal axis, deviation across; later candidates
        # bend further, for arms that would otherwise point at the camera.
        further = 1 + torch.arange(ARMS, device=device) / (ARMS / 2)
        local = torch.stack(
            [
                0.36 * normal[..., 0] * further,
                torch.ones(total, ARMS, device=device),
                0.16 * normal[..., 1] * further * mirror[:, None],
            ],
            -1,
        )
        forearm = F.normalize(local @ view.transpose(1, 2), dim=-1)
        upper = F.normalize(0.5 * forearm + 0.8 * down + 0.45 * normal[..., 2:], dim=-1)
        reach = torch.cat([torch.linspace(0.03, 0.9, 14, device=device), self.limb.distances[-1:]])[
            :, None
        ]
        line = keypoints[:, 0, None, None] + forearm[:, :, None] * reach.clamp(max=ELBOW_AT)
        line = line + upper[:, :, None] * (reach - ELBOW_AT).clamp(min=0)
        leaves = self._leaves_image(line, K[image], height, width)
        clearance = torch.ones(total, ARMS, device=device)
        if total:
            places = line[:, :, :-1].reshape(-1, 3)
            distance = torch.cdist(places, keypoints.flatten(0, 1))
            distance = distance.view(total, ARMS, -1, total, 21).amin((2, 4))
            other = image[:, None] == image
            other &= ~torch.eye(total, dtype=torch.bool, device=device)
            clearance = torch.where(other[:, None], distance, 1.0).amin(-1)
        clearance = torch.where(leaves, clearance, clearance - 2)
        order = 10.0 - torch.arange(ARMS, device=device)
        best = torch.where(clearance > ARM_CLEARANCE, order, clearance).argmax(1)
        rows = torch.arange(total, device=device)
        return forearm[rows, best], upper[rows, best], leaves[rows, best]

    def _leaves_image(self, line: Tensor, K: Tensor, height: int, width: int) -> Tensor:
        """[N, A]: centre lines [N, A, P, 3] that end outside of the view without having come
        close to the camera inside of it."""
        depth = line[..., 2].clamp(min=0.05)
        focal, principal = K[:, 0, 0, None, None, None], K[:, None, None, :2, 2]
        pixel = line[..., :2] / depth[..., None] * focal + principal
        margin = ARM_RADIUS / depth[..., None] * focal
        size = torch.tensor([width, height], device=line.device)
        outside = ((pixel < -margin) | (pixel > size + margin)).any(-1)
        too_close = (line[..., 2] < CLOSEST_ARM) & ~outside
        return outside[..., -1] & ~too_close.any(-1)

    def _objects(
        self,
        recipe: Recipe,
        image: Tensor,
        keypoints: Tensor,
        vertices: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor]:
        """Superquadrics that fingers close around, or anywhere near the hands: [O, P, 3] and
        their images."""
        device = keypoints.device
        uniform = _uniform(generator, device, len(image), 8)
        chosen = (uniform[:, 0] < recipe.objects).nonzero()[:, 0]
        uniform, total, keypoints = uniform[chosen], len(chosen), keypoints[chosen]
        exponent = (0.2 + 0.8 * uniform[:, 1])[:, None, None]
        surface = self.sphere.sign() * self.sphere.abs() ** exponent
        free_size = 0.010 + 0.028 * _uniform(generator, device, total, 3)
        long = torch.where(uniform[:, 2] < 0.4, 3.5, 1.0)
        free_size = torch.cat([free_size[:, :2], free_size[:, 2:] * long[:, None]], 1)
        rotation = quaternion_rotation(torch.randn(total, 4, generator=generator, device=device))
        palm = keypoints[:, [0, 5, 9, 13, 17]].mean(1)
        nearby = palm + 0.09 * torch.randn(total, 3, generator=generator, device=device)
        nearby = nearby - torch.tensor([0.0, 0.0, 0.05], device=device)

        # What fits between palm and fingertips, lying across the palm as a handle does.
        grip = (palm + keypoints[:, [4, 8, 12, 16, 20]].mean(1)) / 2
        room = 0.95 * (vertices[chosen] - grip[:, None]).norm(dim=-1).amin(1)
        grasped = (room > SMALLEST_GRIP) & (uniform[:, 3] < 0.7)
        breadth = surface[..., :2].norm(dim=-1).amax(1)
        thick = (room / breadth)[:, None]
        gripped_size = torch.cat([thick, thick, room[:, None] * (0.8 + 4 * uniform[:, 4:5])], 1)
        across = F.normalize(keypoints[:, 17] - keypoints[:, 5], dim=-1)
        side = F.normalize(torch.linalg.cross(across, palm - keypoints[:, 0]), dim=-1)
        handle = torch.stack([side, torch.linalg.cross(across, side), across], -1)
        size = torch.where(grasped[:, None], gripped_size, free_size)
        rotation = torch.where(grasped[:, None, None], handle, rotation)
        centre = torch.where(grasped[:, None], grip, nearby)
        surface = (surface * size[:, None]) @ rotation.transpose(1, 2)
        return surface + centre[:, None], image[chosen]


def _uniform(generator: torch.Generator, device: torch.device, *size: int) -> Tensor:
    return torch.rand(*size, generator=generator, device=device)


def turn_about(axis: int, angle: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] about a coordinate axis."""
    c, s, o, i = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    rows = {
        0: (i, o, o, o, c, -s, o, s, c),
        1: (c, o, s, o, i, o, -s, o, c),
        2: (c, -s, o, s, c, o, o, o, i),
    }[axis]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def quaternion_rotation(q: Tensor) -> Tensor:
    """Rotation matrices [..., 3, 3] of quaternions (w, x, y, z) of any length."""
    w, x, y, z = F.normalize(q, dim=-1).unbind(-1)
    rows = (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def project(points: Tensor, K: Tensor) -> Tensor:
    """[N, P, 3] metres to [N, P, 2] pixels with K [N, 3, 3]."""
    depth = points[..., 2:].clamp(min=1e-4)
    focal = torch.stack([K[:, 0, 0], K[:, 1, 1]], -1)[:, None]
    return points[..., :2] / depth * focal + K[:, None, :2, 2]


def project_boxes(vertices: Tensor, K: Tensor) -> Tensor:
    """Tight boxes [N, 4] of projected vertices [N, V, 3]."""
    pixels = project(vertices, K)
    return torch.cat([pixels.amin(1), pixels.amax(1)], 1)


def clip_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Clips to the pixels' area, whose edges lie half a pixel outside of the outer centres."""
    limit = torch.tensor([width, height, width, height], device=boxes.device) - 0.5
    return torch.minimum(boxes.clamp(min=-0.5), limit)


def sphere(columns: int, rows: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Unit sphere: vertices [P, 3] and outward faces [M, 3]."""
    theta = torch.linspace(0, math.pi, rows + 1)[1:-1, None]
    phi = torch.arange(columns) * (2 * math.pi / columns)
    ring = torch.stack(
        [
            theta.sin() * phi.cos(),
            theta.sin() * phi.sin(),
            theta.cos().expand(-1, columns),
        ],
        -1,
    ).reshape(-1, 3)
    vertices = torch.cat([torch.tensor([[0.0, 0, 1]]), ring, torch.tensor([[0.0, 0, -1]])])
    this, following = torch.arange(columns), (torch.arange(columns) + 1) % columns
    bottom, last = len(vertices) - 1, 1 + (rows - 2) * columns
    faces = [torch.stack([torch.zeros_like(this), 1 + this, 1 + following], 1)]
    for r in range(rows - 2):
        a, b = 1 + r * columns + this, 1 + r * columns + following
        faces += [torch.stack([a, a + columns, b], 1)]
        faces += [torch.stack([b, a + columns, b + columns], 1)]
    faces.append(torch.stack([torch.full_like(this, bottom), last + following, last + this], 1))
    return vertices.to(device), torch.cat(faces).to(device)
