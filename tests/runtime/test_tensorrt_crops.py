"""Networks that read crops, built and run against the strict stand-in, beside ONNX Runtime."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from open_hand import CAMERA
from runtime.fake_gpu import FakeGpu
from runtime.tiny_folder import export_tiny_crops, picture, prepare

from hand_perception import cli
from hand_perception.errors import ImageError, ModelError
from hand_perception.export import agreement, engine
from hand_perception.export.engine_builder import BuildSettings, feature_names, typed_graph
from hand_perception.imaging import Letterbox
from hand_perception.reconstructor import HandReconstructor
from hand_perception.runtime import select
from hand_perception.runtime.backend import ModelFolder
from hand_perception.runtime.engine_file import read_engine
from hand_perception.runtime.tensorrt_crops import TensorRTCropBackend
from hand_perception.runtime.tensorrt_frame import RawImage
from hand_perception.view import View

MAX_HANDS = 3
CHECK_FRAMES = engine.check_frames
# The same pixels on both sides; what differs is the order of sums of up to 9 * 192 float32 terms in
# some 60 layers, 2^-24 * sqrt(60 * 9 * 192) = 2e-5 of numbers near one; ten times that at worst.
CLOSE = 2e-4
BOXES = np.array([[5.0, 4, 30, 40], [20, 10, 60, 44], [-8, -5, 12, 20], [30, 2, 50, 30]])


@pytest.fixture(scope="module", params=["mobrecon", "handar"])
def folder(request, tmp_path_factory):
    return export_tiny_crops(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def built(folder, kernels, tmp_path_factory):
    """Engines by precision, each built once."""
    folders = {}
    for precision in engine.PRECISIONS:
        with pytest.MonkeyPatch.context() as patch:
            gpu = prepare(patch, FakeGpu(kernels))
            where = tmp_path_factory.mktemp(precision)
            engine.build(folder, BuildSettings(precision, MAX_HANDS), where)
            folders[precision] = where
            assert gpu.builds == 2
    return folders


@pytest.fixture
def backend(gpu, folder, built):
    return select.open_tensorrt(folder, built["fp32"])


@pytest.fixture
def reference(folder):
    return select.open_backend(folder, "onnxruntime", 1)


def given(backend, image, boxes=BOXES):
    fit = Letterbox.fit(image.shape[1], image.shape[0], (backend._cutting.canvas,) * 2)
    return backend.given(image, fit, boxes)


@pytest.mark.parametrize("precision", engine.PRECISIONS)
def test_both_engines_are_built_and_find_what_onnx_runtime_finds(
    gpu, folder, reference, built, precision
):
    backend = select.open_tensorrt(folder, built[precision])
    assert isinstance(backend, TensorRTCropBackend)
    assert f"{precision} tensorrt-10.3.0 Fake RTX" in backend.identity
    pictures = [picture(seed, 60, 80) for seed in range(2, 5)]
    found = agreement.compare(reference, backend, pictures, folder.image_size)
    agreement.LIMITS[precision].check(found, precision)
    assert found.hands >= 3
    identity, _ = read_engine(built[precision] / "decoder.engine")
    assert identity.shapes == {"crops": [[h, 3, 128, 128] for h in (1, 2, MAX_HANDS)]}
    assert identity.agreement["hands"] > 0 and "side" in identity.agreement


def test_each_number_of_hands_and_more_than_the_engine_takes(backend, reference):
    image = picture(0, 48, 64)
    detected, expected = given(backend, image), given(reference, image)
    for hands in (1, 3, 2, 4):
        chosen = np.arange(hands)[::-1]
        decoded, wanted = (
            b.decode(d, chosen) for b, d in ((backend, detected), (reference, expected))
        )
        for name in (*agreement.COMPARED, "gaze"):
            value = getattr(wanted, name)
            assert getattr(decoded, name).shape == value.shape
            np.testing.assert_allclose(getattr(decoded, name), value, atol=CLOSE, err_msg=name)


def test_crops_reach_the_network_as_the_processor_cut_and_normalised_them(backend, reference):
    image = picture(1)
    detected = given(reference, image)
    pixels = reference.decoder_inputs(detected, np.arange(3))["crops"]
    backend.decode(given(backend, image), np.arange(3))
    memory = backend._decoder._feed.inputs["crops"]
    with backend._device.active():
        seen = backend._device.pinned(pixels.shape, np.float32)
        backend._device.download(seen, memory.address)
        backend._device.synchronize()
    # Both: a whole level in float32, times a gain, minus an offset.
    np.testing.assert_array_equal(seen, pixels)


def test_a_frame_is_two_launches_a_followed_hand_one_and_nothing_is_allocated(gpu, backend):
    for seed in range(2):  # as it is, then recorded
        backend.detect(backend.prepare(picture(seed)))
    allocations, launches = gpu.allocations, gpu.launches
    for seed in (2, 3):
        detected = backend.detect(backend.prepare(picture(seed)))
        backend.decode(detected, np.array([0, 1]))
    assert gpu.launches == launches + 2 * 2
    backend.decode(given(backend, picture(4)), np.array([0]))
    assert gpu.launches == launches + 2 * 2 + 1 and gpu.allocations == allocations


def test_the_whole_path_and_following_agree_with_onnx_runtime(folder, backend, reference):
    image = picture(3, 480, 640)
    ours, theirs = HandReconstructor(folder, backend), HandReconstructor(folder, reference)
    assert ours.reads_crops
    boxes = BOXES[:2] * 10
    for found, expected in (
        (ours(image, CAMERA, 0.1).hands, theirs(image, CAMERA, 0.1).hands),
        (
            ours.together([View(image, CAMERA, 0.1, boxes)])[0].hands,
            theirs.together([View(image, CAMERA, 0.1, boxes)])[0].hands,
        ),
    ):
        assert len(found) == len(expected) > 0
        assert [h.side for h in found] == [h.side for h in expected]
    # Followed hands are read in the same crops: CLOSE of a crop's side, in pixels.
    for hand, other in zip(found, expected, strict=True):
        limit = CLOSE * 1.3 * (boxes[:, 2:] - boxes[:, :2]).max()
        np.testing.assert_allclose(hand.keypoints2d, other.keypoints2d, atol=limit)


def test_a_camera_s_padded_rows_are_read_and_other_encodings_named(backend):
    image = picture(5)
    padded = np.zeros((48, 64 * 3 + 16), np.uint8)
    padded[:, : 64 * 3] = image.reshape(48, -1)
    raw = RawImage(padded.reshape(-1), "rgb8", 64, 48, padded.shape[1])
    plain = backend.decode(backend.detect(backend.prepare(image)), np.array([0])).joints2d.copy()
    again = backend.decode(backend.detect(backend.prepare(raw)), np.array([0])).joints2d
    np.testing.assert_array_equal(plain, again)
    with pytest.raises(ImageError, match="rgb8 images, got 'bgr8': decode it first"):
        backend.prepare(replace(raw, encoding="bgr8"))
    with pytest.raises(ImageError, match="too small"):
        backend.prepare(np.zeros((4, 4, 3), np.uint8))
    np.testing.assert_array_equal(
        plain, backend.decode(backend.detect(backend.prepare(image)), np.array([0])).joints2d
    )


def test_auto_takes_the_engine_where_there_is_one(gpu, folder, built, tmp_path, monkeypatch):
    monkeypatch.setenv("HAND_PERCEPTION_ENGINES", str(tmp_path))
    monkeypatch.setattr(select, "has_nvidia_driver", lambda: True)
    version = folder.card["sha256"]["decoder.onnx"][:8]
    assert "no TensorRT engine" in select.open_backend(folder, threads=1).identity
    (tmp_path / f"{folder.name}-{version}").symlink_to(built["fp32"])
    opened = select.open_backend(folder)
    assert isinstance(opened, TensorRTCropBackend) and "fastest" in opened.identity


def test_a_stale_engine_is_refused_and_built_again(gpu, folder, built, tmp_path, capsys):
    for file in built["fp32"].glob("*.engine"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    settings = BuildSettings("fp32", MAX_HANDS)
    assert engine.build(folder, settings, tmp_path) == "up to date" and gpu.builds == 0
    stale = replace(
        folder, card=folder.card | {"sha256": folder.card["sha256"] | {"decoder.onnx": "0"}}
    )
    with pytest.raises(ModelError, match="another version of the network.*build-engine"):
        select.open_tensorrt(stale, tmp_path)
    assert engine.build(stale, settings, tmp_path).startswith("built fp32")
    assert gpu.builds == 2 and "another version" in capsys.readouterr().err


def test_an_engine_that_reads_other_crops_is_not_kept(gpu, folder, tmp_path, monkeypatch):
    """As if the decoder had been exported for another normalisation."""
    real = engine.on_tensorrt
    other = replace(folder, mean=tuple(m - 0.2 for m in folder.mean))
    monkeypatch.setattr(engine, "on_tensorrt", lambda _, engines: real(other, engines))
    with pytest.raises(ModelError, match="disagrees with ONNX Runtime"):
        engine.build(folder, BuildSettings("fp32", 2), tmp_path)
    assert not list(tmp_path.glob("*.engine"))


def test_the_shipped_model_is_built_by_the_command_and_agrees(gpu, tmp_path, monkeypatch, capsys):
    frames = CHECK_FRAMES(2)
    monkeypatch.setattr(engine, "check_frames", lambda: frames)
    arguments = ["build-engine", "mobrecon", "--output", str(tmp_path), "--max-hands", "2"]
    assert cli.main(arguments) == 0
    assert "built fp16 for Fake RTX" in capsys.readouterr().out
    measured = read_engine(tmp_path / "detector.engine")[0].agreement
    assert measured["hands"] >= 2 and measured["missing"] == 0


def test_no_features_pass_between_the_engines_and_crops_are_float32():
    folder = ModelFolder.open("mobrecon")
    assert feature_names(folder) == []
    typed = typed_graph(folder, "decoder", "fp16")
    kinds = {
        v.name: v.type.tensor_type.elem_type for v in (*typed.graph.input, *typed.graph.output)
    }
    assert set(kinds.values()) == {1} and "crops" in kinds
    halves = [t for t in typed.graph.initializer if t.data_type == 10]
    assert sum(np.prod(t.dims) for t in halves) > 2e6
    assert len(feature_names(ModelFolder.open("handos_s"))) > 0
