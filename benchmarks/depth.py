"""How well a depth image places hands: error, refusals and time, by what is in the image.

    python benchmarks/depth.py [--hands N] [--output depth.json]

Hands have sampled poses (synthesis/poses.py), any turn and place, and are drawn into a depth image
with 0.5 % noise and a tenth of holes. What is refined is not the true mesh: its skin is off by 4 mm
as a network's would be, and it is scaled about the camera by the given factor, so that its distance
and size are wrong by as much. Prints a Markdown table: of each factor's hands the mean distance
between true and found depth of the mesh, in millimetres, the 95th percentile, the share left as
they were, and the share whose depth lies within two of its own standard deviations.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hand_perception.depth import refine_with_depth, scaled
from hand_perception.geometry import project, wrist_frame
from hand_perception.hands import Camera, Hand, Side
from hand_perception.synthesis.limb import Limb
from hand_perception.synthesis.poses import PoseSampler
from hand_perception.synthesis.raster import rasterize
from hand_perception.synthesis.rig import forward_kinematics
from hand_perception.uncertainty import depth_std

CAMERA = Camera(600.0, 600.0, 319.5, 239.5, 640, 480)
FACTORS = (0.7, 0.9, 1.0, 1.1, 1.3)
SKIN_M = 0.015
NETWORK_M, NOISE, HOLES = 0.004, 0.005, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hands", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()

    limb = Limb()
    rest = (limb.vertices, limb.weights, limb.joints, limb.frames)
    generator = torch.Generator().manual_seed(args.seed)
    rotations = PoseSampler(*rest).sample(args.hands, generator)
    rng = np.random.default_rng(args.seed)
    turns, posed = forward_kinematics(rotations, limb.joints.expand(args.hands, -1, 3), limb.frames)
    vertices = limb.vertices.expand(args.hands, -1, 3)
    joints = limb.joints.expand(args.hands, -1, 3)
    meshes = limb.template_vertices(limb.pose(vertices, joints, turns, posed)).numpy()
    hands = [placed(mesh, limb.template, rng) for mesh in meshes]
    rows = []
    for name, draw in SCENES.items():
        for factor in FACTORS:
            rows.append(measure(name, draw, factor, hands, limb.template, args.seed))
    report(rows)
    if args.output:
        args.output.write_text(json.dumps(rows, indent=2) + "\n")


def placed(mesh: np.ndarray, template, rng: np.random.Generator) -> Hand:
    """Any turn, 0.35 to 1.2 m away, within the picture."""
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    side = Side.RIGHT if rng.random() < 0.5 else Side.LEFT
    mesh = mesh - mesh.mean(0)
    if side is Side.LEFT:
        mesh = mesh * (-1, 1, 1)
    depth = rng.uniform(0.35, 1.2)
    at = np.append(rng.uniform(-0.15, 0.15, 2) * depth, depth)
    return hand_of(mesh @ (q * np.linalg.det(q)).T + at, template, side)


def hand_of(mesh: np.ndarray, template, side: Side) -> Hand:
    keypoints = template.regressor @ mesh
    pixels = project(mesh, CAMERA)
    return Hand(
        side=side,
        score=1.0,
        box=np.concatenate([pixels.min(0) - 5, pixels.max(0) + 5]),
        keypoints2d=project(keypoints, CAMERA),
        confidences=np.ones(21),
        keypoints3d=keypoints.astype(np.float32),
        vertices=mesh.astype(np.float32),
        wrist=wrist_frame(keypoints, side),
    )


def as_predicted(hand: Hand, template, rng: np.random.Generator) -> Hand:
    """With skin that is off smoothly, as by joints that are."""
    gap = np.linalg.norm(template.vertices[:, None] - template.keypoints, axis=-1)
    reach = np.exp(-((gap / SKIN_M) ** 2)) + 1e-12
    reach /= reach.sum(1, keepdims=True)
    wrong = hand_of(hand.vertices + reach @ rng.normal(0, NETWORK_M, (21, 3)), template, hand.side)
    return replace(wrong, keypoints2d=hand.keypoints2d, box=hand.box)


# -- scenes ----------------------------------------------------------------------------------------


def drawn(hand: Hand, template, behind: np.ndarray | float) -> np.ndarray:
    image = np.array(np.broadcast_to(behind, (CAMERA.height, CAMERA.width)), np.float32)
    fragments = rasterize(
        torch.from_numpy(project(hand.vertices, CAMERA).astype(np.float32)),
        torch.from_numpy(hand.vertices[:, 2].copy()),
        torch.from_numpy(template.faces),
        torch.zeros(len(template.faces), dtype=torch.int32),
        1,
        CAMERA.height,
        CAMERA.width,
        cull=False,
    )
    pixel = fragments.pixel.numpy()
    image.reshape(-1)[pixel] = np.fmin(image.reshape(-1)[pixel], fragments.depth.numpy())
    return image


def alone(hand, template, rng):
    return drawn(hand, template, np.nan)


def room(hand, template, rng):
    return drawn(hand, template, hand.vertices[:, 2].max() + rng.uniform(0.2, 1.5))


def table(hand, template, rng):
    """A surface that the farthest point of the hand touches."""
    return drawn(hand, template, float(hand.vertices[:, 2].max()) + 0.002)


def covered(share: float):
    def draw(hand, template, rng):
        """A board in front, from any side, over a share of the hand's pixels."""
        image = drawn(hand, template, 2.0)
        y, x = np.nonzero(image < 1.9)
        angle = rng.uniform(0, 2 * np.pi)
        rows, columns = np.indices(image.shape)
        along = np.cos(angle) * columns + np.sin(angle) * rows
        edge = np.quantile(np.cos(angle) * x + np.sin(angle) * y, share)
        image[along < edge] = hand.vertices[:, 2].min() - rng.uniform(0.03, 0.15)
        return image

    return draw


