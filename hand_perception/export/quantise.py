"""``hand-perception quantise``: the convolutions of a model folder in int8, calibrated on pictures.

Weights are quantised per channel, activations from their range over the pictures, written into the
graph as QuantizeLinear and DequantizeLinear pairs. Only convolutions: in the transformer's small
products int8 costs more accuracy than it saves time (docs/performance.md).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnxruntime import quantization
from tqdm import tqdm

from hand_perception.errors import DataError, ModelError
from hand_perception.export.agreement import INT8, SURE_SCORE, Agreement, compare
from hand_perception.export.precision import folded
from hand_perception.imaging import read_image
from hand_perception.postprocess import CANDIDATE_SCORE, choose_hands
from hand_perception.runtime.backend import ModelFolder
from hand_perception.runtime.select import open_backend, reads_crops
from hand_perception.sources import find_pictures

# Enough for the range of an activation; more changes the third digit.
CALIBRATION_IMAGES = 64
COMPARED_IMAGES = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name or folder of a float32 model")
    parser.add_argument("images", nargs="+", type=Path, help="pictures with hands, or folders")
    parser.add_argument("--output", type=Path, required=True, help="model folder to write")
    parser.add_argument(
        "--symmetric",
        action="store_true",
        help="zero points of zero, as TensorRT wants them; a little slower on a CPU",
    )


def run(args: argparse.Namespace) -> int:
    folder = ModelFolder.open(args.model)
    files = find_pictures(args.images)
    order = np.random.default_rng(0).permutation(len(files))
    chosen = [files[k] for k in order[: CALIBRATION_IMAGES + COMPARED_IMAGES]]
    calibration, compared = chosen[:CALIBRATION_IMAGES], chosen[-COMPARED_IMAGES:]
    pictures = (read_image(file) for file in tqdm(calibration, "calibrate", disable=None))
    quantise(folder, pictures, args.output, args.symmetric)
    found = agreement(folder, args.output, map(read_image, compared))
    print(f"{args.output}: against float32, {found.line()}")
    return 0


def quantise(
    folder: ModelFolder, images: Iterable[np.ndarray], output: Path, symmetric: bool = False
) -> None:
    """Writes a model folder like ``folder`` with int8 convolutions.

    images: RGB uint8 [H, W, 3]. Raises ModelError for a model that is quantised already, DataError
    where no hand is found in the images.
    """
    if folder.card.get("precision") != "fp32":
        raise ModelError(f"{folder.name} is no float32 model: name one")
    inputs = calibration_inputs(folder, images)
    if not inputs["decoder.onnx"]:
        raise DataError("no hand was found in the pictures: give pictures with hands")
    output.mkdir(parents=True, exist_ok=True)
    hashes = {}
    for graph, feeds in inputs.items():
        _quantise_graph(folder.path / graph, output / graph, feeds, symmetric)
        hashes[graph] = hashlib.sha256((output / graph).read_bytes()).hexdigest()
    card = folder.card | {
        "name": output.name,
        "precision": "int8",
        "symmetric": symmetric,
        "quantised_from": folder.card["sha256"],
        "sha256": hashes,
    }
    (output / "model.json").write_text(json.dumps(card, indent=2) + "\n")


def agreement(folder: ModelFolder, output: Path, images: Iterable[np.ndarray]) -> Agreement:
    """How far the written model is from the one it was made of; raises ModelError beyond INT8."""
    reference, written = (
        open_backend(f, "onnxruntime") for f in (folder, ModelFolder.open(output))
    )
    found = compare(reference, written, images, folder.image_size)
    if not found.joints_px_median <= INT8.joints_px:
        raise ModelError(
            f"int8 moves the joints by {found.joints_px_median:.2g} px: calibrate on other pictures"
        )
    return found


def calibration_inputs(
    folder: ModelFolder, images: Iterable[np.ndarray]
) -> dict[str, list[dict[str, np.ndarray]]]:
    """What each graph is fed for the images, by graph."""
    backend = open_backend(folder, "onnxruntime")
    # A crop of something else has activations of its own; of HandOS all boxes share the features.
    lowest = SURE_SCORE if reads_crops(folder) else CANDIDATE_SCORE
    detector, decoder = [], []
    for image in images:
        prepared = backend.prepare(image)
        detector.append(backend.detector_inputs(prepared))
        detected = backend.detect(prepared)
        chosen = choose_hands(detected, lowest)[:2]
        if len(chosen):
            decoder.append(backend.decoder_inputs(detected, chosen))
    return {"detector.onnx": detector, "decoder.onnx": decoder}


class _Feeds(quantization.CalibrationDataReader):
    def __init__(self, feeds: list[dict[str, np.ndarray]]) -> None:
        self._feeds: Iterator[dict[str, np.ndarray]] = iter(feeds)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def _quantise_graph(source: Path, target: Path, feeds: list[dict], symmetric: bool) -> None:
    activation = quantization.QuantType.QInt8 if symmetric else quantization.QuantType.QUInt8
    with TemporaryDirectory() as scratch:
        plain = Path(scratch) / "folded.onnx"
        onnx.save(folded(source), plain)
        quantization.quantize_static(
            plain,
            target,
            _Feeds(feeds),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=activation,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True},
        )
