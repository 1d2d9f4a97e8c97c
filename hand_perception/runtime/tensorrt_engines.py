"""The two engines and the kernels of one model, loaded and known to be this machine's."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from hand_perception.errors import ModelError
from hand_perception.runtime.backend import ModelFolder
from hand_perception.runtime.engine_file import (
    SUFFIX,
    EngineIdentity,
    cure,
    engine_folder,
    load_engine,
)
from hand_perception.runtime.tensorrt_device import Device
from hand_perception.runtime.tensorrt_frame import KERNELS
from hand_perception.runtime.tensorrt_library import Engine, load_plugins, load_tensorrt


@dataclass(frozen=True)
class Engines:
    """kernels: the cubin of frame.cu; identity: model, precision, TensorRT and GPU in one line."""

    device: Device
    detector: Engine
    decoder: Engine
    kernels: bytes
    identity: str

    @classmethod
    def of(cls, device: Device, trt: ModuleType, plans: dict[str, bytes], identity: str) -> Engines:
        """plans: serialised, by graph, and the cubin as "frame"."""
        with device.active():
            detector, decoder = (Engine(trt, plans[g], g) for g in ("detector", "decoder"))
        return cls(device, detector, decoder, plans["frame"], identity)

    @classmethod
    def open(cls, folder: ModelFolder, where: Path | None = None) -> Engines:
        """Those that `hand-perception build-engine` left for this machine.

        where: their folder where it is another. Raises ModelError, one line with the cure, where
        they are missing, stale or of another machine, and without TensorRT, pycuda or a GPU.
        """
        where, command = where or engine_folder(folder), cure(folder)
        if not (where / f"detector{SUFFIX}").is_file():
            raise ModelError(f"no TensorRT engine of {folder.name} here: {command}")
        trt, device = load_tensorrt(), Device()
        plans, identities = {}, {}
        for graph in ("detector", "decoder", "frame"):
            wanted = expected_identity(folder, graph, device, trt)
            identities[graph], plans[graph] = load_engine(
                where / f"{graph}{SUFFIX}", wanted, command
            )
        if any(identity.attention == "plugin" for identity in identities.values()):
            load_plugins(trt)
        found = identities["decoder"]
        identity = (
            f"{folder.name}-{found.source_sha256[:8]} {found.precision} "
            f"tensorrt-{found.tensorrt} {device.name}"
        )
        return cls.of(device, trt, plans, identity)


def expected_identity(
    folder: ModelFolder, graph: str, device: Device, trt: ModuleType, precision: str = ""
) -> EngineIdentity:
    """What an engine of that graph ("frame": the kernels) must be to run here."""
    if graph == "frame":
        source, version = hashlib.sha256(KERNELS.read_bytes()).hexdigest(), ""
    else:
        source, version = folder.card["sha256"][f"{graph}.onnx"], trt.__version__
    return EngineIdentity(
        folder.name, graph, source, precision, version, device.name, device.compute_capability
    )
