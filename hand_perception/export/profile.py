"""``hand-perception profile``: what a network costs, as a + b H for H hands (HandOS, XII)."""

from __future__ import annotations

import argparse
import json
import weakref
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from hand_perception.errors import ModelError
from hand_perception.export.graphs import DecoderGraph, DetectorGraph
from hand_perception.models.handos.config import HandOSConfig
from hand_perception.models.handos.detector import Detector
from hand_perception.models.handos.model import HandOS
from hand_perception.settings import override
from hand_perception.template import load_template

# Grounding DINO 1.5 and HandOS's decoder, supplement XII: 8 GB of memory.
PAPER = "(301 + 108 H) GFLOPs"
# Bilinear: four neighbours, a product and a sum each.
_SAMPLE_FLOPS = 8


@dataclass(frozen=True)
class Line:
    """fixed + per_hand * H, in FLOPs (a multiply-add is two) or bytes."""

    fixed: float
    per_hand: float


@dataclass(frozen=True)
class Profile:
    """parameters: by part. flops; activations: bytes of float32 that live at once at most."""

    image_size: int
    parameters: dict[str, int]
    flops: Line
    activations: Line


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors made inside; ``peak`` is the most that lived at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._living: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        # Views and in-place results share the storage of an argument.
        known = {a.untyped_storage()._cdata for a in _tensors((args, kwargs))} | self._living
        for tensor in _tensors(out):
            storage = tensor.untyped_storage()
            if storage._cdata not in known:
                self._living.add(storage._cdata)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return out

    def _freed(self, storage: int, count: int) -> None:
        self._living.discard(storage)
        self.now -= count


def _tensors(tree: Any) -> list[Tensor]:
    return [x for x in tree_leaves(tree) if isinstance(x, Tensor)]


def profile(config: HandOSConfig) -> Profile:
    """Counts one image through detector and decoder.

    Ours is counted without computing; a pretrained detector computes, and takes its time.
    """
    model = HandOS(config, load_template()).eval()
    ours = isinstance(model.detector, Detector)
    with FakeTensorMode(allow_non_fake_inputs=True) if ours else nullcontext():
        image = torch.zeros(1, 3, config.image_size, config.image_size)
        detector_flops, detector_bytes, found = _count(DetectorGraph(model), image)
        _boxes, _scores, instances, *maps = found
        decoder = DecoderGraph(model)
        counts = []
        for hands in (1, 2):
            chosen = instances[:, :1].expand(-1, hands, -1)
            boxes = torch.full((1, hands, 4), 0.5)
            counts.append(_count(decoder, chosen, boxes, *maps)[:2])
    flops, lived = ([c[k] for c in counts] for k in range(2))
    held = sum(m.numel() * m.element_size() for m in maps)
    slope = lived[1] - lived[0]
    return Profile(
        config.image_size,
        {name: _parameters(getattr(model, name)) for name in ("detector", "decoder")},
        Line(detector_flops + 2 * flops[0] - flops[1], flops[1] - flops[0]),
        # The detector's own peak is over before the decoder starts; its maps stay.
        Line(max(detector_bytes - slope, held + lived[0] - slope), slope),
    )


def _count(module: nn.Module, *inputs: Tensor) -> tuple[int, int, tuple[Tensor, ...]]:
    """FLOPs, peak bytes and outputs of one pass."""

    def sampling(*_shapes: Any, out_shape: Any, **_options: Any) -> int:
        count = 1
        for size in out_shape:
            count *= size
        return _SAMPLE_FLOPS * count

    counter = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.grid_sampler_2d: sampling}
    )
    live = LiveBytes()
    with torch.no_grad(), counter, live:
        outputs = module(*inputs)
    return counter.get_total_flops(), live.peak, outputs


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="a file of config/models")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change it")
    parser.add_argument("--json", action="store_true", help="the numbers as JSON")


def run(args: argparse.Namespace) -> int:
    try:
        values = override(yaml.safe_load(args.model.read_text()), args.set, ModelError)
    except OSError as error:
        raise ModelError(f"{args.model} cannot be read: give a file of config/models") from error
    if values.pop("network", "") != "handos":
        raise ModelError(f"{args.model} is no HandOS: only that costs a + b H")
    result = profile(HandOSConfig.from_dict(values))
    if args.json:
        print(json.dumps(asdict(result)))
        return 0
    flops, memory = result.flops, result.activations
    for name, count in result.parameters.items():
        print(f"{name:12} {count / 1e6:8.2f} M parameters")
    print(f"operations   ({flops.fixed / 1e9:.2f} + {flops.per_hand / 1e9:.2f} H) GFLOPs")
    print(f"activations  ({memory.fixed / 2**20:.1f} + {memory.per_hand / 2**20:.1f} H) MiB")
    print(f"one image of {result.image_size} x {result.image_size}; the paper: {PAPER}")
    return 0
