"""Box AP as COCO defines it, by its own library (pip install 'hand_perception[evaluate]')."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import numpy as np

from hand_perception.errors import DataError


def box_ap(
    found: Sequence[tuple[np.ndarray, np.ndarray]], true: Sequence[tuple[np.ndarray, np.ndarray]]
) -> dict[str, float]:
    """ "box AP" over IoU .5 to .95, "AP50" and "AP75" of a set of pictures.

    found: boxes [N, 4] (x0, y0, x1, y1) and scores [N] of each picture. true: its hands' boxes
    [M, 4], and regions [K, 4] in which predictions are neither right nor wrong. NaN without hands.

    Raises DataError when pycocotools is not installed.
    """
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise DataError(
            "box AP needs pycocotools: pip install 'hand_perception[evaluate]'"
        ) from None
    labels = [
        (k, box, crowd)
        for k, (hands, ignored) in enumerate(true)
        for crowd, boxes in ((0, hands), (1, ignored))
        for box in boxes
    ]
    results = [
        {"image_id": k, "category_id": 1, "bbox": _corner_size(box), "score": float(score)}
        for k, (boxes, scores) in enumerate(found)
        for box, score in zip(boxes, scores, strict=True)
    ]
    names = ("box AP", "AP50", "AP75")
    if not any(crowd == 0 for _, _, crowd in labels):
        return dict.fromkeys(names, float("nan"))
    if not results:
        return dict.fromkeys(names, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": k} for k in range(len(true))],
            "categories": [{"id": 1, "name": "hand"}],
            "annotations": [
                {
                    "id": number + 1,
                    "image_id": k,
                    "category_id": 1,
                    "bbox": _corner_size(box),
                    "area": float(np.prod(_corner_size(box)[2:])),
                    "iscrowd": crowd,
                }
                for number, (k, box, crowd) in enumerate(labels)
            ],
        }
        truth.createIndex()
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return dict(zip(names, (float(v) for v in judge.stats[:3]), strict=True))


def _corner_size(box: np.ndarray) -> list[float]:
    x0, y0, x1, y1 = (float(v) for v in box)
    return [x0, y0, x1 - x0, y1 - y0]
