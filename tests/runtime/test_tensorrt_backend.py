"""Builder and runtime against a strict stand-in for CUDA and TensorRT, with real numbers.

No GPU and no TensorRT run here: `build-engine` itself checks the real engine on the user's machine.
"""

from __future__ import annotations

import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from runtime.fake_gpu import FakeCudaError, FakeGpu
from runtime.tiny_folder import OPINIONS, export_tiny, picture, prepare

from hand_perception import cli
from hand_perception.errors import ImageError, ModelError
from hand_perception.export import agreement, engine
from hand_perception.export.engine_builder import BuildSettings
from hand_perception.postprocess import choose_hands
from hand_perception.runtime import select
from hand_perception.runtime.engine_file import read_engine
from hand_perception.runtime.onnxruntime_backend import OnnxRuntimeBackend
from hand_perception.runtime.tensorrt_backend import TensorRTBackend
from hand_perception.runtime.tensorrt_device import Device
from hand_perception.runtime.tensorrt_frame import RawImage
from hand_perception.runtime.tensorrt_library import Engine, load_tensorrt

MAX_HANDS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def built(folder, kernels, tmp_path_factory):
    """Engines by precision, each built once."""
    folders = {}
    for precision in engine.PRECISIONS:
        with pytest.MonkeyPatch.context() as patch:
            prepare(patch, FakeGpu(kernels))
            where = tmp_path_factory.mktemp(precision)
            engine.build(folder, BuildSettings(precision, MAX_HANDS), where)
            folders[precision] = where
    return folders


# -- the runtime ----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", engine.PRECISIONS)
def test_it_finds_what_onnx_runtime_finds(gpu, folder, built, precision):
    backend = select.open_tensorrt(folder, built[precision])
    found = agreement.compare(
        OnnxRuntimeBackend(folder, 1), backend, [picture(s) for s in range(5)], folder.image_size
    )
    agreement.LIMITS[precision].check(found, precision)
    assert found.hands >= 5
    assert f"{precision} tensorrt-10.3.0 Fake RTX" in backend.identity


def test_each_number_of_hands_and_more_than_the_engine_takes(gpu, folder, built):
    backend, reference = select.open_tensorrt(folder, built["fp32"]), OnnxRuntimeBackend(folder, 1)
    image = picture()
    expected = reference.detect(reference.prepare(image))
    order = np.argsort(-expected.scores)
    for hands in (1, 3, 2, 3, 7):
        detected = backend.detect(backend.prepare(image))
        decoded = backend.decode(detected, np.argsort(-detected.scores)[:hands])
        wanted = reference.decode(expected, order[:hands])
        for name in ("joints2d", "vertices", "camera", "presence"):
            value = getattr(wanted, name)
            assert getattr(decoded, name).shape == value.shape
            # float32 in one order of sums on both sides, but for the prepared image's rounding
            np.testing.assert_allclose(getattr(decoded, name), value, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("precision", engine.PRECISIONS)
def test_what_a_network_tells_beside_its_hands_comes_along(gpu, tmp_path, precision):
    folder = export_tiny(tmp_path / "model", **OPINIONS)
    # Built only if it agrees with ONNX Runtime within its precision's limits.
    engine.build(folder, BuildSettings(precision, MAX_HANDS), tmp_path / "engine")
    both = OnnxRuntimeBackend(folder, 1), select.open_tensorrt(folder, tmp_path / "engine")
    decoded = []
    for backend in both:
        detected = backend.detect(backend.prepare(picture()))
        decoded.append(backend.decode(detected, np.argsort(-detected.scores)[:2]))
    for name, shape in (("right", (2,)), ("spread2d", (2, 21)), ("spread3d", (2,))):
        wanted, found = (getattr(d, name) for d in decoded)
        assert wanted.shape == found.shape == shape
        # Chances and, relative to themselves, scales: both move by what their logits move at most.
        limit = agreement.LIMITS[precision].score
        bound = limit if name == "right" else limit * wanted
        assert (np.abs(found - wanted) <= bound).all(), name


def test_after_the_first_frames_a_frame_is_two_launches_and_no_allocation(gpu, folder, built):
    backend = select.open_tensorrt(folder, built["fp32"])
    backend.detect(backend.prepare(picture(0)))  # as it is
    backend.detect(backend.prepare(picture(1)))  # recorded
    allocations, launches = gpu.allocations, gpu.launches
    for seed in (2, 3, 4):
        detected = backend.detect(backend.prepare(picture(seed)))
        backend.decode(detected, choose_hands(detected, 0.5)[:2])
    assert gpu.allocations == allocations
    assert gpu.launches == launches + 3 * 2


def test_without_hands_the_decoder_is_not_launched(gpu, folder, built):
    backend = select.open_tensorrt(folder, built["fp32"])
    for _ in range(3):
        backend.detect(backend.prepare(picture()))
    launches = gpu.launches
    backend.detect(backend.prepare(picture()))
    assert gpu.launches == launches + 1


def test_each_frame_is_seen_anew_whatever_its_size_and_encoding(gpu, folder, built):
    backend = select.open_tensorrt(folder, built["fp32"])
    reference = OnnxRuntimeBackend(folder, 1)
    for size in ((48, 64), (30, 64), (64, 100), (48, 64)):
        rgb = picture(size[0] * size[1], *size)
        bgra = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGRA)
        raw = RawImage(bgra.reshape(-1), "bgra8", size[1], size[0], 4 * size[1])
        from_rgb = backend.detect(backend.prepare(rgb)).boxes.copy()
        from_bgra = backend.detect(backend.prepare(raw)).boxes.copy()
        np.testing.assert_array_equal(from_rgb, from_bgra)
        expected = reference.detect(reference.prepare(rgb)).boxes
        np.testing.assert_allclose(from_rgb, expected, atol=1e-3)
    assert len(gpu.executables) <= 1 + MAX_HANDS, "recordings of old layouts are kept"


