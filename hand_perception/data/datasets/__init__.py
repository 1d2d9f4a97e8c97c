"""The public data sets by name: each reads its official layout and yields ``Sample``.

A reader is ``Reader(root, split, mano)`` with a length and samples by index. It raises DataError
naming what is missing and where to get it, and on reading a sample that is broken; ImageError for a
broken picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hand_perception.data.datasets import (
    coco_wholebody,
    comphand,
    dexycb,
    freihand,
    hint,
    ho3d,
    interhand,
    obman,
    onehand10k,
    rhd,
)
from hand_perception.data.mano import ManoTemplate
from hand_perception.data.shards import INDEX, PackedSamples
from hand_perception.errors import DataError


@dataclass(frozen=True)
class DatasetKind:
    """open: (root, split, mano) -> reader. splits: what it can be asked for."""

    open: Callable
    splits: tuple[str, ...]


def _ours(root: Path, split: str, mano: ManoTemplate | None):
    from hand_perception.data.synthetic import SyntheticSamples

    return SyntheticSamples(root)


DATASETS = {
    "freihand": DatasetKind(freihand.FreiHAND, tuple(freihand.SPLITS)),
    "ho3d_v2": DatasetKind(ho3d.HO3D, tuple(ho3d.SPLITS)),
    "ho3d_v3": DatasetKind(ho3d.HO3D, tuple(ho3d.SPLITS)),
    "h2o3d": DatasetKind(ho3d.H2O3D, tuple(ho3d.SPLITS)),
    "dexycb": DatasetKind(dexycb.DexYCB, tuple(dexycb.SPLITS)),
    "hint": DatasetKind(hint.HInt, tuple(hint.SPLITS)),
    **{
        f"hint_{name}": DatasetKind(hint.hint_subset(name), tuple(hint.SPLITS))
        for name in hint.SUBSETS
    },
    "coco_wholebody": DatasetKind(coco_wholebody.COCOWholeBody, tuple(coco_wholebody.SPLITS)),
    "onehand10k": DatasetKind(onehand10k.OneHand10K, tuple(onehand10k.SPLITS)),
    "rhd": DatasetKind(rhd.RHD, tuple(rhd.SPLITS)),
    "obman": DatasetKind(obman.ObMan, tuple(obman.SPLITS)),
    "comphand": DatasetKind(comphand.CompHand, tuple(comphand.SPLITS)),
    "interhand": DatasetKind(interhand.InterHand, tuple(interhand.SPLITS)),
    "synthetic": DatasetKind(_ours, ("train",)),
}


def open_dataset(name: str, root: Path, split: str = "train", mano: ManoTemplate | None = None):
    """A reader by name, or of the shards in ``root`` where ``hand-perception pack`` wrote it.

    Raises DataError for an unknown name or split.
    """
    if (Path(root) / INDEX).is_file():
        return PackedSamples(root)
    if name not in DATASETS:
        raise DataError(f"no data set {name!r}: use one of {', '.join(DATASETS)}")
    kind = DATASETS[name]
    if split not in kind.splits:
        raise DataError(f"{name} has no split {split!r}: use one of {', '.join(kind.splits)}")
    return kind.open(root, split, mano)
