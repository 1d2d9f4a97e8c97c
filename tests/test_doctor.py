"""The doctor says what is there, what is missing, and how to mend it."""

from __future__ import annotations

import ctypes
import json
import os
import sys

import pytest

from hand_perception import cli, doctor
from hand_perception.runtime.backend import MODELS, ModelFolder
from hand_perception.runtime.engine_file import EngineIdentity, engine_folder, write_engine


@pytest.fixture(autouse=True)
def quick_and_clean(monkeypatch, tmp_path):
    """No engines of this machine, no imports in processes of their own but where tested."""
    monkeypatch.setenv("HAND_PERCEPTION_ENGINES", str(tmp_path))
    monkeypatch.setattr(
        doctor, "_package", lambda name, *_: doctor.Finding(name, doctor.OK, "stands in")
    )


REAL_PACKAGE = doctor._package


def engine(folder: ModelFolder, **changes) -> None:
    values = {
        "model": folder.name,
        "graph": "decoder",
        "source_sha256": folder.card["sha256"]["decoder.onnx"],
        "precision": "fp16",
        "tensorrt": "10.3.0",
        "gpu": "Orin",
        "compute_capability": "8.7",
        "agreement": {"joints_px": 0.25, "vertices_mm": 0.5},
    }
    identity = EngineIdentity(**(values | changes))
    write_engine(engine_folder(folder) / "decoder.engine", identity, b"plan")


def find(name: str) -> doctor.Finding:
    return next(f for f in doctor.examine() if f.name == name)


def test_it_ends_well_here_and_prints_one_line_a_finding(capsys):
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) >= 8
    assert all(line.split()[0] in (doctor.OK, doctor.MISSING, doctor.BROKEN) for line in lines)
    assert cli.main(["doctor", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(lines)


def test_each_shipped_model_is_listed_with_the_command_that_builds_its_engine():
    for path in MODELS.iterdir():
        assert find(f"model {path.name}").state == doctor.OK
        if path.name.endswith("_int8"):
            assert not any(f.name == f"engine {path.name}" for f in doctor.models())
            continue
        missing = find(f"engine {path.name}")
        assert missing.state == doctor.MISSING
        assert missing.cure == f"hand-perception build-engine {path.name}"


def test_an_engine_tells_what_it_is_and_what_was_measured():
    folder = ModelFolder.open("handos_s")
    engine(folder)
    found = find("engine handos_s")
    assert found.state == doctor.OK
    assert "fp16 for Orin, TensorRT 10.3.0" in found.what and "0.25 px" in found.what


def test_a_stale_or_corrupt_engine_is_broken_and_names_the_cure():
    folder = ModelFolder.open("handos_s")
    engine(folder, source_sha256="0" * 64)
    assert find("engine handos_s").state == doctor.BROKEN
    file = engine_folder(folder) / "decoder.engine"
    file.write_bytes(file.read_bytes()[:-1])
    found = find("engine handos_s")
    assert found.state == doctor.BROKEN and found.cure.endswith("--force")


def test_a_corrupt_model_fails(monkeypatch, tmp_path, capsys):
    (tmp_path / "models" / "handos_s").mkdir(parents=True)
    monkeypatch.setattr(doctor, "MODELS", tmp_path / "models")
    monkeypatch.setattr("hand_perception.runtime.backend.MODELS", tmp_path / "models")
    assert cli.main(["doctor"]) == 1
    assert "broken  model handos_s" in capsys.readouterr().out


class Driver:
    """libcuda's four functions that the doctor calls."""

    def __init__(self, status=0, count=2):
        self.status, self.count = status, count

    def cuInit(self, flags):  # noqa: N802
        return self.status

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self.count
        return 0

    def cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = 12060
        return 0

    def cuDeviceGetName(self, name, length, index):  # noqa: N802
        name.value = b"GPU number %d" % index
        return 0


def test_gpus_are_listed_with_what_the_driver_supports(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert [f.what for f in doctor.drivers()] == [
        "for CUDA up to 12.6",
        "GPU number 0",
        "GPU number 1",
    ]


@pytest.mark.parametrize("driver", [Driver(status=100), Driver(count=0)])
def test_a_driver_without_a_gpu_is_broken(monkeypatch, driver):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    (found,) = doctor.drivers()
    assert found.state == doctor.BROKEN and "nvidia-smi" in found.cure


def test_packages_that_are_missing_or_do_not_import(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import libnothing_at_all")
    monkeypatch.syspath_prepend(tmp_path)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    broken = REAL_PACKAGE("Half", "half_installed", "why", "reinstall it", True)
    assert broken.state == doctor.BROKEN and "libnothing_at_all" in broken.what
    assert broken.needed and broken.line().endswith("-> reinstall it")
    missing = REAL_PACKAGE("None", "no_such_module_here", "why", "install it", False)
    assert (missing.state, missing.what) == (doctor.MISSING, "why")
    numpy = REAL_PACKAGE("NumPy", "numpy", "why", "", True)
    assert numpy.state == doctor.OK and sys.modules["numpy"].__version__ in numpy.what


def test_a_domain_that_is_none_is_broken(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "233")
    found = find("ROS_DOMAIN_ID")
    assert found.state == doctor.BROKEN and found.needed
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    assert find("ROS_DOMAIN_ID").state == doctor.OK
