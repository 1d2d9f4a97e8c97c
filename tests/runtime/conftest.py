from __future__ import annotations

import pytest
from runtime.fake_gpu import FakeGpu
from runtime.host_kernels import host_kernels
from runtime.tiny_folder import prepare


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """Those of frame.cu, compiled as C++, once."""
    return host_kernels(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def gpu(kernels, monkeypatch):
    """The stand-in, installed."""
    return prepare(monkeypatch, FakeGpu(kernels))
