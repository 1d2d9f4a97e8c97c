"""TensorRT engines of this machine: build, check, time, for each precision and attention.

    python -m benchmarks.gpu.tensorrt_engines --output tensorrt.json [--model handos_s]

Needs TensorRT, pycuda and nvcc; `hand-perception doctor` says what is missing. Also times ONNX
Runtime's GPU providers where onnxruntime-gpu is installed.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path

from benchmarks.latency import HANDS, gpu, measure, report
from hand_perception.errors import HandPerceptionError
from hand_perception.export.engine import ATTENTIONS, PRECISIONS, build
from hand_perception.export.engine_builder import BuildSettings
from hand_perception.runtime.backend import ModelFolder
from hand_perception.runtime.engine_file import engine_folder, read_engine
from hand_perception.runtime.select import open_backend, open_tensorrt

SIZES = [(640, 480), (1280, 720), (1920, 1080)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="handos_s")
    parser.add_argument("--output", type=Path, required=True, help="JSON")
    parser.add_argument("--repeats", type=int, default=200)
    args = parser.parse_args()
    folder, runs, refusals = ModelFolder.open(args.model), [], {}
    for precision, attention in product(PRECISIONS, ATTENTIONS):
        name = f"{engine_folder(folder).name}-{precision}-{attention}"
        where = engine_folder(folder).with_name(name)
        try:
            build(folder, BuildSettings(precision, attention=attention), where)
            backend = open_tensorrt(folder, where)
        except HandPerceptionError as error:
            refusals[f"tensorrt {precision} {attention}"] = str(error)
            continue
        runs.append(measure(folder, backend, SIZES, HANDS, args.repeats))
        runs[-1]["attention"] = attention
        runs[-1]["agreement"] = read_engine(where / "decoder.engine")[0].agreement
    for name in ("onnxruntime-cuda", "onnxruntime-tensorrt"):
        try:
            backend = open_backend(folder, name)
        except HandPerceptionError as error:
            refusals[name] = str(error)
            continue
        runs.append(measure(folder, backend, SIZES, HANDS, args.repeats))
    for run in runs:
        report(run)
    for name, reason in refusals.items():
        print(f"{name}: {reason}")
    results = {"gpu": gpu(), "runs": runs, "not_run": refusals}
    args.output.write_text(json.dumps(results, indent=2) + "\n")
    return int(not runs)


if __name__ == "__main__":
    raise SystemExit(main())
