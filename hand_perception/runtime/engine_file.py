"""A TensorRT engine with its identity in the same file, so that a foreign one is never run.

TensorRT's plans hold for one version of the library and one kind of GPU, and say nothing of the
network they came from. A file here is a line of magic, a line of JSON (`EngineIdentity`) and the
plan; the JSON has the plan's length and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from hand_perception.errors import ModelError
from hand_perception.runtime.backend import MODELS, ModelFolder

_MAGIC = b"hand_perception engine 1\n"
SUFFIX = ".engine"
# What must be the same on the machine that runs it, and how the difference is said.
_MUST_MATCH = {
    "model": "another model",
    "graph": "another graph",
    "source_sha256": "another version of the network",
    "tensorrt": "another TensorRT",
    "gpu": "another GPU",
    "compute_capability": "another kind of GPU",
}


@dataclass(frozen=True)
class EngineIdentity:
    """graph: detector, decoder or frame (the kernels, no engine of TensorRT's; tensorrt is "").
    source_sha256: of the ONNX or CUDA file it was made from. shapes: by input, smallest, usual and
    largest. agreement: what `export.agreement` measured after the build, empty before. attention:
    "plugin" where TensorRT's plugins must be loaded first.
    """

    model: str
    graph: str
    source_sha256: str
    precision: str
    tensorrt: str
    gpu: str
    compute_capability: str
    shapes: dict[str, list[list[int]]] = field(default_factory=dict)
    agreement: dict[str, float] = field(default_factory=dict)
    attention: str = "gather"

    def differences(self, expected: EngineIdentity) -> list[str]:
        """How it differs from what this machine needs; nothing when it may run."""
        return [
            f"{meaning} ({getattr(self, name)!s:.40}, here {getattr(expected, name)!s:.40})"
            for name, meaning in _MUST_MATCH.items()
            if getattr(self, name) != getattr(expected, name)
        ]


def engine_folder(folder: ModelFolder) -> Path:
    """Where a model's engines lie: under $HAND_PERCEPTION_ENGINES or the user's cache."""
    root = os.environ.get("HAND_PERCEPTION_ENGINES")
    if root is None:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        root = Path(cache) / "hand_perception" / "engines"
    version = folder.card["sha256"]["decoder.onnx"][:8]
    return Path(root) / f"{folder.name}-{version}"


def cure(folder: ModelFolder) -> str:
    """The command that builds a model's engines, for error messages."""
    shipped = folder.path.parent == MODELS
    return f"run `hand-perception build-engine {folder.path.name if shipped else folder.path}`"


def write_engine(path: Path, identity: EngineIdentity, plan: bytes) -> None:
    """Whole or not at all: an interrupted build leaves the old file."""
    header = asdict(identity) | {
        "plan_bytes": len(plan),
        "plan_sha256": hashlib.sha256(plan).hexdigest(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_bytes(_MAGIC + json.dumps(header).encode() + b"\n" + plan)
    partial.replace(path)


def read_engine(path: Path) -> tuple[EngineIdentity, bytes]:
    """Raises ModelError when the file is missing, cut short, corrupt or no engine file of ours."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}): build the engine") from error
    end = data.find(b"\n", len(_MAGIC))
    try:
        if not data.startswith(_MAGIC) or end < 0:
            raise ValueError("no header")
        header = json.loads(data[len(_MAGIC) : end])
        plan = data[end + 1 :]
        if len(plan) != header.pop("plan_bytes"):
            raise ValueError("cut short")
        if hashlib.sha256(plan).hexdigest() != header.pop("plan_sha256"):
            raise ValueError("corrupt")
        known = {f.name for f in fields(EngineIdentity)}
        identity = EngineIdentity(**{k: v for k, v in header.items() if k in known})
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is no usable engine ({error}): build it again") from error
    return identity, plan


def load_engine(path: Path, expected: EngineIdentity, command: str) -> tuple[EngineIdentity, bytes]:
    """The engine and its identity, where it is the one expected.

    command: the cure. Raises ModelError, one line, when it is missing, broken, stale or foreign.
    """
    if not path.is_file():
        raise ModelError(f"no TensorRT engine of {expected.model} here: {command}")
    identity, plan = read_engine(path)
    if differences := identity.differences(expected):
        raise ModelError(f"{path.name} is for {'; '.join(differences)}: {command}")
    return identity, plan
