"""Image and camera in, hands out: the one path that every front end runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hand_perception.errors import CameraError, ModelError
from hand_perception.geometry import box_iou
from hand_perception.hands import Camera, Hand, Reconstruction
from hand_perception.imaging import Letterbox, check_image
from hand_perception.pose_fitting import posed
from hand_perception.postprocess import (
    CANDIDATE_SCORE,
    ScoreCalibration,
    build_hands,
    choose_hands,
    image_boxes,
)
from hand_perception.runtime.backend import Backend, Detected, ModelFolder
from hand_perception.runtime.select import AUTO_MODEL, model_called, open_backend
from hand_perception.template import Template, load_template


@dataclass
class Candidates:
    """boxes [N, 4] in pixels of the image; detector and presence [N] in 0..1."""

    boxes: np.ndarray
    detector: np.ndarray
    presence: np.ndarray


class HandReconstructor:
    """``HandReconstructor.from_pretrained()(image, camera).hands``.

    One thread at a time; the node gives it its inference thread. fit_pose: whether meshes are the
    template, posed to what the network saw, as the model's card says, or the network's own.
    """

    def __init__(self, folder: ModelFolder, backend: Backend) -> None:
        self._folder, self._backend = folder, backend
        self._calibration = ScoreCalibration(*folder.score_calibration)
        self.topology: Template = load_template(folder.template)
        self.fit_pose = folder.fit_pose

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path = AUTO_MODEL, threads: int = 0, backend: str = "auto"
    ) -> HandReconstructor:
        """A shipped model by name or a model folder; threads: of ONNX Runtime, 0 lets it choose;
        backend: a name in runtime.select.

        Raises ModelError when files are missing or corrupt or the backend cannot run here.
        """
        folder = ModelFolder.open(model_called(name_or_path))
        return cls(folder, open_backend(folder, backend, threads))

    @property
    def identity(self) -> str:
        """Model, version, precision and backend in one line, for diagnostics."""
        return self._backend.identity

    def __call__(
        self, image: np.ndarray, camera: Camera | None = None, score_threshold: float = 0.5
    ) -> Reconstruction:
        """image: uint8 [H, W, 3] RGB. camera: of that image; None assumes one (not metric).

        Raises ImageError for an image that is too small or of another type, CameraError when the
        camera is of another size.
        """
        started = time.perf_counter()
        prepared, fit = self._prepare(image)
        camera = _camera_of(image, camera)
        ready = time.perf_counter()
        detected = self._backend.detect(prepared)
        lowest = self._calibration.lowest_detector_score(score_threshold)
        chosen = choose_hands(detected, lowest, self._folder.nms_iou)
        found = time.perf_counter()
        stages = {"preprocess": ready - started, "detector": found - ready}
        return self._decode(detected, chosen, fit, camera, score_threshold, stages)

    @property
    def can_follow(self) -> bool:
        """Whether `follow` works: the network reads crops, so boxes may come from elsewhere."""
        return hasattr(self._backend, "given")

    def follow(
        self,
        image: np.ndarray,
        camera: Camera | None,
        boxes: np.ndarray,
        score_threshold: float = 0.5,
    ) -> Reconstruction:
        """The hands in boxes [H, 4] (x0, y0, x1, y1, pixels of the image), without the detector.

        Their scores are the decoder's opinion alone. H is at least one. Raises as a call does, and
        ModelError when the network cannot do so.
        """
        if not self.can_follow:
            raise ModelError(f"{self._folder.name} reads no crops: call it without boxes")
        started = time.perf_counter()
        check_image(image)
        camera = _camera_of(image, camera)
        fit = Letterbox.fit(image.shape[1], image.shape[0], (self._folder.image_size,) * 2)
        detected = self._backend.given(image, fit, boxes)
        stages = {"preprocess": time.perf_counter() - started}
        return self._decode(detected, np.arange(len(boxes)), fit, camera, score_threshold, stages)

    def _decode(
        self,
        detected: Detected,
        chosen: np.ndarray,
        fit: Letterbox,
        camera: Camera,
        score_threshold: float,
        stages: dict[str, float],
    ) -> Reconstruction:
        """stages: seconds of what was done before."""
        started = decoded_at = time.perf_counter()
        hands = []
        if len(chosen):
            decoded = self._backend.decode(detected, chosen)
            decoded_at = time.perf_counter()
            hands = build_hands(
                detected,
                chosen,
                decoded,
                fit,
                self._folder.image_size,
                camera,
                self.topology,
                self._calibration,
                score_threshold,
            )
        if self.fit_pose:
            hands = [posed(hand, camera, self.topology) for hand in hands]
        done = time.perf_counter()
        stages |= {"decoder": decoded_at - started, "postprocess": done - decoded_at}
        return Reconstruction(hands, {name: 1e3 * s for name, s in stages.items()})

    def in_boxes(
        self, image: np.ndarray, boxes: np.ndarray, camera: Camera | None = None
    ) -> list[Hand]:
        """A hand for each of the boxes [N, 4] (x0, y0, x1, y1, in pixels), in their order.

        For protocols that give the true boxes (HandOS, supplement X): the query whose own box
        overlaps one most is decoded in it. Raises as a call does.
        """
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        if self.can_follow:
            return [self.follow(image, camera, box[None], 0.0).hands[0] for box in boxes]
        prepared, fit = self._prepare(image)
        camera = _camera_of(image, camera)
        detected = self._backend.detect(prepared)
        size = self._folder.image_size
        own = image_boxes(detected, np.arange(len(detected.scores)), fit, size)
        hands = []
        for box in boxes:
            # Where none overlaps, the likeliest hand's query.
            query = int(np.argmax(box_iou(own, box)[:, 0] + 1e-3 * detected.scores))
            low, high = (fit.boxes_to_network(box) + 0.5).reshape(2, 2) / size
            moved = detected.boxes.copy()
            moved[query] = *((low + high) / 2), *(high - low)
            placed = replace(detected, boxes=moved)
            hands += self._decode(placed, np.array([query]), fit, camera, 0.0, {}).hands
        return hands

    def candidates(self, image: np.ndarray) -> Candidates:
        """What the detector proposes and the decoder says to it, to calibrate scores with."""
        detected, chosen, fit = self._propose(image)
        presence = self._backend.decode(detected, chosen).presence if len(chosen) else np.zeros(0)
        boxes = image_boxes(detected, chosen, fit, self._folder.image_size)
        return Candidates(boxes, detected.scores[chosen], presence)

    def proposals(self, image: np.ndarray) -> np.ndarray:
        """The detector's boxes [N, 4] in pixels of the image, good and bad, best first."""
        detected, chosen, fit = self._propose(image)
        return image_boxes(detected, chosen, fit, self._folder.image_size)

    def _propose(self, image: np.ndarray) -> tuple[Detected, np.ndarray, Letterbox]:
        prepared, fit = self._prepare(image)
        detected = self._backend.detect(prepared)
        return detected, choose_hands(detected, CANDIDATE_SCORE, self._folder.nms_iou), fit

    def _prepare(self, image: np.ndarray) -> tuple[Any, Letterbox]:
        """The network's input and the way back to the image's pixels."""
        prepared = self._backend.prepare(image)
        fit = Letterbox.fit(image.shape[1], image.shape[0], (self._folder.image_size,) * 2)
        return prepared, fit


def _camera_of(image: np.ndarray, camera: Camera | None) -> Camera:
    """The image's camera. Raises CameraError when it is another image's."""
    height, width = image.shape[:2]
    camera = camera or Camera.assumed(width, height)
    if (camera.width, camera.height) != (width, height):
        raise CameraError(
            f"the camera is calibrated for {camera.width}x{camera.height} but the image is "
            f"{width}x{height}: publish the CameraInfo of this stream or resize the camera"
        )
    return camera
