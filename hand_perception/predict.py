"""``hand-perception predict``: the hands of pictures as JSON lines, and drawn over them.

A line holds one picture::

    {"file", "width", "height", "metric", "stage_ms", "hands": [
        {"score", "side", "side_confidence", "box": [x0, y0, x1, y1],
         "keypoints2d": 21 x [u, v], "confidences": 21,
         "keypoints3d_m": 21 x [x, y, z] in the camera frame,
         "wrist": {"position_m": [x, y, z], "quaternion_xyzw": [x, y, z, w]}}]}

or, where it could not be read, {"file", "error"}. ``file`` is relative to the root. Pixels are
those of the upright picture (its EXIF orientation applied).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import cv2
import numpy as np
from tqdm import tqdm

from hand_perception.errors import DataError, HandPerceptionError
from hand_perception.geometry import quaternion_xyzw
from hand_perception.hands import Camera, Hand, Reconstruction
from hand_perception.imaging import read_image
from hand_perception.overlay import draw
from hand_perception.sources import find_pictures
from hand_perception.viewer.arguments import add_viewer_argument, open_page

if TYPE_CHECKING:
    from hand_perception.reconstructor import HandReconstructor

SCORE_THRESHOLD = 0.5
LOWEST_SCORE = 0.05  # what --all writes: enough for precision-recall curves

# Gives the camera of an image by its file (relative to the root), width and height.
Cameras = Callable[[str, int, int], Camera]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="pictures or folders")
    parser.add_argument("--output", type=Path, help="JSON lines file (standard output)")
    parser.add_argument("--root", type=Path, help="what 'file' is relative to (common folder)")
    parser.add_argument("--model", default="auto", help="name or path of a model (%(default)s)")
    cameras = parser.add_mutually_exclusive_group()
    cameras.add_argument(
        "--camera",
        nargs=4,
        type=float,
        metavar=("FX", "FY", "CX", "CY"),
        help="pinhole intrinsics of all pictures, pixels",
    )
    cameras.add_argument(
        "--cameras",
        type=Path,
        metavar="JSONL",
        help='a line a picture: {"file", "K": [fx, fy, cx, cy]}, if need be with "distortion" '
        '(coefficients) and "distortion_model" (ROS\'s name)',
    )
    parser.add_argument("--overlay", type=Path, metavar="DIR", help="write drawn-over pictures")
    parser.add_argument(
        "--all", action="store_true", help=f"also hands that score only {LOWEST_SCORE} or more"
    )
    parser.add_argument(
        "--zoom",
        type=float,
        default=1.0,
        help="also look so many times closer at one part of a picture after the other, for hands "
        "far away (3, for example)",
    )
    add_viewer_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Returns 1 when a picture could not be used, else 0."""
    from hand_perception.reconstructor import HandReconstructor

    return predict(args, HandReconstructor.from_pretrained)


def predict(args: argparse.Namespace, load: Callable[[str], HandReconstructor]) -> int:
    """``run`` with what loads a model by name; it comes after all other arguments are checked."""
    files = _relative(find_pictures(args.paths), args.root)
    cameras = _cameras(args)
    reconstructor = load(args.model)
    with _shown(args, reconstructor.topology.faces) as show:
        return _predict(args, files, cameras, reconstructor, show)


def _predict(
    args: argparse.Namespace,
    files: dict[str, Path],
    cameras: Cameras,
    reconstructor: HandReconstructor,
    show: Callable[[str, Path, np.ndarray, Camera, list[Hand]], None],
) -> int:
    threshold = LOWEST_SCORE if args.all else SCORE_THRESHOLD
    failures, assumed = 0, False
    with _replacing(args.output) as out:
        for file, path in tqdm(files.items(), "predict", unit="image", disable=None):
            try:
                image = read_image(path)
                camera = cameras(file, image.shape[1], image.shape[0])
                result = reconstructor.closely(image, camera, threshold, args.zoom)
                show(file, path, image, camera, result.hands)
                if args.overlay:
                    faces = reconstructor.topology.faces
                    _write_overlay(args.overlay / file, path, image, result.hands, camera, faces)
            except HandPerceptionError as error:
                failures += 1
                record = {"file": file, "error": str(error)}
                tqdm.write(f"{file}: {error}", sys.stderr)
            else:
                if not (camera.metric or assumed):
                    assumed = True
                    tqdm.write(
                        f"{file}: no intrinsics, a 60 degree view is assumed and 3D positions are "
                        "not metric: give --camera or --cameras (said once)",
                        sys.stderr,
                    )
                record = image_record(file, camera, result)
            print(json.dumps(record), file=out)
    return 1 if failures else 0


