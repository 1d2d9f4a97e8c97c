"""Skin, nails, gloves, sleeves and objects: the colour of each fragment before light."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

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
GLOVE_SHARE, PAINTED_NAILS_SHARE, STRIPES_SHARE = 0.07, 0.10, 0.18
FINE, COARSE = 90.0, 26.0  # noise, periods per metre
# How far light bleeds past the terminator: red light travels furthest in skin.
SKIN_SOFTNESS, CLOTH_SOFTNESS, OBJECT_SOFTNESS = (0.36, 0.20, 0.14), 0.06, 0.03
SKIN_SHINE, SLEEVE_SHINE, OBJECT_SHINE = 0.045, 0.012, 0.05


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


@dataclass(frozen=True)
class _Spots:
    """P limb fragments: their hand and what the maps say there."""

    hand: Tensor
    palmar: Tensor
    knuckle: Tensor
    tip: Tensor
    nail: Tensor
    along: Tensor
    fine: Tensor
    coarse: Tensor
    lines: Tensor


class _Draws:
    """Random values per hand, the same for all hands of a person unless ``own``."""

    def __init__(self, scene: Scene, generator: torch.Generator):
        self.person, self.generator = scene.person, generator
        self.total, self.device = len(scene.person), scene.person.device

    def uniform(self, *size: int, own: bool = False) -> Tensor:
        size = (self.total, *size)
        values = torch.rand(*size, generator=self.generator, device=self.device)
        return values if own else values[self.person]

    def normal(self, *size: int) -> Tensor:
        size = (self.total, *size)
        values = torch.randn(*size, generator=self.generator, device=self.device)
        return values.clamp(-2.5, 2.5)[self.person]

    def constant(self, *values: float) -> Tensor:
        return torch.tensor(values, device=self.device)


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
        draws = _Draws(scene, generator)
        offset = draws.uniform(3)[hand]
        variant = (draws.uniform(own=True) * VARIANTS).long().clamp(max=VARIANTS - 1)
        palmar, knuckle, tip, nail, along = values.unbind(-1)
        fine = self.maps.noise_at(rest + offset, FINE)
        coarse = self.maps.noise_at(rest + offset, COARSE)
        lines = self.maps.lines(rest, variant[hand]) * (along < 1e-3)[:, None]
        at = _Spots(hand, palmar, knuckle, tip, nail, along, fine, coarse, lines)

        base, skin, crease = _skin(draws, at)
        nails, nail_cover = _nails(draws, at, base)
        albedo = torch.lerp(skin, nails, nail_cover[:, None])
        sleeved = along > scene.sleeve_start[hand]
        albedo = torch.where(sleeved[:, None], _sleeve(draws, at), albedo)
        glove, gloved = _glove(draws, at)
        albedo = torch.where(gloved[:, None], glove, albedo)

        fabric = sleeved | gloved
        bump = torch.stack([fine[:, 0], fine[:, 2], coarse[:, 0]], -1)
        strength = torch.where(fabric, 0.14, 0.055 * (1 - nail_cover) + 0.06 * crease)
        roughness = (0.36 + 0.22 * draws.uniform())[hand]
        roughness = torch.where(nail_cover > 0.5, 0.27, roughness)
        roughness = torch.where(fabric, (0.35 + 0.5 * draws.uniform())[hand], roughness)
        softness = draws.constant(*SKIN_SOFTNESS)
        softness = torch.where(fabric[:, None], CLOTH_SOFTNESS, softness)
        shine = torch.where(sleeved, SLEEVE_SHINE, SKIN_SHINE)
        bump = bump * strength[:, None]
        return Surface(albedo.clamp(0.005, 0.97), bump, roughness, softness, shine)

    def objects(
        self, total: int, thing: Tensor, rest: Tensor, generator: torch.Generator
    ) -> Surface:
        """Surfaces of object fragments: thing [P] instance, rest [P, 3] on the unit sphere."""
        device = rest.device
        uniform = torch.rand(total, 12, generator=generator, device=device)
        texture = self.maps.noise_at(rest * 0.05 + uniform[thing, :3], COARSE)
        albedo = (uniform[:, 3:6] ** 1.6)[thing]
        second = (uniform[:, 6:9] ** 1.6)[thing]
        pattern = uniform[thing, 9]
        bands = (rest[:, 2] * 3).sin() > 0.2
        albedo = torch.where(((pattern < 0.25) & bands)[:, None], second, albedo)
        mottled = ((pattern > 0.7) & (texture[:, 1] > 0.3))[:, None]
        albedo = torch.where(mottled, second, albedo) * (1 + 0.08 * texture[:, :1])
        roughness = (0.2 + 0.6 * uniform[:, 10])[thing]
        softness = torch.full_like(albedo, OBJECT_SOFTNESS)
        shine = torch.full_like(roughness, OBJECT_SHINE)
        return Surface(albedo.clamp(0.005, 0.97), 0.04 * texture[:, :3], roughness, softness, shine)


def _skin(draws: _Draws, at: _Spots) -> tuple[Tensor, Tensor, Tensor]:
    """Each hand's colour [N, 3], the fragments' [P, 3], and how deep in a crease they are [P]."""
    anchors = (draws.constant(*(c for row in SKIN_SRGB for c in row)).view(-1, 3) / 255) ** GAMMA
    tone = draws.uniform() ** 1.3 * (len(anchors) - 1)
    low = tone.long().clamp(max=len(anchors) - 2)
    base = torch.lerp(anchors[low], anchors[low + 1], (tone - low)[:, None])
    base = base * (1 + 0.05 * draws.normal(3)) * (1 + 0.08 * draws.normal(1))
    lighter = 0.45 * torch.sigmoid(1.5 * (tone - 3.5))[:, None]
    palm = torch.lerp(base, (draws.constant(*PALM_SRGB) / 255) ** GAMMA, lighter)
    palm = palm * draws.constant(1.03, 0.95, 0.93)
    albedo = torch.lerp(base[at.hand], palm[at.hand], at.palmar[:, None])

    # Blood under knuckles, fingertips and in blotches; a fine grain of pores.
    flush = 0.5 * at.knuckle + 0.7 * at.tip + 0.22 * at.coarse[:, 3]
    flush = flush + 0.15 * at.palmar * at.coarse[:, 1]
    redness = (0.25 + 0.9 * draws.uniform(1))[at.hand] * flush[:, None]
    albedo = albedo * (1 + redness * draws.constant(0.02, -0.17, -0.15))
    albedo = albedo * (1 + 0.035 * at.coarse[:, 1:2] + 0.025 * at.fine[:, :1])

    depth = (0.12 + 0.40 * draws.uniform(2) ** 1.5)[at.hand]
    back = 1 - at.palmar
    crease = at.palmar * at.lines[:, 0] * depth[:, 0] + back * at.lines[:, 1] * depth[:, 1]
    veins = (back * at.lines[:, 2])[:, None] * (0.28 * draws.uniform(1) ** 2)[at.hand]
    albedo = albedo * (1 - crease[:, None] * draws.constant(0.75, 1.0, 1.05))
    return base, albedo * (1 - veins * draws.constant(1.0, 0.55, 0.35)), crease


def _nails(draws: _Draws, at: _Spots, base: Tensor) -> tuple[Tensor, Tensor]:
    """Colours [P, 3] of nails, darker at the rim, and where there is one, [P] in 0..1."""
    cover = ((1.12 - at.nail) * 7).clamp(0, 1) * (at.palmar < 0.45)
    colour = torch.lerp(base * 1.05, draws.constant(0.70, 0.42, 0.38), 0.35)
    painted = draws.uniform(1) < PAINTED_NAILS_SHARE
    colour = torch.where(painted, draws.uniform(3) ** 2, colour)
    rim = 0.75 + 0.25 * ((at.nail - 0.75).abs() * 5).clamp(0, 1)
    return colour[at.hand] * rim[:, None], cover


def _sleeve(draws: _Draws, at: _Spots) -> Tensor:
    """Colours [P, 3] of sleeves, some striped."""
    first, second = _cloth_colour(draws.uniform(5)), _cloth_colour(draws.uniform(5))
    stripe = (at.along * (30 + 60 * draws.uniform())[at.hand]).frac() < 0.5
    stripe &= (draws.uniform() < STRIPES_SHARE)[at.hand]
    colour = torch.where(stripe[:, None], second[at.hand], first[at.hand])
    return colour * (1 + 0.10 * at.fine[:, :1] + 0.10 * at.coarse[:, 3:4])


def _glove(draws: _Draws, at: _Spots) -> tuple[Tensor, Tensor]:
    """Colours [P, 3] of gloves and which fragments [P] one covers."""
    worn = (draws.uniform() < GLOVE_SHARE)[at.hand]
    worn &= at.along < (0.01 + 0.10 * draws.uniform())[at.hand]
    colour = ((0.04 + 0.9 * draws.uniform(3)) ** 1.5)[at.hand]
    folds = 0.15 * (at.knuckle * at.coarse[:, 1])[:, None]
    return colour * (1 + 0.06 * at.fine[:, :1] - folds), worn


def _cloth_colour(draw: Tensor) -> Tensor:
    """Linear colours [N, 3] from uniform draws [N, 5]: mostly muted, some vivid."""
    hue, brightness, saturation = draw[:, :3], draw[:, 3:4] ** 1.3, draw[:, 4:5] ** 2
    muted = hue.mean(1, keepdim=True) + saturation * (hue - hue.mean(1, keepdim=True))
    return (0.03 + 0.97 * brightness) ** 1.6 * (0.25 + muted).clamp(max=1)


def join(first: Surface, second: Surface, is_first: Tensor) -> Surface:
    """Surfaces of two kinds of fragments in the fragments' order; is_first: [P] bool."""
    joined = []
    for name in (field.name for field in fields(Surface)):
        a, b = getattr(first, name), getattr(second, name)
        whole = a.new_empty(len(is_first), *a.shape[1:])
        whole[is_first], whole[~is_first] = a, b
        joined.append(whole)
    return Surface(*joined)