def test_another_thread_may_take_over(gpu, folder, built):
    backend = select.open_tensorrt(folder, built["fp32"])
    results = []
    worker = threading.Thread(
        target=lambda: results.append(backend.detect(backend.prepare(picture())).scores.copy())
    )
    worker.start()
    worker.join()
    np.testing.assert_array_equal(results[0], backend.detect(backend.prepare(picture())).scores)


def test_bad_frames_are_named_and_leave_it_usable(gpu, folder, built):
    backend = select.open_tensorrt(folder, built["fp32"])
    before = backend.detect(backend.prepare(picture())).scores.copy()
    with pytest.raises(ImageError, match="too small"):
        backend.prepare(np.zeros((4, 4, 3), np.uint8))
    np.testing.assert_array_equal(backend.detect(backend.prepare(picture())).scores, before)


# -- identity -------------------------------------------------------------------------------------


def test_auto_takes_the_engine_where_there_is_one(gpu, folder, built, monkeypatch):
    monkeypatch.setenv("HAND_PERCEPTION_ENGINES", str(built["fp16"].parent))
    monkeypatch.setattr(select, "has_nvidia_driver", lambda: True)
    name = f"{folder.name}-{folder.card['sha256']['decoder.onnx'][:8]}"
    (built["fp16"].parent / name).symlink_to(built["fp16"])
    opened = select.open_backend(folder)
    assert isinstance(opened, TensorRTBackend) and "fastest" in opened.identity


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"version": "10.13.0"}, "another TensorRT .10.3.0, here 10.13.0"),
        ({"name": "Fake Orin"}, "another GPU .Fake RTX, here Fake Orin"),
    ],
)
def test_foreign_engines_are_refused_in_one_line(
    kernels, folder, built, monkeypatch, change, complaint
):
    prepare(monkeypatch, FakeGpu(kernels, **change))
    with pytest.raises(ModelError, match=complaint) as caught:
        select.open_tensorrt(folder, built["fp32"])
    assert "build-engine" in str(caught.value) and "\n" not in str(caught.value)


def test_an_engine_of_another_network_is_refused(gpu, folder, built):
    sha256 = folder.card["sha256"] | {"decoder.onnx": "0" * 64}
    other = replace(folder, card=folder.card | {"sha256": sha256})
    with pytest.raises(ModelError, match="another version of the network"):
        select.open_tensorrt(other, built["fp32"])