@contextmanager
def _shown(
    args: argparse.Namespace, faces: np.ndarray
) -> Iterator[Callable[[str, Path, np.ndarray, Camera, list[Hand]], None]]:
    """What shows a picture's hands; with --viewer the page stays until the user ends it."""
    if not args.viewer:
        yield lambda *picture: None
        return
    with open_page(args) as page:
        from hand_perception.viewer.album import Album

        print(f"look at {page.url} (Ctrl-C ends it)", file=sys.stderr)
        yield Album(page, faces).add
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


def image_record(file: str, camera: Camera, result: Reconstruction) -> dict:
    """The line of one picture."""
    return {
        "file": file,
        "width": camera.width,
        "height": camera.height,
        "metric": camera.metric,
        "stage_ms": {stage: round(ms, 2) for stage, ms in result.stage_ms.items()},
        "hands": [hand_record(hand) for hand in result.hands],
    }


def hand_record(hand: Hand) -> dict:
    """One hand: hundredths of a pixel, hundredths of a millimetre."""
    return {
        "score": round(float(hand.score), 4),
        "side": hand.side.value,
        "side_confidence": round(float(hand.side_confidence), 4),
        "box": _rounded(hand.box, 2),
        "keypoints2d": _rounded(hand.keypoints2d, 2),
        "confidences": _rounded(hand.confidences, 4),
        "keypoints3d_m": _rounded(hand.keypoints3d, 5),
        "wrist": {
            "position_m": _rounded(hand.wrist.translation, 5),
            "quaternion_xyzw": _rounded(quaternion_xyzw(hand.wrist.rotation), 6),
        },
    }


def _rounded(array: np.ndarray, decimals: int) -> list:
    return np.round(np.asarray(array, np.float64), decimals).tolist()


def _relative(paths: list[Path], root: Path | None) -> dict[str, Path]:
    """Paths by their name relative to the root, or to the folder that holds them all."""
    resolved = [path.resolve() for path in paths]
    base = root.resolve() if root else Path(os.path.commonpath([p.parent for p in resolved]))
    outside = next((path for path in resolved if not path.is_relative_to(base)), None)
    if outside:
        raise DataError(f"{outside} is not below --root {base}: choose a folder above it")
    return {path.relative_to(base).as_posix(): path for path in resolved}


def _cameras(args: argparse.Namespace) -> Cameras:
    if args.camera:
        return lambda file, width, height: Camera(*args.camera, width, height)
    if args.cameras is None:
        return lambda file, width, height: Camera.assumed(width, height)
    rows = read_cameras(args.cameras)

    def look_up(file: str, width: int, height: int) -> Camera:
        if file not in rows:
            return Camera.assumed(width, height)
        row = rows[file]
        distortion = tuple(row.get("distortion", ()))
        return Camera(*row["K"], width, height, distortion, row.get("distortion_model", ""))

    return look_up


def read_cameras(path: Path) -> dict[str, dict]:
    """The rows of a cameras file by their ``file``. Raises DataError, naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cameras cannot be read ({error}): check --cameras") from error
    rows = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            row["K"] = [float(value) for value in row["K"]]
            if len(row["K"]) != 4:
                raise ValueError("K must be [fx, fy, cx, cy]")
            row["distortion"] = [float(value) for value in row.get("distortion", ())]
            rows[row["file"]] = row
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f'{path}:{number}: expected {{"file": ..., "K": [fx, fy, cx, cy]}} ({error!r})'
            ) from error
    return rows


def _write_overlay(
    target: Path,
    source: Path,
    image: np.ndarray,
    hands: list[Hand],
    camera: Camera,
    faces: np.ndarray,
) -> None:
    if target.resolve() == source:
        raise DataError(f"--overlay would overwrite {source}: choose another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    drawn = cv2.cvtColor(draw(image, hands, camera, faces), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(target), drawn)


@contextmanager
def _replacing(path: Path | None) -> Iterator[TextIO]:
    """A file that takes the path's place once all is written; standard output without a path."""
    if path is None:
        yield sys.stdout
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        out = partial.open("w", encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}): check --output") from error
    try:
        with out:
            yield out
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
