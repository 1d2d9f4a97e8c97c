"""Time of each stage from host image to Hands, by number of hands.

    python benchmarks/latency.py [--model handos_s] [--threads N] [--output latency.json]

Hands are chosen by score rank, not by threshold, so that a row has exactly that many. The image is
a frame of the shipped clip at the given size. Prints the median and the 95th and 99th percentile.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import cv2
import numpy as np

from hand_perception.hands import Camera
from hand_perception.imaging import letterbox, normalise
from hand_perception.postprocess import ScoreCalibration, build_hands
from hand_perception.runtime.backend import MODELS, ModelFolder
from hand_perception.runtime.onnxruntime_backend import OnnxRuntimeBackend
from hand_perception.template import load_template

HANDS = (0, 1, 2, 4, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="handos_s")
    parser.add_argument("--threads", type=int, default=0, help="of ONNX Runtime, 0: its choice")
    parser.add_argument("--size", nargs=2, type=int, default=(640, 480), metavar=("W", "H"))
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()

    folder = ModelFolder.open(args.model)
    backend = OnnxRuntimeBackend(folder, args.threads)
    _, frame = cv2.VideoCapture(str(MODELS.parent / "demo" / "clip.mp4")).read()
    image = cv2.cvtColor(cv2.resize(frame, args.size), cv2.COLOR_BGR2RGB)
    rows = [measure(folder, backend, image, hands, args.repeats) for hands in HANDS]
    report = {
        "identity": backend.identity,
        "machine": processor(),
        "threads": args.threads,
        "image": list(args.size),
        "rows": rows,
    }
    print(f"{report['identity']} on {report['machine']}, {args.size[0]}x{args.size[1]}")
    for row in rows:
        stages = "  ".join(f"{k} {v[0]:6.1f}" for k, v in row["ms"].items() if k != "total")
        p50, p95, p99 = row["ms"]["total"]
        print(
            f"{row['hands']:2d} hands: {stages}  total {p50:6.1f} ms (p95 {p95:.1f}, p99 {p99:.1f})"
        )
    if args.output:
        args.output.write_text(json.dumps(report, indent=2) + "\n")


def measure(folder: ModelFolder, backend: OnnxRuntimeBackend, image, hands: int, repeats: int):
    height, width = image.shape[:2]
    camera, template = Camera.assumed(width, height), load_template(folder.topology)
    times: dict[str, list[float]] = {}
    for _ in range(repeats + 5):
        marks = [time.perf_counter()]
        canvas, fit = letterbox(image, (folder.image_size,) * 2)
        tensor = normalise(canvas, folder.mean, folder.std)
        marks.append(time.perf_counter())
        detected = backend.detect(tensor)
        chosen = np.argsort(-detected.scores)[:hands]
        marks.append(time.perf_counter())
        decoded = backend.decode(detected, chosen) if hands else None
        marks.append(time.perf_counter())
        if decoded is not None:
            size = folder.image_size
            build_hands(
                detected, chosen, decoded, fit, size, camera, template, ScoreCalibration(), 0.0
            )
        marks.append(time.perf_counter())
        names = ("preprocess", "detector", "decoder", "postprocess")
        for name, a, b in zip(names, marks, marks[1:], strict=False):
            times.setdefault(name, []).append(1e3 * (b - a))
        times.setdefault("total", []).append(1e3 * (marks[-1] - marks[0]))
    warm = {name: np.percentile(values[5:], (50, 95, 99)) for name, values in times.items()}
    return {"hands": hands, "ms": {name: [round(v, 2) for v in row] for name, row in warm.items()}}


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.is_file():
        return platform.processor()
    names = [
        line.split(":")[1].strip()
        for line in cpuinfo.read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{len(names)} cores of {names[0]}" if names else platform.machine()


if __name__ == "__main__":
    main()
