"""Metric 3D hands for robots: detection, 2D joints, 778-vertex mesh, camera-frame pose.

The public names load lazily, so that ``import hand_perception`` costs nothing and a
deployed node never imports torch.
"""

from __future__ import annotations

import importlib
from pkgutil import extend_path

# Under ROS 2 the generated ``hand_perception.msg`` lives in the install space; run from the
# source tree, this package would hide it.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"

_PUBLIC = {
    "Camera": "hands",
    "Hand": "hands",
    "Pose": "hands",
    "Side": "hands",
    "HandReconstructor": "reconstructor",
    "HandPerceptionError": "errors",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
