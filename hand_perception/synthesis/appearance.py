"""Skin, nails, gloves, sleeves and objects: the colour of each fragment before light."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hand_perception.synthesis.raster import Fragments
from hand_perception.synthesis.scene import Scene
from hand_perception.synthesis.skin_maps import VARIANTS, SkinMaps

GAMMA = 2.2
# Skin as photographs show it in even light (sRGB), light to dark.
SKIN_SRGB = (
    (241, 205, 184),
    (226, 182, 155),
    (208, 157, 127),
    (176, 122, 92),
    (136, 90, 66),
    (98, 64, 48),
    (66, 45, 37),
)
PALM_SRGB = (214, 160, 134)  # palms stay light on dark hands
GLOVE_SHARE, PAINTED_NAILS_SHARE = 0.07, 0.10


@dataclass(frozen=True)
class Surface:
    """What the light needs at P fragments.

    albedo: [P, 3] linear. bump: [P, 3] offset of the normal. roughness: [P]. softness: [P, 3],
    how far light bleeds past the terminator. shine: [P] strength of the highlight.
    """

    albedo: Tensor
    bump: Tensor
    roughness: Tensor
    softness: Tensor
    shine: Tensor


class Wardrobe:
    """Draws what hands and objects are made of, and paints fragments accordingly."""

    def __init__(self, maps: SkinMaps):
        self.maps = maps

    def limbs(
        self,
        scene: Scene,
        hand: Tensor,
        rest: Tensor,
        values: Tensor,
        generator: torch.Generator,
    ) -> Surface:
        """Surfaces of limb fragments: hand [P] instance, rest [P, 3], values [P, 5] of the maps."""
        device, total = rest.device, len(scene.image)

        def uniform(*size: int) -> Tensor:
            return torch.rand(total, *size, generator=generator, device=device)

        def normal(*size: int) -> Tensor:
            return torch.randn(total, *size, generator=generator, device=device).clamp(-2.5, 2.5)

        person = scene.person
        palmar, knuckle, tip, nail, along = values.unbind(-1)
        offset = uniform(3)[person][hand]
        fine = self.maps.noise_at(rest + offset, 90.0)
        coarse = self.maps.noise_at(rest + offset, 26.0)
        variant = torch.randint(VARIANTS, (total,), generator=generator, device=device)
        on_hand = along < 1e-3
        lines = self.maps.lines(rest, variant[hand]) * on_hand[:, None]

        # Skin.
        anchors = (torch.tensor(SKIN_SRGB, device=device) / 255) ** GAMMA
        tone = uniform()[person] ** 1.3 * (len(anchors) - 1)
        low = tone.long().clamp(max=len(anchors) - 2)
        base = torch.lerp(anchors[low], anchors[low + 1], (tone - low)[:, None])
        base = base * (1 + 0.05 * normal(3)[person]) * (1 + 0.08 * normal(1)[person])
        palm_colour = (torch.tensor(PALM_SRGB, device=device) / 255) ** GAMMA
        lighter = 0.45 * torch.sigmoid(1.5 * (tone - 3.5))[:, None]
        palm = torch.lerp(base, palm_colour, lighter) * torch.tensor(
            [1.03, 0.95, 0.93], device=device
        )
        albedo = torch.lerp(base[hand], palm[hand], palmar[:, None])
        redness = (0.25 + 0.9 * uniform(1)[person])[hand]
        flush = 0.5 * knuckle + 0.7 * tip + 0.22 * coarse[:, 3] + 0.15 * palmar * coarse[:, 1]
        red = torch.tensor([0.02, -0.17, -0.15], device=device)
        albedo = albedo * (1 + red * redness * flush[:, None])
        albedo = albedo * (1 + 0.035 * coarse[:, 1:2] + 0.025 * fine[:, :1])
        depth = (0.12 + 0.40 * uniform(2) ** 1.5)[hand]
        crease = palmar * lines[:, 0] * depth[:, 0] + (1 - palmar) * lines[:, 1] * depth[:, 1]
        veins = ((1 - palmar) * lines[:, 2])[:, None] * (0.28 * uniform(1) ** 2)[hand]
        blue = torch.tensor([1.0, 0.55, 0.35], device=device)
        albedo = albedo * (1 - crease[:, None] * torch.tensor([0.75, 1.0, 1.05], device=device))
        albedo = albedo * (1 - veins * blue)

        is_nail = ((1.12 - nail) * 7).clamp(0, 1) * (palmar < 0.45)
        pink = torch.tensor([0.70, 0.42, 0.38], device=device)
        nail_colour = torch.lerp(base * 1.05, pink, 0.35)
        painted = uniform(1)[person] < PAINTED_NAILS_SHARE
        nail_colour = torch.where(painted, uniform(3)[person] ** 2, nail_colour)
        edge = 0.75 + 0.25 * ((nail - 0.75).abs() * 5).clamp(0, 1)
        albedo = torch.lerp(albedo, nail_colour[hand] * edge[:, None], is_nail[:, None])

        # Cloth.
        sleeved = along > scene.sleeve_start[hand]
        cloth, second = _cloth_colour(uniform(5))[person], _cloth_colour(uniform(5))[person]
        stripes = (along * (30 + 60 * uniform()[person])[hand]).frac() < 0.5
        striped = (uniform()[person] < 0.18)[hand] & stripes
        cloth = torch.where(striped[:, None], second[hand], cloth[hand])
        cloth = cloth * (1 + 0.10 * fine[:, :1] + 0.10 * coarse[:, 3:4])
        gloved = (uniform()[person] < GLOVE_SHARE)[hand]
        gloved &= along < (0.01 + 0.10 * uniform()[person])[hand]
        glove = (0.04 + 0.9 * uniform(3)[person]) ** 1.5
        glove = glove[hand] * (1 + 0.06 * fine[:, :1] - 0.15 * (knuckle * coarse[:, 1])[:, None])
        albedo = torch.where(sleeved[:, None], cloth, albedo)
        albedo = torch.where(gloved[:, None], glove, albedo)

        fabric = sleeved | gloved
        bump = torch.stack([fine[:, 0], fine[:, 2], coarse[:, 0]], -1)
        strength = torch.where(fabric, 0.14, 0.055 * (1 - is_nail) + 0.06 * crease)
        glossy = (0.36 + 0.22 * uniform()[person])[hand]
        roughness = torch.where(is_nail > 0.5, 0.27, glossy)
        cloth_gloss = (0.35 + 0.5 * uniform()[person])[hand]
        roughness = torch.where(fabric, cloth_gloss, roughness)
        bleed = torch.tensor([0.36, 0.20, 0.14], device=device)
        softness = torch.where(fabric[:, None], 0.06, bleed)
        shine = torch.where(sleeved, 0.012, 0.045)
        return Surface(
            albedo.clamp(0.005, 0.97), bump * strength[:, None], roughness, softness, shine
        )

    def objects(
        self, total: int, thing: Tensor, rest: Tensor, generator: torch.Generator
    ) -> Surface:
        """Surfaces of object fragments: thing [P] instance, rest [P, 3] on the unit sphere."""
        device = rest.device
        uniform = torch.rand(total, 12, generator=generator, device=device)
        texture = self.maps.noise_at(rest * 0.05 + uniform[thing, :3], 26.0)
        albedo = (uniform[:, 3:6] ** 1.6)[thing]
        second = (uniform[:, 6:9] ** 1.6)[thing]
        pattern = uniform[thing, 9]
        bands = (rest[:, 2] * 3).sin() > 0.2
        albedo = torch.where(((pattern < 0.25) & bands)[:, None], second, albedo)
        mottled = ((pattern > 0.7) & (texture[:, 1] > 0.3))[:, None]
        albedo = torch.where(mottled, second, albedo) * (1 + 0.08 * texture[:, :1])
        roughness = (0.2 + 0.6 * uniform[:, 10])[thing]
        softness = torch.full_like(albedo, 0.03)
        shine = torch.full_like(roughness, 0.05)
        return Surface(albedo.clamp(0.005, 0.97), 0.04 * texture[:, :3], roughness, softness, shine)


def _cloth_colour(draw: Tensor) -> Tensor:
    """Linear colours [N, 3] from uniform draws [N, 5]: mostly muted, some vivid."""
    hue, brightness, saturation = draw[:, :3], draw[:, 3:4] ** 1.3, draw[:, 4:5] ** 2
    muted = hue.mean(1, keepdim=True) + saturation * (hue - hue.mean(1, keepdim=True))
    return (0.03 + 0.97 * brightness) ** 1.6 * (0.25 + muted).clamp(max=1)


def join(first: Surface, second: Surface, is_first: Tensor) -> Surface:
    """Surfaces of two kinds of fragments in the fragments' order; is_first: [P] bool."""
    joined = []
    for name in Surface.__dataclass_fields__:
        a, b = getattr(first, name), getattr(second, name)
        whole = a.new_empty(len(is_first), *a.shape[1:])
        whole[is_first], whole[~is_first] = a, b
        joined.append(whole)
    return Surface(*joined)


def split(fragments: Fragments, limb_faces: int) -> Tensor:
    """Which fragments belong to limbs (whose faces come first), [P] bool."""
    return fragments.face < limb_faces
