"""Time from the images of several cameras to all their hands: read in turn, and in one go.

    python -m benchmarks.cameras [--model mobrecon] [--backend onnxruntime] [--cameras 2 4]
        [--threads N] [--output cameras.json]

Looking: the detector and the hands it finds. Following: where hands are known to be, without the
detector. Each camera sees another frame of the shipped clip. In turn and in one go take turns, so
that both see the same machine. On TensorRT the engine is to take as many: `hand-perception
build-engine MODEL --cameras N`. A processor is measured, too, though nodes read one by one there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.latency import gpu, processor
from hand_perception.errors import HandPerceptionError, ModelError
from hand_perception.export.engine import check_frames
from hand_perception.following import joint_box
from hand_perception.reconstructor import HandReconstructor
from hand_perception.runtime.backend import ModelFolder
from hand_perception.runtime.onnxruntime_crops import OnnxRuntimeCropBackend
from hand_perception.runtime.select import BACKENDS, open_backend
from hand_perception.view import View

WARM_UP = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="mobrecon")
    parser.add_argument("--backend", choices=tuple(BACKENDS), default="onnxruntime")
    parser.add_argument("--cameras", nargs="+", type=int, default=[2, 4])
    parser.add_argument("--threads", type=int, default=0, help="of ONNX Runtime, 0: its choice")
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--output", type=Path, help="JSON")
    args = parser.parse_args()
    folder = ModelFolder.open(args.model)
    rows = []
    for count in args.cameras:
        try:
            reader = open_reader(folder, args.backend, args.threads, count)
        except HandPerceptionError as error:
            raise SystemExit(f"{args.backend}, {count} cameras: {error}") from error
        rows.append(measure(reader, check_frames(count), args.repeats))
        report(rows[-1])
    if args.output:
        machine = {"machine": processor(), "gpu": gpu(), "model": reader.identity}
        args.output.write_text(json.dumps(machine | {"rows": rows}, indent=2) + "\n")


def open_reader(folder: ModelFolder, backend: str, threads: int, cameras: int) -> HandReconstructor:
    """Raises ModelError where the backend cannot run or takes fewer images at once."""
    if backend == "onnxruntime":
        opened = OnnxRuntimeCropBackend(folder, threads, images_at_once=cameras)
    else:
        opened = open_backend(folder, backend, threads)
    if opened.images_at_once < cameras:
        raise ModelError(
            f"{opened.identity} reads {opened.images_at_once} images at once: build it with "
            f"--cameras {cameras}"
        )
    return HandReconstructor(folder, opened)


def measure(reader: HandReconstructor, images: list[np.ndarray], repeats: int) -> dict:
    """Median ms of wall and processor time for all cameras, by what is done and how."""
    looks = [View(image) for image in images]
    found = [result.hands for result in reader.together(looks)]
    follows = [
        View(image, boxes=np.array([joint_box(hand) for hand in hands]))
        for image, hands in zip(images, found, strict=True)
        if hands
    ]
    jobs: dict[str, Callable[[], object]] = {}
    for name, views in (("looking", looks), ("following", follows)):
        jobs[f"{name}, in turn"] = lambda views=views: [reader.together([v]) for v in views]
        jobs[f"{name}, in one go"] = lambda views=views: reader.together(views)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for _ in range(repeats + WARM_UP):
        for name, job in jobs.items():
            wall, used = time.perf_counter(), time.process_time()
            job()
            times[name].append((time.perf_counter() - wall, time.process_time() - used))
    medians = {n: 1e3 * np.median(t[WARM_UP:], axis=0) for n, t in times.items()}
    return {
        "cameras": len(images),
        "hands": sum(map(len, found)),
        "ms": {n: {"wall": round(m[0], 2), "cpu": round(m[1], 2)} for n, m in medians.items()},
    }


def report(row: dict) -> None:
    print(f"{row['cameras']} cameras, {row['hands']} hands")
    for name, ms in row["ms"].items():
        print(f"  {name:22} {ms['wall']:7.2f} ms, CPU {ms['cpu']:7.2f} ms")


if __name__ == "__main__":
    main()
