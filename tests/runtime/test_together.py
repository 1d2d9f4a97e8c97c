"""Images of several cameras in one go give what each gives alone, on every backend that can."""

from __future__ import annotations

import numpy as np
import pytest
from runtime.fake_gpu import FakeGpu
from runtime.tiny_folder import export_tiny, export_tiny_crops, picture, prepare

from hand_perception.errors import ModelError
from hand_perception.export import engine
from hand_perception.export.engine_builder import BuildSettings
from hand_perception.reconstructor import HandReconstructor
from hand_perception.runtime import select
from hand_perception.runtime.backend import detect_all
from hand_perception.runtime.engine_file import read_engine
from hand_perception.runtime.onnxruntime_crops import OnnxRuntimeCropBackend
from hand_perception.view import View

CAMERAS, MAX_HANDS = 3, 2
# As in test_tensorrt_crops.py: float32 sums in another order.
CLOSE = 2e-4
BOXES = np.array([[5.0, 4, 30, 40], [20, 10, 60, 44]])
SIZES = ((48, 64), (60, 80), (64, 48))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export_tiny_crops(tmp_path_factory.mktemp("crops"))


@pytest.fixture(scope="module")
def engines(folder, kernels, tmp_path_factory):
    where = tmp_path_factory.mktemp("engines")
    with pytest.MonkeyPatch.context() as patch:
        prepare(patch, FakeGpu(kernels))
        # Two pictures to check with: one alone, then one in a group.
        engine.build(folder, BuildSettings("fp32", MAX_HANDS, CAMERAS), where)
    return where


@pytest.fixture(params=["onnxruntime", "tensorrt"])
def several(request, folder, engines, gpu):
    if request.param == "tensorrt":
        return select.open_tensorrt(folder, engines)
    return OnnxRuntimeCropBackend(folder, threads=1, images_at_once=CAMERAS)


@pytest.fixture
def one(folder):
    return select.open_backend(folder, "onnxruntime", 1)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_views_in_one_go_give_what_each_gives_alone(several, one, folder, count):
    """Of several sizes: the detector looks, hands are known to be there, both, of one nothing is to
    be told."""
    views = [View(picture(k, *SIZES[k % 3]), None, 0.1) for k in range(count)]
    if count > 1:
        views[1] = View(views[1].image, None, 0.0, BOXES)
    if count > 3:
        views[3] = View(views[3].image, None, 0.1, BOXES[:1], (16, 8, 64, 48))
    if count > 2:
        views[2] = View(views[2].image, None, 1.0)  # so sure is nothing
    reader, alone = HandReconstructor(folder, several), HandReconstructor(folder, one)
    assert (reader.images_at_once, alone.images_at_once) == (CAMERAS, 1)
    # Random networks draw no hands that could be posed steadily: their own meshes are compared.
    reader.fit_pose = alone.fit_pose = False
    for found, view in zip(reader.together(views), views, strict=True):
        (expected,) = alone.together([view])
        assert len(found.hands) == len(expected.hands)
        assert bool(found.hands) == (view.score_threshold < 1)
        for hand, other in zip(found.hands, expected.hands, strict=True):
            # Of a crop's side, which the whole image's longer side at least is half of.
            limit = CLOSE * 2.6 * max(view.image.shape)
            np.testing.assert_allclose(hand.keypoints2d, other.keypoints2d, atol=limit)
            assert hand.side is other.side


def test_several_images_are_two_launches_and_nothing_is_allocated(gpu, folder, engines):
    backend = select.open_tensorrt(folder, engines)

    def go(count, seed):
        prepared = [backend.prepare(picture(seed + k)) for k in range(count)]
        detected = detect_all(backend, prepared)
        backend.decode_together([(found, np.array([0])) for found in detected[:MAX_HANDS]])

    for count in (3, 2, 3, 2):  # each as it is, then recorded
        go(count, 0)
    allocations, launches = gpu.allocations, gpu.launches
    for count in (2, 3, 2):
        go(count, 7)
    assert (gpu.allocations, gpu.launches) == (allocations, launches + 3 * 2)
    # A camera that sends larger images gets more room, and what was recorded is of no use.
    boxes = backend.detect_together([backend.prepare(picture(1, *size)) for size in SIZES])
    assert gpu.allocations > allocations and len(boxes) == 3


def test_recordings_of_sizes_that_no_camera_sends_any_more_are_dropped(gpu, folder, engines):
    backend = select.open_tensorrt(folder, engines)
    backend.detect(backend.prepare(picture(0, 200, 200)))  # room for all that follow
    for width in range(64, 64 + 40):
        for seed in range(2):
            backend.detect(backend.prepare(picture(seed, 48, width)))
    assert len(gpu.executables) <= 8 * CAMERAS**2 + MAX_HANDS


def test_the_engine_says_how_many_and_another_number_is_another_engine(folder, engines, gpu):
    identity, _ = read_engine(engines / "detector.engine")
    size = folder.image_size
    assert identity.shapes == {"image": [[n, 3, size, size] for n in (1, CAMERAS, CAMERAS)]}
    assert engine.build(folder, BuildSettings("fp32", MAX_HANDS, CAMERAS), engines) == "up to date"
    assert not gpu.builds


def test_what_cannot_be_is_refused_with_the_cure(folder, gpu, tmp_path):
    with pytest.raises(ModelError, match="--cameras must be from 1 to 8, got 9"):
        engine.build(folder, BuildSettings("fp32", MAX_HANDS, 9), tmp_path)
    handos = export_tiny(tmp_path)
    with pytest.raises(ModelError, match="reads one image at once: build it without --cameras"):
        engine.build(handos, BuildSettings("fp32", MAX_HANDS, 2), tmp_path / "engines")
