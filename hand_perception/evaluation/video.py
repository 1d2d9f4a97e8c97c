"""Suite "video": how steady the output is over time, frame by frame and through the tracker.

Two rows a video, at score >= 0.5. "frame by frame" has ids but neither held sides nor smoothing;
"tracked" is the tracker's default.

- seen: share of frames with a hand. ids: how many the video's hands took; longest: share of the
  frames with a hand that the longest id covers. The rest is about the longest id:
- jitter 2D: mean length of the joints' second differences from frame to frame, over the longer side
  of the box; jitter 3D in millimetres, relative to the wrist. Zero for steady motion.
- acc 2D: the same as jitter 2D in pixels. It and jitter 3D are MobRecon's Acc, per frame squared.
- side flips: changes of side per 100 of its frames.
- labels: the same jitter of the joints that NAME.full.json holds (see PCK), for comparison.
- PCK@0.1: where NAME.full.json, with the joints of each frame in pixels, lies beside NAME.*: share
  of joints within a tenth of their tight box's longer side; frames without a hand count as wrong.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from hand_perception.errors import DataError
from hand_perception.evaluation.metrics import (
    acceleration,
    jitter,
    mean,
    normalised_errors,
    pck,
)
from hand_perception.hands import NUM_KEYPOINTS, WRIST, Camera, Hand, Reconstruction
from hand_perception.tracking import HandTracker, TrackerParameters

MIN_SCORE = 0.5
VIDEO_SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm"}
VARIANTS = {
    "frame by frame": TrackerParameters(smoothing=False, side_inertia=1e-3),
    "tracked": TrackerParameters(),
}
# Hands of each frame.
Frames = list[list[Hand]]


def evaluate(
    root: Path, reconstructor: Callable[..., Reconstruction], limit: int | None = None
) -> dict[str, dict[str, float]]:
    """Rows for all videos in the folder, or in its folder ``videos``; the first ``limit`` frames.

    Raises DataError when there is none or one cannot be read.
    """
    folder = root / "videos" if (root / "videos").is_dir() else root
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
    if not paths:
        raise DataError(f"no videos ({', '.join(sorted(VIDEO_SUFFIXES))}) in {folder}")
    rows = {}
    for path in paths:
        rate, images = read_video(path)
        frames: Frames = []
        for image in tqdm(images, path.name, unit="frame", disable=None):
            camera = Camera.assumed(image.shape[1], image.shape[0])
            frames.append(reconstructor(image, camera, score_threshold=MIN_SCORE).hands)
            if len(frames) == limit:
                break
        truth = golden_joints(path)
        for variant, parameters in VARIANTS.items():
            tracker = HandTracker(parameters)
            tracked = [tracker(hands, k / rate) for k, hands in enumerate(frames)]
            rows[f"{path.stem}, {variant}"] = summary(tracked, truth)
        if truth is not None:
            row = dict.fromkeys(summary(frames), float("nan"))
            rows[f"{path.stem}, labels"] = row | steadiness(truth[: len(frames)])
    return rows


def read_video(path: Path) -> tuple[float, Iterator[np.ndarray]]:
    """Frames per second and the RGB frames. Raises DataError when it cannot be decoded."""
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise DataError(f"{path} cannot be decoded: convert it to MP4 (H.264)")
    rate = capture.get(cv2.CAP_PROP_FPS) or 30.0

    def frames() -> Iterator[np.ndarray]:
        while True:
            there, bgr = capture.read()
            if not there:
                return
            yield cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)

    return rate, frames()


def golden_joints(video: Path) -> np.ndarray | None:
    """Joints [T, 21, 2] in pixels from NAME.full.json beside NAME.*.mp4, if it is there."""
    path = video.with_name(f"{video.name.partition('.')[0]}.full.json")
    if not path.is_file():
        return None
    try:
        joints = np.array(json.loads(path.read_text()), np.float64)[..., :2]
        return joints.reshape(len(joints), NUM_KEYPOINTS, 2)
    except (ValueError, IndexError) as error:
        raise DataError(f"{path} does not hold 21 joints for each frame ({error})") from error


def steadiness(joints: np.ndarray) -> dict[str, float]:
    """Jitter of labels [T, 21, 2], over the box that a Hand with these joints would have."""
    sizes = 1.2 * (joints.max(1) - joints.min(1)).max(1)
    return {"frames": len(joints), "jitter 2D": jitter(joints, sizes)}


def summary(frames: Frames, truth: np.ndarray | None = None) -> dict[str, float]:
    """frames: tracked hands. truth: [T, 21, 2] pixels of one hand, or None."""
    tracks: dict[int, dict[int, Hand]] = defaultdict(dict)
    for k, hands in enumerate(frames):
        for hand in hands:
            tracks[hand.track_id][k] = hand
    longest = max(tracks.values(), key=len, default={})
    # Frame by frame, NaN where the hand is lost.
    pixels = np.full((len(frames), NUM_KEYPOINTS, 2), np.nan)
    metres = np.full((len(frames), NUM_KEYPOINTS, 3), np.nan)
    sizes = np.full(len(frames), np.nan)
    for k, hand in longest.items():
        pixels[k] = hand.keypoints2d
        metres[k] = hand.keypoints3d - hand.keypoints3d[WRIST]
        sizes[k] = np.max(hand.box[2:] - hand.box[:2])
    sides = [hand.side for hand in longest.values()]
    flips = sum(a is not b for a, b in zip(sides, sides[1:], strict=False))
    seen = [len(hands) > 0 for hands in frames]
    row = {
        "frames": len(frames),
        "seen": mean(seen),
        "ids": len(tracks),
        "longest": len(longest) / max(sum(seen), 1),
        "jitter 2D": jitter(pixels, sizes),
        "jitter 3D": 1000 * acceleration(metres),
        "acc 2D": acceleration(pixels),
        "side flips": 100 * flips / len(sides) if sides else float("nan"),
        "PCK@0.1": float("nan"),
    }
    if truth is not None:
        errors = normalised_errors(pixels[: len(truth)], truth[: len(pixels)])
        row["PCK@0.1"] = pck(np.nan_to_num(errors, nan=np.inf), 0.1)
    return row
