"""A short film of two hands that gesture, with the truth of every frame.

    python -m hand_perception.synthesis.clip --output hand_perception/assets/demo --seed 54

writes clip.mp4 and truth.npz (K [3, 3], fps, keypoints3d [T, N, 21, 3] metres, keypoints2d
[T, N, 21, 2] and boxes [T, N, 4] pixels, is_left [T, N]). The wall behind the hands is procedural,
so that the film contains no one's photograph.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from hand_perception.errors import DataError
from hand_perception.synthesis.recipe import Recipe
from hand_perception.synthesis.render import Renderer
from hand_perception.synthesis.rig import forward_kinematics
from hand_perception.synthesis.scene import Scene
from hand_perception.synthesis.space import clip_boxes, project_boxes, turn_about

GESTURES = (
    ("open", "fist", "point", "two", "ok", "open"),
    ("relaxed", "open", "thumb_up", "fist", "three", "spread"),
)
FIELD_OF_VIEW_DEG = 62.0
HANDS = len(GESTURES)
SIDES = (1.0, -1.0)  # mirror: a right hand, then a left one
SHOULDER_HALF_WIDTH = 0.21  # metres; elbows hang below the shoulders


@dataclass(frozen=True)
class Clip:
    """frames: [T, H, W, 3] uint8 RGB. K: [3, 3]. keypoints3d: [T, N, 21, 3] metres, keypoints2d:
    [T, N, 21, 2] and boxes: [T, N, 4] pixels. is_left: [T, N] bool. fps: frames per second."""

    frames: np.ndarray
    K: np.ndarray
    keypoints3d: np.ndarray
    keypoints2d: np.ndarray
    boxes: np.ndarray
    is_left: np.ndarray
    fps: float


def render_clip(
    seconds: float = 5.0, fps: float = 30.0, size: tuple[int, int] = (640, 480), seed: int = 0
) -> Clip:
    """Renders the film; size is (width, height). The same arguments give the same film."""
    width, height = size
    renderer = Renderer("cpu", seed, recipe=Recipe(hands=(0.0,) * HANDS + (1.0,)))
    generator = torch.Generator().manual_seed(seed)
    actors = _Actors(renderer, generator, width, height)
    background = _wall(height, width, torch.Generator().manual_seed(seed))
    look = generator.get_state()  # every frame draws skin, light and camera from here
    batches = []
    for t in tqdm(range(round(seconds * fps)), desc="clip", unit="frame", disable=None):
        scene = actors.scene(t / max(1, round(seconds * fps) - 1), seconds)
        generator.set_state(look)
        batches.append(renderer.draw(scene, background, generator))

    def stacked(name: str) -> np.ndarray:
        return torch.cat([getattr(batch, name) for batch in batches]).numpy()

    frames = np.ascontiguousarray(stacked("rgb").transpose(0, 2, 3, 1))
    keypoints, boxes = stacked("keypoints2d"), stacked("boxes")
    K = batches[0].K[0].numpy()
    return Clip(frames, K, stacked("keypoints3d"), keypoints, boxes, stacked("is_left"), fps)


class _Actors:
    """Two hands of one person: their shapes, and their poses over time."""

    def __init__(
        self, renderer: Renderer, generator: torch.Generator, width: int, height: int
    ) -> None:
        self.limb, self.poses = renderer.limb, renderer.scenes.poses
        self.width, self.height = width, height
        self.mirror = torch.tensor(SIDES)
        shapes, rest = renderer.scenes.shapes.sample(1, generator)
        self.shapes = shapes.expand(HANDS, -1, -1)
        self.rest = rest.expand(HANDS, -1, -1)
        self.keys = torch.stack(
            [
                torch.stack([self._clean(name, generator) for name in gestures])
                for gestures in GESTURES
            ],
            1,
        )  # [keys, hands, 16, 3, 3]
        self.phase = 2 * math.pi * torch.rand(HANDS, 6, generator=generator)
        focal = 0.5 * max(width, height) / math.tan(math.radians(FIELD_OF_VIEW_DEG) / 2)
        self.K = torch.tensor(
            [[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]]
        )

    def _clean(self, name: str, generator: torch.Generator) -> Tensor:
        drawn = self.poses.gesture(name, 16, generator)
        return drawn[self.poses.penetration(drawn).argmin()]

    def scene(self, share: float, seconds: float) -> Scene:
        """The scene at ``share`` (0..1) of the film."""
        place = share * (len(self.keys) - 1)
        low = min(int(place), len(self.keys) - 2)
        # Gestures are held for a while: the change happens in the middle half of each interval.
        t = min(max(2 * (place - low) - 0.5, 0.0), 1.0)
        rotations = _between(self.keys[low], self.keys[low + 1], t * t * (3 - 2 * t))
        turns, posed = forward_kinematics(rotations, self.rest, self.limb.frames)
        dense = self.limb.pose(self.shapes, self.rest, turns, posed)
        centre = posed[:, [0, 4, 7, 10, 13]].mean(1, keepdim=True)
        flip = torch.stack([torch.ones(HANDS), torch.ones(HANDS), self.mirror], -1)[:, None]

        clock = 2 * math.pi * share * seconds
        wave = torch.sin(clock * torch.tensor([0.23, 0.31, 0.27, 0.17, 0.29, 0.37]) + self.phase)
        degrees = math.pi / 180
        view = (
            turn_about(2, (8 * self.mirror + 14 * wave[:, 0]) * degrees)
            @ turn_about(0, 16 * degrees * wave[:, 1])
            @ turn_about(1, (-90 + 30 * wave[:, 2]) * degrees)
        )
        # A person facing the camera: the right hand is on the left of the picture.
        position = torch.stack(
            [
                -0.15 * self.mirror + 0.035 * wave[:, 3],
                0.02 + 0.05 * wave[:, 4],
                0.62 + 0.15 * wave[:, 5],
            ],
            -1,
        )
        dense = ((dense - centre) * flip) @ view.transpose(1, 2) + position[:, None]
        template_vertices = self.limb.template_vertices(dense)
        keypoints = self.limb.regressor @ template_vertices
        elbow = torch.stack(
            [
                -SHOULDER_HALF_WIDTH * self.mirror,
                torch.full((HANDS,), 0.33),
                position[:, 2] + 0.06,
            ],
            -1,
        )
        forearm = F.normalize(elbow - keypoints[:, 0], dim=-1)
        upper = F.normalize(torch.tensor([[0.0, 0.6, 0.8]]), dim=-1).expand(HANDS, 3)
        sleeve = torch.full((HANDS,), 0.09)
        girth = 1 + 0.22 * (self.limb.distances > sleeve[:, None])
        arm = self.limb.arm(dense, self.mirror, forearm, upper, girth)
        image = torch.zeros(HANDS, dtype=torch.int64)
        boxes = project_boxes(template_vertices, self.K.expand(HANDS, 3, 3))
        return Scene(
            count=1,
            height=self.height,
            width=self.width,
            image=image,
            mirror=self.mirror,
            vertices=torch.cat([dense, arm], 1),
            template_vertices=template_vertices,
            keypoints=keypoints,
            K=self.K[None],
            boxes=clip_boxes(boxes, self.height, self.width),
            person=image,
            objects=torch.zeros(0, 1, 3),
            object_image=torch.zeros(0, dtype=torch.int64),
            sleeve_start=sleeve,
        )


def _between(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Rotations [..., 3, 3] between two: the nearest to their weighted mean."""
    u, _, v = torch.linalg.svd((1 - t) * a + t * b)
    return u @ v