SCENES = {
    "alone": alone,
    "before a wall": room,
    "on a table": table,
    "a third behind a board": covered(1 / 3),
    "half behind a board": covered(1 / 2),
}


def measure(name: str, draw, factor: float, hands: list[Hand], template, seed: int) -> dict:
    rng = np.random.default_rng(seed)
    errors, within, ms, refused = [], [], [], 0
    for hand in hands:
        start = scaled(as_predicted(hand, template, rng), factor)
        image = draw(hand, template, rng) * (
            1 + NOISE * rng.normal(size=(CAMERA.height, CAMERA.width))
        )
        image[rng.random(image.shape) < HOLES] = np.nan
        image = image.astype(np.float32)
        started = time.perf_counter()
        found = refine_with_depth(start, image, CAMERA, template)
        ms.append(1e3 * (time.perf_counter() - started))
        if found is start:
            refused += 1
            continue
        errors.append(abs(float(found.vertices[:, 2].mean() - hand.vertices[:, 2].mean())))
        within.append(errors[-1] < 2 * depth_std(found.position_covariance))
    return {
        "scene": name,
        "factor": factor,
        "mean_mm": 1e3 * float(np.mean(errors)),
        "p95_mm": 1e3 * float(np.percentile(errors, 95)),
        "refused": refused / len(hands),
        "within": float(np.mean(within)),
        "ms": float(np.median(ms)),
    }


def report(rows: list[dict]) -> None:
    print("| first distance over the true one | " + " | ".join(map(str, FACTORS)) + " |")
    print("|---" * (len(FACTORS) + 1) + "|")
    for name in SCENES:
        of_scene = [row for row in rows if row["scene"] == name]
        for label, cell in (
            ("mean (95 %), mm", "{mean_mm:.1f} ({p95_mm:.1f})"),
            ("left as they were", "{refused:.0%}"),
            ("within 2 standard deviations", "{within:.0%}"),
        ):
            cells = " | ".join(cell.format(**row) for row in of_scene)
            print(f"| {name}: {label} | {cells} |")
    print(f"\nmedian of {np.median([row['ms'] for row in rows]):.2f} ms a hand")


if __name__ == "__main__":
    main()
