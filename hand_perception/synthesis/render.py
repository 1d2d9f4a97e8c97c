"""From a seed to labelled photographs of hands."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from hand_perception.synthesis.appearance import GAMMA, Surface, Wardrobe, join
from hand_perception.synthesis.backgrounds import Backgrounds
from hand_perception.synthesis.complement import ComplementSampler
from hand_perception.synthesis.limb import PART_OBJECT, Limb
from hand_perception.synthesis.postprocess import photograph
from hand_perception.synthesis.raster import Fragments, rasterize, vertex_normals
from hand_perception.synthesis.recipe import BATCH, RECIPES, Recipe
from hand_perception.synthesis.scene import Scene, SceneSampler
from hand_perception.synthesis.shading import (
    Light,
    ambient_occlusion,
    fit_light,
    lamp_visibility,
    shade,
)
from hand_perception.synthesis.skin_maps import SkinMaps
from hand_perception.synthesis.space import project

SUPERSAMPLING = 2
WALL_SHADOW_SHARE = 0.3
HIDDEN_SHARE = 0.2  # hands of which less is seen carry no label


@dataclass
class Batch:
    """B images with at most M hands each; slots beyond an image's hands are zero and not valid.

    rgb: [B, 3, H, W] uint8. depth: [B, H, W] metres, 0 where the background shows. parts:
    [B, H, W] uint8 (limb.PART_*). silhouette: [B, H, W] bool, hands without arms. The three
    maps are sampled a quarter pixel above and left of the pixels' centres. K: [B, 3, 3].
    keypoints2d: [B, M, 21, 2] pixels, centres at integers. keypoints3d: [B, M, 21, 3] and vertices:
    [B, M, 778, 3], metres in the camera frame. boxes: [B, M, 4] pixels, the hand without its arm,
    clipped. is_left: [B, M] bool. valid: [B, M] bool, false also for hands that are nearly hidden.
    visible: [B, M] pixels of the hand that are seen. dense: [B, M, D, 3], the render mesh's
    vertices of hands without arms, metres in the camera frame. streak: [B] pixels that motion draws
    each point over.
    """

    rgb: Tensor
    depth: Tensor
    parts: Tensor
    silhouette: Tensor
    K: Tensor
    keypoints2d: Tensor
    keypoints3d: Tensor
    vertices: Tensor
    boxes: Tensor
    is_left: Tensor
    valid: Tensor
    visible: Tensor
    dense: Tensor
    streak: Tensor

    def cpu(self) -> Batch:
        return Batch(*(getattr(self, f.name).cpu() for f in fields(self)))


class Renderer:
    """Renders batches; batch i of a seed is the same whatever was rendered before.

    On one device and library version it is equal to the bit (on a GPU up to the rounding of sums
    in colours); other devices draw other samples of the same distribution.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        seed: int = 0,
        backgrounds: list[str | Path] | None = None,
        recipe: Recipe = RECIPES["scene"],
    ):
        self.device, self.seed, self.recipe = torch.device(device), seed, recipe
        self.limb = Limb(self.device)
        self.scenes = (ComplementSampler if recipe.complement else SceneSampler)(self.limb)
        self.maps = SkinMaps(self.limb)
        self.wardrobe = Wardrobe(self.maps)
        self.backgrounds = Backgrounds(backgrounds, self.device)
        self._generator = torch.Generator(self.device)

    @torch.no_grad()
    def render(self, index: int, count: int, height: int = 256, width: int = 256) -> Batch:
        """Batch ``index`` with ``count`` images, BATCH of them where all are rendered."""
        generator = self._generator.manual_seed((self.seed << 24) + index)
        scene = self.scenes.sample(
            self.recipe, count, height, width, generator, first=index * BATCH
        )
        background = self.backgrounds.sample(count, height, width, generator)
        return self.draw(scene, background, generator)

    def draw(self, scene: Scene, background: Tensor, generator: torch.Generator) -> Batch:
        """Renders a scene before backgrounds [B, 3, H, W] in 0..1."""
        meshes = self._meshes(scene)
        fragments = self._visible(scene, meshes)
        linear = background**GAMMA
        light = fit_light(linear, generator)
        linear = self._wall_shadow(linear, fragments, generator)
        image, depth, parts, owner = self._colour(
            scene, meshes, fragments, light, linear, generator
        )
        return self._label(scene, *photograph(image, generator), depth, parts, owner)

    def _meshes(self, scene: Scene) -> _Meshes:
        limb, hands, things = self.limb, len(scene.image), len(scene.object_image)
        size, points = len(self.maps.rest), len(self.scenes.sphere)
        flipped = limb.faces[:, [0, 2, 1]]
        faces = torch.where((scene.mirror < 0)[:, None, None], flipped, limb.faces)
        start = torch.arange(hands, device=self.device) * size
        faces = (faces + start[:, None, None]).flatten(0, 1)
        start = hands * size + torch.arange(things, device=self.device) * points
        thing_faces = (self.scenes.sphere_faces + start[:, None, None]).flatten(0, 1)
        per_thing = len(self.scenes.sphere_faces)
        return _Meshes(
            torch.cat([scene.vertices.flatten(0, 1), scene.objects.flatten(0, 1)]),
            torch.cat([faces, thing_faces]),
            torch.cat(
                [
                    scene.image.repeat_interleave(len(limb.faces)),
                    scene.object_image.repeat_interleave(per_thing),
                ]
            ),
            torch.cat(
                [scene.image.repeat_interleave(size), scene.object_image.repeat_interleave(points)]
            ),
            hands * len(limb.faces),
        )

    def _visible(self, scene: Scene, meshes: _Meshes) -> Fragments:
        s = SUPERSAMPLING
        K = scene.K[meshes.vertex_image]
        pixels = project(meshes.vertices[:, None], K)[:, 0]
        pixels = (pixels + 0.5) * s - 0.5  # the centre of a fine pixel
        return rasterize(
            pixels,
            meshes.vertices[:, 2],
            meshes.faces,
            meshes.face_image,
            scene.count,
            scene.height * s,
            scene.width * s,
        )

    def _colour(
        self,
        scene: Scene,
        meshes: _Meshes,
        fragments: Fragments,
        light: Light,
        background: Tensor,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Linear image [B, 3, H, W], depth, parts and owning hand + 1 [B, H, W]."""
        s = SUPERSAMPLING
        height, width = scene.height * s, scene.width * s
        depth = torch.zeros(scene.count * height * width, device=self.device)
        depth[fragments.pixel] = fragments.depth
        depth = depth.view(scene.count, height, width)
        # Two of the four samples of a pixel, on a diagonal, are shaded: half the work, and edges
        # stay smooth.
        x, y = fragments.pixel % width, torch.div(fragments.pixel, width, rounding_mode="floor")
        shaded = ((x + y) % 2 == 0).nonzero()[:, 0]
        fragments, x, y = fragments.subset(shaded), x[shaded], y[shaded]
        coarse = torch.div(y, s, rounding_mode="floor") * scene.width
        coarse = coarse + torch.div(x, s, rounding_mode="floor")

        surface, part, owner = self._surface(scene, meshes, fragments, generator)
        normals = vertex_normals(meshes.vertices, meshes.faces)
        geometry = fragments.interpolate(meshes.faces, torch.cat([meshes.vertices, normals], 1))
        position, normal = geometry[:, :3], geometry[:, 3:]
        image = torch.div(fragments.pixel, height * width, rounding_mode="floor")
        centre, extent = _shadow_region(scene)
        lit = lamp_visibility(
            meshes.vertices,
            meshes.faces,
            meshes.face_image,
            centre,
            extent,
            light,
            image,
            position,
        )
        colour = shade(surface, light, image, position, normal, lit)
        colour = colour * ambient_occlusion(depth).flatten()[fragments.pixel, None]

        size = scene.count * scene.height * scene.width
        blended = torch.zeros(size, 4, device=self.device)
        covering = torch.cat([colour, torch.ones_like(colour[:, :1])], 1) * (2 / s**2)
        blended.index_add_(0, coarse, covering)
        blended = blended.view(scene.count, scene.height, scene.width, 4).permute(0, 3, 1, 2)
        canvas = background * (1 - blended[:, 3:]) + blended[:, :3]

        first = (x % s == 0) & (y % s == 0)
        maps = torch.zeros(2, size, dtype=torch.int64, device=self.device)
        maps[:, coarse[first]] = torch.stack([part[first], owner[first]])
        parts, owner = maps.view(2, scene.count, scene.height, scene.width)
        return canvas, depth[:, ::s, ::s], parts, owner

    def _surface(
        self, scene: Scene, meshes: _Meshes, fragments: Fragments, generator: torch.Generator
    ) -> tuple[Surface, Tensor, Tensor]:
        """What the fragments are made of, their parts and their owning hand + 1, [P] each."""
        limb, ball = self.limb, self.scenes.sphere_faces
        is_limb = fragments.face < meshes.limb_faces

        face, weights = fragments.face[is_limb], fragments.barycentric[is_limb]
        hand = torch.div(face, len(limb.faces), rounding_mode="floor")
        corners = limb.faces[face % len(limb.faces)]
        swapped = (scene.mirror[hand] < 0)[:, None]
        corners = torch.where(swapped, corners[:, [0, 2, 1]], corners)
        maps = torch.cat([self.maps.rest, self.maps.values], 1)
        maps = sum(weights[:, k, None] * maps[corners[:, k]] for k in range(3))
        limbs = self.wardrobe.limbs(scene, hand, maps[:, :3], maps[:, 3:], generator)

        part = torch.full_like(fragments.face, PART_OBJECT)
        rows = torch.arange(len(corners), device=self.device)
        part[is_limb] = limb.parts[corners[rows, weights.argmax(1)]]
        owner = torch.zeros_like(part)
        owner[is_limb] = hand + 1

        face, weights = (
            fragments.face[~is_limb] - meshes.limb_faces,
            fragments.barycentric[~is_limb],
        )
        thing = torch.div(face, len(ball), rounding_mode="floor")
        corners = ball[face % len(ball)]
        rest = sum(weights[:, k, None] * self.scenes.sphere[corners[:, k]] for k in range(3))
        things = self.wardrobe.objects(len(scene.object_image), thing, rest, generator)
        return join(limbs, things, is_limb), part, owner

    def _wall_shadow(
        self, background: Tensor, fragments: Fragments, generator: torch.Generator
    ) -> Tensor:
        """Some backgrounds are walls or tables near the hand, which take its soft shadow."""
        count, _, height, width = background.shape
        s = SUPERSAMPLING
        mask = torch.zeros(count * height * s * width * s, device=self.device)
        mask[fragments.pixel] = 1
        mask = F.avg_pool2d(mask.view(count, 1, height * s, width * s), 4 * s)
        draw = torch.rand(count, 4, generator=generator, device=self.device)
        mask = F.avg_pool2d(F.avg_pool2d(mask, 5, 1, 2), 3, 1, 1)
        theta = torch.zeros(count, 2, 3, device=self.device)
        theta[:, 0, 0] = theta[:, 1, 1] = 1
        theta[:, 0, 2] = 0.3 * (draw[:, 0] - 0.5)
        theta[:, 1, 2] = -0.02 - 0.12 * draw[:, 1]
        grid = F.affine_grid(theta, [count, 1, height, width], align_corners=False)
        shadow = F.grid_sample(mask, grid, align_corners=False)
        strength = (draw[:, 2] * 0.6 * (draw[:, 3] < WALL_SHADOW_SHARE))[:, None, None, None]
        return background * (1 - strength * shadow)

    def _label(
        self,
        scene: Scene,
        rgb: Tensor,
        streak: Tensor,
        depth: Tensor,
        parts: Tensor,
        owner: Tensor,
    ) -> Batch:
        hands = len(scene.image)
        on_hand = (parts >= 1) & (parts <= 16)
        visible = torch.bincount((owner * on_hand).flatten(), minlength=hands + 1)[1 : hands + 1]
        first = torch.searchsorted(scene.image, scene.image)
        slot = torch.arange(hands, device=self.device) - first
        slots = len(self.recipe.hands) - 1

        def padded(values: Tensor) -> Tensor:
            whole = torch.zeros(
                scene.count, slots, *values.shape[1:], dtype=values.dtype, device=self.device
            )
            whole[scene.image, slot] = values
            return whole

        return Batch(
            rgb,
            depth,
            parts.to(torch.uint8),
            on_hand,
            scene.K,
            padded(project(scene.keypoints, scene.K[scene.image])),
            padded(scene.keypoints),
            padded(scene.template_vertices),
            padded(scene.boxes),
            padded(scene.mirror < 0),
            padded(self._uncovered(scene, depth) >= HIDDEN_SHARE),
            padded(visible),
            padded(scene.vertices[:, : len(self.limb.vertices)]),
            streak,
        )

    def _uncovered(self, scene: Scene, depth: Tensor) -> Tensor:
        """Share [N] of each hand's vertices that face the camera in the image and are not behind
        something else."""
        vertices = scene.template_vertices
        hands, count = vertices.shape[:2]
        faces = torch.as_tensor(self.limb.template.faces, device=self.device).long()
        start = torch.arange(hands, device=self.device)[:, None, None] * count
        flat = vertices.flatten(0, 1)
        normals = vertex_normals(flat, (faces + start).flatten(0, 1)).view_as(vertices)
        facing = (normals * vertices).sum(-1) * scene.mirror[:, None] < 0
        pixel = project(vertices, scene.K[scene.image]).round().long()
        limit = torch.tensor([scene.width, scene.height], device=self.device)
        inside = ((pixel >= 0) & (pixel < limit)).all(-1)
        x, y = torch.minimum(pixel.clamp(min=0), limit - 1).unbind(-1)
        surface = depth[scene.image[:, None], y, x]
        free = (surface == 0) | (surface > vertices[..., 2] - 0.015)
        return (facing & inside & free).sum(1) / facing.sum(1).clamp(min=1)


@dataclass(frozen=True)
class _Meshes:
    """All surfaces of a batch as one: limbs first, then objects."""

    vertices: Tensor
    faces: Tensor
    face_image: Tensor
    vertex_image: Tensor
    limb_faces: int


def _shadow_region(scene: Scene) -> tuple[Tensor, Tensor]:
    """Centre [B, 3] and half extent [B] in metres of the hands of each image."""
    device = scene.K.device
    low = torch.full((scene.count, 3), torch.inf, device=device)
    high = -low
    index = scene.image[:, None].expand(-1, 3)
    low = low.scatter_reduce(0, index, scene.keypoints.amin(1), "amin")
    high = high.scatter_reduce(0, index, scene.keypoints.amax(1), "amax")
    empty = low[:, :1] > high[:, :1]
    low, high = torch.where(empty, -1.0, low), torch.where(empty, 1.0, high)
    return (low + high) / 2, (high - low).norm(dim=1) / 2 + 0.04