def _wall(height: int, width: int, generator: torch.Generator) -> Tensor:
    """A plain room: a softly lit wall over a darker table, [1, 3, H, W] in 0..1."""
    light = 0.75 + 0.25 * torch.rand(1, 1, 3, 4, generator=generator)
    light = F.interpolate(light, (height, width), mode="bicubic", align_corners=True)
    wall = torch.tensor([0.62, 0.66, 0.68])[None, :, None, None] * light
    y = torch.linspace(0, 1, height)[:, None]
    table = ((y - 0.86) * 60).clamp(0, 1)
    wood = torch.tensor([0.42, 0.33, 0.25])[None, :, None, None] * light
    grain = F.interpolate(
        torch.randn(1, 1, height // 3, 8, generator=generator), (height, width), mode="bilinear"
    )
    return (wall + table * (wood * (1 + 0.05 * grain) - wall)).clamp(0, 1)


def write_clip(clip: Clip, folder: Path) -> None:
    """Writes clip.mp4 and truth.npz. Raises DataError when OpenCV cannot encode."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width = clip.frames.shape[1:3]
    codec = cv2.VideoWriter_fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(folder / "clip.mp4"), codec, clip.fps, (width, height))
    if not writer.isOpened():
        raise DataError(f"OpenCV cannot write {folder / 'clip.mp4'}: check the folder's rights")
    for frame in clip.frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    arrays = {
        name: getattr(clip, name)
        for name in ("K", "keypoints3d", "keypoints2d", "boxes", "is_left", "fps")
    }
    np.savez_compressed(folder / "truth.npz", **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    size = (args.width, args.height)
    write_clip(render_clip(args.seconds, args.fps, size, args.seed), args.output)


if __name__ == "__main__":
    main()
