"""Our networks in torch with CUDA graphs: what a card can do where no TensorRT is installed.

    python -m benchmarks.gpu.torch_graphs [--output torch.json] [--minutes 9]

handos_s has its trained weights and is compared with ONNX Runtime on the CPU; the paper-sized
handos has random weights, whose time is that of trained ones. Figures are torch's, not TensorRT's.
`profile` and `card` are the roofline's two sides: what a network has to do, and what the card does
at best, measured on it.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

import torch
import yaml

from benchmarks.latency import HANDS, gpu, measure, report
from hand_perception.export.agreement import FLOAT16, FLOAT32, compare
from hand_perception.export.engine import check_frames
from hand_perception.export.profile import profile
from hand_perception.export.torch_backend import TorchBackend
from hand_perception.models.handos.config import HandOSConfig
from hand_perception.models.handos.model import HandOS
from hand_perception.runtime.backend import ModelFolder
from hand_perception.runtime.onnxruntime_backend import OnnxRuntimeBackend
from hand_perception.template import load_template
from hand_perception.training import checkpoint

ROOT = Path(__file__).parents[2]
SIZES = [(640, 480), (1280, 720), (1920, 1080)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="JSON, rewritten after each run")
    parser.add_argument("--minutes", type=float, default=9.0, help="start no run after these")
    parser.add_argument("--repeats", type=int, default=200)
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    begun, runs = time.monotonic(), []
    results = {"gpu": gpu(), "torch": torch.__version__, "card": card(), "runs": runs}
    for name, half in (
        ("handos_s", True),
        ("handos", True),
        ("handos_s", False),
        ("handos", False),
    ):
        if time.monotonic() - begun > 60 * args.minutes:
            print(f"{name}: no time left")
            continue
        runs.append(run(name, half, args.repeats))
        if args.output:
            args.output.write_text(json.dumps(results, indent=2) + "\n")


def run(name: str, half: bool, repeats: int) -> dict:
    model = load(name)
    # Only sizes, topology and normalisation are read of the folder.
    folder = ModelFolder.open("handos_s")
    object.__setattr__(folder, "image_size", model.config.image_size)
    done = {"profile": asdict(profile(model.config))}
    backend = TorchBackend(model, "cuda", half)
    if name == "handos_s":
        reference = OnnxRuntimeBackend(ModelFolder.open(name))
        found = compare(reference, backend, check_frames(), model.config.image_size)
        print(found.line())
        done["agreement"] = found.to_dict()
        (FLOAT16 if half else FLOAT32).check(found, backend.identity)
    done |= measure(folder, backend, SIZES, HANDS, repeats)
    done["gpu_peak_mib"] = torch.cuda.max_memory_allocated() // 2**20
    report(done)
    return done


def load(name: str) -> HandOS:
    torch.manual_seed(0)
    trained = ROOT / "checkpoints" / f"{name}.safetensors"
    if not trained.is_file():
        values = yaml.safe_load((ROOT / "config" / "models" / f"{name}.yaml").read_text())
        values.pop("network")
        return HandOS(HandOSConfig.from_dict(values), load_template()).eval()
    groups, meta = checkpoint.load(trained)
    card = ModelFolder.open(name).card
    model = HandOS(HandOSConfig.from_dict(card["config"]), load_template())
    model.load_state_dict(groups["model"])
    return model.eval()


def card() -> dict[str, float]:
    """What the card does at best, measured: float16 products and copies."""
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.float16)
    big = torch.empty(2**30, dtype=torch.uint8, device="cuda")
    return {
        "fp16_tflops": 2 * 8192**3 / timed(lambda: a @ a) / 1e12,
        "copy_tb_per_s": 2 * big.numel() / timed(big.clone) / 1e12,
    }


def timed(work, repeats: int = 10) -> float:
    """Seconds a call."""
    for _ in range(3):
        work()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeats):
        work()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / 1e3 / repeats


if __name__ == "__main__":
    main()
