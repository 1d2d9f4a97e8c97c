"""torch and ONNX Runtime find the same hands, each by its own preprocessing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runtime.tiny_folder import OPINIONS, export_tiny, sure_model

from hand_perception.export.agreement import FLOAT32, compare
from hand_perception.export.torch_backend import TorchBackend, resampling
from hand_perception.imaging import letterbox
from hand_perception.runtime.onnxruntime_backend import OnnxRuntimeBackend


def pictures(count: int) -> list[np.ndarray]:
    """Three in a row of each size, so that what belongs to the last one would show."""
    rng = np.random.default_rng(3)
    sizes = [(48, 64), (97, 80), (30, 40)]
    return [rng.integers(0, 256, (*sizes[k // 3 % 3], 3), np.uint8) for k in range(count)]


@pytest.mark.parametrize("decoder", [{}, OPINIONS], ids=["plain", "opinions"])
def test_it_agrees_with_onnx_runtime(tmp_path, decoder):
    folder = export_tiny(tmp_path, **decoder)
    reference = OnnxRuntimeBackend(folder, 1)
    found = compare(reference, TorchBackend(sure_model(**decoder)), pictures(6), folder.image_size)
    assert found.hands >= 6
    FLOAT32.check(found, "torch")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("half", [False, True])
def test_its_recordings_see_each_frame_anew(half):
    recorded = TorchBackend(sure_model(), "cuda", half)
    eager = TorchBackend(sure_model(), "cuda", half, graphs=False)
    found = compare(eager, recorded, pictures(8), recorded._size)
    assert found.hands >= 8
    FLOAT32.check(found, "the recording")


@pytest.mark.parametrize(("source", "target"), [(640, 256), (481, 193), (64, 64), (40, 96)])
def test_resampling_is_opencvs(source, target):
    image = np.random.default_rng(0).integers(0, 256, (source, source, 3), np.uint8)
    expected, _ = letterbox(image, (target, target))
    weights = resampling(source, target, target < source).double()
    pixels = torch.from_numpy(image).permute(2, 0, 1).double()
    found = (weights @ pixels @ weights.T).permute(1, 2, 0).numpy()
    # OpenCV rounds to whole levels; on the way up it has weights in steps of 2^-11 in both axes and
    # cuts two products to quarters of a level.
    rough = 255 * 2 * 2.0**-12 + 2 / 4 if target > source else 1e-4
    assert np.abs(found - expected).max() <= 0.5 + rough
