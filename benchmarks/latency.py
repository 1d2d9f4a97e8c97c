"""Time of each stage from host image to Hands, by backend, image size and number of hands.

    python benchmarks/latency.py [--backend onnxruntime tensorrt] [--size 640x480 1920x1080]
        [--hands 0 1 2 4 10] [--threads N] [--output latency.json] [--plot latency.png]

Hands are chosen by score rank, not by threshold, so that a row has exactly that many. The image is
a frame of the shipped clip, scaled. A row has the median and the 95th and 99th percentile of wall
time of each stage, the processor time of a whole frame, and the memory held at its end; `fit` is
the least-squares line a + b H over the rows of a size.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import shutil
import subprocess
import time
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from hand_perception.errors import HandPerceptionError
from hand_perception.hands import Camera
from hand_perception.imaging import Letterbox
from hand_perception.pose_fitting import posed
from hand_perception.postprocess import ScoreCalibration, build_hands
from hand_perception.runtime.backend import MODELS, Backend, ModelFolder
from hand_perception.runtime.select import BACKENDS, open_backend
from hand_perception.template import load_template

HANDS = (0, 1, 2, 4, 10)
SIZES = ("640x480", "1280x720", "1920x1080")
STAGES = ("preprocess", "detector", "decoder", "postprocess")
WARM_UP = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="handos_s")
    known = ("auto", *BACKENDS)
    parser.add_argument("--backend", nargs="+", choices=known, default=["auto"], metavar="NAME")
    parser.add_argument("--threads", type=int, default=0, help="of ONNX Runtime, 0: its choice")
    parser.add_argument("--size", nargs="+", default=["640x480"], metavar="WxH")
    parser.add_argument("--hands", nargs="+", type=int, default=HANDS)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--plot", type=Path, help="picture of median against hands (matplotlib)")
    args = parser.parse_args()

    folder = ModelFolder.open(args.model)
    sizes = [tuple(map(int, size.split("x"))) for size in args.size]
    runs = []
    for name in args.backend:
        try:
            backend = open_backend(folder, name, args.threads)
        except HandPerceptionError as error:
            print(f"{name}: {error}")
            continue
        runs.append(measure(folder, backend, sizes, args.hands, args.repeats))
        report(runs[-1])
    if args.output:
        machine = {"machine": processor(), "gpu": gpu(), "threads": args.threads}
        args.output.write_text(json.dumps(machine | {"runs": runs}, indent=2) + "\n")
    if args.plot:
        plot(runs, args.plot)


def measure(
    folder: ModelFolder,
    backend: Backend,
    sizes: list[tuple[int, int]],
    counts: tuple[int, ...],
    repeats: int,
) -> dict:
    """One run: the backend over all sizes and numbers of hands."""
    jobs = [(size, hands) for size in sizes for hands in counts]
    rows = [
        measure_row(folder, backend, frame(size), hands, repeats)
        for size, hands in tqdm(jobs, backend.identity.split(" (")[0], disable=None)
    ]
    return {"identity": backend.identity, "rows": rows, "fit": fits(rows)}


def measure_row(
    folder: ModelFolder, backend: Backend, image: np.ndarray, hands: int, repeats: int
) -> dict:
    height, width = image.shape[:2]
    camera, template = Camera.assumed(width, height), load_template(folder.template)
    size = folder.image_size
    fit = Letterbox.fit(width, height, (size, size))
    wall: dict[str, list[float]] = {name: [] for name in (*STAGES, "total")}
    processor_time = []
    for _ in range(repeats + WARM_UP):
        used, marks = time.process_time(), [time.perf_counter()]
        prepared = backend.prepare(image)
        marks.append(time.perf_counter())
        detected = backend.detect(prepared)
        chosen = np.argsort(-detected.scores)[:hands]
        marks.append(time.perf_counter())
        decoded = backend.decode(detected, chosen) if hands else None
        marks.append(time.perf_counter())
        if decoded is not None:
            calibration = ScoreCalibration()
            found = build_hands(
                detected, chosen, decoded, fit, size, camera, template, calibration, 0.0
            )
            if folder.fit_pose:
                posed(found, camera, template)
        marks.append(time.perf_counter())
        processor_time.append(1e3 * (time.process_time() - used))
        for name, begin, end in zip(STAGES, marks[:-1], marks[1:], strict=True):
            wall[name].append(1e3 * (end - begin))
        wall["total"].append(1e3 * (marks[-1] - marks[0]))
    return {
        "image": [width, height],
        "hands": hands,
        "ms": {name: percentiles(values[WARM_UP:]) for name, values in wall.items()},
        "cpu_ms": round(float(np.median(processor_time[WARM_UP:])), 2),
        "host_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "gpu_mib": gpu_memory_mib(),
    }


def percentiles(values: list[float]) -> list[float]:
    """p50, p95, p99."""
    return [round(float(v), 3) for v in np.percentile(values, (50, 95, 99))]


def fits(rows: list[dict]) -> dict[str, list[float]]:
    """a and b of total ms = a + b H by image size, where two or more numbers of hands were run."""
    lines = {}
    for image in dict.fromkeys(tuple(row["image"]) for row in rows):
        points = [(r["hands"], r["ms"]["total"][0]) for r in rows if tuple(r["image"]) == image]
        if len(points) > 1:
            slope, start = np.polyfit(*zip(*points, strict=True), 1)
            lines["{}x{}".format(*image)] = [round(float(start), 2), round(float(slope), 2)]
    return lines


def frame(size: tuple[int, int]) -> np.ndarray:
    """RGB, of the shipped clip."""
    _, bgr = cv2.VideoCapture(str(MODELS.parent / "demo" / "clip.mp4")).read()
    return cv2.cvtColor(cv2.resize(bgr, size), cv2.COLOR_BGR2RGB)


def report(run: dict) -> None:
    print(run["identity"])
    for row in run["rows"]:
        stages = "  ".join(f"{k} {row['ms'][k][0]:6.2f}" for k in STAGES)
        p50, p95, p99 = row["ms"]["total"]
        print(
            f"{row['image'][0]}x{row['image'][1]} {row['hands']:2d} hands: {stages}  total "
            f"{p50:6.2f} ms (p95 {p95:.2f}, p99 {p99:.2f}), CPU {row['cpu_ms']:.2f} ms"
        )
    for size, (start, slope) in run["fit"].items():
        print(f"{size}: {start:.2f} + {slope:.2f} H ms")


def plot(runs: list[dict], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot(xlabel="hands", ylabel="median ms, host image to hands")
    for run in runs:
        for image in dict.fromkeys(tuple(row["image"]) for row in run["rows"]):
            rows = [row for row in run["rows"] if tuple(row["image"]) == image]
            label = "{} {}x{}".format(run["identity"].split(" (")[0], *image)
            medians = [row["ms"]["total"][0] for row in rows]
            axes.plot([row["hands"] for row in rows], medians, "o-", label=label)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


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


def gpu() -> str | None:
    """Name and driver of the first GPU, None without one."""
    return _nvidia_smi("name,driver_version")


def gpu_memory_mib() -> int | None:
    """Memory of the first GPU in use, by all processes."""
    used = _nvidia_smi("memory.used")
    return int(used) if used and used.isdecimal() else None


def _nvidia_smi(fields: str) -> str | None:
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 else None


if __name__ == "__main__":
    main()
