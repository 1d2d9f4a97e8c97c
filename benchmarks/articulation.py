"""How well joint angles come back from the meshes of sampled poses, and how long it takes.

    python benchmarks/articulation.py [--hands N] [--output articulation.json]

Poses are synthesis/poses.py's; hands have the template's shape or that of other people
(synthesis/shape.py). Noise moves each keypoint by a normal vector of the given standard deviation
per axis, independently of its neighbours, and the skin around it along. Prints a table in Markdown:
mean and 95th percentile of the absolute angle errors in degrees, and the mean distance between the
mesh given and the mesh of the angles found.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from hand_perception.articulation import ANGLE_NAMES, articulate, pose_template
from hand_perception.geometry import wrist_frame
from hand_perception.hands import Hand, Side
from hand_perception.synthesis.limb import Limb
from hand_perception.synthesis.poses import PoseSampler
from hand_perception.synthesis.rig import forward_kinematics
from hand_perception.synthesis.shape import ShapeSampler

CASES = (("template", 0.0), ("template", 3.0), ("others", 0.0), ("others", 3.0))
SKIN_M = 0.015  # how far a keypoint's noise carries over the skin
AWAY = np.array([1.0, 1.0, 1.0, -1.0, -1.0])  # abduction's sign against the rig's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hands", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()

    limb = Limb()
    rest = (limb.vertices, limb.weights, limb.joints, limb.frames)
    generator = torch.Generator().manual_seed(args.seed)
    rotations = PoseSampler(*rest).sample(args.hands, generator)
    true = angles_of(rotations.numpy().astype(np.float64))
    shapes = {
        "template": (
            limb.vertices.expand(args.hands, -1, 3),
            limb.joints.expand(args.hands, -1, 3),
        ),
        "others": ShapeSampler(*rest).sample(args.hands, generator),
    }
    rows = []
    for shape, noise_mm in CASES:
        vertices, joints = shapes[shape]
        turns, posed = forward_kinematics(rotations, joints, limb.frames)
        meshes = limb.template_vertices(limb.pose(vertices, joints, turns, posed)).numpy()
        noise = np.random.default_rng(args.seed).normal(0, noise_mm / 1e3, (args.hands, 21, 3))
        rows.append(measure(limb.template, meshes, noise, true))
        rows[-1].update(shape=shape, noise_mm=noise_mm)
    report(rows)
    if args.output:
        args.output.write_text(json.dumps(rows, indent=2) + "\n")


def angles_of(rotations: np.ndarray) -> np.ndarray:
    """The named angles [N, 20] of the rig's local rotations [N, 16, 3, 3]."""
    fingers = rotations[:, 1:].reshape(-1, 5, 3, 3, 3)
    x, y, z = (fingers[..., k, 2] for k in range(3))
    # R z = (sin a cos f, sin f, cos a cos f); beyond the right angle cos f is negative.
    ahead = np.where(z < 0, -1.0, 1.0)
    flexion = np.arctan2(y, ahead * np.hypot(x, z))
    abduction = np.arctan2(ahead * x, ahead * z)[:, :, 0] * AWAY
    return np.concatenate(
        [flexion[:, :, :1], abduction[:, :, None], flexion[:, :, 1:]], axis=2
    ).reshape(-1, 20)


def hands_of(template, meshes: np.ndarray, noise: np.ndarray) -> Iterator[Hand]:
    gap = np.linalg.norm(template.vertices[:, None] - template.keypoints, axis=-1)
    reach = np.exp(-((gap / SKIN_M) ** 2))
    reach /= reach.sum(1, keepdims=True)
    for mesh, moved in zip(meshes, noise, strict=True):
        keypoints = template.regressor @ mesh + moved
        yield Hand(
            side=Side.RIGHT,
            score=1.0,
            box=np.zeros(4),
            keypoints2d=np.zeros((21, 2)),
            confidences=np.ones(21),
            keypoints3d=keypoints,
            vertices=mesh + reach @ moved,
            wrist=wrist_frame(keypoints, Side.RIGHT),
        )


def measure(template, meshes: np.ndarray, noise: np.ndarray, true: np.ndarray) -> dict:
    found, mesh_mm, ms = [], [], []
    for mesh, hand in zip(meshes, hands_of(template, meshes, noise), strict=True):
        started = time.perf_counter()
        articulation = articulate(hand, template)
        ms.append(1e3 * (time.perf_counter() - started))
        vertices, _ = pose_template(articulation, template)
        found.append(articulation.angles)
        mesh_mm.append(1e3 * np.linalg.norm(vertices - mesh, axis=1).mean())
    error = np.degrees(np.abs(np.array(found) - true))
    joints = {}
    for k, name in enumerate(ANGLE_NAMES):
        finger, _, angle = name.partition("_")
        joints.setdefault(f"{'thumb' if finger == 'thumb' else 'finger'} {angle}", []).append(k)
    kinds = {"all": list(range(len(ANGLE_NAMES))), **joints}
    return {
        "degrees": {
            kind: [float(error[:, k].mean()), float(np.percentile(error[:, k], 95))]
            for kind, k in kinds.items()
        },
        "mesh_mm": float(np.mean(mesh_mm)),
        "ms": float(np.median(ms)),
    }


def report(rows: list[dict]) -> None:
    heads = [
        f"{'the template' if row['shape'] == 'template' else 'other people'}, "
        + (f"{row['noise_mm']:.0f} mm noise" if row["noise_mm"] else "clean")
        for row in rows
    ]
    print("| " + " | ".join(["degrees: mean (95 %)", *heads]) + " |")
    print("|---" * (len(rows) + 1) + "|")
    for kind in rows[0]["degrees"]:
        cells = ["{:.2f} ({:.2f})".format(*row["degrees"][kind]) for row in rows]
        print(f"| {kind} | " + " | ".join(cells) + " |")
    print("| mesh, mm | " + " | ".join(f"{row['mesh_mm']:.2f}" for row in rows) + " |")
    print("| median ms a hand | " + " | ".join(f"{row['ms']:.2f}" for row in rows) + " |")


if __name__ == "__main__":
    main()
