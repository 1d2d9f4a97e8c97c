"""The torch network behind the protocol of the backends: what the exported graphs are judged by.

On a GPU its work is recorded as CUDA graphs, so that it also tells what a card can do where no
other backend is installed. Nothing that is deployed imports this.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from hand_perception.export.graphs import DecoderGraph, DetectorGraph, decoder_outputs
from hand_perception.imaging import Letterbox, check_image
from hand_perception.models.handos.model import HandOS, normalise
from hand_perception.runtime.backend import Decoded, Detected

_GREY = 114.0


class TorchBackend:
    """half: float16 by autocast. graphs: record what a frame does, on a GPU only.

    The image is resampled on the device, by area on the way down and bilinearly on the way up, as
    two products with the weights of its rows and columns.
    """

    images_at_once = 1

    def __init__(
        self, model: HandOS, device: str = "cpu", half: bool = False, graphs: bool = True
    ) -> None:
        self._device = torch.device(device)
        self._model = model.to(self._device).eval()
        self._size = model.config.image_size
        self._half = half
        self._graphs = graphs and self._device.type == "cuda"
        self._detector, self._decoder = DetectorGraph(model), DecoderGraph(model)
        self._layout: tuple[int, int] | None = None
        self._detect: Callable[[], list[Tensor]] | None = None
        self._chosen: dict[int, Tensor] = {}
        self._decodes: dict[int, Callable[[], list[Tensor]]] = {}
        where = torch.cuda.get_device_name(self._device) if device != "cpu" else "cpu"
        how = " with CUDA graphs" if self._graphs else ""
        precision = "fp16 autocast" if half else "fp32"
        self.identity = f"{model.config.name} {precision} torch-{torch.__version__}{how} {where}"

    @torch.inference_mode()
    def prepare(self, image: np.ndarray) -> np.ndarray:
        """RGB uint8 [H, W, 3]; the device does the rest in `detect`."""
        check_image(image)
        if image.shape[:2] != self._layout:
            self._layout = image.shape[:2]
            self._frame = self._host(image.shape, torch.uint8)
            self._detect = self._record(self._detecting(*self._layout))
            # The feature maps' addresses have changed.
            self._decodes.clear()
        self._frame.numpy()[:] = image
        return image

    @torch.inference_mode()
    def detect(self, prepared: np.ndarray) -> Detected:
        boxes, scores = self._detect()
        self._wait()
        return Detected(boxes[0].numpy(), scores[0].numpy(), None)

    @torch.inference_mode()
    def decode(self, detected: Detected, chosen: np.ndarray) -> Decoded:
        """Of the frame detected last."""
        hands = len(chosen)
        if hands not in self._decodes:
            self._chosen[hands] = self._host((hands,), torch.int64)
            self._chosen[hands].numpy()[:] = chosen
            self._decodes[hands] = self._record(self._decoding(hands))
        self._chosen[hands].numpy()[:] = chosen
        outputs = self._decodes[hands]()
        self._wait()
        values = (value[0].numpy() for value in outputs)
        return Decoded(**dict(zip(decoder_outputs(self._model), values, strict=True)))

    def _detecting(self, height: int, width: int) -> Callable[[], list[Tensor]]:
        inner = Letterbox.fit(width, height, (self._size, self._size)).inner_size
        shrinks = inner[0] < width
        across = resampling(width, inner[0], shrinks).to(self._device)
        down = resampling(height, inner[1], shrinks).to(self._device)
        frame = self._frame

        def work() -> list[Tensor]:
            pixels = frame.to(self._device, non_blocking=True).permute(2, 0, 1).float()
            canvas = torch.full((3, self._size, self._size), _GREY, device=self._device)
            canvas[:, : inner[1], : inner[0]] = (down @ pixels @ across.T).round()
            with self._autocast():
                boxes, scores, instances, *maps = self._detector(normalise(canvas[None]))
            self._features = instances.float(), boxes.float(), [m.float() for m in maps]
            return [boxes, scores]

        return work

    def _decoding(self, hands: int) -> Callable[[], list[Tensor]]:
        chosen = self._chosen[hands]

        def work() -> list[Tensor]:
            instances, boxes, maps = self._features
            index = chosen.to(self._device, non_blocking=True)
            with self._autocast():
                outputs = self._decoder(instances[:, index], boxes[:, index], *maps)
            return list(outputs)

        return work

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.float16, enabled=self._half)

    def _record(self, work: Callable[[], list[Tensor]]) -> Callable[[], list[Tensor]]:
        """What gives work's results in host memory, the same at each call."""
        # Memory cannot be made while a graph is recorded.
        hosts = [self._host(tuple(value.shape), torch.float32) for value in work()]

        def run() -> list[Tensor]:
            for host, value in zip(hosts, work(), strict=True):
                host.copy_(value, non_blocking=True)
            return hosts

        if not self._graphs:
            return run
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                run()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()

        def replay() -> list[Tensor]:
            graph.replay()
            return hosts

        return replay

    def _host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, pin_memory=self._device.type == "cuda")

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


def resampling(source: int, target: int, by_area: bool) -> Tensor:
    """Weights [target, source] of one axis, rows summing to one: the share of each source pixel in
    the interval that a target pixel covers, or bilinear ones."""
    scale = source / target
    places = torch.arange(target, dtype=torch.float64)
    pixels = torch.arange(source, dtype=torch.float64)
    if by_area:
        begin, end = places[:, None] * scale, (places[:, None] + 1) * scale
        weights = (torch.minimum(end, pixels + 1) - torch.maximum(begin, pixels)).clamp(min=0)
    else:
        centre = ((places + 0.5) * scale - 0.5).clamp(0, source - 1)
        weights = (1 - (centre[:, None] - pixels).abs()).clamp(min=0)
    return (weights / weights.sum(1, keepdim=True)).float()
