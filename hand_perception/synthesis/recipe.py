"""What a synthetic data set shows, by name."""

from __future__ import annotations

from dataclasses import dataclass

# Images rendered together.
BATCH = 8


@dataclass(frozen=True)
class Recipe:
    """What a data set shows.

    hands: relative frequency of images with 0, 1, 2 ... hands. box: range of the hand's box, as a
    share of the image's short side (log-uniform); divided by the square root of the hand count.
    upright: share of views with fingers roughly up and palm or back to the camera. truncated:
    share of hands that the border may cut. objects: frequency of an object per hand. arm_only:
    share of hands that are outside of the image, only their arm may cross it. field_of_view:
    degrees. gestures: names in poses.GESTURES, as often as they are named; all kinds of poses
    where none is. complement: whether poses and views are those of complement.py, and depth,
    silhouettes and dense meshes are written, too.
    """

    hands: tuple[float, ...] = (0.08, 0.60, 0.22, 0.07, 0.03)
    box: tuple[float, float] = (0.13, 0.95)
    upright: float = 0.55
    truncated: float = 0.2
    objects: float = 0.35
    arm_only: float = 0.03
    field_of_view: tuple[float, float] = (25.0, 75.0)
    gestures: tuple[str, ...] = ()
    complement: bool = False


RECIPES = {
    # Whole photographs for detectors; the default.
    "scene": Recipe(),
    # One hand that fills the image, for networks that read a crop.
    "crop": Recipe(hands=(0.0, 1.0), box=(0.6, 0.95), truncated=0.15, arm_only=0.0),
    # What networks that read crops get wrong on photographs: signs that hide the thumb, so that a
    # nail or a crease tells back from palm and left from right.
    "thumb-hidden": Recipe(
        hands=(0.0, 1.0),
        box=(0.3, 0.95),
        upright=0.9,
        arm_only=0.0,
        gestures=(
            "flat_thumb_in",
            "flat_thumb_in",
            "flat",
            "four",
            "four",
            "three",
            "fist",
            "letter_e",
        ),
    ),
    # MobRecon's 1,520 poses from its 216 views, one bare hand in the middle of each image.
    "mobrecon-complement": Recipe(
        hands=(0.0, 1.0), box=(0.5, 0.78), objects=0.0, field_of_view=(25.0, 45.0), complement=True
    ),
}
