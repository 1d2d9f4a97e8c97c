"""The preprocessing kernel on a GPU: equal to the CPU path, and how long it takes.

    python -m benchmarks.gpu.kernels [--output kernels.json]

Needs nvcc and a GPU, no Python package for CUDA. Every encoding and size is compared with what the
CPU makes of the same bytes; a difference above one grey level ends it with status 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np

from hand_perception.frames import image_from_message
from hand_perception.imaging import letterbox, normalise
from hand_perception.runtime.tensorrt_frame import ENCODINGS, RawImage, letterbox_arguments

SOURCE = Path(__file__).parent / "frame_harness.cu"
SIZES = ((640, 480), (1280, 720), (1920, 1080))
CANVAS, MEAN, STD = 256, 0.5, 0.25
REPEATS = 200
# One grey level and float32's rounding of numbers below 4: tests/runtime/test_tensorrt_frame.py.
TOLERANCE = 1 / (255 * STD) + 4 * 2.0**-23


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON")
    args = parser.parse_args()
    with TemporaryDirectory() as scratch:
        harness = Path(scratch) / "harness"
        subprocess.run(["nvcc", "-O3", "-arch=native", "-o", harness, SOURCE], check=True)
        rows = [run(harness, e, *size, Path(scratch)) for e in ENCODINGS for size in SIZES]
    for row in rows:
        print(
            f"{row['encoding']:12} {row['width']}x{row['height']}: kernel {row['kernel_ms']:.3f} "
            f"ms, with upload {row['upload_and_kernel_ms']:.3f} ms, largest difference "
            f"{row['difference']:.4f} (at most {TOLERANCE:.4f}), unequal {row['unequal']:.2%}"
        )
    if args.output:
        args.output.write_text(json.dumps(rows, indent=2) + "\n")
    return int(any(not row["difference"] <= TOLERANCE for row in rows))


def run(harness: Path, encoding: str, width: int, height: int, scratch: Path) -> dict:
    image = noise(encoding, width, height)
    (scratch / "in").write_bytes(image.data.tobytes())
    arguments = letterbox_arguments(image, 0, 0, CANVAS, (MEAN,) * 3, (STD,) * 3)
    _, *sizes = arguments[:5]
    _, canvas, *inner = arguments[5:9]
    gain, offset = arguments[9], arguments[12]
    command = [harness, sizes[3], *sizes[:3], canvas, *inner, gain, offset, REPEATS]
    command = [str(c) for c in (*command, scratch / "in", scratch / "out")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    times = np.array(done.stdout.split(), float).reshape(2, REPEATS)
    found = np.fromfile(scratch / "out", np.float32).reshape(1, 3, CANVAS, CANVAS)
    rgb = image_from_message(SimpleNamespace(**vars(image)))
    expected = normalise(letterbox(rgb, (CANVAS, CANVAS))[0], (MEAN,) * 3, (STD,) * 3)
    difference = np.abs(found - expected)
    return {
        "encoding": encoding,
        "width": width,
        "height": height,
        "upload_and_kernel_ms": float(np.median(times[0])),
        "kernel_ms": float(np.median(times[1])),
        "difference": float(difference.max()),
        "unequal": float((difference > 1e-5).mean()),
    }


def noise(encoding: str, width: int, height: int) -> RawImage:
    """Random bytes: every colour, and edges at every pixel."""
    pixel_bytes = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "yuyv": 2, "uyvy": 2}
    step = width * pixel_bytes.get(encoding, 1)
    rows = height * 3 // 2 if encoding in ("nv12", "nv21") else height
    data = np.random.default_rng(0).integers(0, 256, rows * step, np.uint8)
    return RawImage(data, encoding, width, height, step)


if __name__ == "__main__":
    raise SystemExit(main())
