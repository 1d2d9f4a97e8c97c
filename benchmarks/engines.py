"""One table of engines from one run: accuracy, CPU time a frame, size.

    python benchmarks/engines.py --data PHOTOGRAPHS [--synthetic DIR] [--models handos_s mobrecon]
        [--without-hands FOLDER] [--mediapipe PYTHON] [--clip VIDEO] [--limit N]
        [--output engines.json]

Photographs: the val split of a folder with labels.jsonl. Of the pictures without hands it counts
those that show one. CPU time is process time on one thread:
"looking" is a frame of the clip (the shipped one has one or two hands), the detector run on each;
"following" the same frames as a stream, the detector run on every tenth. PYTHON is an interpreter
that has mediapipe 0.10.21, this one where it is installed. It holds numpy below 2, so best in an
environment of its own: python -m venv peer; peer/bin/pip install '.[mediapipe]'.
The labels of the photographs are that very network's, checked by its look at the mirrored picture:
its own PCK says how well it repeats itself. Of rendered hands its joints are compared with where
such labels mark them, not with where bones meet.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from latency import processor

from hand_perception.data.photograph_labels import (
    LabelledPhotograph,
    add_without_hands,
    pictures_without_hands,
    read_photographs,
)
from hand_perception.evaluation import photographs, report, synthetic
from hand_perception.evaluation.predictions import Predictions, read_predictions, reconstruct
from hand_perception.following import FollowingReconstructor
from hand_perception.reconstructor import HandReconstructor
from hand_perception.runtime.backend import MODELS, ModelFolder
from hand_perception.template import load_template

FOLLOW_FRAMES = 10
CLIP_FRAMES = 150
MEDIAPIPE = Path(__file__).with_name("mediapipe_hands.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--synthetic", type=Path)
    add_without_hands(parser, "more pictures that show no hand, to count those that fool an engine")
    parser.add_argument("--models", nargs="+", default=["handos_s", "mobrecon"])
    add_mediapipe(parser)
    parser.add_argument("--clip", type=Path, default=MODELS.parent / "demo" / "clip.mp4")
    parser.add_argument("--limit", type=int, help="photographs at most")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    # Before any library starts threads: times are those of one core.
    os.environ["OMP_NUM_THREADS"] = "1"
    cv2.setNumThreads(1)

    chosen = read_photographs(args.data)
    chosen = chosen[:: max(1, len(chosen) // args.limit)] if args.limit else chosen
    handless = pictures_without_hands(args.without_hands)[: args.limit]
    rows = {name: measure(name, args, chosen, handless) for name in args.models}
    if args.mediapipe:
        rows["mediapipe 0.10.21"] = measure_mediapipe(args, chosen, handless)
    print(f"{processor()}, one thread, {len(chosen)} photographs")
    print(tables(rows))
    if args.output:
        args.output.write_text(json.dumps({"machine": processor(), "rows": rows}, indent=2) + "\n")


def add_mediapipe(parser: argparse.ArgumentParser) -> None:
    """The option ``--mediapipe``: this interpreter where it has it."""
    ours = sys.executable if importlib.util.find_spec("mediapipe") else None
    parser.add_argument("--mediapipe", type=Path, metavar="PYTHON", default=ours)


def measure(name: str, args: argparse.Namespace, chosen: list, handless: list) -> dict:
    engine = HandReconstructor.from_pretrained(name, threads=1, backend="onnxruntime")
    files = [photograph.file for photograph in chosen + handless]
    found = reconstruct(engine, args.data, files, photographs.MIN_SCORE)
    row = {"identity": engine.identity, "megabytes": size_of(name)}
    row |= on_pictures(chosen, handless, found)
    if args.synthetic:
        samples = synthetic.read_samples(args.synthetic)
        row["synthetic"] = synthetic.evaluate(samples, rendered(samples, args.limit), engine)
    frames = clip_frames(args.clip)
    row["looking_ms"] = milliseconds(engine, frames)
    row["following_ms"] = milliseconds(FollowingReconstructor(engine, FOLLOW_FRAMES), frames)
    return row


def on_pictures(
    chosen: list[LabelledPhotograph], handless: list[LabelledPhotograph], found: Predictions
) -> dict:
    row = {"photographs": photographs.Outcomes.of(chosen, found).rows()}
    if handless:
        shown = sum(bool(found[picture.file]) for picture in handless)
        row["without hands"] = {"all": {"pictures": len(handless), "show one": shown}}
    return row


def rendered(samples: Sequence[dict], limit: int | None) -> range:
    """Which of the rendered images are measured."""
    return range(0, len(samples), max(1, len(samples) // limit) if limit else 1)


def milliseconds(engine, frames: list[np.ndarray]) -> float:
    """Mean CPU time of a frame; the first ones warm up."""
    times = []
    for frame in frames:
        started = time.process_time()
        engine(frame)
        times.append(time.process_time() - started)
    return round(1e3 * float(np.mean(times[5:])), 2)


def clip_frames(path: Path) -> list[np.ndarray]:
    """Of a video, RGB 640 x 480."""
    clip = cv2.VideoCapture(str(path))
    frames = []
    while len(frames) < CLIP_FRAMES:
        ok, frame = clip.read()
        if not ok:
            break
        frames.append(cv2.cvtColor(cv2.resize(frame, (640, 480)), cv2.COLOR_BGR2RGB))
    return frames


def size_of(name: str) -> float:
    graphs = ModelFolder.open(name).path.glob("*.onnx")
    return round(sum(graph.stat().st_size for graph in graphs) / 1e6, 1)


def measure_mediapipe(args: argparse.Namespace, chosen: list, handless: list) -> dict:
    files = [photograph.file for photograph in chosen + handless]
    found, times = ask_mediapipe(args.mediapipe, args.data, files, clip_frames(args.clip))
    row = times | on_pictures(chosen, handless, found)
    if args.synthetic:
        row["synthetic"] = mediapipe_on_rendered(args)
    return row


def mediapipe_on_rendered(args: argparse.Namespace) -> dict:
    samples = synthetic.read_samples(args.synthetic)
    chosen = {f"{k}.png": samples[k] for k in rendered(samples, args.limit)}
    with tempfile.TemporaryDirectory() as folder:
        for file, sample in chosen.items():
            cv2.imwrite(str(Path(folder) / file), sample["image"][..., ::-1])
        frames = clip_frames(args.clip)
        found, _ = ask_mediapipe(args.mediapipe, Path(folder), list(chosen), frames)
    landmarks = load_template().landmarks
    outcomes = []
    for file, sample in chosen.items():
        marked = sample | {"keypoints3d": landmarks @ sample["vertices"]}
        outcomes += synthetic.judge(marked, found[file])
    return synthetic.rows(outcomes)


def ask_mediapipe(
    python: Path, root: Path, files: list[str], frames: list[np.ndarray]
) -> tuple[Predictions, dict[str, float]]:
    """What the other interpreter finds in pictures, and its times on frames; both go as files."""
    with tempfile.TemporaryDirectory() as folder:
        listing, film = Path(folder) / "files.json", Path(folder) / "frames.npy"
        listing.write_text(json.dumps(files))
        np.save(film, np.stack(frames))
        out = Path(folder) / "predictions.jsonl"
        command = [python, MEDIAPIPE, root.resolve(), listing, film, out]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return read_predictions(out, files), json.loads(done.stdout.splitlines()[-1])


def tables(rows: dict[str, dict]) -> str:
    """Accuracy on photographs and on rendered hands, then cost: a line an engine each."""
    parts = []
    for suite in ("photographs", "without hands", "synthetic"):
        lines = {
            f"{name}, {group}": numbers
            for name, row in rows.items()
            for group, numbers in row.get(suite, {}).items()
            if group.startswith("all")
        }
        parts += [suite, report.table(lines)] if lines else []
    costs = ("looking_ms", "following_ms", "megabytes")
    parts += [
        "cost",
        report.table({n: {k: r.get(k, float("nan")) for k in costs} for n, r in rows.items()}),
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
