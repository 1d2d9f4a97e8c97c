"""Which backend is taken, that it says why, and that all of them agree."""

from __future__ import annotations

import onnxruntime
import pytest

from hand_perception.errors import ModelError
from hand_perception.export.agreement import FLOAT32, compare
from hand_perception.export.engine import check_frames
from hand_perception.runtime import select
from hand_perception.runtime.backend import ModelFolder
from hand_perception.runtime.onnxruntime_backend import OnnxRuntimeBackend

HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@pytest.fixture(scope="module")
def folder():
    return ModelFolder.open("handos_s")


@pytest.fixture
def no_driver(monkeypatch):
    monkeypatch.setattr(select, "has_nvidia_driver", lambda: False)


def test_without_a_driver_auto_takes_the_cpu_and_says_so(folder, no_driver):
    backend = select.open_backend(folder, threads=1)
    assert isinstance(backend, OnnxRuntimeBackend)
    assert backend.identity.endswith("cpu (auto: no NVIDIA driver)")


def test_auto_goes_down_the_table_and_names_each_refusal(folder, monkeypatch):
    def refuse(*_):
        raise ModelError("no engine: run `hand-perception build-engine handos_s`")

    monkeypatch.setattr(select, "has_nvidia_driver", lambda: True)
    options = select.BACKENDS | {
        "tensorrt": select.Option(refuse, needs_gpu=True),
        "onnxruntime-cuda": select.Option(refuse, needs_gpu=True),
    }
    monkeypatch.setattr(select, "BACKENDS", options)
    identity = select.open_backend(folder, threads=1).identity
    assert identity.count("build-engine") == 2 and "\n" not in identity
    assert "tensorrt: no engine" in identity and "onnxruntime-cuda: no engine" in identity


def test_auto_with_nothing_that_runs_is_an_error(folder, monkeypatch):
    def refuse(*_):
        raise ModelError("broken")

    monkeypatch.setattr(select, "BACKENDS", {"onnxruntime": select.Option(refuse)})
    with pytest.raises(ModelError, match="no backend runs handos_s.*broken"):
        select.open_backend(folder)


def test_a_named_backend_is_not_replaced_by_another(folder):
    assert "auto" not in select.open_backend(folder, "onnxruntime", 1).identity
    with pytest.raises(ModelError, match="use one of: auto, tensorrt, onnxruntime-cuda"):
        select.open_backend(folder, "openvino")


@pytest.mark.parametrize(
    "driver, dot_product, expected",
    [
        (False, True, "mobrecon_int8"),
        (False, False, "mobrecon"),
        (True, True, "mobrecon"),
        (True, False, "mobrecon"),
    ],
)
def test_auto_is_the_engine_for_this_machine(monkeypatch, driver, dot_product, expected):
    monkeypatch.setattr(select, "has_nvidia_driver", lambda: driver)
    monkeypatch.setattr(select, "has_int8_dot_product", lambda: dot_product)
    assert select.model_called("auto") == expected
    assert select.model_called("handos_s") == "handos_s"


@pytest.mark.skipif(HAS_CUDA, reason="onnxruntime-gpu is installed")
@pytest.mark.parametrize("name", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_provider_that_is_not_installed_names_the_cure(folder, name):
    with pytest.raises(ModelError, match="pip install onnxruntime-gpu"):
        select.open_backend(folder, name)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="needs onnxruntime-gpu and an NVIDIA GPU")
def test_the_gpu_provider_agrees_with_the_cpu(folder):
    reference = select.open_backend(folder, "onnxruntime")
    gpu = select.open_backend(folder, "onnxruntime-cuda")
    FLOAT32.check(compare(reference, gpu, check_frames(4), folder.image_size), "the CUDA provider")
