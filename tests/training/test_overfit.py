"""Eight hands learnt by heart: nothing between images and meshes is disconnected."""

import numpy as np
import pytest
import torch
from models.tiny import TINY
from one_hand import CAMERA, one_hand

from hand_perception.data.sample import HandLabels, Sample
from hand_perception.evaluation.metrics import normalised_errors, pck, procrustes_errors
from hand_perception.geometry import project
from hand_perception.models.handos.config import HandOSConfig
from hand_perception.models.handos.decoder import UNIT
from hand_perception.models.handos.model import normalise
from hand_perception.synthesis.poses import PoseSampler
from hand_perception.synthesis.rig import forward_kinematics, skin
from hand_perception.template import load_template
from hand_perception.training.batches import BatchRecipe, collate
from hand_perception.training.decoder_objective import Instances, decoder_losses
from hand_perception.training.handos_objective import HandOSObjective

HANDS = 8
SIZES = TINY.to_dict()
SIZES["decoder"] |= {"dim": 48, "heads": 4, "layers_2d": 1, "vertex_queries": 98, "grid_size": 8}


def eight_images():
    """Eight poses, every other one a left hand, each in an image of its own random colours."""
    template = load_template()
    t = {name: torch.from_numpy(getattr(template, name)) for name in ("vertices", "weights")}
    joints, frames = torch.from_numpy(template.joints), torch.from_numpy(template.joint_frames)
    draw = torch.Generator().manual_seed(0)
    poses = PoseSampler(t["vertices"], t["weights"], joints, frames).sample(HANDS, draw)
    rest = joints.expand(HANDS, -1, -1)
    turns, posed = forward_kinematics(poses, rest, frames)
    meshes = skin(t["vertices"], t["weights"], turns, rest, posed).numpy()
    meshes[1::2, :, 0] *= -1
    numbers = np.random.default_rng(0)
    for mesh in meshes:
        mesh = mesh - template.regressor[9] @ mesh
        joints3d = template.regressor @ mesh
        place = np.array([0.0, 0.0, 0.6], np.float32)
        sample = one_hand()
        yield Sample(
            numbers.integers(0, 256, (160, 160, 3), np.uint8)[:64, :64],
            CAMERA,
            HandLabels(
                # The camera's picture of 160 pixels, shrunk to the image's 64.
                keypoints2d=project(joints3d + place, CAMERA)[None].astype(np.float32) * 0.4,
                weight2d=np.ones(1, np.float32),
                joints3d=joints3d[None],
                vertices=mesh[None],
                weight3d=np.ones(1, np.float32),
                translation=place[None],
                metric=np.zeros(1, bool),
                side=np.ones(1, np.float32),
            ),
            sample.ignore_boxes,
        )


@pytest.mark.slow
def test_eight_hands_are_learnt_by_heart():
    """Done when: PA-MPVPE under 2 mm, PCK@0.05 over 0.95, on the images trained on."""
    torch.set_num_threads(1)
    objective = HandOSObjective(HandOSConfig.from_dict(SIZES), {}, seed=0)
    objective.to(torch.device("cpu"))
    network = objective.learner.network
    network.freeze_detector()
    recipe = BatchRecipe(HANDS, (64,), "hand", 1, (1.0,))
    batch = collate(list(eight_images()), 64, recipe)
    images = normalise(batch.images)
    with torch.no_grad():
        found = network.detector(images)
    queries = torch.cat([found.q0, found.q6], -1)[:, :1]
    ones = torch.ones(HANDS, 1, dtype=torch.bool)
    chosen = Instances(queries, batch.boxes, torch.zeros(HANDS, 1).long(), ones)
    maps = network.decoder.read(images, found)
    network.decoder.eval()  # float32, and the same statistics in training and in use
    optimiser = torch.optim.AdamW(network.decoder.parameters(), 3e-3, betas=(0.9, 0.98))
    steps = 700
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for _ in range(steps):
        out = network.decoder(*maps, queries, batch.boxes)
        losses = decoder_losses(
            out, chosen, batch, objective.mesh, objective.regressor, objective.weights
        )
        optimiser.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(network.decoder.parameters(), 2.0)
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        out = network.decoder(*maps, queries, batch.boxes)
    predicted = (out.vertices[-1][:, 0] * UNIT).numpy()
    mesh_error = procrustes_errors(predicted, batch.vertices[:, 0].numpy()).mean()
    joint_error = normalised_errors(out.joints2d[-1][:, 0].numpy(), batch.keypoints2d[:, 0].numpy())
    print(f"PA-MPVPE {1e3 * mesh_error:.2f} mm, PCK@0.05 {pck(joint_error, 0.05):.3f}")
    assert mesh_error < 2e-3
    assert pck(joint_error, 0.05) > 0.95
