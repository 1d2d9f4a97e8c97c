"""MediaPipe Hands for benchmarks/engines.py, run by an interpreter that has mediapipe 0.10.21.

    python mediapipe_hands.py ROOT FILES.json FRAMES.npy OUT.jsonl

Writes the lines of `hand-perception predict` and prints CPU milliseconds a frame as JSON. Uses
nothing of this package, which wants a newer numpy.
"""

import json
import os
import sys
import time
from pathlib import Path

import cv2
import mediapipe as mp
import numpy as np

WARM_UP = 5


def main(root: str, files: str, frames: str, out: str) -> None:
    # Its graph runs threads of its own: on one core they are one core's time.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with mp.solutions.hands.Hands(static_image_mode=True, max_num_hands=10) as hands:
        names = json.loads(Path(files).read_text())
        lines = [json.dumps(record(hands, Path(root), name)) for name in names]
    Path(out).write_text("\n".join(lines) + "\n")
    pictures = np.load(frames)
    times = {}
    for name, static in (("looking_ms", True), ("following_ms", False)):
        with mp.solutions.hands.Hands(static_image_mode=static, max_num_hands=2) as hands:
            times[name] = milliseconds(hands, pictures)
    print(json.dumps(times))


def record(hands, root: Path, file: str) -> dict:
    image = cv2.cvtColor(cv2.imread(str(root / file)), cv2.COLOR_BGR2RGB)
    height, width = image.shape[:2]
    result = hands.process(image)
    found = []
    for landmarks, world, side in zip(
        result.multi_hand_landmarks or [],
        result.multi_hand_world_landmarks or [],
        result.multi_handedness or [],
        strict=True,
    ):
        points = np.array([[p.x * width - 0.5, p.y * height - 0.5] for p in landmarks.landmark])
        low, high = points.min(0), points.max(0)
        margin = 0.1 * (high - low).max()
        category = side.classification[0]
        found.append(
            {
                # It names sides as a mirror shows them.
                "side": "left" if category.label == "Right" else "right",
                "score": 1.0,
                "box": [*(low - margin), *(high + margin)],
                "keypoints2d": points.tolist(),
                "confidences": [1.0] * 21,
                "keypoints3d_m": [[p.x, p.y, p.z + 0.5] for p in world.landmark],
                "side_confidence": category.score,
            }
        )
    return {"file": file, "metric": False, "hands": found}


def milliseconds(hands, pictures: np.ndarray) -> float:
    times = []
    for picture in pictures:
        started = time.process_time()
        hands.process(picture)
        times.append(time.process_time() - started)
    return round(1e3 * float(np.mean(times[WARM_UP:])), 2)


if __name__ == "__main__":
    main(*sys.argv[1:])
