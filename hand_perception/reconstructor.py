"""Image and camera in, hands out: the one path that every front end runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hand_perception.close_looks import read_closely
from hand_perception.errors import CameraError
from hand_perception.geometry import box_iou
from hand_perception.hands import Camera, Hand, Reconstruction
from hand_perception.imaging import Letterbox, Window, check_image
from hand_perception.pose_fitting import posed
from hand_perception.postprocess import (
    CANDIDATE_SCORE,
    ScoreCalibration,
    build_hands,
    choose_hands,
    corners,
    distinct,
    evidence,
    image_boxes,
    in_image,
    without_repeats,
)
from hand_perception.runtime.backend import (
    Backend,
    Decoded,
    Detected,
    Job,
    ModelFolder,
    decode_all,
    detect_all,
)
from hand_perception.runtime.select import AUTO_MODEL, model_called, open_backend
from hand_perception.second_look import (
    WORTH,
    badly_framed,
    joined,
    kept,
    reframed,
)
from hand_perception.template import Template, load_template
from hand_perception.view import View
from hand_perception.windows import asked_of_windows, close_window, search_windows


@dataclass
class Candidates:
    """boxes [N, 4] in pixels of the image; evidence [N, 5], as postprocess has it."""

    boxes: np.ndarray
    evidence: np.ndarray


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

    @property
    def canvas(self) -> int:
        """Side of the square that the detector sees, in pixels."""
        return self._folder.image_size

    @property
    def images_at_once(self) -> int:
        """How many views `together` reads in one go."""
        return self._backend.images_at_once

    @property
    def reads_crops(self) -> bool:
        """Whether its network does; else it reads whole images."""
        return hasattr(self._backend, "given")

    def __call__(
        self, image: np.ndarray, camera: Camera | None = None, score_threshold: float = 0.5
    ) -> Reconstruction:
        """image: uint8 [H, W, 3] RGB. camera: of that image; None assumes one (not metric).

        Raises ImageError for an image that is too small or of another type, CameraError when the
        camera is of another size.
        """
        return self.together([View(image, camera, score_threshold)])[0]

    def closely(
        self,
        image: np.ndarray,
        camera: Camera | None = None,
        score_threshold: float = 0.5,
        zoom: float = 3.0,
    ) -> Reconstruction:
        """As a call, with looks that are ``zoom`` times closer at windows of the image besides:
        for pictures with hands far away. Each look costs what a call does."""
        height, width = image.shape[:2]
        view = View(image, camera, score_threshold)
        windows = search_windows(width, height, zoom, self.canvas)
        close = replace(view, score_threshold=asked_of_windows(score_threshold))
        results = self.together([view, *(replace(close, window=window) for window in windows)])
        hands = [hand for result in results for hand in result.hands]
        stages: dict[str, float] = {}
        for result in results[:: self.images_at_once]:
            for name, ms in result.stage_ms.items():
                stages[name] = stages.get(name, 0.0) + ms
        return Reconstruction(without_repeats(hands), stages)

    def together(self, views: Sequence[View]) -> list[Reconstruction]:
        """One for each view, read in one go where the backend can. What it took is told of all of
        them at once.

        Raises as a call does, of any of the views.
        """
        if not self.reads_crops:
            return [self._closely_read(view) for view in views]
        most = self.images_at_once
        groups = [views[k : k + most] for k in range(0, len(views), most)]
        return [result for group in groups for result in self._read(group)]

    def _closely_read(self, view: View) -> Reconstruction:
        """By a network of whole images. A camera's bytes, as TensorRT's backend takes them, are not
        cut: of those there is one look, at all."""
        if not isinstance(view.image, np.ndarray):
            return self._read([replace(view, boxes=None, window=None)])[0]
        return read_closely(lambda look: self._read([look])[0], view)

    def _read(self, views: Sequence[View]) -> list[Reconstruction]:
        begun = time.perf_counter()
        prepared = [self._prepared(view) for view in views]
        cameras = [_camera_of(view.image, view.camera) for view in views]
        fits = [self._fit(view.image, view.window) for view in views]
        ready = time.perf_counter()
        looked = iter(detect_all(self._backend, [p for p in prepared if p is not None]))
        jobs = [
            self._job(view, fit, next(looked) if view.looks else None)
            for view, fit in zip(views, fits, strict=True)
        ]
        found = time.perf_counter()
        decoded = decode_all(self._backend, jobs)
        if self.reads_crops:
            # Where a hand is followed, the next frame is the second look.
            least = [WORTH * v.score_threshold if v.looks else None for v in views]
            decoded = self._looked_again(jobs, decoded, fits, least)
        read = time.perf_counter()
        hands = [
            self._built(job, outputs, fit, camera, view.score_threshold)
            for job, outputs, fit, camera, view in zip(
                jobs, decoded, fits, cameras, views, strict=True
            )
        ]
        built = time.perf_counter()
        stages = {
            "preprocess": ready - begun,
            "detector": found - ready,
            "decoder": read - found if any(len(chosen) for _, chosen in jobs) else 0.0,
            "postprocess": built - read,
        }
        if not any(view.looks for view in views):
            del stages["detector"]
        stage_ms = {name: 1e3 * seconds for name, seconds in stages.items()}
        return [Reconstruction(own, dict(stage_ms)) for own in hands]

    def _prepared(self, view: View) -> Any:
        """What the detector reads; None where it is not to look."""
        if view.looks:
            return self._backend.prepare(view.seen(self.canvas))
        check_image(view.image)
        return None

    def _job(self, view: View, fit: Letterbox, found: Detected | None) -> Job:
        """What is to be decoded: what the detector found, if it looked, and where hands are known
        to be."""
        if found is None:
            return self._backend.given(view.image, fit, view.boxes), np.arange(len(view.boxes))
        lowest = self._calibration.lowest_detector_score(view.score_threshold)
        chosen = choose_hands(found, lowest, self._folder.nms_iou)
        if not self.reads_crops or (view.boxes is None and view.window is None):
            return found, chosen
        # Crops are cut from all of the image, not from the window alone; the detector frames a hand
        # better than whoever knows about where it is.
        boxes = np.zeros((0, 4)) if view.boxes is None else view.boxes
        known = self._backend.given(view.image, fit, boxes)
        repeats = box_iou(corners(known.boxes), corners(found.boxes[chosen])) > self._folder.nms_iou
        unseen = ~repeats.any(1)
        boxes = np.concatenate([known.boxes[unseen], found.boxes[chosen]])
        scores = np.concatenate([known.scores[unseen], found.scores[chosen]])
        return replace(known, boxes=boxes, scores=scores), np.arange(len(boxes))

    def _looked_again(
        self,
        jobs: list[Job],
        decoded: list[Decoded | None],
        fits: list[Letterbox],
        least: list[float | None],
    ) -> list[Decoded | None]:
        """``decoded``, of hands that were badly framed from two looks; not of those that repeat a
        better one, or of which a first look says less than ``least``, one for each job; None: all
        of its hands are looked at once."""
        size = self._folder.image_size
        again: dict[int, tuple[np.ndarray, Job]] = {}
        for k, (job, told, fit) in enumerate(zip(jobs, decoded, fits, strict=True)):
            if told is None or least[k] is None:
                continue
            seen = in_image(*job, told, fit, size)
            scores = self._calibration.score(evidence(job[0].scores[job[1]], told, seen))
            worth = badly_framed(seen) & (scores >= least[k])
            rows = np.array(
                [q for q in distinct(scores, seen.joints2d, seen.boxes) if worth[q]], int
            )
            if len(rows):
                again[k] = rows, reframed(job, rows, seen.bounds[rows], fit, size)
        if not again:
            return decoded
        # What backends give holds until they decode again.
        decoded = [None if told is None else kept(told) for told in decoded]
        looked = decode_all(self._backend, [job for _, job in again.values()])
        for (k, (rows, _)), second in zip(again.items(), looked, strict=True):
            decoded[k] = joined(decoded[k], rows, second)
        return decoded

    def _built(
        self,
        job: Job,
        decoded: Decoded | None,
        fit: Letterbox,
        camera: Camera,
        score_threshold: float,
    ) -> list[Hand]:
        if decoded is None:
            return []
        hands = build_hands(
            *job,
            decoded,
            fit,
            self._folder.image_size,
            camera,
            self.topology,
            self._calibration,
            score_threshold,
        )
        return posed(hands, camera, self.topology) if self.fit_pose else hands

    def in_boxes(
        self, image: np.ndarray, boxes: np.ndarray, camera: Camera | None = None
    ) -> list[Hand]:
        """A hand for each of the boxes [N, 4] (x0, y0, x1, y1, in pixels), in their order.

        For protocols that give the true boxes (HandOS, supplement X): the query whose own box
        overlaps one most is decoded in it, in the window about it. Raises as a call does.
        """
        check_image(image)
        camera = _camera_of(image, camera)
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        if self.reads_crops:
            views = [View(image, camera, 0.0, box[None]) for box in boxes]
            return [result.hands[0] for result in self.together(views)]
        return [self._in_box(image, box, camera) for box in boxes]

    def _in_box(self, image: np.ndarray, box: np.ndarray, camera: Camera) -> Hand:
        height, width = image.shape[:2]
        view = View(image, camera, window=close_window(box[None], width, height))
        detected = self._backend.detect(self._backend.prepare(view.seen(self.canvas)))
        fit, size = self._fit(image, view.window), self._folder.image_size
        own = image_boxes(detected, np.arange(len(detected.scores)), fit, size)
        # Where none overlaps, the likeliest hand's query.
        query = int(np.argmax(box_iou(own, box[None])[:, 0] + 1e-3 * detected.scores))
        job = reframed((detected, np.array([query])), np.array([0]), box[None], fit, size)
        return self._built(job, self._backend.decode(*job), fit, camera, 0.0)[0]

    def candidates(self, image: np.ndarray) -> Candidates:
        """What the detector proposes and the decoder says to it, to calibrate scores with."""
        detected, chosen, fit = self._propose(image)
        if not len(chosen):
            return Candidates(np.zeros((0, 4)), np.zeros((0, 5)))
        decoded = self._backend.decode(detected, chosen)
        if self.reads_crops:
            (decoded,) = self._looked_again([(detected, chosen)], [decoded], [fit], [0.0])
        seen = in_image(detected, chosen, decoded, fit, self._folder.image_size)
        return Candidates(seen.boxes, evidence(detected.scores[chosen], decoded, seen))

    def proposals(self, image: np.ndarray) -> np.ndarray:
        """The detector's boxes [N, 4] in pixels of the image, good and bad, best first."""
        detected, chosen, fit = self._propose(image)
        return image_boxes(detected, chosen, fit, self._folder.image_size)

    def _propose(self, image: np.ndarray) -> tuple[Detected, np.ndarray, Letterbox]:
        detected = self._backend.detect(self._backend.prepare(image))
        chosen = choose_hands(detected, CANDIDATE_SCORE, self._folder.nms_iou)
        return detected, chosen, self._fit(image)

    def _fit(self, image: np.ndarray, window: Window | None = None) -> Letterbox:
        """The way between the network's input and the image's pixels."""
        height, width = image.shape[:2]
        window = window or (0, 0, width, height)
        return Letterbox.of_window(width, height, window, (self._folder.image_size,) * 2)


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