@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.999])
def test_a_cut_engine_is_refused(gpu, folder, built, tmp_path, keep):
    for file in built["fp32"].glob("*.engine"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    whole = (tmp_path / "decoder.engine").read_bytes()
    (tmp_path / "decoder.engine").write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(ModelError, match="decoder.engine is no usable engine"):
        select.open_tensorrt(folder, tmp_path)


def test_engines_of_a_network_that_reads_crops_do_not_pass_for_handos(gpu, folder, built):
    with pytest.raises(ModelError, match="reads no crops: rebuild it"):
        select.open_tensorrt(replace(folder, network="mobrecon"), built["fp32"])
    with pytest.raises(ModelError, match="unknown network 'yolo': update this package"):
        select.open_tensorrt(replace(folder, network="yolo"), built["fp32"])


def test_no_engine_at_all_names_the_command(gpu, folder, tmp_path):
    with pytest.raises(ModelError, match="run `hand-perception build-engine"):
        select.open_tensorrt(folder, tmp_path)


# -- the builder ----------------------------------------------------------------------------------


def test_the_command_builds_once_and_again_when_forced(gpu, folder, tmp_path, capsys):
    arguments = ["build-engine", str(folder.path), "--output", str(tmp_path), "--precision"]
    arguments += ["fp32", "--max-hands", "1"]
    assert cli.main(arguments) == 0
    assert "built fp32 for Fake RTX with TensorRT 10.3.0" in capsys.readouterr().out
    assert gpu.builds == 2 and (tmp_path / "timing.cache").read_bytes() == b"cache"
    assert cli.main(arguments) == 0
    assert "up to date" in capsys.readouterr().out and gpu.builds == 2
    assert cli.main([*arguments, "--force"]) == 0
    assert gpu.builds == 4


def test_the_identity_says_what_was_measured(gpu, built, folder):
    identity, _ = read_engine(built["fp16"] / "decoder.engine")
    assert identity.precision == "fp16" and identity.compute_capability == "8.7"
    assert identity.source_sha256 == folder.card["sha256"]["decoder.onnx"]
    width = identity.shapes["instances"][0][2]
    assert identity.shapes["instances"] == [[1, h, width] for h in (1, 2, MAX_HANDS)]
    assert identity.agreement["hands"] > 0 and identity.agreement["missing"] == 0


def test_an_engine_that_disagrees_is_not_kept(gpu, folder, tmp_path, monkeypatch):
    real = engine.typed_graph

    def wrong(folder, graph, *settings):
        model = real(folder, graph, *settings)
        for tensor in model.graph.initializer:
            if graph == "decoder" and tensor.name.endswith("lifting.matrix"):
                values = 2 * np.frombuffer(tensor.raw_data, np.float32)
                tensor.raw_data = values.tobytes()
        return model

    monkeypatch.setattr(engine, "typed_graph", wrong)
    with pytest.raises(ModelError, match="fp32 engine of tiny disagrees with ONNX Runtime"):
        engine.build(folder, BuildSettings("fp32", 1), tmp_path)
    assert not list(tmp_path.glob("*.engine"))


def test_what_tensorrt_says_is_passed_on(gpu, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "profile", lambda *_: {})
    with pytest.raises(ModelError, match="cannot build the decoder: .* has no profile"):
        engine.build(folder, BuildSettings("fp32", 1), tmp_path)


def test_without_tensorrt_pycuda_or_a_known_version_the_cure_is_named(kernels, monkeypatch):
    with pytest.raises(ModelError, match="install NVIDIA's TensorRT"):
        load_tensorrt()
    with pytest.raises(ModelError, match="pip install 'hand_perception"):
        Device()
    for version in ("8.6.1", "10.2.0", "12.0.0"):
        FakeGpu(kernels, version).install(monkeypatch)
        with pytest.raises(ModelError, match=f"{version} is installed, 10.3 to 11"):
            load_tensorrt()
    for version in ("10.3.0", "10.16.1.11", "11.4.0.106"):
        FakeGpu(kernels, version).install(monkeypatch)
        assert load_tensorrt().__version__ == version


def test_too_many_hands_are_refused_before_anything_is_built(gpu, folder, tmp_path):
    with pytest.raises(ModelError, match="from 1 to 10, got 11"):
        engine.build(folder, BuildSettings(max_hands=11), tmp_path)


# -- the stand-in is strict -----------------------------------------------------------------------


@pytest.fixture
def detector(gpu, built):
    device = Device()
    with device.active():
        yield (
            device,
            Engine(load_tensorrt(), read_engine(built["fp32"] / "detector.engine")[1], "d"),
        )


def test_a_missing_address_and_a_wrong_shape_are_refused(detector):
    device, loaded = detector
    scratch = device.memory(loaded.scratch_bytes)
    context = loaded.context(scratch.address, scratch.nbytes)
    with pytest.raises(ModelError, match="address of .* is not set"):
        context.enqueue(device.stream)
    with pytest.raises(ModelError, match="outside the profile"):
        context.set_shape("image", (1, 3, 32, 32))
    with pytest.raises(ModelError, match="no tensor picture"):
        context.set_address("picture", scratch.address)


def test_calls_outside_of_a_context_and_pageable_memory_are_refused(gpu):
    device = Device()
    with pytest.raises(FakeCudaError, match="invalid device context"):
        device.memory(16)
    with device.active():
        memory = device.memory(16)
        with pytest.raises(FakeCudaError, match="not one block's"):
            device.upload(memory.address, np.zeros(16, np.uint8))
        pinned = device.pinned((32,), np.uint8)
        with pytest.raises(FakeCudaError, match="not one block's"):
            device.upload(memory.address, pinned)


def test_nothing_happens_before_the_stream_is_waited_for(gpu):
    device = Device()
    with device.active():
        memory, source = device.memory(16), device.pinned((4,), np.float32)
        source[:], target = [1, 2, 3, 4], device.pinned((4,), np.float32)
        device.upload(memory.address, source)
        device.download(target, memory.address)
        assert np.isnan(target).all()
        device.synchronize()
        np.testing.assert_array_equal(target, source)


def test_an_error_while_recording_ends_the_recording(gpu):
    device = Device()
    with device.active():
        with pytest.raises(FakeCudaError, match="capturing"):
            device.capture(lambda: device.memory(16))
        device.synchronize()


# -- TensorRT's own deformable attention ----------------------------------------------------------


@pytest.mark.parametrize("version", ["10.3.0", "10.13.0", "11.4.0"])
def test_the_plugin_finds_what_plain_operators_find(
    kernels, folder, tmp_path, monkeypatch, version
):
    gpu = prepare(monkeypatch, FakeGpu(kernels, version))
    settings = BuildSettings("fp32", 2, attention="plugin")
    assert engine.build(folder, settings, tmp_path).startswith("built fp32")
    assert engine.build(folder, settings, tmp_path) == "up to date"
    plans = {graph: read_engine(tmp_path / f"{graph}.engine") for graph in engine.GRAPHS}
    assert all(identity.attention == "plugin" for identity, _ in plans.values())
    for _, plan in plans.values():
        assert b"MultiscaleDeformableAttnPlugin_TRT" in plan
    # Loaded before the engines are, also by a process that has not built them.
    gpu.plugins = False
    backend = select.open_tensorrt(folder, tmp_path)
    found = agreement.compare(
        OnnxRuntimeBackend(folder, 1), backend, [picture(s) for s in range(3)], folder.image_size
    )
    agreement.LIMITS["fp32"].check(found, "plugin")
    # Another attention is another engine.
    assert engine.build(folder, BuildSettings("fp32", 2), tmp_path).startswith("built fp32")
    assert read_engine(tmp_path / "decoder.engine")[0].attention == "gather"


def test_half_precision_keeps_the_plugin_s_coordinates(gpu, folder, tmp_path):
    settings = BuildSettings("fp16", 2, attention="plugin")
    assert engine.build(folder, settings, tmp_path).startswith("built fp16")


def test_without_tensorrts_plugins_the_cure_is_named(gpu, folder, tmp_path):
    gpu.has_plugins = False
    with pytest.raises(ModelError, match="install libnvinfer_plugin .* --attention gather"):
        engine.build(folder, BuildSettings("fp32", 2, attention="plugin"), tmp_path)
