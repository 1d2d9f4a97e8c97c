"""What papers report, to stand above our row. Errors in millimetres, PCK in percent."""

from __future__ import annotations

from hand_perception.evaluation.report import Rows

_MESH = ("PJ", "PV", "F@5", "F@15")
_PCK = ("PCK@0.05", "PCK@0.1", "PCK@0.15")
NAN = float("nan")


def _rows(columns: tuple[str, ...], numbers: dict[str, tuple[float, ...]]) -> Rows:
    return {name: dict(zip(columns, row, strict=True)) for name, row in numbers.items()}


# HandOS (Chen et al. 2025), table 1; WiLoR (Potamias et al. 2025); MaskHand (Saleem et al. 2025).
FREIHAND = _rows(
    _MESH,
    {
        "METRO": (6.7, 6.8, 0.717, 0.981),
        "MeshGraphormer": (5.9, 6.0, 0.765, 0.987),
        "MobRecon": (5.7, 5.8, 0.784, 0.986),
        "PointHMR": (6.1, 6.6, 0.720, 0.984),
        "Zhou et al.": (5.7, 6.0, 0.772, 0.986),
        "HaMeR": (6.0, 5.7, 0.785, 0.990),
        "Hamba": (5.8, 5.5, 0.798, 0.991),
        "WiLoR": (5.5, 5.1, 0.825, 0.993),
        "MaskHand": (5.5, 5.4, 0.801, 0.991),
        "HandOS": (5.0, 5.3, 0.812, 0.991),
        "HandOS, left hands too": (5.3, 5.6, 0.799, 0.989),
    },
)
# HandOS, tables 3 and X. *: extra training data.
HO3D_V3 = _rows(
    _MESH,
    {
        "AMVUR": (8.7, 8.3, 0.593, 0.964),
        "SPMHand": (8.8, 8.6, 0.574, 0.962),
        "Hamba*": (6.9, 6.8, 0.681, 0.982),
        "HandOS": (8.4, 8.4, 0.584, 0.962),
        "HandOS, gt-box": (8.4, 8.5, 0.581, 0.962),
        "HandOS*": (6.8, 6.7, 0.688, 0.983),
    },
)
# HandOS, table 4.
DEXYCB = _rows(
    ("PJ", "PV", "AUC"),
    {
        "Spurr et al.": (6.8, NAN, 0.864),
        "MobRecon": (6.4, 5.6, NAN),
        "HandOccNet": (5.8, 5.5, NAN),
        "H2ONet": (5.7, 5.5, NAN),
        "Zhou et al.": (5.5, 5.5, NAN),
        "HandOS": (5.2, 5.0, 0.896),
    },
)
# HandOS, table 5.
HINT_NEWDAYS = _rows(
    _PCK,
    {
        "Hamba, all": (48.7, 79.2, 90.0),
        "HaMeR, all": (51.6, 81.9, 91.9),
        "HandOS-2D, all": (55.8, 75.8, 84.5),
        "HandOS-proj, all": (53.7, 75.9, 85.1),
        "Hamba, visible": (61.2, 88.4, 94.9),
        "HaMeR, visible": (62.9, 89.4, 95.8),
        "HandOS-2D, visible": (69.8, 85.0, 90.6),
        "HandOS-proj, visible": (65.7, 84.2, 90.5),
        "Hamba, occluded": (28.2, 62.8, 81.1),
        "HaMeR, occluded": (33.2, 68.4, 84.8),
        "HandOS-2D, occluded": (35.5, 63.4, 76.1),
        "HandOS-proj, occluded": (35.8, 64.4, 77.5),
    },
)
HINT_VISOR = _rows(
    _PCK,
    {
        "Hamba, all": (47.2, 80.2, 91.2),
        "HaMeR, all": (56.5, 88.1, 95.6),
        "HandOS-2D, all": (66.2, 85.3, 91.8),
        "HandOS-proj, all": (64.8, 85.4, 92.0),
        "Hamba, visible": (61.4, 89.6, 95.6),
        "HaMeR, visible": (66.5, 92.7, 97.4),
        "HandOS-2D, visible": (80.3, 92.5, 95.7),
        "HandOS-proj, visible": (78.1, 92.1, 95.6),
        "Hamba, occluded": (29.9, 66.6, 84.3),
        "HaMeR, occluded": (42.6, 79.0, 91.3),
        "HandOS-2D, occluded": (51.3, 77.9, 87.4),
        "HandOS-proj, occluded": (50.6, 78.5, 88.0),
    },
)
HINT_EGO4D = _rows(
    _PCK,
    {
        "HaMeR, all": (46.9, 79.3, 90.4),
        "HandOS-2D, all": (64.6, 85.3, 92.8),
        "HandOS-proj, all": (63.4, 85.3, 92.9),
        "HaMeR, visible": (59.1, 87.0, 94.0),
        "HandOS-2D, visible": (79.7, 93.1, 96.6),
        "HandOS-proj, visible": (77.4, 92.8, 96.6),
        "HaMeR, occluded": (33.1, 69.8, 84.9),
        "HandOS-2D, occluded": (46.3, 75.7, 86.9),
        "HandOS-proj, occluded": (46.3, 76.1, 87.3),
    },
)
# HandOS, 4.2 and supplement IX: of COCO val2017's hands.
COCO = _rows(("box AP",), {"Grounding DINO 1.5": (0.44,), "DINO-X": (0.428,)})

PUBLISHED = {
    "freihand": FREIHAND,
    "ho3d_v3": HO3D_V3,
    "dexycb": DEXYCB,
    "hint_newdays": HINT_NEWDAYS,
    "hint_visor": HINT_VISOR,
    "hint_ego4d": HINT_EGO4D,
    "coco_wholebody": COCO,
}
