"""A suite's numbers as one table, one JSON and a page of the worst cases."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

Rows = dict[str, dict[str, float]]


def table(rows: Rows) -> str:
    """A Markdown table: a line a row, its name first; "-" where there was nothing to measure."""
    columns = list(next(iter(rows.values())))
    cells = [["", *columns]]
    cells += [[name, *(_cell(row[column]) for column in columns)] for name, row in rows.items()]
    widths = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
    lines = [
        "| "
        + " | ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in cells
    ]
    rule = "|" + "|".join("-" * (w + 1) + ("-" if k == 0 else ":") for k, w in enumerate(widths))
    return "\n".join([lines[0], rule + "|", *lines[1:]])


def _cell(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return "-" if math.isnan(value) else f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def write(folder: Path, suite: str, protocol: str, rows: Rows) -> None:
    """``<suite>.json`` (NaN as null) and ``<suite>.md`` (protocol and table)."""
    folder.mkdir(parents=True, exist_ok=True)
    finite = {
        name: {key: value if math.isfinite(value) else None for key, value in row.items()}
        for name, row in rows.items()
    }
    (folder / f"{suite}.json").write_text(json.dumps(finite, indent=1) + "\n")
    (folder / f"{suite}.md").write_text(f"{protocol.strip()}\n\n{table(rows)}\n")


def contact_sheet(
    tiles: Sequence[tuple[np.ndarray, str]], columns: int = 6, side: int = 256
) -> np.ndarray:
    """RGB pictures with captions on one page, each fitted into a square."""
    caption = 18
    rows = max(1, math.ceil(len(tiles) / columns))
    page = np.full((rows * (side + caption), columns * side, 3), 24, np.uint8)
    for k, (picture, text) in enumerate(tiles):
        top, left = k // columns * (side + caption), k % columns * side
        factor = side / max(picture.shape[:2])
        size = [max(1, round(length * factor)) for length in (picture.shape[1], picture.shape[0])]
        fitted = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        page[top : top + size[1], left : left + size[0]] = fitted
        origin = (left + 3, top + side + caption - 5)
        cv2.putText(page, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (235, 235, 235), 1)
    return page
